"""Small environments with known answers."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

BOX, ACTIONS = spaces.Box(-1, 1, (3,)), spaces.Box(-2, 1, (2,))


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


def mean_of(action: Any) -> float:
    """Mean over the parts of an action, each of which may have parts again"""
    parts = [*action.values()] if isinstance(action, dict) else action
    return float(np.mean([mean_of(part) for part in parts]) if isinstance(action, (dict, tuple)) else np.mean(parts))


class RandomEnv(gym.Env):
    """
    Random observations and episodes of a given length. Refuses actions outside of its space.

    The reward is the mean of the action, or the distance between two goals where the observations have goals.

    :param observation_space: Observation space
    :param action_space: Action space
    :param episode_length: Steps until an episode ends
    :param terminate: Whether that is an end of the task, and not of the time
    """

    def __init__(
        self, observation_space: spaces.Space, action_space: spaces.Space, episode_length: int = 5, terminate: bool = False
    ):
        # Copies: tests share the spaces, not the state of their generators
        self.observation_space, self.action_space = copy.deepcopy(observation_space), copy.deepcopy(action_space)
        self.episode_length, self.terminate, self.n_steps = episode_length, terminate, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.n_steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.n_steps += 1
        observation, end = self.observation_space.sample(), self.n_steps == self.episode_length
        reward = mean_of(action)
        if isinstance(observation, dict) and "desired_goal" in observation:
            reward = float(self.compute_reward(observation["achieved_goal"], observation["desired_goal"], {}))
        return observation, reward, end and self.terminate, end and not self.terminate, {}

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -np.abs(achieved_goal - desired_goal).sum(axis=-1)


class FuzzEnv(gym.Env):
    """
    Gives chosen rewards one after the other, and sampled and scaled observations. Refuses actions outside of its space.

    :param observation_space: Observation space
    :param action_space: Action space
    :param rewards: Rewards
    :param scale: Factor of observations of floats
    """

    def __init__(self, observation_space: Any = BOX, action_space: Any = ACTIONS, rewards: Any = (1.0,), scale: float = 1.0):
        self.observation_space, self.action_space = observation_space, action_space
        self.rewards, self.scale, self.n_steps = rewards, scale, 0
        # A model without a seed leaves them as they are
        for space in (observation_space, action_space):
            space.seed(0)

    def observation(self):
        with np.errstate(all="ignore"):
            value = self.observation_space.sample()
            return value if self.scale == 1.0 else (value * self.scale).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation(), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action} is outside"
        self.n_steps += 1
        reward = self.rewards[self.n_steps % len(self.rewards)]
        return self.observation(), reward, self.n_steps % 3 == 0, self.n_steps % 4 == 0, {}
