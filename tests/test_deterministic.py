"""The same seed gives the same weights, in one process and in two, compiled or not; another seed gives others."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.noise import NormalActionNoise

from tests.common import test_compilation
from tests.models import REFUSED, VARIANTS, differing, is_refused, make_model, make_row, make_row_env, make_row_model, state_of

SETTINGS = [
    (),
    ("Discrete",),
    ("noise",),
    ("gSDE",),
    ("3 envs", "VecNormalize", "as many as steps", "3 steps"),
    ("2 processes", "every 5 steps", "AdamW"),
    ("image", "shared"),
    ("goals", "HER"),
    ("Dict", "VecNormalize", "three critics"),
]
ROWS = {
    f"{algorithm}: {', '.join(settings)}": (algorithm, make_row(*settings))
    for algorithm in REFUSED
    for settings in SETTINGS
    if not is_refused(algorithm, settings)
}
# Graphs that are compiled for other tests, too
COMPILED = {
    "DSPG: compiled": "late action",
    "SoftQLearning: compiled": "particles",
    "SoftQLearning: compiled, Discrete": "Discrete",
}
CASES = [*ROWS, *COMPILED]


def trained(case, seed):
    """The model, and whatever would show that it was trained otherwise"""
    if case in COMPILED:
        model = test_compilation.trained(*test_compilation.VARIANTS[COMPILED[case]], 10, compile=True, seed=seed)
        return model, model.predict(model.get_env().reset())[0]
    algorithm, row = ROWS[case]
    env = make_row_env(row)
    try:
        model = make_row_model(algorithm, row, env, seed=seed).learn(32)
        return model, model.predict(env.reset())[0]
    finally:
        env.close()


def digest(case, seed):
    """A hash of weights, optimizers, temperature, transitions and the next actions"""
    model, actions = trained(case, seed)
    values = hashlib.sha256()
    for name, value in sorted(state_of(model).items()):
        values.update(name.encode() + value.numpy().tobytes())
    for array in (model.replay_buffer.actions, model.replay_buffer.rewards, actions):
        values.update(np.ascontiguousarray(array).tobytes())
    return values.hexdigest()


def digests(n_seeds):
    """Of all cases, for as many seeds"""
    th.set_num_threads(1)
    return {f"{case}, seed {seed}": digest(case, seed) for case in CASES for seed in range(n_seeds)}


IN_A_NEW_PROCESS = (
    "import json, sys; from tests.test_deterministic import digests; print(json.dumps(digests(int(sys.argv[1]))))"
)


@pytest.fixture(scope="module")
def two_processes():
    """What two new processes compute at the same time, and what they complain of"""
    command = [sys.executable, "-W", "ignore", "-c", IN_A_NEW_PROCESS]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, n_seeds], **pipes) for n_seeds in "12"]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs[0][1] + outputs[1][1]
    return [(json.loads(stdout.splitlines()[-1]), stderr) for stdout, stderr in outputs]


@pytest.mark.parametrize("case", CASES)
def test_two_processes(two_processes, case):
    (first, _), (second, _) = two_processes
    assert first[f"{case}, seed 0"] == second[f"{case}, seed 0"]
    assert second[f"{case}, seed 0"] != second[f"{case}, seed 1"]


def test_compilation_does_not_fail_in_part(two_processes):
    """PyTorch writes that it gives a function up, and goes on without it"""
    assert all("Backend compiler exception" not in stderr for _, stderr in two_processes)


@pytest.mark.parametrize("noise", [None, 0.1])
@pytest.mark.parametrize("variant", VARIANTS)
def test_deterministic_training_common(variant, noise):
    """In one process, whatever has drawn from the generators before"""
    arguments = {}
    if noise and "Discrete" not in variant:
        arguments["action_noise"] = NormalActionNoise(np.zeros(1), noise * np.ones(1))
    states, rewards = [], []
    for seed in (0, 0, 1):
        model = make_model(variant, seed=seed, **arguments).learn(30)
        states.append(state_of(model))
        rewards.append(
            evaluate_policy(model, model.get_env(), 2, deterministic=False, return_episode_rewards=True, warn=False)
        )
    assert differing(states[0], states[1]) == set() and rewards[0] == rewards[1]
    assert differing(states[0], states[2]) and rewards[0] != rewards[2]
