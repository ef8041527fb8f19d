"""
"Reach x = 2 and y = 2" from a model of each, without further training, with the point robot of gymnasium-robotics.

    python examples/10_compose.py --seeds 1 2 3 4 5 > compose.csv

Each seed trains one model on the reward -|x - 2| and one on -|y - 2|, and composes them with "and". Rows have the mean
distance to the point (2, 2), in m, in the second half of episodes of 200 steps, of both models and of the composed one; the
control is "or", which wants either of the two. It needs the extra ``mazes``.
"""

import argparse

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium.wrappers import TimeLimit

from sb3_maxent import SoftQLearning
from sb3_maxent.envs import MazeTaskEnv
from sb3_maxent.softqlearning import compose

GOAL, LENGTH, N_EPISODES = 2.0, 200, 10


class Reach(gym.Wrapper):
    """
    Reach a line in the empty arena.

    :param axis: Number of the coordinate that is to be 2
    """

    def __init__(self, axis: int):
        super().__init__(TimeLimit(MazeTaskEnv("point", "arena"), LENGTH))
        self.axis = axis

    def step(self, action):
        observation, _, terminated, truncated, info = self.env.step(action)
        return observation, -abs(info["position"][self.axis] - GOAL), terminated, truncated, info


def train(axis: int, seed: int, n_steps: int) -> SoftQLearning:
    """
    Learn one of the two tasks.

    :param axis: Number of the coordinate
    :param seed: Seed
    :param n_steps: Number of environment steps
    :return: Trained model
    """
    model = SoftQLearning(
        "MlpPolicy",
        Reach(axis),
        learning_rate=1e-3,
        ent_coef=0.1,
        learning_starts=1000,
        compile=True,
        policy_kwargs=dict(net_arch=[128, 128]),
        seed=seed,
    )
    return model.learn(n_steps)


def distance(model: SoftQLearning) -> tuple[float, float, float]:
    """
    How far the policy stays from where both tasks want to be.

    :param model: Model
    :return: Mean distances in the second half of episodes: in x, in y, and from the point
    """
    env, positions = Reach(0), []
    for _ in range(N_EPISODES):
        observation, _ = env.reset()
        for step in range(LENGTH):
            observation, _, _, _, info = env.step(model.predict(observation)[0])
            if step >= LENGTH // 2:
                positions.append(info["position"])
    away = np.array(positions) - GOAL  # (steps, 2)
    return (*np.abs(away).mean(axis=0), np.linalg.norm(away, axis=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--steps", type=int, default=20_000)
    arguments = parser.parse_args()
    th.set_num_threads(1)
    print("seed,policy,distance in x,distance in y,distance")
    for seed in arguments.seeds:
        x, y = (train(axis, seed, arguments.steps) for axis in (0, 1))
        for name, model in {"x": x, "y": y, "and": compose([x, y]), "or": compose([x, y], mode="or")}.items():
            print(seed, name, *(f"{each:.2f}" for each in distance(model)), sep=",", flush=True)


if __name__ == "__main__":
    main()
