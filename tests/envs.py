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
    """
    Returns a non-finite reward or observation from a given step on; episodes have 20 steps.

    :param fault: "reward" or "observation", after "dict " in Dict observations with a key "reward"
    :param step: First step with the fault, 0 is the reset
    """

    action_space = spaces.Box(-1, 1, (2,))

    def __init__(self, fault: str, step: int):
        self.fault, self.fault_step, self.n_steps = fault, step, 0
        box = spaces.Box(-1, 1, (3,))
        self.observation_space = spaces.Dict({"reward": box, "other": box}) if "dict" in fault else box

    def observation(self):
        value = np.zeros(3, np.float32)
        if "observation" in self.fault and self.n_steps >= self.fault_step:
            value[1] = np.inf
        return {"reward": value, "other": np.zeros(3, np.float32)} if "dict" in self.fault else value

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation(), {}

    def step(self, action):
        self.n_steps += 1
        faulty = "reward" in self.fault and self.n_steps >= self.fault_step
        reward = float("nan") if faulty else float(action.sum())
        return self.observation(), reward, False, self.n_steps % 20 == 0, {}
