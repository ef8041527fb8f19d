import math

import numpy as np
import pytest
import torch as th
from scipy.stats import norm, truncnorm

from sb3_maxent.functional import mixture_proposal, soft_value_importance, uniform_proposal
from sb3_maxent.functional.proposals import normal_quantile
from tests.functional.closed_forms import BoundedQuadraticBandit


def bump(actions, width):
    """Q-function with its soft value at temperature 1, a Gaussian bump that the box does not cut"""
    d = actions.shape[-1]
    return -actions.square().sum(dim=-1) / (2 * width**2), d * math.log(width * math.sqrt(2 * math.pi))


def test_mixture_is_a_density_and_the_samples_have_it():
    th.manual_seed(0)
    centres = th.tanh(th.randn(1, 8, 1, dtype=th.float64) * 2)
    actions, log_density = mixture_proposal(centres, th.rand(1, 200_000, 2, dtype=th.float64))
    assert actions.abs().max() <= 1
    order = actions[0, :, 0].argsort()
    grid, density = actions[0, order, 0], log_density[0, order].exp()
    assert th.trapezoid(density, grid).item() == pytest.approx(1.0, abs=1e-3)
    # The distribution function of the density at the samples is uniform
    cdf = th.cumulative_trapezoid(density, grid)
    assert (cdf - th.linspace(0, 1, len(cdf))).abs().max() < 0.005


def test_mixture_density_by_hand():
    """Against SciPy's truncated normals, with the bandwidth of the rule written out for two dimensions and three centres"""
    centres = th.tensor([[[0.9, 0.0], [0.3, 0.1], [0.0, -0.1]], [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]], dtype=th.float64)
    noise = th.rand(2, 50, 3, dtype=th.float64, generator=th.Generator().manual_seed(0))
    actions, log_density = mixture_proposal(centres, noise)
    for state, std in enumerate([centres[0].numpy().std(axis=0), np.full(2, 0.02)]):
        bandwidth = std * (1 / 3) ** (1 / 6)
        density = np.full(50, 0.1 / 4)
        for centre in centres[state].numpy():
            normal = truncnorm((-1 - centre) / bandwidth, (1 - centre) / bandwidth, loc=centre, scale=bandwidth)
            density += 0.9 / 3 * normal.pdf(actions[state].numpy()).prod(axis=1)
        assert log_density[state].numpy() == pytest.approx(np.log(density), abs=1e-9)


def test_normal_quantile():
    tail = th.logspace(-7.9, -2, 500)
    probability = th.cat([tail, th.linspace(0.01, 0.99, 2000), 1 - tail[tail > 1e-7]])
    expected = norm.ppf(probability.double().numpy())
    assert normal_quantile(probability).numpy() == pytest.approx(expected, rel=2e-6, abs=1e-6)
    # Where single precision ends it stays finite
    ends = normal_quantile(th.tensor([0.0, 1e-30, 1e-12, 1.0]))
    assert ends.abs().numpy() == pytest.approx(5.6, abs=0.05) and ends.sign().tolist() == [-1, -1, -1, 1]


@pytest.mark.parametrize("n_centres", [1, 3, 32, 63])
def test_mixture_at_the_ends_of_the_noise(n_centres):
    """In single precision the last component, the upper bound and the distribution function at a far bound round up"""
    last = 1 - 2**-24
    corner = th.ones(1, n_centres, 1)
    for sign in (-1, 1):
        noise = th.tensor([[[0.5, 0.0], [0.5, last], [last, 0.0], [last, last]]])
        actions, log_density = mixture_proposal(sign * corner, noise)
        assert actions.abs().max() <= 1 and th.isfinite(log_density).all()
    # Where a bound is a few bandwidths away the quantile rounds beyond it
    centres = 2 * th.rand(2000, n_centres + 1, 1, generator=th.Generator().manual_seed(0)) - 1
    for uniform in (0.0, last):
        actions, log_density = mixture_proposal(centres, th.tensor([[[0.15, uniform], [0.9, uniform]]]).expand(2000, -1, -1))
        assert actions.abs().max() == 1 and th.isfinite(log_density).all()
    # The first tenth of the choice is uniform, its end is not
    actions, _ = mixture_proposal(corner.double(), th.tensor([[[0.1 - 1e-9, 0.25], [0.1, 0.25]]], dtype=th.float64))
    assert actions[0, 0].item() == -0.5 and actions[0, 1].item() > 0.9


