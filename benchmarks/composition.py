"""
How to draw the actions of a composed policy, compared on densities that are known.

    python -m benchmarks.composition 2 6 > benchmarks/results/composition.csv

for actions with 2 and 6 components.

Two quadratic Q-functions of one state, whose sampling networks are trained until they sample ``exp(Q / alpha)``. Then the
energy distance of 1000 actions to exact samples of the composed density, for three ways to draw them:

- ``networks``: an action of either sampling network
- ``resampled N``: one of N proposals around the actions of both networks, by its importance weight
- ``fresh network``: a sampling network of its own, trained on the composed Q-function

``exact`` is the largest energy distance of twenty pairs of exact samples. The time is that of one ``predict`` for one state.
"""

import csv
import sys
import time
from collections.abc import Callable, Iterator

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from scipy.stats import truncnorm

from sb3_maxent import SoftQLearning
from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.common.q_network import QNetwork
from sb3_maxent.softqlearning import compose, composed_policy
from sb3_maxent.softqlearning.policies import SoftQLearningPolicy

ALPHA, H = 0.3, 3.0
STD = (ALPHA / H) ** 0.5
N_SAMPLES, N_UPDATES = 1000, 3000
PROPOSALS = (32, 256)
# Distances of the best actions from zero, in every component; the standard deviation of each policy is 0.32
GAPS = (0.5,)
Sampler = Callable[[int], np.ndarray]


