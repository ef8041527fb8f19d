"""Mixtures against quadrature: density, entropy, expectation and the gradient of the loss, each with something that fails."""

import math

import numpy as np
import pytest
import torch as th
from scipy.stats import norm

from sb3_maxent.common.distributions import SquashedGaussian, log_tanh_derivative
from sb3_maxent.common.mixtures import SquashedMixture, spread_points
from sb3_maxent.functional import expectation, score_function_loss

ALPHA = 0.3


def parameters(n_components=3, action_dim=1, seed=0):
    generator = th.Generator().manual_seed(seed)
    shapes = (1, n_components), (1, n_components, action_dim), (1, n_components, action_dim)
    logits, means, log_stds = (th.randn(*shape, generator=generator, dtype=th.float64) for shape in shapes)
    return logits, means, 0.3 * log_stds - 0.7


def grid(action_dim, n):
    """Pre-tanh values where the density is not zero, shape (1, points, action), and the volume of each"""
    axis = th.linspace(-8, 8, n, dtype=th.float64)
    points = th.cartesian_prod(*[axis] * action_dim).reshape(1, -1, action_dim)
    return points, (axis[1] - axis[0]).item() ** action_dim


def density(distribution, points):
    """In the space before the squash, shape (points,)"""
    return th.exp(distribution.log_prob(points)[0] + log_tanh_derivative(points[0]).sum(dim=1))


def q_function(samples):
    return (0.5 * samples - 0.4 * samples.square()).sum(dim=-1) + 5


@pytest.mark.parametrize(("action_dim", "n"), [(1, 4001), (2, 401)])
def test_density_integrates_to_one(action_dim, n):
    logits, means, log_stds = parameters(action_dim=action_dim)
    points, volume = grid(action_dim, n)
    mixture = SquashedMixture(logits, means, log_stds)
    assert (density(mixture, points).sum() * volume).item() == pytest.approx(1.0, abs=1e-6)
    # Control: the mean of the logarithms is the logarithm of something else
    parts = [SquashedGaussian(means[:, k], log_stds[:, k]).log_prob(points)[0] for k in range(3)]
    weights = th.softmax(logits, dim=1)[0]
    log_geometric = sum(w * part for w, part in zip(weights, parts, strict=True))
    geometric = th.exp(log_geometric + log_tanh_derivative(points[0]).sum(dim=1))
    assert abs((geometric.sum() * volume).item() - 1) > 0.1


def even_noise(n, n_components):
    """Quantiles of the normal for each component, and even ones for the choice, shape (1, samples, 2)"""
    quantiles = th.as_tensor(norm.ppf((np.arange(n) + 0.5) / n))
    choice = th.as_tensor(norm.ppf((np.arange(n * n_components) + 0.5) / (n * n_components)))
    return th.stack([quantiles.repeat(n_components), choice], dim=1).unsqueeze(0)


def stratified_noise(mixture, n):
    """Quantiles of the normal for each stratum, shape (1, samples, 2)"""
    counts = (mixture.weighted_samples(th.zeros(1, n, 2, dtype=th.float64))[1] > 0).sum(dim=2)[0]
    quantiles = th.cat([th.as_tensor(norm.ppf((np.arange(count) + 0.5) / count)) for count in counts.tolist()])
    return quantiles[None, :, None].expand(-1, -1, 2)


def test_strata_are_as_large_as_the_components_weigh():
    logits, means, log_stds = parameters()
    samples, weights = SquashedMixture(logits, means, log_stds - 20).weighted_samples(th.randn(1, 1000, 2, dtype=th.float64))
    probabilities = th.softmax(logits, dim=1)
    members = weights > 0
    assert th.equal(members.sum(dim=1), th.ones(1, 1000, dtype=th.int64)) and not samples.requires_grad
    assert th.allclose(members.double().mean(dim=2), probabilities, atol=0.01)
    assert th.allclose(weights.sum(dim=2), probabilities) and weights.sum().item() == pytest.approx(1)
    assert (samples - (members[..., None] * means[:, :, None]).sum(dim=1)).abs().max() < 1e-6


