"""A running scale of rewards."""

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd

# Keeps the scale positive in a task without rewards
EPSILON = 1e-8


class RewardScale:
    r"""
    Running standard deviation of the discounted return so far, :math:`G_t = r_t + \gamma G_{t-1}`.

    If rewards are divided by this scale, returns are of order one where rewards differ along the episodes. Where they are rare
    or constant the scale is smaller than the returns: a single reward at the end of 1,000 steps becomes 32. ``norm_reward`` of
    SB3's ``VecNormalize`` uses the same scale, but it also clips rewards, and its statistics are not part of the model.

    Paper: https://arxiv.org/abs/2502.15280
    """

    def __init__(self) -> None:
        self.statistics = RunningMeanStd(shape=())
        # Discounted returns of the current episodes, shape (environments,)
        self.returns = np.zeros(0)

    @property
    def value(self) -> float:
        """The scale, in the unit of rewards"""
        return float(np.sqrt(self.statistics.var + EPSILON))

    def start_new_episodes(self) -> None:
        """Forget the rewards of the current episodes, which were left before their end."""
        self.returns = np.zeros(0)

    def update(self, rewards: np.ndarray, dones: np.ndarray, gamma: float) -> None:
        """
        Update the scale with the rewards of one step of all environments.

        :param rewards: Rewards, shape (environments,)
        :param dones: Whether the episode was terminated or truncated, shape (environments,)
        :param gamma: Discount factor
        """
        if self.returns.shape != rewards.shape:
            self.returns = np.zeros(rewards.shape)
        self.returns = gamma * self.returns + rewards  # (environments,)
        self.statistics.update(self.returns)
        self.returns[np.asarray(dones, bool)] = 0.0
