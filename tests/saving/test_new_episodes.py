"""Where the episodes cannot go on, new ones start, and nothing is learned from steps that no environment makes."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_maxent import DSPG
from sb3_maxent.saving.checkpoints import ExactCheckpointCallback, load_checkpoint, save_checkpoint
from tests.saving.test_checkpoints import DSPG_SMALL, fingerprint, latest_steps

pytestmark = [
    # SB3's own advice, where it resets the environments, and ours
    pytest.mark.filterwarnings("ignore:The last trajectory in the replay buffer will be truncated, see"),
    pytest.mark.filterwarnings("ignore:.*updates per step"),
    pytest.mark.filterwarnings("error:The last trajectory in the replay buffer will be truncated.\nIf you are"),
]


class Counter(gym.Env):
    """Observes its number, the number of the episode and that of the step in it; every episode has 7 steps"""

    action_space, box = spaces.Box(-1, 1, (1,)), spaces.Box(-np.inf, np.inf, (3,))

    def __init__(self, goals=False, out_of_reach=False):
        self.observation_space = spaces.Dict(dict.fromkeys(self.keys, self.box)) if goals else self.box
        self.goals, self.number, self.episode, self.n_steps = goals, 0.0, 0, 0
        if out_of_reach:
            self.generator = (number for number in range(3))

    keys = "observation", "achieved_goal", "desired_goal"

    def observe(self):
        observation = np.array([self.number, self.episode, self.n_steps], np.float32)
        return dict.fromkeys(self.keys, observation) if self.goals else observation

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number = self.number or self.np_random.random()
        self.episode, self.n_steps = self.episode + 1, 0
        return self.observe(), {}

    def step(self, action):
        self.n_steps += 1
        return self.observe(), 1.0, False, self.n_steps == 7, {}

    def compute_reward(self, achieved_goal, desired_goal, info):
        return np.ones(len(achieved_goal))


BUFFERS = {
    "plain": {"train_freq": 3},
    "3 steps": {"n_steps": 3, "gamma": 1.0},
    "memory": {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    "HER": {"replay_buffer_class": HerReplayBuffer, "policy": "MultiInputPolicy"},
}


def make_counter(buffer, **kwargs):
    env = make_vec_env(Counter, 2, seed=0, env_kwargs={"goals": buffer == "HER", **kwargs})
    return env if buffer == "HER" else VecNormalize(env)


def make_model(buffer, **kwargs):
    return DSPG(**{"policy": "MlpPolicy", "env": make_counter(buffer, **kwargs), **DSPG_SMALL, **BUFFERS[buffer]})


def assert_possible(replay_buffer) -> None:
    """All that is sampled is a step, or several ones, of the same environment and episode"""
    samples = replay_buffer.sample(1000)
    obs, next_obs = samples.observations, samples.next_observations
    if isinstance(obs, dict):
        assert (obs["desired_goal"][:, :2] == obs["observation"][:, :2]).all()
        obs, next_obs = obs["observation"], next_obs["observation"]
    # After an end the value of the next observation is not learned from
    going_on = samples.dones.flatten() == 0
    n_steps = samples.rewards[going_on] if samples.discounts is not None else th.ones(int(going_on.sum()), 1)
    expected = n_steps * th.tensor([0.0, 0.0, 1.0])  # (transitions, 3)
    # VecNormalize rounds the last observation of an episode
    assert len(expected) > 500 and th.allclose((next_obs - obs)[going_on], expected, atol=1e-3)
    assert n_steps.max() == (1 if samples.discounts is None else 3)
    # The control: several episodes were sampled
    assert len(obs[:, 1].unique()) > 3


class StopAt(BaseCallback):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def _on_step(self):
        return self.num_timesteps < self.steps


@pytest.mark.parametrize("make_stop", [lambda: StopAt(70), lambda: StopTrainingOnMaxEpisodes(5)], ids=["middle", "end"])
@pytest.mark.parametrize("buffer", BUFFERS)
def test_training_that_another_callback_ends(tmp_path, buffer, make_stop):
    model = make_model(buffer)
    model.learn(1000, [make_stop(), ExactCheckpointCallback(20, tmp_path)])
    assert model.num_timesteps == latest_steps(tmp_path) == 70
    # In the same process and from the checkpoint, training goes on in the same way
    expected = fingerprint(model.learn(60, reset_num_timesteps=False))
    loaded = load_checkpoint(DSPG, tmp_path, make_counter(buffer))
    assert loaded._last_obs is None
    assert fingerprint(loaded.learn(60, reset_num_timesteps=False)) == expected
    for each in (model, loaded):
        assert_possible(each.replay_buffer)


class Interrupt(StopAt):
    def _on_step(self):
        if not super()._on_step():
            raise KeyboardInterrupt
        return True


@pytest.mark.parametrize("way", ["learn again", "another environment", "a callback stops", "an interrupt"])
@pytest.mark.parametrize("buffer", BUFFERS)
def test_episodes_that_are_left(buffer, way):
    """SB3 marks them only where it resets the environments and next observations are not stored separately"""
    model = make_model(buffer)
    if way == "an interrupt":
        with pytest.raises(KeyboardInterrupt):
            model.learn(1000, Interrupt(70))
    else:
        model.learn(1000, StopAt(70)) if way == "a callback stops" else model.learn(66)
    if way == "another environment":
        model.set_env(make_counter(buffer))
    model.learn(60, reset_num_timesteps=way == "learn again")
    assert_possible(model.replay_buffer)


def test_an_update_that_is_interrupted_leaves_the_episode_as_it_is(monkeypatch):
    model = make_model("plain").learn(30)
    monkeypatch.setattr(model, "_update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.learn(30, reset_num_timesteps=False)
    last = model.replay_buffer.pos - 1
    assert model._last_obs is not None and not model.replay_buffer.timeouts[last].any()


def test_a_replay_buffer_of_another_kind():
    class Delegating:
        def __init__(self, buffer):
            self.buffer = buffer

        def __getattr__(self, name):
            return getattr(self.buffer, name)

    model = DSPG("MlpPolicy", "Pendulum-v1", **DSPG_SMALL)
    model.replay_buffer = Delegating(model.replay_buffer)
    model.learn(20).learn(20)
    assert model.replay_buffer.size() == 40


def interrupt(*args):
    raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore:these parts of the environment cannot be saved")
@pytest.mark.parametrize("buffer", BUFFERS)
def test_an_environment_that_cannot_be_saved(tmp_path, buffer):
    save_checkpoint(make_model(buffer, out_of_reach=True).learn(66), tmp_path)
    loaded = load_checkpoint(DSPG, tmp_path, make_counter(buffer, out_of_reach=True))
    loaded.learn(60, reset_num_timesteps=False)
    assert_possible(loaded.replay_buffer)


def test_a_finished_episode_keeps_its_end(tmp_path):
    """A termination must not become a truncation, after which there is a next value"""
    model = make_model("3 steps").learn(66)
    last = model.replay_buffer.pos - 1
    model.replay_buffer.dones[last], model.replay_buffer.timeouts[last] = [1, 0], 0
    model._last_obs = None
    save_checkpoint(model, tmp_path)
    loaded = load_checkpoint(DSPG, tmp_path, make_counter("3 steps")).replay_buffer
    assert loaded.dones[last].tolist() == [1, 0] and loaded.timeouts[last].tolist() == [0, 1]
    assert loaded.dones[: last - 1].tolist() == model.replay_buffer.dones[: last - 1].tolist()