def test_a_component_that_weighs_nothing_still_has_two_samples():
    mixture = SquashedMixture(th.tensor([[200.0, 0.0, -200.0]]), th.zeros(1, 3, 1), th.zeros(1, 3, 1))
    samples, weights = mixture.weighted_samples(th.randn(1, 16, 2))
    assert (weights > 0).sum(dim=2).tolist() == [[12, 2, 2]]
    loss = score_function_loss(mixture.log_prob(samples), q_function(samples), ALPHA, "loo", weights)
    assert th.isfinite(loss)


def test_rounding_leaves_no_component_with_one_sample():
    """Behind one whose share ends where a number of samples is rounded, a component without weight begins and ends there"""
    # Half a sample, and what lies between that in float32
    logits = th.tensor([math.log(1 / 15), -18.0, -18.0, 0.0]).repeat(400, 1)
    logits[:, 0] += th.linspace(-3e-7, 3e-7, 400)
    mixture = SquashedMixture(logits, th.zeros(400, 4, 1), th.zeros(400, 4, 1))
    _, weights = mixture.weighted_samples(th.randn(400, 16, 2))
    assert (weights > 0).sum(dim=2).min() == 2


def test_entropy_and_expectation():
    mixture = SquashedMixture(*parameters())
    points, volume = grid(1, 8001)
    mass = density(mixture, points) * volume
    samples, weights = mixture.weighted_samples(stratified_noise(mixture, 12_000))
    for function in (lambda u: -mixture.log_prob(u), q_function):
        exact = (mass * function(points)[0]).sum().item()
        assert expectation(function(samples), weights).item() == pytest.approx(exact, abs=1e-3)
        # Control: as if all components were as probable
        means = (function(samples) * (weights > 0)).sum(dim=2) / (weights > 0).sum(dim=2)
        assert abs(means.mean().item() - exact) > 0.02


def test_samples_come_from_each_component_as_often_as_it_weighs():
    logits, means, log_stds = parameters()
    mixture = SquashedMixture(logits, means, log_stds - 20)
    samples = mixture.sample(even_noise(4000, 3))
    nearest = (samples - means[:, None, :, 0]).abs().argmin(dim=2)
    shares = th.bincount(nearest[0]) / 12_000
    assert th.allclose(shares.double(), th.softmax(logits, dim=1)[0], atol=1e-3)
    # The largest float32 below one is 1 - 2^-24, and this noise rounds to one
    last = SquashedMixture(*(part.float() for part in (logits, means, log_stds))).sample(th.full((1, 1, 2), 9.0))
    assert th.allclose(last[0, 0, 0], (means + 9 * log_stds.exp())[0, -1, 0].float())


def per_state_gradient(loss, leaves):
    """Of a loss that averages over states, shape (states, parameters)"""
    return th.cat([-part.flatten(1) for part in th.autograd.grad(loss * len(leaves[0]), leaves)], dim=1)


def quadrature_gradient(n_components):
    """Of the soft value E[Q - alpha log pi]"""
    leaves = [part.requires_grad_() for part in parameters(n_components)]
    points, volume = grid(1, 8001)
    mixture = SquashedMixture(*leaves)
    value = (density(mixture, points) * (q_function(points)[0] - ALPHA * mixture.log_prob(points)[0])).sum() * volume
    return per_state_gradient(-value, leaves)[0]


