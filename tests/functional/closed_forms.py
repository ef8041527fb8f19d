"""Exact soft values, policies and gradients that the tests compare with."""

from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import solve_discrete_lyapunov
from scipy.stats import norm, truncnorm


@dataclass
class BoundedQuadraticBandit:
    """One action a in [-1, 1], reward c - h/2 (a - b)^2: the optimal soft policy is a truncated normal."""

    c: float
    h: float
    b: float
    alpha: float

    @property
    def sigma(self) -> float:
        return float(np.sqrt(self.alpha / self.h))

    def reward(self, action: np.ndarray) -> np.ndarray:
        return self.c - 0.5 * self.h * (action - self.b) ** 2

    @property
    def value(self) -> float:
        """alpha log of the integral of exp(reward / alpha)"""
        mass = norm.cdf((1 - self.b) / self.sigma) - norm.cdf((-1 - self.b) / self.sigma)
        return float(self.c + self.alpha * np.log(np.sqrt(2 * np.pi) * self.sigma * mass))

    @property
    def policy(self):
        bounds = (-1 - self.b) / self.sigma, (1 - self.b) / self.sigma
        return truncnorm(*bounds, loc=self.b, scale=self.sigma)


@dataclass
class SoftLQR:
    """
    Maximum-entropy linear-quadratic regulator under the Gaussian policy a ~ N(-K s, Sigma).

    s' = A s + B a + w, w ~ N(0, W), r = -(s' Qc s + a' R a) / 2
    """

    alpha: float = 0.5
    gamma: float = 0.9
    A: np.ndarray = field(default_factory=lambda: np.array([[1.0, 0.3], [0.0, 0.8]]))
    B: np.ndarray = field(default_factory=lambda: np.array([[0.2, 0.0], [0.5, 0.4]]))
    Qc: np.ndarray = field(default_factory=lambda: np.diag([1.0, 0.5]))
    R: np.ndarray = field(default_factory=lambda: np.diag([0.3, 0.2]))
    W: np.ndarray = field(default_factory=lambda: 0.05 * np.eye(2))
    K: np.ndarray = field(default_factory=lambda: np.array([[0.4, 0.1], [-0.2, 0.5]]))
    Sigma: np.ndarray = field(default_factory=lambda: np.diag([0.3, 0.15]))

    def __post_init__(self) -> None:
        closed_loop = np.sqrt(self.gamma) * (self.A - self.B @ self.K)
        self.P = solve_discrete_lyapunov(closed_loop.T, self.Qc + self.K.T @ self.R @ self.K)
        self.H = self.R + self.gamma * self.B.T @ self.P @ self.B
        entropy = 0.5 * len(self.Sigma) * np.log(2 * np.pi * np.e) + 0.5 * np.linalg.slogdet(self.Sigma)[1]
        per_step = -0.5 * np.trace(self.Sigma @ self.H) - 0.5 * self.gamma * np.trace(self.P @ self.W) + self.alpha * entropy
        self.c = per_step / (1 - self.gamma)

    def value(self, states: np.ndarray) -> np.ndarray:
        return -0.5 * np.einsum("ni,ij,nj->n", states, self.P, states) + self.c

    def reward(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        state_cost = np.einsum("ni,ij,nj->n", states, self.Qc, states)[:, None]
        return -0.5 * (state_cost + np.einsum("nmi,ij,nmj->nm", actions, self.R, actions))

    def q_value(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Soft Q-function of the policy, for states (n, 2) and actions (n, m, 2)"""
        means = (states @ self.A.T)[:, None] + actions @ self.B.T
        next_values = -0.5 * np.einsum("nmi,ij,nmj->nm", means, self.P, means) - 0.5 * np.trace(self.P @ self.W) + self.c
        return self.reward(states, actions) + self.gamma * next_values

    def gain_gradient(self, states: np.ndarray) -> np.ndarray:
        """Exact gradient in K of the soft value, averaged over the given states"""
        second_moment = states.T @ states / len(states)
        return -(self.H @ self.K - self.gamma * self.B.T @ self.P @ self.A) @ second_moment

    def log_std_gradient(self) -> np.ndarray:
        """Exact gradient in the logarithms of the standard deviations (Sigma is diagonal)"""
        return -np.diag(self.H) * np.diag(self.Sigma) + self.alpha
