"""
One policy for four equally good goals: DSPG with a mixture of four Gaussians beside a single one.

    python examples/5_mixture_multi_goal.py --seeds 0 1 2 3 4 > mixture_multi_goal.csv

trains both on MultiGoal-v0, a minute each, writing a row for each. ``goals`` is the number of goals that at least 5 % of 200
rollouts end in. At (2.5, 2.5), between two goals, the best actions are about (0.44, -0.44) and (-0.44, 0.44). ``first`` and
``second`` are the shares of 10,000 sampled actions within 0.2 of these, along the line through both, and ``between`` is the
share within 0.2 of its middle: intervals of the same length. The shares of the Boltzmann density exp(Q / 10), by soft value
iteration, are 0.30, 0.30 and 0.19. Those of the best squashed Gaussian for the same Q are 0.22, 0.22 and 0.44.

Three things keep every Gaussian at a goal of its own. They start far from each other, as the package does it. The actor waits
until the critic knows the goals: before, the best action is to stand still. And the temperature falls from a higher one: a
Gaussian that has lost its weight is trained no more, and with a constant 10 this happened, see ``benchmarks/README.md``.
"""

import argparse
import csv
import sys
from collections.abc import Iterable
from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.utils import LinearSchedule

from sb3_maxent import DSPG
from sb3_maxent.dspg.policies import DSPGPolicy

N_STEPS, N_RANDOM, N_CRITIC_ALONE = 13_000, 6_000, 1_500
BETWEEN, MODE, HALF_WIDTH = (2.5, 2.5), 0.44, 0.2


def actor_learning_rate(progress_remaining: float) -> float:
    """
    Zero while actions are random, and while the critic learns alone.

    :param progress_remaining: Remaining progress of training, from 1 to 0
    :return: Learning rate of the actor
    """
    waits = (1 - progress_remaining) * N_STEPS < N_RANDOM + N_CRITIC_ALONE
    return 0.0 if waits else 1e-3 * progress_remaining


def make_model(n_components: int, seed: int, temperature: str, policy: str | type[DSPGPolicy] = "MlpPolicy") -> DSPG:
    """
    The settings of ``examples/2_multi_goal.py``, with fewer steps and samples, and an actor that waits.

    :param n_components: Number of Gaussians
    :param seed: Seed
    :param temperature: Entropy coefficient, a number or a schedule. The lower at last, the fewer actions between the modes
    :param policy: Policy
    :return: A model to train
    """
    return DSPG(
        policy,
        "MultiGoal-v0",
        learning_rate=actor_learning_rate,
        qf_learning_rate=LinearSchedule(2e-3, 0.0, 1.0),
        learning_starts=N_RANDOM,
        batch_size=128,
        tau=0.01,
        gradient_steps=1,
        policy_delay=1,
        ent_coef=temperature,
        n_action_samples=16,
        n_target_samples=16,
        policy_kwargs={"n_components": n_components, "net_arch": [128, 128], "n_critics": 1, "batch_norm": False},
        compile=True,
        seed=seed,
        device="cpu",
    )


def shares_of_goals(model: DSPG, n_rollouts: int = 200) -> np.ndarray:
    """
    Act with the stochastic policy.

    :param model: Model
    :param n_rollouts: Number of episodes
    :return: Share of the episodes that end in each goal, shape (4,)
    """
    env, goals = gym.make("MultiGoal-v0"), []
    for seed in range(n_rollouts):
        observation, _ = env.reset(seed=seed)
        done = False
        while not done:
            action, _ = model.predict(observation)
            observation, _, terminated, truncated, info = env.step(action)
            done = terminated or truncated
        goals.append(info["goal"])
    return np.bincount(np.array(goals) + 1, minlength=5)[1:] / n_rollouts


def shares_of_modes(actions: np.ndarray) -> dict[str, float]:
    """
    Where actions lie between two goals.

    :param actions: Actions at (2.5, 2.5), shape (samples, 2)
    :return: Share of the actions near each of the two best ones, and of those near the middle between them
    """
    along = (actions[:, 0] - actions[:, 1]) / 2  # MODE and -MODE at the best two
    centres = {"first": MODE, "second": -MODE, "between": 0.0}
    return {name: float((np.abs(along - centre) < HALF_WIDTH).mean()) for name, centre in centres.items()}


def measure(model: DSPG) -> dict[str, float]:
    """
    Look at a trained model.

    :param model: Model
    :return: Number of goals, and the shares of goals and modes
    """
    shares = shares_of_goals(model)
    goals = {"goals": int((shares >= 0.05).sum())} | {f"goal_{goal}": float(share) for goal, share in enumerate(shares)}
    return goals | shares_of_modes(model.sample_actions(np.array(BETWEEN, np.float32), 10_000))


def write_rows(rows: Iterable[dict[str, Any]]) -> None:
    """
    Write a table to the standard output, each row as soon as it is there.

    :param rows: Rows, all with the same columns
    """
    writer = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(row))
            writer.writeheader()
        writer.writerow({name: f"{value:.4g}" if isinstance(value, float) else value for name, value in row.items()})
        sys.stdout.flush()


def train_and_measure(n_components: int, seed: int, temperature: str) -> dict[str, Any]:
    """
    Train a model and look at it.

    :param n_components: Number of Gaussians
    :param seed: Seed
    :param temperature: Entropy coefficient, a number or a schedule
    :return: A row of the table
    """
    model = make_model(n_components, seed, temperature).learn(N_STEPS)
    return {"components": n_components, "seed": seed, "temperature": temperature, "steps": N_STEPS} | measure(model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--components", type=int, nargs="+", default=[1, 4])
    # From 45 to 10, by equal factors in equal times, over the first 85 % of the updates
    parser.add_argument("--temperature", default="log_45_10_0.85")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    runs = product(arguments.seeds, arguments.components)
    write_rows(train_and_measure(n_components, seed, arguments.temperature) for seed, n_components in runs)


if __name__ == "__main__":
    main()
