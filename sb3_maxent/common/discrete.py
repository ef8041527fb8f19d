"""Action spaces of one or several discrete factors, and a distribution of independent factors."""

import math

import torch as th
from gymnasium import spaces
from torch.nn import functional as F

from sb3_maxent.common.distributions import MIN_LOG_PROB, Categorical, PolicyDistribution, cumulative_probs
from sb3_maxent.common.hybrid_space import HybridBox
from sb3_maxent.functional import check_shapes

# Joint actions up to which the expectation over independent factors is summed: as many as the paper samples, so that the exact
# sum costs no more than its mean over samples
MAX_SUMMED_ACTIONS = 64


def choices_of(space: spaces.Space) -> tuple[int, ...]:
    """
    Numbers of choices of the discrete factors of an action.

    :param space: Action space
    :return: One number per factor: one factor for ``Discrete``, two choices per bit for ``MultiBinary``, none for ``Box``
    """
    if isinstance(space, HybridBox):
        return space.choices
    if isinstance(space, spaces.Discrete):
        return (int(space.n),)
    if isinstance(space, spaces.MultiDiscrete):
        return tuple(space.nvec.flatten().tolist())
    return (2,) * math.prod(space.shape) if isinstance(space, spaces.MultiBinary) else ()


def joint_actions(numbers: th.Tensor, choices: tuple[int, ...]) -> th.Tensor:
    """
    Turn numbers of joint actions into the choices of their factors. The last factor changes fastest.

    :param numbers: Numbers from 0 on, shape (batch, samples)
    :param choices: Numbers of choices of the factors
    :return: Choices, shape (batch, samples, factors)
    """
    strides = [math.prod(choices[i + 1 :]) for i in range(len(choices))]
    return th.stack([(numbers // stride) % n for stride, n in zip(strides, choices, strict=True)], dim=2)


def one_hot(actions: th.Tensor, choices: tuple[int, ...]) -> th.Tensor:
    """
    Concatenate the one-hot vectors of the factors.

    :param actions: Choices, shape (batch, samples, factors)
    :param choices: Numbers of choices of the factors
    :return: Zeros and ones, shape (batch, samples, sum of the numbers of choices)
    """
    parts = zip(actions.long().unbind(dim=2), choices, strict=True)
    return th.cat([F.one_hot(part, n) for part, n in parts], dim=2)


def make_distribution(
    logits: th.Tensor, space: spaces.Space, choices: tuple[int, ...], mask: th.Tensor | None = None
) -> PolicyDistribution:
    """
    The distribution of the actions of a discrete space.

    :param logits: Logarithms of probabilities up to a constant, shape (batch, sum of the numbers of choices); for
        ``MultiBinary`` the logarithms of the odds of each bit, shape (batch, bits)
    :param space: Action space
    :param choices: ``choices_of`` the space, which a compiler does not trace
    :param mask: Which choices are allowed, shape (batch, sum of the numbers of choices), ``None`` for all
    :return: The distribution
    """
    if isinstance(space, spaces.MultiBinary):
        logits = th.stack([th.zeros_like(logits), logits], dim=2).flatten(1)  # (batch, 2 * bits)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf)  # (batch, sum of the numbers of choices)
    return Categorical(logits) if isinstance(space, spaces.Discrete) else MultiCategorical(logits, choices)


class MultiCategorical(PolicyDistribution):
    """
    Independent distributions over several factors with a finite number of choices each. Samples are the choices.

    Its expectation is the exact sum over all joint actions where these are no more than ``MAX_SUMMED_ACTIONS``, otherwise the
    mean over samples.

    :param logits: Logarithms of probabilities up to a constant per factor and state, those of the first factor first, shape
        (batch, sum of the numbers of choices)
    :param choices: Numbers of choices of the factors
    :raises ValueError: If the shape is wrong
    """

    def __init__(self, logits: th.Tensor, choices: tuple[int, ...]):
        check_shapes((logits, f"batch {sum(choices)}"))
        self.choices = choices
        widest = max(choices)
        if min(choices) < widest:
            # Narrower factors get choices of probability zero
            parts = [F.pad(part, (0, widest - part.shape[1]), value=-math.inf) for part in logits.split(choices, dim=1)]
            logits = th.cat(parts, dim=1)  # (batch, factors * choices)
        log_probs = F.log_softmax(logits.unflatten(1, (len(choices), widest)), dim=2)  # (batch, factors, choices)
        self.log_probs = log_probs.clamp(min=MIN_LOG_PROB)

    def sample(self, noise: th.Tensor) -> th.Tensor:
        """
        Invert the distribution function of each factor.

        :param noise: Uniform noise in [0, 1), shape (batch, samples, factors)
        :return: Choices, shape (batch, samples, factors)
        :raises ValueError: If the shape is wrong
        """
        check_shapes((self.log_probs, "batch factors choices"), (noise, "batch samples factors"))
        bounds = cumulative_probs(self.log_probs)  # (batch, factors, choices)
        return (noise.unsqueeze(3) >= bounds.unsqueeze(1)).sum(dim=3)  # (batch, samples, factors)

    def actions(self, samples: th.Tensor) -> th.Tensor:
        """
        Return the choices as they are.

        :param samples: Choices, shape (batch, samples, factors)
        :return: The same
        """
        return samples

    def log_prob(self, samples: th.Tensor) -> th.Tensor:
        """
        Log probability of joint actions.

        :param samples: Choices, shape (batch, samples, factors)
        :return: Log probabilities, shape (batch, samples)
        :raises ValueError: If the shape is wrong
        """
        check_shapes((self.log_probs, "batch factors choices"), (samples, "batch samples factors"))
        chosen = self.log_probs.gather(2, samples.transpose(1, 2))  # (batch, factors, samples)
        return chosen.sum(dim=1)  # (batch, samples)

    def mode(self) -> th.Tensor:
        """
        The most probable action.

        :return: Choices, shape (batch, factors)
        """
        return self.log_probs.argmax(dim=2)

    def weighted_samples(self, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor | None]:
        """
        All joint actions, weighted with their probabilities, or samples where they are too many.

        :param noise: Uniform noise in [0, 1), not used in an exact sum, shape (batch, samples, factors)
        :return: Choices, shape (batch, samples, factors), and their probabilities without gradient, shape (batch, samples), or
            ``None`` for the plain mean
        """
        n_actions = math.prod(self.choices)
        if n_actions > MAX_SUMMED_ACTIONS:
            return self.sample(noise), None
        numbers = th.arange(n_actions, device=noise.device).expand(len(self.log_probs), -1)  # (batch, actions)
        samples = joint_actions(numbers, self.choices)  # (batch, actions, factors)
        return samples, self.log_prob(samples).detach().exp()
