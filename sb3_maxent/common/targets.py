"""Slowly moving copies of networks."""

import torch as th
from stable_baselines3.common.utils import get_parameters_by_name
from torch import nn


class TargetUpdate:
    """
    Moves a target network towards its source.

    :param source: The trained network
    :param target: Its slowly moving copy
    """

    def __init__(self, source: nn.Module, target: nn.Module):
        # Collected once: to walk through the modules costs more than to move the tensors
        self.source: list[th.Tensor] = list(source.parameters())
        self.target: list[th.Tensor] = list(target.parameters())
        self.source_stats, self.target_stats = (get_parameters_by_name(module, ["running_"]) for module in (source, target))

    @th.no_grad()
    def __call__(self, tau: float) -> None:
        """
        Update the target network.

        :param tau: Soft update coefficient: 0 leaves the target as it is, 1 copies the source
        """
        th._foreach_lerp_(self.target, self.source, tau)
        if self.target_stats:
            # Running statistics of batch normalisation are copied, see SB3 issue 996
            th._foreach_copy_(self.target_stats, self.source_stats)
