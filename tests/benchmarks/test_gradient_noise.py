from functools import partial

import gymnasium as gym
import pytest
import torch as th

from benchmarks.gradient_noise import measure, noise_of, reparametrised_gradient, score_function_gradient, visited_states
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
