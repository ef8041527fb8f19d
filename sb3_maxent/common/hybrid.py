"""Distribution of choices and real numbers together, and how they are written as one box."""

import torch as th

from sb3_maxent.common.discrete import MultiCategorical, one_hot
from sb3_maxent.common.distributions import PolicyDistribution, squashed_log_prob
from sb3_maxent.functional import check_shapes

# The largest float32 below one
BELOW_ONE = 1 - 2**-24


def choices_to_box(numbers: th.Tensor, choices: tuple[int, ...]) -> th.Tensor:
    """
    Write choices as components of a box: choice k of n is the middle of the k-th of n equal parts.

    :param numbers: Choices, shape (..., factors)
    :param choices: Numbers of choices of the factors
    :return: Components in [-1, 1], shape (..., factors)
    """
    return th.stack([(2 * part + 1) / n - 1 for part, n in zip(numbers.unbind(dim=-1), choices, strict=True)], dim=-1)


def choices_from_box(components: th.Tensor, choices: tuple[int, ...]) -> th.Tensor:
    """
    Read choices from components of a box.

    :param components: Components in [-1, 1], shape (..., factors)
    :param choices: Numbers of choices of the factors
    :return: Choices, shape (..., factors)
    """
    parts = zip(components.unbind(dim=-1), choices, strict=True)
    return th.stack([((part + 1) * (0.5 * n)).long().clamp(0, n - 1) for part, n in parts], dim=-1)


def encode_hybrid(actions: th.Tensor, choices: tuple[int, ...]) -> th.Tensor:
    """
    Turn actions of a :class:`~sb3_maxent.common.hybrid_space.HybridBox` into inputs of a critic.

    :param actions: Actions in [-1, 1], shape (batch, samples, box + factors)
    :param choices: Numbers of choices of the factors
    :return: Components of the box and the one-hot vectors of the choices, shape
        (batch, samples, box + sum of the numbers of choices)
    """
    n_box = actions.shape[2] - len(choices)
    numbers = choices_from_box(actions[..., n_box:], choices)  # (batch, samples, factors)
    return th.cat([actions[..., :n_box], one_hot(numbers, choices)], dim=2)


class HybridDistribution(PolicyDistribution):
    r"""
    Choices, and real numbers that depend on them: :math:`\pi(c, a) = \pi(c) \pi(a | c)`.

    The choices of the factors are independent. Given them, the real numbers are a diagonal Gaussian squashed by tanh. Each
    choice of each factor has its own mean before the squash and its own logarithm of the standard deviation; those of several
    factors are averaged. So with one factor each choice has a Gaussian of its own, and with many the number of parameters
    grows with the sum of the numbers of choices. Samples are the real numbers before the squash, and the choices after them.

    Paper: https://arxiv.org/abs/1912.11077 (the joint policy of choices and of real numbers that depend on them)

    :param choice: Distribution of the choices
    :param means: Means before the squash, shape (batch, sum of the numbers of choices, box)
    :param log_stds: Logarithms of the standard deviations, of the same shape
    :raises ValueError: If a shape is wrong
    """

    def __init__(self, choice: MultiCategorical, means: th.Tensor, log_stds: th.Tensor):
        rows = f"batch {sum(choice.choices)} box"
        check_shapes((choice.log_probs, "batch factors choices"), (means, rows), (log_stds, rows))
        self.choice, self.choices = choice, choice.choices
        self.means, self.log_stds = means, log_stds

    def _parameters(self, numbers: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        :param numbers: Choices, shape (batch, samples, factors)
        :return: Mean before the squash and logarithm of the standard deviation, shape (batch, samples, box) each
        """
        share = one_hot(numbers, self.choices).to(self.means.dtype) / len(self.choices)  # (batch, samples, rows)
        return share @ self.means, share @ self.log_stds

    def _scale_and_shift(self, normal: th.Tensor, numbers: th.Tensor) -> th.Tensor:
        """
        :param normal: Standard normal noise, shape (batch, samples, box)
        :param numbers: Choices, shape (batch, samples, factors)
        :return: Samples without gradient, shape (batch, samples, box + factors)
        """
        mean, log_std = (part.detach() for part in self._parameters(numbers))  # (batch, samples, box) each
        return th.cat([th.addcmul(mean, log_std.exp(), normal), numbers.to(normal.dtype)], dim=2)

    def _split(self, samples: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        n_box, n_factors = self.means.shape[2], len(self.choices)
        check_shapes((self.means, "batch rows box"), (samples, f"batch samples {n_box + n_factors}"))
        return samples[..., :n_box], samples[..., n_box:]

    def sample(self, noise: th.Tensor) -> th.Tensor:
        """
        Choose with the last part of the noise, and move and scale the rest.

        :param noise: Standard normal noise, not contiguous, shape (batch, samples, box + factors)
        :return: Samples without gradient, shape (batch, samples, box + factors)
        :raises ValueError: If the shape is wrong
        """
        normal, last = self._split(noise)
        # The distribution function of the normal makes it uniform, and may round to one
        uniform = th.special.ndtr(last).clamp(max=BELOW_ONE)  # (batch, samples, factors)
        return self._scale_and_shift(normal, self.choice.sample(uniform))

    def actions(self, samples: th.Tensor) -> th.Tensor:
        """
        Squash the real numbers, and write the choices as components of the box.

        :param samples: Samples, shape (batch, samples, box + factors)
        :return: Actions in [-1, 1], of the same shape
        """
        before, numbers = self._split(samples)
        return th.cat([th.tanh(before), choices_to_box(numbers, self.choices)], dim=2)

    def log_prob(self, samples: th.Tensor) -> th.Tensor:
        r"""
        Log density of actions: the sum of those of the choices and of the real numbers given the choices.

        :param samples: Samples, shape (batch, samples, box + factors)
        :return: Log density in nats, shape (batch, samples)
        :raises ValueError: If the shape is wrong
        """
        before, numbers = self._split(samples)
        numbers = numbers.long()  # (batch, samples, factors)
        return self.choice.log_prob(numbers) + squashed_log_prob(before, *self._parameters(numbers))  # (batch, samples)

    def mode(self) -> th.Tensor:
        """
        The most probable choices, and the squashed mean that belongs to them.

        :return: Actions in [-1, 1], shape (batch, box + factors)
        """
        numbers = self.choice.mode().unsqueeze(1)  # (batch, 1, factors)
        mean, _ = self._parameters(numbers)  # (batch, 1, box)
        return self.actions(th.cat([mean, numbers.to(mean.dtype)], dim=2)).squeeze(1)
