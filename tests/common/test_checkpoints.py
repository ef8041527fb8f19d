import hashlib
import multiprocessing
import random
import signal
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common.checkpoints import ExactCheckpointCallback, latest_checkpoint, load_checkpoint, save_checkpoint

SMALL = {"buffer_size": 2000, "batch_size": 16, "learning_starts": 30, "seed": 0, "policy_kwargs": {"net_arch": [16]}}
DSPG_SMALL, SOFT_Q_SMALL = {**SMALL, "n_action_samples": 4}, {**SMALL, "n_particles": 4, "n_value_samples": 4}


def pendulums(n_envs: int = 2, normalize: bool = True, **kwargs):
    env = make_vec_env("Pendulum-v1", n_envs, **kwargs)
    return VecNormalize(env) if normalize else env


# Algorithm, arguments, environment
CASES = {
    "DSPG, two normalised environments": (DSPG, {**DSPG_SMALL, "learning_rate": lambda progress: 1e-3 * progress}, pendulums),
    "DSPG, MuJoCo": (DSPG, DSPG_SMALL, lambda: gym.make("Hopper-v5")),
    "Soft Q-learning, MuJoCo": (SoftQLearning, SOFT_Q_SMALL, lambda: gym.make("HalfCheetah-v5")),
    "Soft Q-learning, Discrete": (SoftQLearning, SOFT_Q_SMALL, lambda: gym.make("CartPole-v1")),
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
    add([model.replay_buffer.observations, model.replay_buffer.rewards, model._last_obs])
    add([model.predict(model._last_obs)[0] for _ in range(3)] + [model.action_space.sample()])
    return digest.hexdigest()


def train(case: str, folder, total: int, save_freq: int, compile: bool = False):
    """Train from the latest checkpoint on, if there is one"""
    th.set_num_threads(1)
    algorithm, arguments, make_env = CASES[case]
    if latest_checkpoint(folder) is None:
        model = algorithm("MlpPolicy", make_env(), compile=compile, **arguments)
    else:
        model = load_checkpoint(algorithm, folder, make_env())
    callback = ExactCheckpointCallback(save_freq, folder)
    return model.learn(total - model.num_timesteps, callback, reset_num_timesteps=model.num_timesteps == 0)


IN_A_NEW_PROCESS = (
    "import sys; from tests.common.test_checkpoints import *; print(fingerprint(train(*sys.argv[1:3], 160, 80)))"
)


@pytest.mark.parametrize("case", CASES)
def test_going_on_in_a_new_process_is_exact(tmp_path, case):
    whole = fingerprint(train(case, tmp_path, 160, 80))
    assert [path.name for path in tmp_path.iterdir()] == ["steps_000000000080"]
    command = [sys.executable, "-c", IN_A_NEW_PROCESS, case, str(tmp_path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    assert output.split()[-1] == whole
    # The control: without the states of the random generators it is another run
    model = load_checkpoint(CASES[case][0], tmp_path, CASES[case][2]())
    th.manual_seed(1)
    assert fingerprint(model.learn(80, reset_num_timesteps=False)) != whole


def train_and_report(case, folder, total, save_freq, queue):
    queue.put(fingerprint(train(case, folder, total, save_freq)))


def kill_rounds(case: str, folder, total: int, n_kills: int) -> None:
    """Train in child processes that are killed, each of which goes on where the last one was"""
    expected = fingerprint(train(case, folder / "whole", total, 10))
    context, generator = multiprocessing.get_context("fork"), random.Random(0)
    queue = context.SimpleQueue()
    for kill in range(n_kills + 1):
        process = context.Process(target=train_and_report, args=(case, folder / "killed", total, 10, queue))
        process.start()
        if kill < n_kills:
            # At a random moment of a round of a few steps, a checkpoint and its deletion
            while process.is_alive() and latest_steps(folder / "killed") < total * (kill + 0.5) / (n_kills + 1):
                time.sleep(0.001)
            time.sleep(generator.uniform(0, 0.1))
            process.kill()
        process.join()
        assert process.exitcode == (-signal.SIGKILL if kill < n_kills else 0)
    assert queue.get() == expected


def latest_steps(folder) -> int:
    latest = latest_checkpoint(folder)
    return 0 if latest is None else int(latest.name.removeprefix("steps_"))


def test_a_killed_process_loses_nothing(tmp_path):
    kill_rounds("DSPG, two normalised environments", tmp_path, 600, 5)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_many_killed_processes_lose_nothing(tmp_path, case):
    kill_rounds(case, tmp_path, 1600, 15)


@pytest.mark.filterwarnings("ignore:the environments of SubprocVecEnv")
def test_environments_in_other_processes_start_anew(tmp_path):
    env = pendulums(vec_env_cls=SubprocVecEnv)
    try:
        with pytest.warns(UserWarning, match="the environments of SubprocVecEnv are out of reach"):
            save_checkpoint(DSPG("MlpPolicy", env, **DSPG_SMALL).learn(60), tmp_path)
        mean = env.obs_rms.mean.copy()
        env.obs_rms.mean[:] = 7.0
        loaded = load_checkpoint(DSPG, tmp_path, env)
        assert loaded._last_obs is None and np.array_equal(env.obs_rms.mean, mean)
        assert loaded.learn(20, reset_num_timesteps=False).num_timesteps == 80
    finally:
        env.close()


def test_old_checkpoints_are_deleted(tmp_path):
    (tmp_path / ".deleting_steps_000000000001").mkdir()
    (tmp_path / ".writing_steps_000000000060").mkdir()
    model = DSPG("MlpPolicy", "Pendulum-v1", **DSPG_SMALL).learn(100, ExactCheckpointCallback(20, tmp_path, keep=2, verbose=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["steps_000000000060", "steps_000000000080"]
    with pytest.raises(ValueError, match="steps_000000000080 exists: go on from it"):
        model.num_timesteps = 80
        save_checkpoint(model, tmp_path)


@pytest.mark.parametrize("arguments", [{"save_freq": 0}, {"save_freq": 1.5}, {"save_freq": 1, "keep": 0}])
def test_bad_numbers(tmp_path, arguments):
    with pytest.raises(ValueError, match="give an integer >= 1"):
        ExactCheckpointCallback(folder=tmp_path, **arguments)


def test_bad_folders(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint in"):
        load_checkpoint(DSPG, tmp_path, "Pendulum-v1")
    model = DSPG("MlpPolicy", "Pendulum-v1", **DSPG_SMALL).learn(40)
    save_checkpoint(model, tmp_path)
    with pytest.raises(ValueError, match="has a checkpoint with more steps than the model, steps_000000000040"):
        model.learn(100, ExactCheckpointCallback(20, tmp_path))
    with pytest.raises(ValueError, match=r"the environment is .*VecNormalize.*the one of the checkpoint was"):
        load_checkpoint(DSPG, tmp_path, pendulums(1))
