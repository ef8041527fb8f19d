import copy
import hashlib
import multiprocessing
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from unittest.mock import Mock

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.envs import ActionMaskObservation
from sb3_maxent.saving.checkpoint_folder import lock_folder
from sb3_maxent.saving.checkpoints import ExactCheckpointCallback, latest_checkpoint, load_checkpoint, save_checkpoint
from tests.envs import RandomEnv
from tests.models import ACTIONS, VECTOR, make_random_env

SMALL = {"buffer_size": 2000, "batch_size": 16, "learning_starts": 30, "seed": 0, "policy_kwargs": {"net_arch": [16]}}
DSPG_SMALL, SOFT_Q_SMALL = {**SMALL, "n_action_samples": 4}, {**SMALL, "n_particles": 4, "n_value_samples": 4}


def pendulums(n_envs: int = 2, normalize: bool = True, **kwargs):
    env = make_vec_env("Pendulum-v1", n_envs, **kwargs)
    return VecNormalize(env) if normalize else env


class Simulator(gym.Env):
    """Walks at random in an environment that it holds as an attribute, by a function that is bound to itself"""

    observation_space, action_space = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-2, 2, (1,))

    def __init__(self):
        self.env = gym.make("Pendulum-v1")
        self.move, self.offset = self._move, 0.0

    def _move(self):
        self.offset += self.np_random.normal()
        return self.offset

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.env.reset(seed=seed)

    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        return observation, reward + self.move(), *rest


class OutOfReach(Simulator):
    """Has a part that cannot be saved"""

    def reset(self, *, seed=None, options=None):
        self.generator = (number for number in range(1000))
        return super().reset(seed=seed)

    def step(self, action):
        next(self.generator)
        return super().step(action)


def masked():
    """Each second action is forbidden, by turns"""
    mask = np.array([True, False, True, False])
    env = ActionMasker(RandomEnv(VECTOR, ACTIONS["Discrete"]), lambda env: mask ^ (env.unwrapped.n_steps % 2 == 1))
    return ActionMaskObservation(env)


NORMALISED = {"net_arch": [16, 16], "batch_norm": True, "unit_norm": True, "target_critic": False}
# Algorithm, arguments, environment
CASES = {
    "DSPG, two normalised environments": (DSPG, {**DSPG_SMALL, "learning_rate": lambda progress: 1e-3 * progress}, pendulums),
    "DSPG, gSDE": (DSPG, {**DSPG_SMALL, "use_sde": True}, pendulums),
    "DSPG, mixture": (
        DSPG,
        {**DSPG_SMALL, "policy_kwargs": {"net_arch": [16], "n_components": 2, "actor_averaging": 5}},
        pendulums,
    ),
    "DSPG, simulator": (DSPG, DSPG_SMALL, Simulator),
    "DSPG, compiled": (DSPG, {**DSPG_SMALL, "compile": True}, lambda: pendulums(monitor_dir=tempfile.mkdtemp())),
    "DSPG, normalised": (
        DSPG,
        {**DSPG_SMALL, "norm_reward": True, "policy_delay": 3, "policy_kwargs": NORMALISED},
        lambda: pendulums(normalize=False),
    ),
    # The wrapper keeps a function among its arguments
    "DSPG, MuJoCo": (
        DSPG,
        DSPG_SMALL,
        lambda: gym.wrappers.TransformReward(gym.make("Hopper-v5"), lambda reward: 2 * reward),
    ),
    "Soft Q-learning, MuJoCo": (
        SoftQLearning,
        {**SOFT_Q_SMALL, "policy_delay": 2, "policy_kwargs": {"net_arch": [16], "batch_norm": True, "actor_averaging": 5}},
        lambda: gym.make("HalfCheetah-v5"),
    ),
    # The checkpoint is older than the first update
    "Soft Q-learning, noise set": (
        SoftQLearning,
        {**SOFT_Q_SMALL, "noise_set_size": "lin_32_1", "learning_starts": 100},
        pendulums,
    ),
    "DSPG, masks": (DSPG, DSPG_SMALL, masked),
    "DSPG, MultiBinary": (DSPG, DSPG_SMALL, lambda: RandomEnv(VECTOR, ACTIONS["MultiBinary actions"])),
    "DSPG, hybrid": (DSPG, DSPG_SMALL, lambda: make_random_env(VECTOR, ACTIONS["hybrid"])),
    # The temperature is part of the policy that acts
    "Soft Q-learning, Discrete": (SoftQLearning, {**SOFT_Q_SMALL, "ent_coef": "auto"}, lambda: gym.make("CartPole-v1")),
}


