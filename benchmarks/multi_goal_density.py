"""
What a policy should do at (2.5, 2.5) of MultiGoal-v0, and what one and two squashed Gaussians can do there.

    python -m benchmarks.multi_goal_density 10 4 > benchmarks/results/multi_goal_density.csv

Soft value iteration on a grid gives the Boltzmann density exp(Q / alpha) of each temperature. Mixtures are fitted to it by
gradient descent on the divergence that DSPG minimises, integrated over a grid of actions. ``first``, ``second`` and
``between`` are the shares of ``examples/5_mixture_multi_goal.py``; ``distance`` is the total variation to the density.
"""

import csv
import sys

import numpy as np
import torch as th
from scipy.ndimage import map_coordinates

from sb3_maxent.common.mixtures import SquashedMixture
from sb3_maxent.envs import MultiGoalEnv
from sb3_maxent.envs.multi_goal import SIZE

GAMMA, STATE = 0.99, (2.5, 2.5)
STEP = 0.1  # of the grid of positions, and of actions in the iteration: they lead from grid point to grid point


def soft_values(temperature: float, n_iterations: int = 60) -> np.ndarray:
    """
    Soft value iteration. Episodes end at goals, there is no time limit.

    :param temperature: Entropy coefficient
    :param n_iterations: Number of iterations; episodes are about ten steps long
    :return: Soft values of the positions of a grid, shape (positions, positions)
    """
    n, reach = round(2 * SIZE / STEP) + 1, round(1 / STEP)
    axis = np.linspace(-SIZE, SIZE, n)
    squared = (
        ((np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)[:, :, None] - MultiGoalEnv.goals) ** 2).sum(-1).min(-1)
    )
    reached = squared < MultiGoalEnv.goal_radius**2
    shifts = range(-reach, reach + 1)
    # Trapezoidal rule: cells at the border of the box are half as large
    size = {shift: STEP * (0.5 if abs(shift) == reach else 1.0) for shift in shifts}
    values = np.zeros((n, n))
    for _ in range(n_iterations):
        arrival = -squared + MultiGoalEnv.goal_reward * reached + GAMMA * np.where(reached, 0.0, values)
        arrival = np.pad(arrival, reach, mode="edge") / temperature  # a step beyond the border ends at it
        total = np.full((n, n), -np.inf)
        for i in shifts:
            for j in shifts:
                cost = MultiGoalEnv.action_cost * STEP**2 * (i**2 + j**2) / temperature
                part = arrival[reach + i : reach + i + n, reach + j : reach + j + n] - cost
                total = np.logaddexp(total, part + np.log(size[i] * size[j]))
        values = temperature * total
    return values


def q_values(values: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """
    Q-values at ``STATE``.

    :param values: Soft values of the grid
    :param actions: Actions, shape (actions, 2)
    :return: Shape (actions,)
    """
    positions = np.array(STATE) + actions
    squared = ((positions[:, None] - MultiGoalEnv.goals) ** 2).sum(-1).min(-1)
    reached = squared < MultiGoalEnv.goal_radius**2
    following = np.where(reached, 0.0, map_coordinates(values, (positions.T + SIZE) / STEP, order=1))
    cost = MultiGoalEnv.action_cost * (actions**2).sum(-1)
    return -cost - squared + MultiGoalEnv.goal_reward * reached + GAMMA * following


def best_mixture(actions: np.ndarray, q: np.ndarray, temperature: float, means: list[list[float]]) -> np.ndarray:
    """
    Fit squashed Gaussians.

    :param actions: Centres of cells of one size, shape (actions, 2)
    :param q: Their Q-values
    :param temperature: Entropy coefficient
    :param means: Means before the squash to start from, one for each Gaussian
    :return: Probabilities of the cells, shape (actions,)
    """
    samples = th.as_tensor(np.arctanh(actions)).unsqueeze(0)  # (1, actions, 2)
    start = th.tensor([means], dtype=th.float64)  # (1, components, 2)
    leaves = [th.zeros(1, len(means), dtype=th.float64), start, th.full_like(start, -0.5)]
    optimizer = th.optim.Adam([leaf.requires_grad_() for leaf in leaves], lr=0.02)
    for _ in range(400):
        log_prob = SquashedMixture(*leaves).log_prob(samples)[0]  # (actions,)
        probabilities = th.softmax(log_prob, dim=0)
        loss = (probabilities * (log_prob - th.as_tensor(q) / temperature)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return probabilities.detach().numpy()


def rows(temperature: float) -> list[dict[str, float | str]]:
    """
    :param temperature: Entropy coefficient
    :return: Rows of the table
    """
    centres = (np.arange(60) + 0.5) / 30 - 1
    actions = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2)  # (actions, 2)
    q = q_values(soft_values(temperature), actions)
    boltzmann = th.softmax(th.as_tensor(q / temperature), dim=0).numpy()
    near, far = [0.5, -0.5], [-0.5, 0.5]
    fitted = {
        "Boltzmann": boltzmann,
        "one Gaussian, from the middle": best_mixture(actions, q, temperature, [[0.01, -0.01]]),
        "one Gaussian, from a mode": best_mixture(actions, q, temperature, [near]),
        "two Gaussians": best_mixture(actions, q, temperature, [near, far]),
    }
    along, table = (actions[:, 0] - actions[:, 1]) / 2, []
    for name, probabilities in fitted.items():
        row: dict[str, float | str] = {"temperature": temperature, "density": name}
        for part, centre in (("first", 0.44), ("second", -0.44), ("between", 0.0)):
            row[part] = float(probabilities[np.abs(along - centre) < 0.2].sum())
        table.append(row | {"distance": float(np.abs(probabilities - boltzmann).sum() / 2)})
    return table


def main() -> None:
    th.set_num_threads(1)
    writer = None
    for temperature in map(float, sys.argv[1:]):
        for row in rows(temperature):
            if writer is None:
                writer = csv.DictWriter(sys.stdout, list(row))
                writer.writeheader()
            writer.writerow({name: f"{value:.3g}" if isinstance(value, float) else value for name, value in row.items()})
            sys.stdout.flush()


if __name__ == "__main__":
    main()