def mean_gradient(loss_of):
    """Over the noise of two samples of each of two components, by quadrature: each row is a node of four dimensions"""
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(20)
    noise = th.cartesian_prod(*[th.as_tensor(nodes)] * 4)  # (rows, samples)
    row_weights = th.cartesian_prod(*[th.as_tensor(node_weights / node_weights.sum())] * 4).prod(dim=1, keepdim=True)
    leaves = [part.expand(len(noise), *part.shape[1:]).clone().requires_grad_() for part in parameters(2)]
    mixture = SquashedMixture(*leaves)
    samples, weights = mixture.weighted_samples(th.stack([noise, th.zeros_like(noise)], dim=2))
    loss = loss_of(mixture.log_prob(samples), q_function(samples), weights)
    return (per_state_gradient(loss, leaves) * row_weights).sum(dim=0)


@pytest.mark.parametrize("baseline", ["loo", "none"])
def test_the_gradient_is_unbiased(baseline):
    exact = quadrature_gradient(2)
    gradient = mean_gradient(lambda log_prob, q, weights: score_function_loss(log_prob, q, ALPHA, baseline, weights))
    assert exact.abs().min() > 0.01 and th.allclose(gradient, exact, atol=5e-4)


def own_baselines(log_prob, q_values, weights):
    """Leaves a sample out of its own component alone"""
    others = (q_values - ALPHA * log_prob).detach().unflatten(1, (2, 2)).flip(2).flatten(1)
    return -expectation((q_values - ALPHA * log_prob.detach() - others) * log_prob, weights).mean()


def included(log_prob, q_values, weights):
    """Leaves no sample out"""
    values = (q_values - ALPHA * log_prob).detach()
    return -expectation((values - expectation(values, weights)) * log_prob, weights).mean()


def unweighted(log_prob, q_values, weights):
    """Takes the samples of all components as those of the mixture"""
    return score_function_loss(log_prob, q_values, ALPHA, "loo")


@pytest.mark.parametrize("loss_of", [own_baselines, included, unweighted])
def test_what_one_would_write_at_first_is_biased(loss_of):
    assert (mean_gradient(loss_of) - quadrature_gradient(2)).abs().max() > 0.02


def equal_numbers(mixture, noise):
    """As many samples of each component, whatever it weighs"""
    n_states, n_components = mixture.log_weights.shape
    choice = th.arange(noise.shape[1]) % n_components
    members = (choice == th.arange(n_components).unsqueeze(1)).double()
    samples = mixture._scale_and_shift(noise[..., :-1], choice.expand(n_states, -1))
    return samples, mixture.log_weights.detach().exp().unsqueeze(2) * members / members.sum(dim=1, keepdim=True)


def test_noise_of_the_gradient():
    """The fewest with numbers in proportion to the weights; with equal numbers it has more than with random components"""
    variances, generator = [], th.Generator().manual_seed(0)
    noise = th.randn(3000, 64, 3, generator=generator, dtype=th.float64)
    for draw in (SquashedMixture.weighted_samples, lambda mixture, noise: (mixture.sample(noise), None), equal_numbers):
        leaves = [part.expand(3000, *part.shape[1:]).clone().requires_grad_() for part in parameters(4, 2, seed=3)]
        mixture = SquashedMixture(*leaves)
        samples, weights = draw(mixture, noise)
        loss = score_function_loss(mixture.log_prob(samples), q_function(samples), ALPHA, "loo", weights)
        variances.append(per_state_gradient(loss, leaves).var(dim=0).sum().item())
    assert variances[0] < 0.98 * variances[1] < 0.9 * variances[2]


def test_one_component_is_the_gaussian():
    logits, means, log_stds = parameters(1, 2)
    mixture, gaussian = SquashedMixture(logits, means, log_stds), SquashedGaussian(means[:, 0], log_stds[:, 0])
    noise = th.randn(1, 7, 3, dtype=th.float64)
    samples, weights = mixture.weighted_samples(noise)
    assert th.equal(samples, gaussian.sample(noise[..., :-1])) and th.equal(samples, mixture.sample(noise))
    assert th.equal(mixture.actions(samples), gaussian.actions(samples)) and th.equal(mixture.mode(), gaussian.mode())
    assert th.allclose(weights, th.full((1, 1, 7), 1 / 7, dtype=th.float64)) and th.allclose(
        mixture.log_prob(samples), gaussian.log_prob(samples), atol=1e-12
    )
    q_values, log_prob = q_function(samples), gaussian.log_prob(samples)
    losses = [score_function_loss(log_prob, q_values, ALPHA, "loo", each) for each in (weights, None)]
    assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-9)


