"""What the algorithms reach through RL Zoo with the shipped hyperparameters. Minutes each, so marked slow."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_maxent import SoftQLearning


def train(algo: str, env: str, n_timesteps: int, seed: int, folder: Path, *options: str) -> Path:
    """
    Train as a user would, with 20 evaluation episodes at the end.

    :param options: Further options of the command
    :return: Folder of the run
    """
    command = [sys.executable, "-m", "rl_zoo3.train", "--algo", algo, "--env", env, "-n", str(n_timesteps)]
    command += ["--seed", str(seed), "-f", str(folder), "--eval-freq", str(n_timesteps // 5), "--eval-episodes", "20"]
    subprocess.run([*command, "--n-eval-envs", "1", "--num-threads", "1", *options], check=True, capture_output=True)
    (run,) = folder.glob(f"{algo}/*")
    return run


def final_returns(run: Path) -> np.ndarray:
    """The episode returns of the last evaluation"""
    with np.load(run / "evaluations.npz") as evaluations:
        return evaluations["results"][-1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_dspg_pendulum(seed, tmp_path):
    assert final_returns(train("dspg", "Pendulum-v1", 15_000, seed, tmp_path)).mean() >= -200


@pytest.mark.slow
def test_dspg_pendulum_control(tmp_path):
    """The same without learning stays far below, so the bound above means something"""
    options = ["--hyperparams", "learning_rate:0.0"]
    assert final_returns(train("dspg", "Pendulum-v1", 1_500, 1, tmp_path, *options)).mean() < -600


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("options", "learns"), [([], True), (["--hyperparams", "norm_reward:True"], False)])
def test_dspg_pendulum_soon(options, learns, seed, tmp_path):
    """Within 2,500 steps with the rewards as they are, but not with scaled ones"""
    assert (final_returns(train("dspg", "Pendulum-v1", 2_500, seed, tmp_path, *options)).mean() > -600) == learns


def goal_shares(model, n_rollouts: int = 400) -> np.ndarray:
    """Share of the rollouts, with random actions, that end in each of the four goals"""
    goals = []

    def remember(local_variables, _):
        if local_variables["done"]:
            goals.append(local_variables["info"]["goal"])

    env = make_vec_env("MultiGoal-v0", n_envs=20, seed=0)
    evaluate_policy(model, env, n_eval_episodes=n_rollouts, deterministic=False, callback=remember)
    return np.array([goals.count(goal) for goal in range(4)]) / n_rollouts


def multi_goal_value(model, state: tuple[float, float], temperature: float = 10.0) -> float:
    """Soft value at temperature 1 and reward scale 0.1, by integrating the learned Q-function over a grid of actions"""
    n = 81
    centres = (th.arange(n) + 0.5) / n * 2 - 1
    actions = th.stack(th.meshgrid(centres, centres, indexing="ij"), dim=-1).reshape(1, -1, 2)
    with th.no_grad():
        q_values = model.critic.q_values(model.critic.embed(th.tensor([state])), actions)  # (1, n * n)
    cell = temperature * np.log(4 / n**2)
    return (temperature * th.logsumexp(q_values / temperature, dim=1).item() + cell) / temperature


def multi_goal(seed: int, folder: Path, *options: str) -> tuple[np.ndarray, list[float]]:
    """Shares of the goals and soft values after training through RL Zoo"""
    run = train("softqlearning", "MultiGoal-v0", 25_000, seed, folder, *options)
    model = SoftQLearning.load(run / "MultiGoal-v0.zip", device="cpu")
    shares = goal_shares(model)
    values = [multi_goal_value(model, state) for state in ((0.0, 0.0), (2.5, 2.5), (-2.5, 0.0), (4.0, 0.0))]
    print(f"seed {seed}, {options}: shares {shares}, values {np.round(values, 2)}")
    return shares, values


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_softqlearning_keeps_all_four_goals(seed, tmp_path):
    """Against soft value iteration on a grid: V(0, 0) = -12.23, V(2.5, 2.5) = -5.70, a quarter of the rollouts to each goal"""
    shares, values = multi_goal(seed, tmp_path)
    assert shares == pytest.approx([0.25] * 4, abs=0.1)
    assert values == pytest.approx([-12.23, -5.70, -2.90, 0.47], abs=0.5)


@pytest.mark.slow
def test_softqlearning_four_goals_control(tmp_path):
    """With the action at the critic's last hidden layer the soft values are off, so the bounds above mean something"""
    late_action = ["--hyperparams", "policy_kwargs:dict(net_arch=[128, 128], n_critics=1, action_layer=-1)"]
    _, values = multi_goal(1, tmp_path, *late_action)
    assert abs(values[0] + 12.23) > 0.5
    assert abs(values[1] + 5.70) > 0.5


@pytest.mark.slow
def test_softqlearning_cartpole(tmp_path):
    run = train("softqlearning", "CartPole-v1", 50_000, 1, tmp_path)
    assert final_returns(run).mean() >= 475
