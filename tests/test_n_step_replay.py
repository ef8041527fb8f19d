"""Returns of several steps, up to the targets of the critic."""

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env

from tests.envs import RandomEnv
from tests.models import OBSERVATIONS, VARIANTS, VECTOR, actions_of, check_learning, differing, make_model, state_of


def make_env(variant, **kwargs):
    return RandomEnv(VECTOR, actions_of(variant), episode_length=7, **kwargs)


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("n_steps", [2, 5])
@pytest.mark.parametrize("variant", VARIANTS)
def test_run(variant, n_steps, n_envs):
    env = make_vec_env(make_env, n_envs, seed=0, env_kwargs={"variant": variant})
    model = check_learning(make_model(variant, env, n_steps=n_steps, gamma=0.9, gradient_steps=-1))
    assert type(model.replay_buffer) is NStepReplayBuffer
    assert (model.replay_buffer.n_steps, model.replay_buffer.gamma) == (n_steps, 0.9)


def expected_target(buffer, start, n_steps, gamma, value, terminate):
    """Rewards until the end of the episode or of the steps, and the value behind them unless the task ended"""
    target = 0.0
    for k in range(n_steps):
        target += gamma**k * buffer.rewards[start + k, 0]
        if buffer.dones[start + k, 0]:
            return target + (0.0 if terminate else gamma ** (k + 1) * value)
    return target + gamma**n_steps * value


@pytest.mark.parametrize("terminate", [False, True])
@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_targets(variant, n_steps, terminate, monkeypatch):
    """With a constant value of 10 behind the steps"""
    model = make_model(variant, make_env(variant, terminate=terminate), n_steps=n_steps, gamma=0.9, learning_starts=100)
    model.learn(40)
    buffer, targets = model.replay_buffer, []
    batch = buffer._get_samples(np.arange(30))
    monkeypatch.setattr(buffer, "sample", lambda *args, **kwargs: batch)
    model._next_value = lambda predictions, *args: th.full((predictions.shape[1], 1), 10.0)
    loss = model.critic.loss
    model.critic.loss = lambda predictions, target: targets.append(target) or loss(predictions, target)
    model.train(1, 30)
    expected = [expected_target(buffer, start, n_steps, 0.9, 10.0, terminate) for start in range(30)]
    assert targets[0].flatten().tolist() == pytest.approx(expected, rel=1e-5)
    assert buffer.dones[:30].sum() == 4


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_step_is_the_usual_buffer(variant):
    default, one, three = (make_model(variant, **kwargs).learn(40) for kwargs in ({}, {"n_steps": 1}, {"n_steps": 3}))
    assert type(one.replay_buffer) is ReplayBuffer
    assert differing(state_of(default), state_of(one)) == set()
    assert differing(state_of(default), state_of(three))
    # Of n steps, one
    arguments = {"replay_buffer_class": NStepReplayBuffer, "replay_buffer_kwargs": {"n_steps": 1}}
    own = make_model(variant, **arguments).learn(40)
    assert all(th.allclose(value, state_of(own)[name], atol=1e-5) for name, value in state_of(one).items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_buffer_class_of_ones_own(variant):
    """It gets its number of steps by replay_buffer_kwargs"""
    arguments = {"replay_buffer_class": NStepReplayBuffer, "replay_buffer_kwargs": {"n_steps": 3, "gamma": 0.99}}
    by_class, by_argument = make_model(variant, **arguments).learn(40), make_model(variant, n_steps=3).learn(40)
    assert differing(state_of(by_class), state_of(by_argument)) == set()


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_does_not_go_with_n_steps(variant):
    memory = {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}
    with pytest.raises(NotImplementedError, match="doesn't support optimize_memory_usage=True"):
        make_model(variant, n_steps=3, **memory)
    env = RandomEnv(OBSERVATIONS["goals"], make_env(variant).action_space)
    with pytest.raises(AssertionError, match="N-step returns are not supported for Dict observation spaces"):
        make_model(variant, env, "MultiInputPolicy", n_steps=3)
