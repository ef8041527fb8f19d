"""What comes out of ``predict``, on which device, and for which observations."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.models import BOX_VARIANTS, VARIANTS, make_model, state_of


@pytest.mark.parametrize("variant", VARIANTS)
def test_auto_wrap(variant):
    env = gym.make(VARIANTS[variant].env)
    model = make_model(variant, env).learn(30)
    assert isinstance(model.get_env(), DummyVecEnv)
    assert model.get_env().envs[0].unwrapped is env.unwrapped


@pytest.mark.parametrize("variant", VARIANTS)
def test_predict(variant):
    """One observation or a batch: the shape says which"""
    env_id = VARIANTS[variant].env
    model = make_model(variant, device="auto").learn(30)
    assert model.policy.device == model.device == get_device("auto")
    assert all(value.device.type == model.device.type for name, value in state_of(model).items() if "step" not in name)
    env, vec_env = gym.make(env_id), make_vec_env(env_id, 3, seed=0)
    for deterministic in (False, True):
        action, state = model.predict(env.reset(seed=0)[0], deterministic=deterministic)
        assert state is None and isinstance(action, np.ndarray)
        assert action.shape == env.action_space.shape and env.action_space.contains(action)
        actions, _ = model.predict(vec_env.reset(), deterministic=deterministic)
        assert actions.shape == (3, *env.action_space.shape)
    # Each observation gets the action that it has alone
    observations = vec_env.reset()
    batch = model.predict(observations, deterministic=True)[0]
    alone = [model.predict(observation, deterministic=True)[0] for observation in observations]
    assert np.allclose(batch, alone, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_deterministic_actions_are_a_function_of_the_observation(variant):
    model = make_model(variant).learn(60)
    observations = np.random.default_rng(0).normal(size=(200, *model.observation_space.shape)).astype(np.float32)
    first, second = (model.predict(observations, deterministic=True)[0] for _ in range(2))
    assert np.array_equal(first, second)
    # The control: random ones are not, but for the state of the generator
    random = [model.predict(observations)[0] for _ in range(2)]
    assert not np.array_equal(*random)
    seeded = [(model.set_random_seed(3), model.predict(observations)[0])[1] for _ in range(2)]
    assert np.array_equal(*seeded)


@pytest.mark.parametrize("variant", VARIANTS)
def test_predicting_moves_nothing(variant):
    model = make_model(variant).learn(30)
    before = state_of(model)
    evaluate_policy(model, model.get_env(), n_eval_episodes=1, deterministic=False, warn=False)
    assert all(th.equal(value, before[name]) for name, value in state_of(model).items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_predict_of_model_policy_and_actor(variant):
    model = make_model(variant).learn(60)
    observation = np.ones((5, *model.observation_space.shape), np.float32)
    expected = model.predict(observation, deterministic=True)[0]
    assert np.array_equal(model.policy.predict(observation, deterministic=True)[0], expected)
    if variant == "DSPG":
        assert np.array_equal(model.policy.averaged_actor.predict(observation, deterministic=True)[0], expected)
        assert not np.array_equal(model.actor.predict(observation, deterministic=True)[0], expected)
    elif variant == "SoftQLearning":
        # The sampling network has no best action of its own
        with pytest.raises(ValueError, match="deterministic=True chooses the action by its Q-value"):
            model.actor.predict(observation, deterministic=True)
    if variant in BOX_VARIANTS:
        sampled = [(th.manual_seed(0), each.predict(observation)[0])[1] for each in (model, model.policy, model.actor)]
        assert np.array_equal(sampled[0], sampled[1]) and np.array_equal(sampled[0], sampled[2])


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_observations(variant):
    model = make_model(variant)
    with pytest.raises(ValueError, match="Unexpected observation shape"):
        model.predict(np.zeros(7, np.float32))
    # The tuple that ``reset`` returns
    with pytest.raises(ValueError, match=r"You have passed a tuple to the predict\(\) function"):
        model.predict(gym.make(VARIANTS[variant].env).reset())