def test_mixture_density_in_two_dimensions_integrates_to_one():
    """Importance sampling of the constant 1 gives the volume of the box"""
    th.manual_seed(0)
    centres = th.rand(1, 5, 2, dtype=th.float64) * 2 - 1
    noise = th.rand(1, 400_000, 3, dtype=th.float64)
    _, log_density = mixture_proposal(centres, noise)
    # E_q[1 / q] is the volume of the box
    inverse = th.exp(-log_density)
    assert inverse.mean().item() == pytest.approx(4.0, abs=5 * inverse.std().item() / math.sqrt(inverse.numel()))


@pytest.mark.parametrize("proposal", ["uniform", "mixture"])
def test_exp_of_the_value_is_unbiased(proposal):
    bandit, n_states = BoundedQuadraticBandit(c=7.0, h=3.0, b=0.4, alpha=0.3), 20_000
    th.manual_seed(0)
    if proposal == "uniform":
        actions, log_density = uniform_proposal(th.rand(n_states, 4, 1, dtype=th.float64))
    else:
        # Centres that are off: the weights correct for it
        centres = th.full((n_states, 3, 1), -0.5, dtype=th.float64) + 0.2 * th.rand(n_states, 3, 1)
        actions, log_density = mixture_proposal(centres, th.rand(n_states, 4, 2, dtype=th.float64))
    q_values = th.as_tensor(bandit.reward(actions.numpy()))[..., 0]
    values = soft_value_importance(q_values, log_density, bandit.alpha)
    ratio = th.exp((values - bandit.value) / bandit.alpha)
    assert ratio.mean().item() == pytest.approx(1.0, abs=4 * ratio.std().item() / math.sqrt(n_states))
    # The logarithm is biased downwards, as it must be
    assert values.mean() < bandit.value


def test_exact_with_the_optimal_density():
    """If the proposal is the Boltzmann density itself, one sample gives the value"""
    bandit = BoundedQuadraticBandit(c=7.0, h=3.0, b=0.4, alpha=0.3)
    actions = bandit.policy.rvs((5, 1), random_state=0)
    values = soft_value_importance(th.as_tensor(bandit.reward(actions)), th.as_tensor(bandit.policy.logpdf(actions)), 0.3)
    assert values.flatten().tolist() == pytest.approx([bandit.value] * 5)


@pytest.mark.parametrize(("shift", "bound"), [(0.0, 0.2), (0.1, 0.3), (0.2, 1.0)])
def test_bias_in_six_dimensions(shift, bound):
    """A bump of width 0.2, 32 evaluations, centres from the policy: small even if these are off in every dimension"""
    th.manual_seed(0)
    n_states, d, width = 2000, 6, 0.2

    def bias(actions, log_density):
        q_values, exact = bump(actions, width)
        return soft_value_importance(q_values, log_density, 1.0).mean().item() - exact

    centres = (width * th.randn(n_states, 32, d) + shift).clamp(-1, 1)
    assert abs(bias(*mixture_proposal(centres, th.rand(n_states, 32, d + 1)))) < bound
    # Control: uniform actions miss the bump
    assert bias(*uniform_proposal(th.rand(n_states, 32, d))) < -2


def test_uniform_value_by_hand():
    q_values = th.tensor([[0.0, 2.0]])
    value = soft_value_importance(q_values, th.full((1, 2), -math.log(2)), 2.0)
    assert value.shape == (1, 1)
    assert value.item() == pytest.approx(2.0 * math.log((1 + math.e) / 2 * 2))


def test_log_density_is_precise_for_narrow_components():
    """Centres in a corner, close together: the density from inner products agrees with double precision"""
    th.manual_seed(0)
    noise = th.rand(20, 16, 7, dtype=th.float64)
    corner = 0.9 * th.ones(20, 1, 1, dtype=th.float64)
    corner[::2] *= -1
    centres = (corner + 0.01 * th.randn(20, 8, 6, dtype=th.float64)).clamp(-1, 1)
    actions, expected = mixture_proposal(centres, noise)
    single_actions, log_density = mixture_proposal(centres.float(), noise.float())
    assert (single_actions - actions).abs().max() < 1e-3
    assert (log_density - expected).abs().max() < 0.05


def test_gradient_of_the_quantile_is_finite_in_the_middle_and_in_the_tail():
    probability = th.tensor([0.5, 0.3, 0.9999], requires_grad=True)
    normal_quantile(probability).sum().backward()
    assert probability.grad.isfinite().all()
