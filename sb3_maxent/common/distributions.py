"""Policy distributions that are sampled many times per state, and how they average over actions."""

import math
from collections.abc import Callable

import torch as th
from torch.nn import functional as F

from sb3_maxent.functional import check_shapes

# Smallest log probability. A forbidden action has a logit of minus infinity, and zero times infinity would be NaN. The
# exponential of this number is zero in float32
MIN_LOG_PROB = -1000.0


def draw_noise(
    random: Callable[..., th.Tensor], batch_size: int, n_samples: int, n_components: int, device: th.device
) -> th.Tensor:
    """
    Draw the noise of several samples per state.

    Each component is contiguous in memory, so that the compiled sum over the components runs along the samples.

    :param random: ``th.randn`` or ``th.rand``
    :param batch_size: Number of states
    :param n_samples: Number of samples per state
    :param n_components: Number of components of a sample
    :param device: Device
    :return: Noise, not contiguous, shape (batch, samples, components)
    """
    return random(n_components, batch_size, n_samples, device=device).permute(1, 2, 0)


def log_tanh_derivative(samples: th.Tensor) -> th.Tensor:
    r"""
    Logarithm of the derivative of tanh, :math:`\log(1 - \tanh^2 u)`, without cancellation for any u.

    :param samples: Values before the squash, any shape
    :return: Logarithm, of the same shape
    """
    return 2 * (math.log(2) - samples - F.softplus(-2 * samples))


def cumulative_probs(log_probs: th.Tensor) -> th.Tensor:
    """
    Cumulative probabilities: the upper bounds of the intervals of [0, 1) that stand for the choices. The interval of a choice
    without probability is empty.

    :param log_probs: Log probabilities, shape (..., choices)
    :return: Upper bounds, shape (..., choices), the last one exactly 1
    """
    bounds = log_probs.detach().exp().cumsum(dim=-1)
    # The sum of all may round to less than one, and the noise lie between them
    return bounds / bounds[..., -1:]


class PolicyDistribution:
    """
    Base class of the policy distributions of DSPG. Gradients through samples are not needed.

    The distribution chooses its expectation in :meth:`weighted_samples`: the mean over samples by default, a weighted sum, or
    the exact sum over all actions.
    """

    def sample(self, noise: th.Tensor) -> th.Tensor:
        """
        Turn noise into samples.

        :param noise: Noise of the actor, not contiguous, shape (batch, samples, noise)
        :return: Samples without gradient, shape (batch, samples, ...), for instance from before the squash
        """
        raise NotImplementedError

    def actions(self, samples: th.Tensor) -> th.Tensor:
        """
        Turn samples into actions.

        :param samples: Samples, shape (batch, samples, ...)
        :return: Actions in [-1, 1] or choices, shape (batch, samples, action), or numbers of actions, shape (batch, samples)
        """
        raise NotImplementedError

    def log_prob(self, samples: th.Tensor) -> th.Tensor:
        """
        Log density of the actions of samples, differentiable in the parameters of the distribution.

        :param samples: Samples, shape (batch, samples, ...)
        :return: Log density in nats, shape (batch, samples)
        """
        raise NotImplementedError

    def mode(self) -> th.Tensor:
        """
        The deterministic action.

        :return: Actions in [-1, 1] or choices, shape (batch, action), or numbers of actions, shape (batch,)
        """
        raise NotImplementedError

    def weighted_samples(self, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor | None]:
        """
        Samples and weights whose weighted sum is the expectation over the distribution.

        :param noise: Noise of the actor, shape (batch, samples, noise)
        :return: Samples, shape (batch, samples, ...), and their weights without gradient, shape (batch, samples), or,
            in strata, (batch, strata, samples), see :func:`~sb3_maxent.functional.expectation`; ``None`` for the plain mean
        """
        return self.sample(noise), None


