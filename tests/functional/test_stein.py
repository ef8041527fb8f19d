import math

import numpy as np
import pytest
import torch as th
from scipy.stats import kstest

from sb3_maxent.functional import (
    kernel_density,
    lower_median,
    median_bandwidth,
    mixed_space_score,
    pre_tanh_score,
    rbf_kernel,
    stein_variational_gradient,
)
from tests.functional.closed_forms import BoundedQuadraticBandit


def test_kernel_by_hand():
    """Two fixed particles at 0, one updated at 1: the median is 1, h = 1 / log 2 and the kernel exp(-log 2)"""
    values, bandwidth = rbf_kernel(th.zeros(1, 2, 1), th.ones(1, 1, 1))
    assert values.flatten().tolist() == pytest.approx([0.5, 0.5])
    assert bandwidth.item() == pytest.approx(1 / math.log(2))
    values, _ = rbf_kernel(th.full((1, 2, 3), 0.3), th.full((1, 1, 3), 0.3))
    assert values.flatten().tolist() == pytest.approx([1, 1], abs=1e-3)


def test_density_by_hand():
    """The lower median of the sixteen squared distances between 0, 1, 1.5 and 9 is 1, so h = 1 / log 4"""
    particles = th.tensor([[0.0, 1.0, 1.5, 9.0], [9.0, 1.5, 0.0, 1.0]]).unsqueeze(2)
    expected = [1 + 0.25 + 4**-2.25, 1 + 0.25 + 4**-0.25, 1 + 4**-0.25 + 4**-2.25, 1]
    for origin in (0.0, 30.0):
        density = kernel_density(particles + origin)
        assert density[0].tolist() == pytest.approx(expected, abs=1e-5)
        assert density[1].tolist() == pytest.approx([expected[number] for number in (3, 2, 0, 1)], abs=1e-5)
    with pytest.raises(ValueError, match="at least two"):
        kernel_density(th.ones(2, 1, 3))


def test_direction_is_precise_far_from_the_origin():
    """Saturated actions lie close together, far out"""
    generator = th.Generator().manual_seed(0)
    fixed, updated, score = (0.1 * th.randn(5, 8, 3, generator=generator) for _ in range(3))
    fixed, updated = fixed + 20, updated + 20
    expected = stein_variational_gradient(score.double(), fixed.double(), updated.double())
    assert (stein_variational_gradient(score, fixed, updated) - expected).abs().max() < 1e-4


def test_direction_has_the_gradient_of_the_kernel():
    """Against automatic differentiation of the kernel in the fixed particles, with the bandwidth held, as the paper does"""
    fixed, updated = th.randn(3, 4, 2, dtype=th.float64, requires_grad=True), th.randn(3, 5, 2, dtype=th.float64)
    score = th.randn(3, 4, 2, dtype=th.float64)
    squared_distances = (fixed.unsqueeze(2) - updated.unsqueeze(1)).square().sum(-1)
    values = th.exp(-squared_distances / median_bandwidth(squared_distances).detach())
    assert th.allclose(values, rbf_kernel(fixed, updated)[0])
    direction = stein_variational_gradient(score, fixed.detach(), updated)
    for j in range(5):
        (gradient,) = th.autograd.grad(values[:, :, j].sum(), fixed, retain_graph=True)
        expected = (values[:, :, j, None] * score + gradient).mean(dim=1)
        assert th.allclose(direction[:, j], expected)


def test_bandwidth_is_the_lower_median_of_each_state():
    squared_distances = th.tensor([[[4.0, 1.0], [9.0, 2.0]], [[0.0, 0.0], [0.0, 5.0]]])
    bandwidth = median_bandwidth(squared_distances)
    assert bandwidth.flatten().tolist() == pytest.approx([2.0 / math.log(2), 1e-3])
    with pytest.raises(ValueError, match="at least two fixed particles, got 1"):
        median_bandwidth(th.ones(2, 1, 3))


def test_direction_by_hand():
    direction = stein_variational_gradient(th.tensor([[[3.0], [1.0]]]), th.zeros(1, 2, 1), th.ones(1, 1, 1))
    # (0.5 * 3 + 0.5 * 1) / 2 + log 2: the repulsion pushes away from the fixed particles
    assert direction.item() == pytest.approx(1.0 + math.log(2))


def test_pre_tanh_score_is_the_gradient_of_the_log_density():
    u = th.randn(2, 3, 4, dtype=th.float64, requires_grad=True)
    q_function, ent_coef = lambda a: (a**3 - a).sum(), 0.3
    log_density = q_function(th.tanh(u)) / ent_coef + th.log(1 - th.tanh(u) ** 2).sum()
    (expected,) = th.autograd.grad(log_density, u)
    actions = th.tanh(u).detach().requires_grad_()
    (q_gradient,) = th.autograd.grad(q_function(actions), actions)
    assert th.allclose(pre_tanh_score(actions.detach(), q_gradient, ent_coef), expected)


