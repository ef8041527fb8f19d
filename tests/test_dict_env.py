"""Dict observations: vectors, images and numbers together."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize

from tests.envs import RandomEnv
from tests.models import VARIANTS, VECTOR, actions_of, check_learning, differing, make_model, state_of

IMAGES = {False: spaces.Box(0, 255, (1, 36, 36), np.uint8), True: spaces.Box(0, 255, (36, 36, 1), np.uint8)}
SMALL_CNN = {"features_extractor_kwargs": {"cnn_output_dim": 8}}


def make_env(variant, channel_last=False, **keys):
    observations = {"vector": VECTOR, "image": IMAGES[channel_last], "discrete": spaces.Discrete(4), **keys}
    observations = spaces.Dict({key: space for key, space in observations.items() if space is not None})
    return RandomEnv(observations, actions_of(variant))


def make_dict_model(variant, env, **arguments):
    return make_model(variant, env, "MultiInputPolicy", policy_kwargs=dict(SMALL_CNN), buffer_size=100, **arguments)


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_policy_hint(variant, policy):
    with pytest.raises(ValueError, match=f"You must use `MultiInputPolicy` .* not {policy}"):
        make_model(variant, make_env(variant), policy)


@pytest.mark.parametrize("variant", VARIANTS)
def test_consistency(variant):
    """A Dict of one vector and that vector give the same weights; another seed gives others"""
    states, actions = {}, {}
    for policy, seed in (("MultiInputPolicy", 0), ("MlpPolicy", 0), ("MlpPolicy", 1)):
        env = make_env(variant, image=None, discrete=None)
        env = env if policy == "MultiInputPolicy" else gym.wrappers.FlattenObservation(env)
        observation = {"vector": np.ones(3, np.float32)} if policy == "MultiInputPolicy" else np.ones(3, np.float32)
        model = make_model(variant, env, policy, seed=seed)
        before = model.predict(observation, deterministic=True)[0]
        model.learn(60)
        actions[policy, seed] = np.append(before, model.predict(observation, deterministic=True)[0])
        states[policy, seed] = state_of(model)
    assert np.array_equal(actions["MultiInputPolicy", 0], actions["MlpPolicy", 0])
    assert differing(states["MultiInputPolicy", 0], states["MlpPolicy", 0]) == set()
    assert differing(states["MlpPolicy", 0], states["MlpPolicy", 1])


@pytest.mark.parametrize("channel_last", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_dict_spaces(variant, channel_last):
    env = make_env(variant, channel_last)
    model = check_learning(make_dict_model(variant, env))
    assert model.observation_space["image"].shape == (1, 36, 36)
    assert np.isfinite(evaluate_policy(model, env, n_eval_episodes=2, warn=False)).all()
    # An image as the environment gives it
    assert env.action_space.contains(model.predict(env.reset(seed=0)[0])[0])
    # Every part of the observation counts
    observation, features = model.get_env().reset(), []
    for change in changes(observation):
        obs, _ = model.policy.obs_to_tensor({**observation, **change})
        features.append(model.critic.extract_features(obs, model.critic.features_extractor))
    assert all(not th.equal(features[0], each) for each in features[1:])


def changes(observation):
    """Nothing, and another value for each key"""
    return [
        {},
        {"vector": -observation["vector"]},
        {"image": 255 - observation["image"]},
        {"discrete": (observation["discrete"] + 1) % 4},
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_multiprocessing(variant):
    kwargs = {"vec_env_cls": SubprocVecEnv, "vec_env_kwargs": {"start_method": "fork"}}
    env = make_vec_env(make_env, 2, seed=0, env_kwargs={"variant": variant}, **kwargs)
    try:
        model = check_learning(make_dict_model(variant, env, gradient_steps=-1))
    finally:
        env.close()
    # The environments are different ones
    assert (model.replay_buffer.observations["vector"][:15, 0] != model.replay_buffer.observations["vector"][:15, 1]).all()


@pytest.mark.parametrize("channel_last", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_dict_vec_framestack(variant, channel_last):
    env = DummyVecEnv([lambda: make_env(variant, channel_last, discrete=None)])
    env = VecFrameStack(env, n_stack=3, channels_order={"vector": None, "image": "last" if channel_last else "first"})
    model = check_learning(make_dict_model(variant, env))
    assert model.observation_space["vector"].shape == (9,) and model.observation_space["image"].shape == (3, 36, 36)
    assert np.isfinite(evaluate_policy(model, env, n_eval_episodes=2, warn=False)).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_vec_normalize(variant):
    """Updates see the chosen keys normalised, the buffer and the other keys stay as they are"""
    env = VecNormalize(DummyVecEnv([lambda: make_env(variant)]), norm_obs_keys=["vector"])
    env.obs_rms["vector"].mean[:], env.obs_rms["vector"].count = 5.0, 1e9
    model, seen = make_dict_model(variant, env), []
    update = model._update
    model._update = lambda replay_data, *args: seen.append(replay_data) or update(replay_data, *args)
    check_learning(model)
    assert np.abs(model.replay_buffer.observations["vector"]).max() <= 1
    for replay_data in seen:
        assert replay_data.observations["vector"].max() <= -3.9 and replay_data.next_observations["vector"].max() <= -3.9
        assert replay_data.observations["image"].dtype == th.uint8 and replay_data.observations["image"].float().mean() > 100


@pytest.mark.parametrize("variant", VARIANTS)
def test_dict_nested(variant):
    env = make_env(variant, nested=spaces.Dict({"discrete": spaces.Discrete(4)}))
    with pytest.raises(NotImplementedError, match="Nested observation spaces are not supported"):
        make_dict_model(variant, env)