def squashed_log_prob(samples: th.Tensor, mean: th.Tensor, log_std: th.Tensor) -> th.Tensor:
    r"""
    Log density of actions under diagonal Gaussians squashed by tanh, from the value before the squash: inverting tanh is
    meaningless at saturation.

    .. math:: \log \pi(a) = \log N(u; \mu, \sigma^2) - \sum_k \log(1 - \tanh^2 u_k)

    :param samples: Pre-tanh samples, shape (batch, samples, action)
    :param mean: Means before the squash, shape (batch, samples, action), or (batch, 1, action) for all samples
    :param log_std: Logarithms of the standard deviations, of the same shape
    :return: Log density of the squashed actions in nats, shape (batch, samples)
    """
    standardised = (samples - mean) * th.exp(-log_std)  # (batch, samples, action)
    log_normal = -0.5 * standardised.square() - log_std - 0.5 * math.log(2 * math.pi)
    return (log_normal - log_tanh_derivative(samples)).sum(dim=-1)  # (batch, samples)


class SquashedGaussian(PolicyDistribution):
    r"""
    Diagonal Gaussian squashed by tanh: :math:`a = \tanh u`, :math:`u = \mu + \sigma \epsilon`. Samples are :math:`u`.

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

    def actions(self, samples: th.Tensor) -> th.Tensor:
        """
        Squash samples into actions.

        :param samples: Pre-tanh samples, shape (batch, samples, action)
        :return: Actions in [-1, 1], shape (batch, samples, action)
        """
        return th.tanh(samples)

    def mode(self) -> th.Tensor:
        """
        The deterministic action: the squashed mean, as in SB3's SAC.

        :return: Actions in [-1, 1], shape (batch, action)
        """
        return th.tanh(self.mean)

    def log_prob(self, samples: th.Tensor) -> th.Tensor:
        """
        Log density of actions, see :func:`squashed_log_prob`.

        :param samples: Pre-tanh samples, shape (batch, samples, action)
        :return: Log density of the squashed actions in nats, shape (batch, samples)
        :raises ValueError: If the shape is wrong
        """
        check_shapes((self.mean, "batch action"), (samples, "batch samples action"))
        return squashed_log_prob(samples, self.mean.unsqueeze(1), self.log_std.unsqueeze(1))  # (batch, samples)


class Categorical(PolicyDistribution):
    """
    Distribution over a finite number of actions. Its expectation is the exact sum. Samples are numbers of actions.

    :param logits: Logarithms of probabilities up to a constant per state, shape (batch, actions)
    :raises ValueError: If the shape is wrong
    """

    def __init__(self, logits: th.Tensor):
        check_shapes((logits, "batch actions"))
        self.log_probs = F.log_softmax(logits, dim=1).clamp(min=MIN_LOG_PROB)  # (batch, actions)

    def sample(self, noise: th.Tensor) -> th.Tensor:
        """
        Invert the distribution function.

        :param noise: Uniform noise in [0, 1), shape (batch, samples, 1)
        :return: Numbers of actions, shape (batch, samples)
        :raises ValueError: If the shape is wrong
        """
        check_shapes((self.log_probs, "batch actions"), (noise, "batch samples 1"))
        bounds = cumulative_probs(self.log_probs).unsqueeze(1)  # (batch, 1, actions)
        return (noise >= bounds).sum(dim=2)  # (batch, samples)

    def actions(self, samples: th.Tensor) -> th.Tensor:
        """
        Return the numbers of actions as they are.

        :param samples: Numbers of actions, shape (batch, samples)
        :return: The same
        """
        return samples

    def log_prob(self, samples: th.Tensor) -> th.Tensor:
        """
        Log probability of actions.

        :param samples: Numbers of actions, shape (batch, samples)
        :return: Log probabilities, shape (batch, samples)
        """
        return self.log_probs.gather(1, samples)

    def mode(self) -> th.Tensor:
        """
        The most probable action.

        :return: Numbers of actions, shape (batch,)
        """
        return self.log_probs.argmax(dim=1)

    def weighted_samples(self, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        All actions, weighted with their probabilities.

        :param noise: Not used
        :return: Numbers of all actions and their probabilities without gradient, shape (batch, actions) each
        """
        actions = th.arange(self.log_probs.shape[1], device=self.log_probs.device)
        return actions.expand_as(self.log_probs), self.log_probs.detach().exp()
