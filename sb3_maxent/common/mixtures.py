"""Mixtures of squashed Gaussians."""

import math

import torch as th
from torch.nn import functional as F

from sb3_maxent.common.distributions import PolicyDistribution, log_tanh_derivative
from sb3_maxent.functional import check_shapes

# Smallest probability of a component, so that the weights of all strata are positive
MIN_WEIGHT = 1e-30
# Random points of the unit ball among which spread_points chooses
N_CANDIDATES = 1000


def spread_points(n_points: int, n_dimensions: int) -> th.Tensor:
    """
    Draw points of the unit ball that are far from each other, by farthest-point sampling from many random candidates.

    :param n_points: Number of points
    :param n_dimensions: Number of dimensions
    :return: Points, shape (points, dimensions)
    """
    directions = F.normalize(th.randn(N_CANDIDATES, n_dimensions), dim=1)  # (candidates, dimensions)
    candidates = directions * th.rand(N_CANDIDATES, 1) ** (1 / n_dimensions)  # (candidates, dimensions), uniform in the ball
    points = candidates[candidates.norm(dim=1).argmax()].unsqueeze(0)  # (1, dimensions)
    while len(points) < n_points:
        farthest = th.cdist(candidates, points).amin(dim=1).argmax()
        points = th.cat([points, candidates[farthest].unsqueeze(0)])
    return points  # (points, dimensions)


