"""Small environments with known answers."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class QuadraticBandit(gym.Env):
    """
    One state, reward c - h/2 |a - b|^2, and no end: wrap it in a time limit, which is not an end either.

    With ``terminate=True`` each step ends the episode.
    """

    observation_space = spaces.Box(-1, 1, (1,))

    def __init__(self, c=0.0, h=50.0, b=0.3, action_dim=1, terminate=False):
        self.c, self.h, self.b, self.terminate = c, h, b, terminate
        self.action_space = spaces.Box(-1, 1, (action_dim,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        reward = self.c - 0.5 * self.h * float(((action - self.b) ** 2).sum())
        return np.ones(1, np.float32), reward, self.terminate, False, {}


class FaultyEnv(gym.Env):
    """Returns a non-finite reward or observation from a given step on."""

    observation_space = spaces.Box(-1, 1, (3,))
    action_space = spaces.Box(-1, 1, (2,))

    def __init__(self, fault: str, step: int):
        self.fault, self.fault_step, self.n_steps = fault, step, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.n_steps += 1
        observation, reward = np.zeros(3, np.float32), float(action.sum())
        if self.n_steps >= self.fault_step:
            if self.fault == "reward":
                reward = float("nan")
            else:
                observation[1] = np.inf
        return observation, reward, False, self.n_steps % 20 == 0, {}
