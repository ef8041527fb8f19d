"""What the algorithms reach through RL Zoo with the shipped hyperparameters. Minutes each, so marked slow."""

import subprocess
import sys

import numpy as np
import pytest


def final_returns(algo: str, env: str, n_timesteps: int, seed: int, folder, *options: str) -> np.ndarray:
    """
    Train as a user would and return the 20 episode returns of the last evaluation.

    :param options: Further options of the command
    """
    command = [
        sys.executable,
        "-m",
        "rl_zoo3.train",
        "--algo",
        algo,
        "--env",
        env,
        "-n",
        str(n_timesteps),
        "--seed",
        str(seed),
    ]
    command += ["-f", str(folder), "--eval-freq", str(n_timesteps // 3), "--eval-episodes", "20", "--n-eval-envs", "1"]
    subprocess.run([*command, "--num-threads", "1", *options], check=True, capture_output=True)
    (log,) = folder.glob(f"{algo}/*/evaluations.npz")
    with np.load(log) as evaluations:
        assert evaluations["timesteps"][-1] == n_timesteps
        return evaluations["results"][-1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_dspg_pendulum(seed, tmp_path):
    assert final_returns("dspg", "Pendulum-v1", 15_000, seed, tmp_path).mean() >= -200


@pytest.mark.slow
def test_dspg_pendulum_control(tmp_path):
    """The same without learning stays far below, so the bound above means something"""
    options = ["--hyperparams", "learning_rate:0.0"]
    assert final_returns("dspg", "Pendulum-v1", 1_500, 1, tmp_path, *options).mean() < -600
