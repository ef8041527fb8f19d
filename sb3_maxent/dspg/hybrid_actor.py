"""Actor of DSPG for choices and real numbers together."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_maxent.common.checks import check_choice
from sb3_maxent.common.discrete import MultiCategorical
from sb3_maxent.common.distributions import PolicyDistribution
from sb3_maxent.common.hybrid import HybridDistribution
from sb3_maxent.dspg.actors import STD_HEADS, DiscreteActor, log_std_of


class HybridActor(DiscreteActor):
    """
    Actor network of a :class:`~sb3_maxent.common.hybrid_space.HybridBox`: the distribution of its choices, and for each of
    them a mean and a standard deviation of its real numbers. Choices that a mask in the observation forbids have probability
    zero.

    For another policy distribution override ``action_distribution`` and, where its noise differs, ``noise_dim`` and
    ``noise_generator``.

    :param std_head: ``"log_std"`` or ``"sigmoid"``, see :class:`~sb3_maxent.dspg.actors.Actor`
    :param kwargs: Arguments of :class:`~sb3_maxent.dspg.actors.DiscreteActor`
    :raises ValueError: If there is no such head
    """

    noise_generator = staticmethod(th.randn)

    def __init__(self, *args: Any, std_head: str = "log_std", **kwargs: Any):
        super().__init__(*args, **kwargs)
        check_choice(std_head, "std_head", STD_HEADS)
        self.std_head = std_head
        self.noise_dim = spaces.flatdim(self.action_space)
        # A row for each choice of each factor
        self.rows, n_box = sum(self.choices), self.noise_dim - len(self.choices)
        width = self.logits.in_features
        self.mu, self.log_std = nn.Linear(width, self.rows * n_box), nn.Linear(width, self.rows * n_box)

    def action_distribution(self, obs: PyTorchObs) -> PolicyDistribution:
        latent = self.latent_pi(self.extract_features(obs, self.features_extractor))
        choice = self.choice_distribution(obs, latent)
        assert isinstance(choice, MultiCategorical)
        means = self.mu(latent).unflatten(1, (self.rows, -1))  # (batch, rows, box)
        log_stds = log_std_of(self.log_std(latent), self.std_head).unflatten(1, (self.rows, -1))  # (batch, rows, box)
        return HybridDistribution(choice, means, log_stds)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "std_head": self.std_head}