BANDITS = {
    "flat": BoundedQuadraticBandit(c=0.0, h=1e-6, b=0.0, alpha=1.0),
    "quadratic": BoundedQuadraticBandit(c=7.0, h=3.0, b=0.4, alpha=0.3),
    "at the bound": BoundedQuadraticBandit(c=0.0, h=4.0, b=1.0, alpha=1.0),
}


def descend(bandit, reference, n_particles=200, n_steps=1500, step=0.1):
    """Move particles to the Boltzmann density of a bandit, in the space before the squash or as the reference codes do"""
    particles = th.linspace(-1, 1, n_particles, dtype=th.float64).mul(0.5)[None, :, None]
    for _ in range(n_steps):
        actions = particles if reference else th.tanh(particles)
        q_gradient = -bandit.h * (actions - bandit.b)
        score = (mixed_space_score if reference else pre_tanh_score)(actions, q_gradient, bandit.alpha)
        direction = stein_variational_gradient(score, particles, particles)
        particles = particles + step * direction
        if reference:
            particles = particles.clamp(-0.999, 0.999)
    return (particles if reference else th.tanh(particles)).flatten().numpy()


@pytest.mark.parametrize("name", BANDITS)
def test_particles_reach_the_boltzmann_density(name):
    bandit = BANDITS[name]
    assert kstest(descend(bandit, reference=False), bandit.policy.cdf).statistic < 0.05
    # The reference form is found out: it samples the density times 1 - a^2
    samples = descend(bandit, reference=True, step=0.02)
    assert kstest(samples, bandit.policy.cdf).statistic > 0.05
    grid = np.linspace(-1, 1, 2001)
    wrong_cdf = np.cumsum(bandit.policy.pdf(grid) * (1 - grid**2))
    assert kstest(samples, lambda x: np.interp(x, grid, wrong_cdf / wrong_cdf[-1])).statistic < 0.05


def test_reference_score_is_finite_at_the_bounds():
    assert mixed_space_score(th.ones(1, 1, 1), th.full((1, 1, 1), 3.0), 0.5).item() == pytest.approx(6 - 2e6, rel=1e-6)


def test_the_direction_does_not_depend_on_the_origin():
    """Each state has its own: in single precision inner products around a common one would be all rounding"""
    th.manual_seed(0)
    score, fixed, updated = th.randn(2, 5, 2), th.randn(2, 5, 2), th.randn(2, 4, 2)
    origins = th.tensor([2000.0, -2000.0]).reshape(2, 1, 1)
    moved = stein_variational_gradient(score, fixed + origins, updated + origins)
    assert th.allclose(moved, stein_variational_gradient(score, fixed, updated), atol=2e-3)


@pytest.mark.parametrize("n_columns", [1, 2, 5, 256])
@pytest.mark.parametrize("dtype", [th.float32, th.float64])
def test_lower_median(n_columns, dtype):
    values = th.randn(8, n_columns, dtype=dtype)
    assert th.equal(lower_median(values), values.median(dim=1).values)
    assert th.equal(lower_median(values.t().contiguous().t()), values.median(dim=1).values)


def test_lower_median_of_other_numbers():
    values = th.tensor([[1, math.nan, 2, 3], [4, 1, 3, 2], [math.inf, math.inf, 1, 2]])
    assert th.equal(lower_median(values).nan_to_num(9, posinf=8), values.median(dim=1).values.nan_to_num(9, posinf=8))
    assert lower_median(values)[:2].nan_to_num(9).tolist() == [9, 2]
    assert th.equal(lower_median(values[1:].bfloat16()), values[1:].bfloat16().median(dim=1).values)
    # Its gradient is that of the median
    values = th.randn(3, 4, requires_grad=True)
    gradient, expected = (th.autograd.grad(each.sum(), values)[0] for each in (lower_median(values), values.median(1).values))
    assert th.equal(gradient, expected) and gradient.sum() == 3


def test_particles_far_from_the_origin_keep_their_precision():
    particles = 30 + 0.1 * th.randn(4, 8, 2, generator=th.Generator().manual_seed(0))
    assert th.allclose(kernel_density(particles), kernel_density(particles.double()).float(), atol=1e-3)
    close = 30 + (particles - 30) / 100
    assert rbf_kernel(close, close)[0].max() <= 1


def test_median_in_an_exported_graph(monkeypatch):
    """Of an even number the lower one, as PyTorch's"""
    values = th.randn(8, 6)
    monkeypatch.setattr(th.compiler, "is_exporting", lambda: True)
    assert th.equal(lower_median(values), values.median(dim=1).values)