def test_samples_that_are_too_few_for_each_component():
    mixture = SquashedMixture(*parameters(3))
    noise = th.randn(1, 8, 2, dtype=th.float64)
    samples, weights = mixture.weighted_samples(noise[:, :5])
    assert weights is None and th.equal(samples, mixture.sample(noise[:, :5]))
    assert (mixture.weighted_samples(noise[:, :6])[1] > 0).sum(dim=2).tolist() == [[2, 2, 2]]


def test_deterministic_actions():
    logits, means, log_stds = parameters(3, 2)
    mixture = SquashedMixture(logits, means, log_stds)
    assert th.equal(mixture.modes(), th.tanh(means))
    assert th.equal(mixture.mode()[0], th.tanh(means[0, logits[0].argmax()]))


def test_finite_at_saturation():
    leaves = [part.requires_grad_() for part in (th.zeros(1, 2), th.tensor([[[20.0], [-20.0]]]), th.full((1, 2, 1), -20.0))]
    log_prob = SquashedMixture(*leaves).log_prob(th.tensor([[[20.0], [-20.0], [0.0]]]))
    assert th.isfinite(log_prob[:, :2]).all()
    assert all(th.isfinite(part).all() for part in th.autograd.grad(log_prob[:, :2].sum(), leaves))


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="Expected"):
        SquashedMixture(th.zeros(4, 2), th.zeros(4, 3, 1), th.zeros(4, 3, 1))
    mixture = SquashedMixture(th.zeros(4, 3), th.zeros(4, 3, 2), th.zeros(4, 3, 2))
    with pytest.raises(ValueError, match="batch = 4"):
        mixture.sample(th.zeros(3, 5, 3))
    with pytest.raises(ValueError, match="action = 2"):
        mixture.log_prob(th.zeros(4, 5, 3))


def smallest_distance(points):
    return th.pdist(points).min().item()


@pytest.mark.parametrize(("n_points", "action_dim"), [(2, 1), (4, 1), (4, 2), (3, 6), (8, 17)])
def test_points_are_spread(n_points, action_dim):
    th.manual_seed(0)
    draws = [spread_points(n_points, action_dim) for _ in range(20)]
    assert all(points.shape == (n_points, action_dim) and points.norm(dim=1).max() <= 1 for points in draws)
    smallest = min(smallest_distance(points) for points in draws)
    # Two at the ends of the interval, four in equal distances of 2 / 3, four near the corners of a square in the disc
    assert smallest > {(2, 1): 1.95, (4, 1): 0.45, (4, 2): 1.2}.get((n_points, action_dim), 1.0)
    # Elsewhere each time
    assert smallest_distance(th.stack([points.flatten() for points in draws[:2]])) > 0.001
    # Control: independent directions are not spread
    others = [th.nn.functional.normalize(th.randn(n_points, action_dim)) for _ in range(20)]
    assert min(smallest_distance(points) for points in others) < 0.9 * smallest


def test_each_state_has_its_own_component_weights():
    logits, means = th.tensor([[9.0, -9.0], [-9.0, 9.0]]), th.tensor([[[-1.0], [1.0]]]).expand(2, 2, 1)
    mixture = SquashedMixture(logits, means, th.full((2, 2, 1), -20.0))
    assert th.allclose(mixture.sample(th.zeros(2, 3, 2)), th.tensor([-1.0, 1.0]).reshape(2, 1, 1).expand(2, 3, 1))
    _, weights = mixture.weighted_samples(th.zeros(2, 16, 2))
    assert (weights > 0).sum(dim=2).tolist() == [[14, 2], [2, 14]]
