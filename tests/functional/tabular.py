"""Exact soft Q-functions of small tasks with tables."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp


@dataclass
class TabularTask:
    """
    Probabilities of the next states, shape (states, actions, states), rewards, shape (states, actions), and whether an action
    ends the episode, shape (states, actions).
    """

    transitions: np.ndarray
    rewards: np.ndarray
    ends: np.ndarray
    alpha: float = 0.5
    gamma: float = 0.9

    def next_values(self, values: np.ndarray) -> np.ndarray:
        return self.gamma * (1 - self.ends) * (self.transitions @ values)

    def value(self, q_values: np.ndarray) -> np.ndarray:
        return self.alpha * logsumexp(q_values / self.alpha, axis=1)

    def policy(self, q_values: np.ndarray) -> np.ndarray:
        return np.exp((q_values - self.value(q_values)[:, None]) / self.alpha)

    def optimal_q_values(self) -> np.ndarray:
        q_values = np.zeros_like(self.rewards)
        for _ in range(300):
            q_values = self.rewards + self.next_values(self.value(q_values))
        return q_values

    def q_values_of(self, policy: np.ndarray) -> np.ndarray:
        """Soft Q-function of a policy, shape (states, actions)"""
        q_values = np.zeros_like(self.rewards)
        for _ in range(300):
            q_values = self.rewards + self.next_values((policy * (q_values - self.alpha * np.log(policy))).sum(axis=1))
        return q_values

    def bounds(self, conflict: np.ndarray, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the composed Q-function is above the optimal one at most, and what its policy loses at most"""
        over, loss = np.zeros_like(self.rewards), np.zeros_like(self.rewards)
        for _ in range(300):
            over = self.next_values(self.alpha * conflict + over.max(axis=1))
        for _ in range(300):
            loss = self.next_values((policy * (over + loss)).sum(axis=1))
        return over, loss


def random_tasks(rng: np.random.Generator, n_tasks: int = 2, n_states: int = 5, n_actions: int = 3) -> list[TabularTask]:
    """Tasks with the same random dynamics, without an end, and random rewards"""
    transitions = rng.dirichlet(0.3 * np.ones(n_states), (n_states, n_actions))
    ends = np.zeros((n_states, n_actions))
    return [TabularTask(transitions, 2 * rng.normal(size=(n_states, n_actions)), ends) for _ in range(n_tasks)]


def corridors(stochastic: bool = False, gamma: float = 1.0, n_states: int = 5) -> list[TabularTask]:
    """
    Left and right in a corridor, whose ends end the episode. Two tasks that pay 5 at one end and -5 at the other.

    :param stochastic: Whether a third of the steps go the other way
    :param gamma: Discount factor
    """
    transitions, ends = np.zeros((n_states, 2, n_states)), np.zeros((n_states, 2))
    ends[0, 0] = ends[-1, 1] = 1
    for state in range(n_states):
        targets = max(state - 1, 0), min(state + 1, n_states - 1)
        for action, target in enumerate(targets):
            transitions[state, action, target] += 2 / 3 if stochastic else 1
            transitions[state, action, targets[1 - action]] += 1 / 3 if stochastic else 0
    tasks = []
    for sign in (1, -1):
        rewards = np.full((n_states, 2), -1.5)
        rewards[0, 0], rewards[-1, 1] = 5 * sign, -5 * sign
        tasks.append(TabularTask(transitions, rewards, ends, gamma=gamma))
    return tasks