def fingerprint(model) -> str:
    """A hash of all that training moves, and of the next actions"""
    digest = hashlib.sha256()

    def add(value):
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                add(value[key])
        elif isinstance(value, list | tuple):
            for each in value:
                add(each)
        elif isinstance(value, th.Tensor | np.ndarray):
            digest.update(np.asarray(value.detach() if isinstance(value, th.Tensor) else value).tobytes())
        else:
            digest.update(repr(value).encode())

    add(model.get_parameters())
    add([getattr(model, name) for name in model._get_torch_save_params()[1]])
    add([model.num_timesteps, model._n_updates, model._episode_num, model.replay_buffer.pos])
    add([model.reward_scale.value, model.reward_scale.returns])
    add([model.replay_buffer.observations, model.replay_buffer.rewards, model._last_obs])
    add([model.predict(model._last_obs)[0] for _ in range(3)] + [model.action_space.sample(), random.random()])
    return digest.hexdigest()


def train(case: str, folder, total: int, save_freq: int):
    """Train from the latest checkpoint on, if there is one"""
    th.set_num_threads(1)
    algorithm, arguments, make_env = CASES[case]
    if latest_checkpoint(folder) is None:
        policy = "MultiInputPolicy" if "masks" in case else "MlpPolicy"
        model = algorithm(policy, make_env(), **copy.deepcopy(arguments))
    else:
        model = load_checkpoint(algorithm, folder, make_env())
    callback = ExactCheckpointCallback(save_freq, folder)
    return model.learn(total - model.num_timesteps, callback, reset_num_timesteps=model.num_timesteps == 0)


