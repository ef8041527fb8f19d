"""Slowly moving copies of networks."""

from stable_baselines3.common.utils import get_parameters_by_name, polyak_update
from torch import nn


class TargetUpdate:
    """
    Moves a target network towards its source.

    :param source: The trained network
    :param target: Its slowly moving copy
    """

    def __init__(self, source: nn.Module, target: nn.Module):
        # Collected once: to walk through the modules costs more than to move the tensors
        self.source, self.target = list(source.parameters()), list(target.parameters())
        self.source_stats, self.target_stats = (get_parameters_by_name(module, ["running_"]) for module in (source, target))

    def __call__(self, tau: float) -> None:
        """
        Update the target network.

        :param tau: Soft update coefficient: 0 leaves the target as it is, 1 copies the source
        """
        polyak_update(self.source, self.target, tau)
        # Running statistics of batch normalisation are copied, see SB3 issue 996
        polyak_update(self.source_stats, self.target_stats, 1.0)