class SquashedMixture(PolicyDistribution):
    r"""
    Mixture of K diagonal Gaussians squashed by tanh: :math:`a = \tanh u`, :math:`u \sim \sum_k w_k N(\mu_k, \sigma_k^2)`.
    Samples are :math:`u`.

    Its expectation takes a fixed number of samples of each component, in proportion to :math:`w_k`, and its score is that of
    the whole mixture: the mean over the components that an action can come from. So the gradient is Rao-Blackwellised over
    the components, and no random choice of one is left in it. (With equal numbers of samples the gradient has more noise than
    with random ones where the weights differ, see ``benchmarks/README.md``.)

    Paper: https://arxiv.org/abs/1801.01290v1 (mixtures as the policy of SAC's first version)

    :param logits: Logarithms of :math:`w_k` up to a constant per state, shape (batch, components)
    :param means: Means :math:`\mu_k` before the squash, shape (batch, components, action)
    :param log_stds: Logarithms of :math:`\sigma_k`, shape (batch, components, action)
    :raises ValueError: If a shape is wrong
    """

    def __init__(self, logits: th.Tensor, means: th.Tensor, log_stds: th.Tensor):
        check_shapes((logits, "batch components"), (means, "batch components action"), (log_stds, "batch components action"))
        self.log_weights = F.log_softmax(logits, dim=1)  # (batch, components)
        self.means, self.log_stds = means, log_stds

    def sample(self, noise: th.Tensor) -> th.Tensor:
        r"""
        Choose a component with the last part of the noise, and move and scale the others.

        :param noise: Standard normal noise, not contiguous, shape (batch, samples, action + 1)
        :return: Pre-tanh samples without gradient, shape (batch, samples, action)
        :raises ValueError: If the shape is wrong
        """
        normal, last = noise[..., :-1], noise[..., -1:]
        check_shapes((self.means, "batch components action"), (normal, "batch samples action"), (last, "batch samples 1"))
        # The distribution function of the normal makes it uniform; without the last sum, which may round to less than that
        bounds = self.log_weights.detach().exp().cumsum(dim=1)[:, :-1].unsqueeze(1)  # (batch, 1, components - 1)
        choice = (th.special.ndtr(last) >= bounds).sum(dim=2, keepdim=True)  # (batch, samples, 1)
        return self._scale_and_shift(normal, choice.squeeze(2))

    def _scale_and_shift(self, normal: th.Tensor, choice: th.Tensor) -> th.Tensor:
        """
        :param normal: Standard normal noise, shape (batch, samples, action)
        :param choice: Number of the component of each sample, shape (batch, samples)
        :return: Pre-tanh samples without gradient, shape (batch, samples, action)
        """
        index = choice.unsqueeze(2).expand_as(normal)  # (batch, samples, action)
        mean, std = self.means.detach().gather(1, index), self.log_stds.detach().exp().gather(1, index)
        return th.addcmul(mean, std, normal)  # (batch, samples, action)

    def weighted_samples(self, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor | None]:
        """
        Stratified samples: two of each component, and the others in proportion to the weights. With fewer than two samples per
        component they are plain samples.

        :param noise: Standard normal noise, whose last part is not used then, shape (batch, samples, action + 1)
        :return: Pre-tanh samples, shape (batch, samples, action), and their weights without gradient in strata, which are the
            components, shape (batch, components, samples), or ``None`` for the plain mean
        """
        n_samples, n_components = noise.shape[1], self.log_weights.shape[1]
        n_free = n_samples - 2 * n_components
        if n_free < 0:
            return self.sample(noise), None
        # Positive, so that each stratum can be told from the others
        probabilities = self.log_weights.detach().exp().clamp(min=MIN_WEIGHT)  # (batch, components)
        numbers = th.arange(n_components, device=noise.device)  # (components,)
        # A stratum begins where the one before it ends. A sum without the last term never falls, a difference may by rounding
        shares = F.pad(probabilities.cumsum(dim=1)[:, :-1], (1, 0))  # (batch, components)
        starts = th.round(n_free * shares) + 2 * numbers  # (batch, components)
        places = th.arange(n_samples, device=noise.device)  # (samples,)
        choice = (places.unsqueeze(1) >= starts.unsqueeze(1)).sum(dim=2) - 1  # (batch, samples)
        members = choice.unsqueeze(1) == numbers.unsqueeze(1)  # (batch, components, samples)
        weights = members * (probabilities.unsqueeze(2) / members.sum(dim=2, keepdim=True))
        samples = self._scale_and_shift(noise[..., :-1], choice)  # (batch, samples, action)
        return samples, weights  # (batch, components, samples)

    def actions(self, samples: th.Tensor) -> th.Tensor:
        """
        Squash samples into actions.

        :param samples: Pre-tanh samples, shape (batch, samples, action)
        :return: Actions in [-1, 1], shape (batch, samples, action)
        """
        return th.tanh(samples)

    def log_prob(self, samples: th.Tensor) -> th.Tensor:
        r"""
        Log density of actions under the whole mixture.

        .. math:: \log \pi(a) = \log \sum_k w_k N(u; \mu_k, \sigma_k^2) - \sum_i \log(1 - \tanh^2 u_i)

        :param samples: Pre-tanh samples, shape (batch, samples, action)
        :return: Log density of the squashed actions in nats, shape (batch, samples)
        :raises ValueError: If the shape is wrong
        """
        check_shapes((self.means, "batch components action"), (samples, "batch samples action"))
        means, log_stds = self.means.unsqueeze(1), self.log_stds.unsqueeze(1)  # (batch, 1, components, action)
        standardised = (samples.unsqueeze(2) - means) * th.exp(-log_stds)  # (batch, samples, components, action)
        log_normal = (-0.5 * standardised.square() - log_stds - 0.5 * math.log(2 * math.pi)).sum(dim=3)
        log_mixture = th.logsumexp(self.log_weights.unsqueeze(1) + log_normal, dim=2)  # (batch, samples)
        return log_mixture - log_tanh_derivative(samples).sum(dim=2)  # (batch, samples)

    def modes(self) -> th.Tensor:
        """
        The squashed means of all components.

        :return: Actions in [-1, 1], shape (batch, components, action)
        """
        return th.tanh(self.means)

    def mode(self) -> th.Tensor:
        """
        The squashed mean of the most probable component. The policy, which knows the Q-values, takes the best one.

        :return: Actions in [-1, 1], shape (batch, action)
        """
        best = self.log_weights.argmax(dim=1)[:, None, None].expand(-1, 1, self.means.shape[2])  # (batch, 1, action)
        return th.tanh(self.means.gather(1, best).squeeze(1))
