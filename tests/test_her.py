"""Hindsight experience replay."""

import copy
import warnings

import numpy as np
import pytest
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from stable_baselines3.her.goal_selection_strategy import GoalSelectionStrategy

from tests.models import VARIANTS, check_learning, differing, make_model, parameters_of, state_of

BITS = {"bits": {}, "images": {"image_obs_space": True}, "numbers": {"discrete_obs_space": True}}


def make_env(variant, n_envs=1, vec_env_cls=DummyVecEnv, **kwargs):
    kwargs = {"n_bits": 4, "continuous": "Discrete" not in variant, **kwargs}
    start = {"start_method": "fork"} if vec_env_cls is SubprocVecEnv else {}
    return make_vec_env(BitFlippingEnv, n_envs, seed=0, env_kwargs=kwargs, vec_env_cls=vec_env_cls, vec_env_kwargs=start)


def make_her(variant, env, replay_buffer_kwargs=None, **arguments):
    replay_buffer_kwargs = {"n_sampled_goal": 2, **(replay_buffer_kwargs or {})}
    arguments = {"gradient_steps": -1, "learning_starts": 30, **arguments}
    her = {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": replay_buffer_kwargs}
    return make_model(variant, env, "MultiInputPolicy", **her, **arguments)


@pytest.mark.parametrize("observations", BITS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_her(variant, observations):
    env = make_env(variant, **BITS[observations])
    policy_kwargs = {"features_extractor_kwargs": {"cnn_output_dim": 8}}
    arguments = {"replay_buffer_kwargs": {"copy_info_dict": True}, "policy_kwargs": policy_kwargs, "buffer_size": 100}
    model = check_learning(make_her(variant, env, **arguments), steps=60)
    assert isinstance(model.replay_buffer, HerReplayBuffer)
    assert np.isfinite(evaluate_policy(model, make_env(variant, **BITS[observations]), n_eval_episodes=2)).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_multiprocessing(variant):
    """The rewards of other goals are computed in the other processes"""
    env = make_env(variant, 2, SubprocVecEnv)
    try:
        check_learning(make_her(variant, env), steps=60)
    finally:
        env.close()


@pytest.mark.parametrize("strategy", ["final", "episode", "future", *GoalSelectionStrategy])
@pytest.mark.parametrize("variant", VARIANTS)
def test_goal_selection_strategy(variant, strategy):
    env = make_env(variant, 2)
    model = check_learning(make_her(variant, env, {"goal_selection_strategy": strategy, "n_sampled_goal": 4}), steps=60)
    expected = strategy if isinstance(strategy, GoalSelectionStrategy) else GoalSelectionStrategy[strategy.upper()]
    assert model.replay_buffer.goal_selection_strategy is expected
    # The environment has one goal, the updates have others too
    batch = model.replay_buffer.sample(100)
    assert (model.replay_buffer.observations["desired_goal"][:30] == 1).all()
    assert 0 < (batch.observations["desired_goal"] == 1).all(dim=1).float().mean() < 1


@pytest.mark.parametrize(("variant", "arguments"), [*((each, {}) for each in VARIANTS), ("DSPG", {"use_sde": True})])
def test_save_load(variant, arguments, tmp_path):
    env, algorithm = make_env(variant, 2), VARIANTS[variant].algorithm
    model = make_her(variant, env, **arguments).learn(60)
    observation, saved = env.reset(), state_of(model)
    action = model.predict(observation, deterministic=True)[0]
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=env, custom_objects={"learning_rate": 2e-5, "unknown": 1}, verbose=2)
    assert (loaded.verbose, loaded.learning_rate, hasattr(loaded, "unknown")) == (2, 2e-5, False)
    loaded = algorithm.load(tmp_path / "model", env=env)
    assert differing(saved, state_of(loaded)) == set()
    assert np.array_equal(loaded.predict(observation, deterministic=True)[0], action)
    loaded.learn(60)
    assert differing(saved, state_of(loaded)) >= {f"policy {name}" for name in parameters_of(model.policy)}
    # The buffer computes rewards with the environment
    with pytest.raises(AssertionError, match="You must pass an environment when using `HerReplayBuffer`"):
        algorithm.load(tmp_path / "model")


@pytest.mark.parametrize("truncate_last_trajectory", [False, True])
@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_save_load_replay_buffer(variant, n_envs, truncate_last_trajectory, tmp_path):
    """In the middle of an episode of 20 steps: it goes on, or is cut there with a warning"""
    model = make_her(variant, make_env(variant, n_envs, max_steps=20, n_bits=6), learning_starts=100).learn(62)
    old = copy.deepcopy(model.replay_buffer)
    model.save_replay_buffer(tmp_path / "buffer")
    del model.replay_buffer
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.load_replay_buffer(tmp_path / "buffer", truncate_last_traj=truncate_last_trajectory)
    expected = ["The last trajectory in the replay buffer will be truncated"] if truncate_last_trajectory else []
    assert [str(warning.message).split(".")[0] for warning in caught] == expected
    new, last = model.replay_buffer, 62 // n_envs - 1
    assert new.pos == old.pos == last + 1 and new.env is model.get_env()
    for key, values in old.observations.items():
        assert np.array_equal(values, new.observations[key])
        assert np.array_equal(old.next_observations[key], new.next_observations[key])
    assert np.array_equal(old.actions, new.actions) and np.array_equal(old.rewards, new.rewards)
    assert np.array_equal(old.dones[:last], new.dones[:last])
    assert (new.dones[last] == truncate_last_trajectory).all() and (new.timeouts[last] == truncate_last_trajectory).all()
    # One can go on with either, and sample the cut episode
    assert (new.ep_length[last] > 0).all() == truncate_last_trajectory
    model.learning_starts = 0
    model.learn(62, reset_num_timesteps=truncate_last_trajectory)
    assert model._n_updates == 62


@pytest.mark.parametrize("variant", VARIANTS)
def test_full_replay_buffer(variant):
    """The first half of an episode may be overwritten, and an episode without an end must not be sampled"""
    model = make_her(variant, make_env(variant, 2), learning_starts=8, buffer_size=40)
    check_learning(model, steps=100)
    assert model.replay_buffer.full and model.replay_buffer.pos == 50 % 20


@pytest.mark.parametrize("variant", VARIANTS)
def test_success_rate_is_logged(variant):
    model, logged = make_her(variant, make_env(variant)).learn(60), {}
    assert len(model.ep_success_buffer) > 0
    model.logger.dump = lambda step: logged.update(model.logger.name_to_value)
    model.dump_logs()
    assert logged["rollout/success_rate"] == np.mean(model.ep_success_buffer)


@pytest.mark.slow
def test_performance_her():
    """Ten bits are flipped by chance too seldom: without other goals there is nothing to learn from"""
    arguments = {"learning_rate": 1e-3, "ent_coef": 0.05, "gamma": 0.95, "tau": 0.05, "batch_size": 64, "gradient_steps": -1}
    policy_kwargs = {"net_arch": [64, 64], "n_critics": 1}
    success = {}
    for buffer in (HerReplayBuffer, None):
        env = make_env("Discrete", 2, n_bits=10)
        model = make_model(
            *("Discrete SoftQLearning", env, "MultiInputPolicy"),
            **arguments,
            replay_buffer_class=buffer,
            learning_starts=100,
            buffer_size=20_000,
            policy_kwargs=policy_kwargs,
        )
        success[buffer] = np.mean(model.learn(4000).ep_success_buffer)
    assert success[HerReplayBuffer] > 0.9 and success[None] < 0.5
