"""A critic that learns a histogram of the value."""

import gymnasium as gym
import pytest
import torch as th

from benchmarks.histogram import LIMIT, HistogramPolicy
from sb3_maxent import DSPG


def make_model(**arguments):
    return DSPG(HistogramPolicy, gym.make("Pendulum-v1"), policy_kwargs={"net_arch": [16, 16]}, compile=False, **arguments)


def test_loss_by_hand():
    """The mean of the best histogram is the target, its loss is the entropy, and any other one has a larger loss"""
    critic = make_model().critic
    target = th.tensor([[-2.3], [0.0], [1.234]])
    logits = th.zeros(2, 3, 1, 101, requires_grad=True)
    optimizer = th.optim.LBFGS([logits], max_iter=500, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = critic.loss(logits, target)
        value.backward()
        return value

    optimizer.step(loss)
    assert th.allclose(critic.value(logits.detach()), target, atol=2e-3)
    probabilities = logits.detach().softmax(dim=3)
    entropy = -(probabilities * probabilities.clamp_min(1e-30).log()).sum(dim=3).mean(dim=1).sum()
    assert critic.loss(logits, target).item() == pytest.approx(entropy.item(), abs=1e-2)
    # A Gaussian of 0.75 bins
    assert entropy.item() / 2 == pytest.approx(0.5 * th.log(2 * th.pi * th.e * th.tensor(0.75**2 + 1 / 12)).item(), abs=0.02)
    assert critic.loss(logits, target + 0.2) > critic.loss(logits, target) + 0.5


def test_targets_outside_count_as_the_limits():
    critic = make_model().critic
    logits = th.randn(2, 1, 1, 101)
    inside = critic.loss(logits, th.tensor([[LIMIT - 2 * LIMIT / 101]]))
    assert critic.loss(logits, th.tensor([[100.0]])) == inside and inside.isfinite()


def test_it_trains_as_a_critic_of_dspg():
    model = make_model(learning_starts=20, batch_size=32, seed=0).learn(60)
    assert model.critic.q_values(model.critic.embed(th.zeros(4, 3)), th.zeros(4, 2, 1)).shape == (4, 2)
    assert model.logger.name_to_value["train/n_updates"] > 0
