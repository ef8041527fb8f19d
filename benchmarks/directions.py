"""
Does the critic or the sampling network lose directions of a pretrained policy?

    python -m benchmarks.directions logs/experiments/PointArena-v0/softqlearning*/final.zip > benchmarks/results/directions.csv

for models of ``python -m benchmarks.experiments softqlearning PointArena-v0 --ent-coef T``. The reward is the speed of the
point robot, so its four diagonal directions are equally good, and at the start the Q-values of the four corners of the action
box should be equal. Each row has, at the start, the largest minus the smallest of these four Q-values, and the entropy of the
four quadrants of an action in nats (1.39 if all have a quarter): by the density exp(Q / temperature) on a grid, and by 2000
actions of the sampling network.

Later a robot that goes along a diagonal at full speed, 2 m from the start, should keep its direction with the same
probability on each diagonal. The last two columns have the smallest and the largest share of 2000 actions in the quadrant of
the direction.
"""

import csv
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch as th

from sb3_maxent import SoftQLearning

N_GRID, N_ACTIONS = 60, 2000
# Of the robot after the start: how far from it, in m, and the fastest that it goes along each axis, in m/s
DISTANCE, SPEED = 2.0, 5.0
CORNERS = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)], np.float32)


def entropy_of_quadrants(actions: np.ndarray, weights: np.ndarray) -> float:
    """
    How evenly actions lie in the four quadrants.

    :param actions: Actions, shape (actions, 2)
    :param weights: Weight of each, shape (actions,)
    :return: Entropy in nats
    """
    masses = np.bincount((actions > 0) @ [2, 1], weights, minlength=4)  # (quadrants,)
    shares = masses[masses > 0] / masses.sum()
    return float(-(shares * np.log(shares)).sum()) + 0.0


def make_moving_observations() -> np.ndarray:
    """
    The robot on its way along each diagonal.

    :return: Observations, shape (4, 4)
    """
    return np.concatenate([CORNERS * DISTANCE / np.sqrt(2), CORNERS * SPEED], axis=1)


def measure(model: SoftQLearning, observation: np.ndarray) -> dict[str, float]:
    """
    Compare the Q-function and the sampling network in a state.

    :param model: Trained model
    :param observation: Observation, shape (4,)
    :return: Columns of a row
    """
    axis = (np.arange(N_GRID, dtype=np.float32) + 0.5) * 2 / N_GRID - 1
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)  # (points, 2)
    with th.no_grad():
        embedding = model.critic.embed(th.as_tensor(observation[None], dtype=th.float32))
        actions = th.as_tensor(np.concatenate([CORNERS, grid]))[None]  # (1, actions, 2)
        q_values = model.critic.q_values(embedding, actions)[0].numpy()  # (actions,)
    at_corners, on_grid = q_values[: len(CORNERS)], q_values[len(CORNERS) :]
    temperature = model.temperature.value.item()
    sampled = model.sample_actions(observation, N_ACTIONS)
    keeping = [
        np.mean(np.all(model.sample_actions(moving, N_ACTIONS) * direction > 0, axis=1))
        for direction, moving in zip(CORNERS, make_moving_observations(), strict=True)
    ]
    return {
        "temperature": round(temperature, 3),
        "difference of Q": float(np.ptp(at_corners)),
        "entropy by Q": entropy_of_quadrants(grid, np.exp((on_grid - on_grid.max()) / temperature)),
        "entropy of actions": entropy_of_quadrants(sampled, np.ones(len(sampled))),
        "smallest share that keeps": float(min(keeping)),
        "largest share that keeps": float(max(keeping)),
    }


def main(files: list[str]) -> None:
    """
    Write a row for each model.

    :param files: Files of models
    """
    th.set_num_threads(1)
    observation, _ = gym.make("PointArena-v0").reset()
    writer = None
    for file in files:
        model = SoftQLearning.load(file, device="cpu")
        model.policy.set_training_mode(False)
        row = {"model": Path(file).parent.name, **measure(model, observation)}
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow({name: f"{value:.2f}" if isinstance(value, float) else value for name, value in row.items()})


if __name__ == "__main__":
    main(sys.argv[1:])
