"""Action distributions that are sampled many times per state."""

import math

import torch as th
from torch.nn import functional as F

from sb3_maxent.functional import check_shapes


class SquashedGaussian:
    r"""
    Diagonal Gaussian squashed by tanh: :math:`a = \tanh u`, :math:`u = \mu + \sigma \epsilon`.

    DSPG needs four things of a policy distribution, and no gradient through a sample: ``sample`` turns noise into
    variables without gradient, ``actions`` turns those into actions, ``log_prob`` gives their differentiable log density,
    ``mode`` is the deterministic action.
    SB3's ``SquashedDiagGaussianDistribution`` has one sample per state, and recovers :math:`u` from a saturated action.

    Papers: https://arxiv.org/abs/1909.03198 (the authors' code squashes), https://arxiv.org/abs/1812.05905 (appendix C)

    :param mean: Mean :math:`\mu` before the squash, shape (batch, action)
    :param log_std: Logarithm of :math:`\sigma`, shape (batch, action)
    :raises ValueError: If a shape is wrong
    """

    def __init__(self, mean: th.Tensor, log_std: th.Tensor):
        check_shapes((mean, "batch action"), (log_std, "batch action"))
        self.mean = mean
        self.log_std = log_std

    def sample(self, noise: th.Tensor) -> th.Tensor:
        """
        Turn standard normal noise into samples before the squash.

        :param noise: Standard normal noise, not contiguous, shape (batch, samples, action)
        :return: Pre-tanh samples without gradient, shape (batch, samples, action)
        :raises ValueError: If the shape is wrong
        """
        check_shapes((self.mean, "batch action"), (noise, "batch samples action"))
        # A score function needs log pi at a *fixed* action: the sample must not carry a gradient
        mean, std = self.mean.detach().unsqueeze(1), self.log_std.detach().exp().unsqueeze(1)  # (batch, 1, action)
        return th.addcmul(mean, std, noise)  # (batch, samples, action)

    @staticmethod
    def actions(pre_tanh: th.Tensor) -> th.Tensor:
        """
        Squash samples into actions.

        :param pre_tanh: Pre-tanh samples, shape (batch, samples, action)
        :return: Actions in [-1, 1], shape (batch, samples, action)
        """
        return th.tanh(pre_tanh)

    def mode(self) -> th.Tensor:
        """
        The deterministic action: the squashed mean, as in SB3's SAC.

        :return: Actions in [-1, 1], shape (batch, action)
        """
        return th.tanh(self.mean)

    def log_prob(self, pre_tanh: th.Tensor) -> th.Tensor:
        r"""
        Log density of actions, from the value before the squash: inverting tanh is meaningless at saturation.

        .. math:: \log \pi(a) = \log N(u; \mu, \sigma^2) - \sum_k \log(1 - \tanh^2 u_k)

        :param pre_tanh: Pre-tanh samples, shape (batch, samples, action)
        :return: Log density of the squashed actions in nats, shape (batch, samples)
        :raises ValueError: If the shape is wrong
        """
        check_shapes((self.mean, "batch action"), (pre_tanh, "batch samples action"))
        mean, log_std = self.mean.unsqueeze(1), self.log_std.unsqueeze(1)  # (batch, 1, action)
        standardised = (pre_tanh - mean) * th.exp(-log_std)  # (batch, samples, action)
        log_normal = -0.5 * standardised.square() - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(u)^2) without cancellation for any u
        log_slope = 2 * (math.log(2) - pre_tanh - F.softplus(-2 * pre_tanh))
        return (log_normal - log_slope).sum(dim=-1)  # (batch, samples)
