"""Normalised observations and rewards: in training, in the buffer, on disk and when acting."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize, sync_envs_normalization

from tests.envs import RandomEnv
from tests.models import OBSERVATIONS, VARIANTS, actions_of, differing, make_model, state_of

pytestmark = pytest.mark.filterwarnings("ignore:.*updates per step")
# Far from normalised
OBSERVATION = spaces.Box(np.array([-1.0, 90.0, 0.0], np.float32), np.array([3.0, 110.0, 0.01], np.float32))
# Seeded, other than ``sample``
SAMPLES = np.random.default_rng(0).uniform(OBSERVATION.low, OBSERVATION.high, (100, 3)).astype(np.float32)


def make_env(variant, observations=OBSERVATION, n_envs=2, seed=0, **kwargs):
    arguments = {
        "observation_space": observations,
        "action_space": actions_of(variant),
    }
    return VecNormalize(make_vec_env(RandomEnv, n_envs, seed=seed, env_kwargs=arguments), **kwargs)


def make_goal_model(variant, env):
    kwargs = {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": {"n_sampled_goal": 2}}
    return make_model(variant, env, "MultiInputPolicy", **kwargs)


@pytest.mark.parametrize("her", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_offpolicy_normalization(variant, her):
    """The normaliser is the one of the environment in use, and learns with it unless it is frozen"""
    observations = OBSERVATIONS["goals"] if her else OBSERVATION
    env, frozen = (make_env(variant, observations, training=training) for training in (True, False))
    model = make_goal_model(variant, env) if her else make_model(variant, env)
    assert model.get_vec_normalize_env() is env
    model.set_env(frozen)
    assert model.get_vec_normalize_env() is frozen
    model.learn(10)
    model.set_env(env)
    model.learn(60)
    assert model.get_vec_normalize_env() is env and model._n_updates == 20
    counts = [(each.obs_rms["observation"] if her else each.obs_rms).count for each in (env, frozen)]
    assert counts[0] > 60 and counts[1] < 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_updates_follow_the_statistics(variant):
    """The buffer holds what the environment gave; a batch is normalised when it is drawn, by the statistics of that moment"""
    env = make_env(variant)
    model, batches = make_model(variant, env).learn(60), []
    buffer = model.replay_buffer
    raw = buffer.observations[:30]
    assert OBSERVATION.contains(raw[0, 0]) and raw[..., 1].min() >= 90
    assert (buffer.next_observations[:29, :, 1] >= 90).all()
    model._update = lambda replay_data, *args: batches.append(replay_data) or {"loss": th.zeros(())}
    for mean in (100.0, 150.0):
        env.obs_rms.mean[1], env.obs_rms.var[1] = mean, 100.0
        env.ret_rms.var = np.array(mean)
        np.random.seed(0)
        model.train(1, 16)
    seen = [each.observations[:, 1].numpy() for each in batches]
    assert np.allclose(seen[0], seen[1] + 5, atol=1e-3) and np.abs(seen[0]).max() <= 1.01
    assert np.allclose(batches[0].rewards, batches[1].rewards * 1.5**0.5, rtol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_enjoying_is_as_training(variant, tmp_path):
    """Model and statistics from disk act as those that were trained, without them they do not"""
    model = make_model(variant, make_env(variant, gamma=0.9)).learn(200)
    model.save(tmp_path / "model")
    model.get_vec_normalize_env().save(tmp_path / "statistics")
    trained = model.get_vec_normalize_env()
    trained.training, trained.norm_reward = False, False
    raw = make_env(variant, seed=5).venv
    env = VecNormalize.load(tmp_path / "statistics", raw)
    env.training, env.norm_reward = False, False
    loaded = VARIANTS[variant].algorithm.load(tmp_path / "model", env=env)
    assert differing(state_of(model), state_of(loaded)) == set() and env.gamma == 0.9
    actions, rewards = [], []
    for each, venv in ((model, trained), (loaded, env)):
        actions.append(each.predict(venv.normalize_obs(SAMPLES), deterministic=True)[0])
        venv.seed(3)
        rewards.append(evaluate_policy(each, venv, n_eval_episodes=4, return_episode_rewards=True))
    assert np.array_equal(*actions) and rewards[0] == rewards[1]
    assert not np.array_equal(loaded.predict(SAMPLES, deterministic=True)[0], actions[0])
    assert env.obs_rms.count == trained.obs_rms.count


@pytest.mark.parametrize("variant", VARIANTS)
def test_sync_vec_normalize(variant):
    model, other = make_model(variant, make_env(variant)).learn(60), make_env(variant, seed=1, training=False)
    first, second = (env.normalize_obs(SAMPLES) for env in (model.get_vec_normalize_env(), other))
    assert not np.allclose(first, second)
    sync_envs_normalization(model.get_env(), other)
    assert np.array_equal(first, other.normalize_obs(SAMPLES))
