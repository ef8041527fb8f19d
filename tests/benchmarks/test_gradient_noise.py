from functools import partial

import gymnasium as gym
import pytest
import torch as th

from benchmarks.gradient_noise import (
    DRAWS,
    antithetic,
    grouped_gradient,
    measure,
    noise_of,
    reparametrised_gradient,
    score_function_gradient,
    visited_states,
)
from tests.models import make_model


def test_noise_of_known_gradients():
    """A mean of norm 5, and two components of deviation 2 and 3"""
    th.manual_seed(0)
    gradients = [th.tensor([3.0, 4.0]) + th.randn(2) * th.tensor([2.0, 3.0]) for _ in range(20_000)]
    signal, noise = noise_of(gradients)
    assert signal == pytest.approx(25, rel=0.02) and noise == pytest.approx(13, rel=0.02)


def test_both_estimators_have_one_mean():
    """And noise that falls with the number of samples"""
    model = make_model("DSPG").learn(60)
    states = visited_states(model, gym.make("Pendulum-v1"), 300)
    model.policy.set_training_mode(False)
    means = [
        th.stack([gradient(model, states[:50], 256) for _ in range(30)]).mean(dim=0)
        for gradient in (score_function_gradient, reparametrised_gradient)
    ]
    assert (means[0] - means[1]).norm() < 0.1 * means[1].norm()
    few, many = (measure(partial(score_function_gradient, model), states, n, 30)["noise"] for n in (4, 64))
    assert 8 < few / many < 40


@pytest.mark.parametrize("name", DRAWS)
def test_each_sample_is_standard_normal_and_groups_are_independent(name):
    th.manual_seed(0)
    noise = th.cat([DRAWS[name](1, 8, 2) for _ in range(5000)])  # (5000, groups, samples of a group, 2)
    assert th.isfinite(noise).all() and noise[0, :, :, 0].numel() == 8
    quantiles = th.special.ndtri(th.linspace(0.05, 0.95, 19))
    shares = (noise.flatten(1, 2).unsqueeze(3) < quantiles).float().mean(dim=0)  # (samples, 2, quantiles)
    assert (shares - th.linspace(0.05, 0.95, 19)).abs().max() < 0.03
    first, second = noise[:, 0, 0], noise[:, 1, 0]
    assert (first * second).mean(dim=0).abs().max() < 0.05 and (first[:, 0] * second[:, 1]).mean().abs() < 0.05
    # Control: within a group they are not
    assert abs((noise[:, 0, 0, 0] * noise[:, 0, 1, 0]).mean()) > 0.1


def mean_gradient(draw, leave_group_out, n_states, n_repeats):
    """Over many copies of one state, and what the reparametrised gradient makes of them"""
    th.manual_seed(0)
    model = make_model("DSPG")
    model.policy.set_training_mode(False)
    with th.no_grad():
        model.actor.mu.bias.fill_(0.5)
    obs = th.zeros(n_states, 3)
    gradients = [grouped_gradient(model, draw, obs, 4, leave_group_out) for _ in range(n_repeats)]
    exact = reparametrised_gradient(model, th.zeros(20_000, 3), 4)
    return th.stack(gradients).mean(dim=0), exact


@pytest.mark.parametrize("name", [pytest.param(each, marks=pytest.mark.slow) if "shared" in each else each for each in DRAWS])
def test_leaving_the_group_out_is_unbiased(name):
    mean, exact = mean_gradient(DRAWS[name], True, *((1, 3000) if "shared" in name else (2000, 30)))
    assert (mean - exact).norm() < 0.1 * exact.norm()


def test_leaving_the_sample_out_of_antithetic_pairs_is_biased():
    mean, exact = mean_gradient(antithetic, False, 2000, 30)
    assert (mean - exact).norm() > 0.2 * exact.norm()