class QuadraticNetwork(QNetwork):
    """Q-function -h/2 |a - b|^2. Its parameters are those of a network that is not used."""

    b: th.Tensor

    def forward(self, embedding: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        :param embedding: Not used
        :param actions: Actions, shape (batch, samples, action)
        :return: Q-values, shape (batch, samples)
        """
        return -0.5 * H * (actions - self.b).square().sum(dim=2)


class QuadraticCritic(MultiActionCritic):
    """Critic with a known Q-function."""

    network_class = QuadraticNetwork


class QuadraticPolicy(SoftQLearningPolicy):
    """Policy with a known Q-function."""

    critic_class = QuadraticCritic


class OneState(gym.Env):
    """
    One state, for the shapes of the networks.

    :param action_dim: Number of action components
    """

    observation_space = spaces.Box(-1, 1, (1,))

    def __init__(self, action_dim: int):
        self.action_space = spaces.Box(-1, 1, (action_dim,))


def make_model(action_dim: int, b: float, seed: int) -> SoftQLearning:
    """
    A model with a known Q-function and a new sampling network.

    :param action_dim: Number of action components
    :param b: Best action, in every component
    :param seed: Seed
    :return: The model
    """
    policy_kwargs = {"net_arch": [64, 64], "n_critics": 1}
    arguments = {"ent_coef": ALPHA, "buffer_size": 1, "seed": seed, "policy_kwargs": policy_kwargs}
    model = SoftQLearning(QuadraticPolicy, OneState(action_dim), **arguments)
    model.critic.q_networks[0].b = th.full((action_dim,), b)
    return model


def fit_sampling_network(model: SoftQLearning) -> None:
    """
    Train the sampling network on the Q-function that the model has, as ``learn`` does.

    :param model: The model
    """
    observations, ent_coef = th.ones(64, 1), th.tensor(ALPHA)
    for update in range(N_UPDATES):
        for group in model.actor.optimizer.param_groups:
            group["lr"] = 1e-5 + 2e-3 * (1 - update / N_UPDATES)
        loss, _ = model._actor_loss(
            observations, model.critic.embed(observations), model.actor.draw_noise(64, model.n_particles), ent_coef
        )
        model.actor.optimizer.zero_grad()
        loss.backward()
        model.actor.optimizer.step()


def exact_sampler(mode: str, action_dim: int, gap: float, rng: np.random.Generator) -> Sampler:
    """
    Exact samples of the composed density.

    :param mode: ``"and"`` or ``"or"``
    :param action_dim: Number of action components
    :param gap: Distance of the two best actions from zero, in every component
    :param rng: Random generator
    :return: Function from a number of samples to samples
    """

    def sample(n: int) -> np.ndarray:
        signs = np.zeros((n, 1)) if mode == "and" else rng.choice([-1, 1], (n, 1))
        mean = np.broadcast_to(gap * signs, (n, action_dim))
        return truncnorm.rvs((-1 - mean) / STD, (1 - mean) / STD, loc=mean, scale=STD, random_state=rng)

    return sample


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """
    Unbiased estimate of 2 E|X - Y| - E|X - X'| - E|Y - Y'|.

    :param x: Samples, shape (n, action)
    :param y: Samples, shape (m, action)
    :return: Energy distance
    """

    def total(a: np.ndarray, b: np.ndarray) -> float:
        return float(th.cdist(th.as_tensor(a), th.as_tensor(b)).sum())

    n, m = len(x), len(y)
    return 2 * total(x, y) / (n * m) - total(x, x) / (n * (n - 1)) - total(y, y) / (m * (m - 1))


def samplers(mode: str, action_dim: int, parts: list[SoftQLearning]) -> Iterator[tuple[str, SoftQLearning, Sampler]]:
    """
    The ways to draw actions.

    :param mode: ``"and"`` or ``"or"``
    :param action_dim: Number of action components
    :param parts: Models with trained sampling networks
    :return: Name, a model to measure the time of, and a function from a number of samples to samples
    """

    def actions_of(model: SoftQLearning, n: int) -> np.ndarray:
        # A hundred states at a time, which fit into memory
        return np.concatenate([model.predict(np.ones((100, 1), np.float32))[0] for _ in range(n // 100)])

    yield "networks", parts[0], lambda n: np.concatenate([actions_of(part, n // 2) for part in parts])
    composed = compose(parts, mode)
    for part, model in zip(composed.policy.parts, parts, strict=True):
        # Not a parameter of the network
        part.critic.q_networks[0].b = model.critic.q_networks[0].b
    for n_proposals in PROPOSALS:
        composed_policy.N_PROPOSALS = n_proposals
        yield f"resampled {n_proposals}", composed, lambda n: actions_of(composed, n)
    fresh = make_model(action_dim, 0.0, seed=2)
    fresh.critic = fresh.policy.critic = composed.critic
    fit_sampling_network(fresh)
    yield "fresh network", fresh, lambda n: actions_of(fresh, n)


def milliseconds(model: SoftQLearning) -> float:
    """
    Time to act in one state.

    :param model: The model
    :return: Median time of 50 calls
    """
    times = []
    for _ in range(50):
        start = time.perf_counter()
        model.predict(np.ones((1, 1), np.float32))
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def main(action_dims: list[int]) -> None:
    """
    Measure, and print the table.

    :param action_dims: Numbers of action components
    """
    th.set_num_threads(1)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["mode", "action_dim", "gap", "method", "energy_distance", "exact", "ms"])
    for action_dim in action_dims:
        for gap in GAPS:
            parts = [make_model(action_dim, sign * gap, seed) for seed, sign in enumerate((-1, 1))]
            for part in parts:
                fit_sampling_network(part)
            for mode in ("and", "or"):
                rng = np.random.default_rng(0)
                exact = exact_sampler(mode, action_dim, gap, rng)
                bound = max(energy_distance(exact(N_SAMPLES), exact(N_SAMPLES)) for _ in range(20))
                for name, model, sample in samplers(mode, action_dim, parts):
                    distance = energy_distance(sample(N_SAMPLES).astype(float), exact(N_SAMPLES))
                    row = [mode, action_dim, gap, name, f"{distance:.4f}", f"{bound:.4f}", f"{milliseconds(model):.2f}"]
                    writer.writerow(row)
                    sys.stdout.flush()


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])
