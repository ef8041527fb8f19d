"""A running scale of rewards."""

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd

# So that a task without rewards has a scale
EPSILON = 1e-8


class RewardScale:
    r"""
    Running standard deviation of the discounted return so far, :math:`G_t = r_t + \gamma G_{t-1}`.

    Rewards that are divided by it have returns of order one in every task. It does what ``norm_reward`` of SB3's
    ``VecNormalize`` does, without its clipping, and it is part of the model.

    Paper: https://arxiv.org/abs/2502.15280
    """

    def __init__(self) -> None:
        self.statistics = RunningMeanStd(shape=())
        # Of the episodes at hand, shape (environments,)
        self.returns = np.zeros(0)

    @property
    def value(self) -> float:
        """The scale, in the unit of rewards"""
        return float(np.sqrt(self.statistics.var + EPSILON))

    def update(self, rewards: np.ndarray, dones: np.ndarray, gamma: float) -> None:
        """
        Take the rewards of one step of all environments into account.

        :param rewards: Rewards, shape (environments,)
        :param dones: Whether the episode has ended, for good or by a time limit, shape (environments,)
        :param gamma: Discount factor
        """
        if self.returns.shape != rewards.shape:
            self.returns = np.zeros(rewards.shape)
        self.returns = gamma * self.returns + rewards  # (environments,)
        self.statistics.update(self.returns)
        self.returns[np.asarray(dones, bool)] = 0.0