def visible(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


IN_A_NEW_PROCESS = f"import sys; from {__name__} import *; print(fingerprint(train(*sys.argv[1:3], 160, 80)))"


# Two processes each; what the others have in common with them is in the default run
SLOW = ("DSPG, MultiBinary", "DSPG, simulator", "DSPG, gSDE")


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in CASES])
def test_going_on_in_a_new_process_is_exact(tmp_path, case):
    whole = fingerprint(train(case, tmp_path, 160, 80))
    assert visible(tmp_path) == ["steps_000000000080", "steps_000000000160"]
    shutil.rmtree(tmp_path / "steps_000000000160")
    command = [sys.executable, "-c", IN_A_NEW_PROCESS, case, str(tmp_path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    assert output.split()[-1] == whole
    # The control: without the states of the random generators it is another run
    shutil.rmtree(tmp_path / "steps_000000000160")
    model = load_checkpoint(CASES[case][0], tmp_path, CASES[case][2]())
    th.manual_seed(1)
    assert fingerprint(model.learn(80, reset_num_timesteps=False)) != whole


def train_and_report(case, folder, total, save_freq, queue):
    queue.put(fingerprint(train(case, folder, total, save_freq)))


def assert_nothing_is_lost(case: str, folder, total: int, n_kills: int) -> None:
    """Train in child processes that are killed, each of which goes on where the last one was"""
    expected = fingerprint(train(case, folder / "whole", total, 10))
    context, generator = multiprocessing.get_context("fork"), random.Random(0)
    queue = context.SimpleQueue()
    for kill in range(n_kills + 1):
        process = context.Process(target=train_and_report, args=(case, folder / "killed", total, 10, queue))
        process.start()
        if kill < n_kills:
            # At a random moment of a round of a few steps, a checkpoint and its deletion
            while process.is_alive() and latest_steps(folder / "killed") < total * (kill + 0.5) / (n_kills + 2):
                time.sleep(0.001)
            time.sleep(generator.uniform(0, 0.1))
            process.kill()
        process.join(120)
        assert process.exitcode == (-signal.SIGKILL if kill < n_kills else 0)
    assert queue.get() == expected


def latest_steps(folder) -> int:
    latest = latest_checkpoint(folder)
    return 0 if latest is None else int(latest.name.removeprefix("steps_"))


def test_a_killed_process_loses_nothing(tmp_path):
    assert_nothing_is_lost("DSPG, two normalised environments", tmp_path, 600, 5)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_many_killed_processes_lose_nothing(tmp_path, case):
    assert_nothing_is_lost(case, tmp_path, 1600, 15)


def test_environments_in_other_processes_start_new_episodes(tmp_path):
    env = pendulums(vec_env_cls=SubprocVecEnv)
    try:
        with pytest.warns(UserWarning, match=r"new episodes start after loading: VecNormalize\.venv"):
            save_checkpoint(DSPG("MlpPolicy", env, **DSPG_SMALL).learn(60), tmp_path)
        mean = env.obs_rms.mean.copy()
        env.obs_rms.mean[:] = 7.0
        loaded = load_checkpoint(DSPG, tmp_path, env)
        assert loaded._last_obs is None and np.array_equal(env.obs_rms.mean, mean)
        # Not the first episodes of the run again
        assert env.unwrapped._seeds == [60, 61]
        assert loaded.learn(20, reset_num_timesteps=False).num_timesteps == 80
    finally:
        env.close()


def test_an_incomplete_environment_starts_new_episodes(tmp_path):
    with pytest.warns(UserWarning, match=r"new episodes start after loading: OutOfReach\.generator"):
        save_checkpoint(DSPG("MlpPolicy", OutOfReach(), **DSPG_SMALL).learn(60), tmp_path)
    loaded = load_checkpoint(DSPG, tmp_path, OutOfReach())
    assert loaded._last_obs is None
    assert loaded.learn(20, reset_num_timesteps=False).num_timesteps == 80


def test_the_environment_and_the_model_draw_from_one_space(tmp_path):
    model = DSPG("MlpPolicy", "Pendulum-v1", **DSPG_SMALL).learn(20)
    save_checkpoint(model, tmp_path)
    loaded = load_checkpoint(DSPG, tmp_path, "Pendulum-v1")
    for each in (model, loaded):
        assert each.action_space is each.env.envs[0].unwrapped.action_space
    assert np.array_equal(model.action_space.sample(), loaded.action_space.sample())


@pytest.mark.filterwarnings("ignore:The last trajectory in the replay buffer will be truncated")
@pytest.mark.parametrize("is_interrupted", [False, True])
def test_with_an_algorithm_of_sb3(tmp_path, is_interrupted):
    """It does not store the transition of the step in which a callback stops, nor say that it was interrupted in an update"""

    class Stop(BaseCallback):
        def _on_step(self):
            return is_interrupted or self.num_timesteps < 50

    class Interrupted(SAC):
        def train(self, *args, **kwargs):
            super().train(*args, **kwargs)
            if is_interrupted and self.num_timesteps == 50:
                raise KeyboardInterrupt

    callback = ExactCheckpointCallback(20, tmp_path)
    with pytest.raises(KeyboardInterrupt) if is_interrupted else nullcontext():
        Interrupted("MlpPolicy", "Pendulum-v1", **SMALL).learn(100, [callback, Stop()])
    callback.on_training_end()
    assert latest_steps(tmp_path) == (40 if is_interrupted else 50)
    loaded = load_checkpoint(SAC, tmp_path, "Pendulum-v1")
    # In the middle of an episode if no step was lost
    assert (loaded._last_obs is not None) == is_interrupted
    assert loaded.learn(20, reset_num_timesteps=False).num_timesteps == loaded._total_timesteps


def test_a_last_checkpoint_that_fails_leaves_the_folder_to_others(tmp_path):
    callback = ExactCheckpointCallback(1000, tmp_path)
    model = DSPG("MlpPolicy", "Pendulum-v1", **DSPG_SMALL)
    model.save = Mock(side_effect=OSError("disk full"))
    with pytest.raises(OSError, match="disk full"):
        model.learn(10, callback)
    assert can_write_in_another_thread(tmp_path)


def can_write_in_another_thread(folder) -> bool:
    errors = []

    def lock():
        try:
            with lock_folder(folder):
                pass
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=lock)
    thread.start()
    thread.join()
    return not errors


def test_an_environment_that_nobody_finds_is_not_lost_in_silence(tmp_path):
    """Gymnasium pickles MuJoCo's as what makes a new one"""
    model = DSPG("MlpPolicy", Simulator(), **DSPG_SMALL).learn(20)
    model.env.envs[0].unwrapped.others = {"first": gym.make("Hopper-v5")}
    with pytest.warns(UserWarning, match=r"new episodes start after loading: Simulator\.others"):
        save_checkpoint(model, tmp_path)


def test_several_calls_of_learn(tmp_path):
    model, callback = DSPG("MlpPolicy", "Pendulum-v1", **DSPG_SMALL), ExactCheckpointCallback(50, tmp_path)
    for _ in range(3):
        model.learn(40, callback, reset_num_timesteps=False)
    assert latest_steps(tmp_path) == 120


def test_old_checkpoints_are_deleted(tmp_path):
    (tmp_path / ".deleting_steps_000000000001").mkdir()
    (tmp_path / ".writing_steps_000000000001").mkdir()
    (tmp_path / "steps_of_another_kind").mkdir()
    model = DSPG("MlpPolicy", "Pendulum-v1", **DSPG_SMALL).learn(100, ExactCheckpointCallback(20, tmp_path, keep=2, verbose=2))
    assert visible(tmp_path) == ["steps_000000000080", "steps_000000000100", "steps_of_another_kind"]
    assert {path.name for path in tmp_path.glob(".*")} <= {".lock"}
    with pytest.raises(ValueError, match="steps_000000000100 exists: go on from it"):
        save_checkpoint(model, tmp_path)
    assert load_checkpoint(DSPG, tmp_path, "Pendulum-v1").num_timesteps == 100


@pytest.mark.parametrize("arguments", [{"save_freq": 0}, {"save_freq": 1.5}, {"save_freq": 1, "keep": 0}])
def test_bad_numbers(tmp_path, arguments):
    with pytest.raises(ValueError, match="give an integer >= 1"):
        ExactCheckpointCallback(folder=tmp_path, **arguments)


def test_bad_folders(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint in"):
        load_checkpoint(DSPG, tmp_path, "Pendulum-v1")
    model = DSPG("MlpPolicy", "Pendulum-v1", **DSPG_SMALL).learn(40)
    save_checkpoint(model, tmp_path)
    with pytest.raises(ValueError, match="has a checkpoint of more steps than the model, steps_000000000040"):
        model.learn(100, ExactCheckpointCallback(20, tmp_path))
    assert can_write_in_another_thread(tmp_path)
    with pytest.raises(ValueError, match=r"the environment is .*VecNormalize.*the one of the checkpoint was"):
        load_checkpoint(DSPG, tmp_path, pendulums(1))


@pytest.mark.parametrize("total", [200, 100])  # before the last update, and in it
def test_an_update_that_is_interrupted_is_not_written(tmp_path, total):
    """RL Zoo tells callbacks of the end of a training that an error or a user has stopped"""

    class Interrupted(DSPG):
        def _log(self, *args):
            if self.num_timesteps >= 100:
                raise KeyboardInterrupt
            super()._log(*args)

    callback = ExactCheckpointCallback(40, tmp_path)
    model = Interrupted("MlpPolicy", pendulums(), **DSPG_SMALL)
    with pytest.raises(KeyboardInterrupt):
        model.learn(total, callback)
    callback.on_training_end()
    assert visible(tmp_path)[-1] == "steps_000000000080"
    # Nor is there an error besides the one that kept the training from starting
    ExactCheckpointCallback(40, tmp_path / "never").on_training_end()
