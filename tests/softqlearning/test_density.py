"""
The trained sampling network against exact samples of exp(Q / alpha), on one-step bandits trained end to end.

The energy distance to exact samples must be at most three times the largest between two exact samples. The reference form,
with the same training, must exceed that, and be nearer to samples of its own density exp(Q / alpha) prod(1 - a^2).
"""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from scipy.stats import norm, truncnorm

from benchmarks.composition import energy_distance
from sb3_maxent import SoftQLearning

N_SAMPLES = 2000


class Target:
    """Density exp(reward / alpha) on the box [-1, 1]^d"""

    alpha = 1.0

    def __init__(self, d: int):
        self.d = d


class BoundedQuadratic(Target):
    """T2: truncated normals around 0.4"""

    alpha = 0.3

    def reward(self, action: np.ndarray) -> float:
        return -1.5 * ((action - 0.4) ** 2).sum()

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return truncated_normal(np.full((n, self.d), 0.4), np.sqrt(0.1), rng)


class Flat(Target):
    """T3: uniform"""

    def reward(self, action: np.ndarray) -> float:
        return 0.0

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-1, 1, (n, self.d))


class BoundaryMode(Target):
    """T4: exponential in every component, largest at a corner"""

    def reward(self, action: np.ndarray) -> float:
        return 2 * action.sum()

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        low, high = np.exp(-2), np.exp(2)
        return np.log(low + rng.uniform(size=(n, self.d)) * (high - low)) / 2


class Bimodal(Target):
    """T5: two modes of unequal mass"""

    weights, std = np.array([0.35, 0.65]), 0.25

    def __init__(self, d: int):
        super().__init__(d)
        self.modes = np.zeros((2, d))
        self.modes[:, 0] = 0.8, -0.2

    def reward(self, action: np.ndarray) -> float:
        squared_distances = ((action - self.modes) ** 2).sum(axis=-1)
        return np.log((self.weights * np.exp(-squared_distances / (2 * self.std**2))).sum())

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        # Of its weight each mode keeps what lies inside the box
        masses = np.diff(norm.cdf((np.array([-1, 1]) - self.modes[:, :1]) / self.std))[:, 0] * self.weights
        return truncated_normal(self.modes[rng.choice(2, n, p=masses / masses.sum())], self.std, rng)


def truncated_normal(mean: np.ndarray, std: float, rng: np.random.Generator) -> np.ndarray:
    return truncnorm.rvs((-1 - mean) / std, (1 - mean) / std, loc=mean, scale=std, random_state=rng)


class Bandit(gym.Env):
    """One state, one step"""

    observation_space = spaces.Box(-1, 1, (1,))

    def __init__(self, target: Target):
        self.target, self.action_space = target, spaces.Box(-1, 1, (target.d,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), float(self.target.reward(action.astype(float))), True, False, {}


def largest_exact_distance(target: Target, rng: np.random.Generator) -> float:
    """The largest of 20 energy distances between two exact samples"""
    return max(energy_distance(target.sample(N_SAMPLES, rng), target.sample(N_SAMPLES, rng)) for _ in range(20))


def trained_samples(target: Target, n_steps: int, **kwargs) -> np.ndarray:
    arguments = {"batch_size": 64, "learning_starts": 1000, "seed": 0, "ent_coef": target.alpha, **kwargs}
    policy_kwargs = {"net_arch": [64, 64], "n_critics": 1, "action_layer": 0}
    arguments["learning_rate"] = lambda progress: 1e-5 + 2e-3 * progress
    model = SoftQLearning("MlpPolicy", Bandit(target), policy_kwargs=policy_kwargs, **arguments).learn(n_steps)
    return model.sample_actions(np.ones(1, np.float32), N_SAMPLES).astype(float)


def reference_sample(target: Target, rng: np.random.Generator) -> np.ndarray:
    """Exact samples of exp(Q / alpha) prod(1 - a^2), by rejection"""
    candidates = target.sample(100_000, rng)
    accepted = candidates[rng.uniform(size=len(candidates)) < np.prod(1 - candidates**2, axis=1)][:N_SAMPLES]
    assert len(accepted) == N_SAMPLES
    return accepted


def test_the_measure_tells_densities_apart():
    """Exact samples pass, and the density of the reference form, exp(Q / alpha) prod(1 - a^2), does not"""
    rng = np.random.default_rng(0)
    for target in (BoundedQuadratic(2), Flat(6), BoundaryMode(1), Bimodal(2)):
        bound, exact = largest_exact_distance(target, rng), target.sample(N_SAMPLES, rng)
        wrong = reference_sample(target, rng)
        assert energy_distance(exact, target.sample(N_SAMPLES, rng)) < 3 * bound
        assert energy_distance(wrong, target.sample(N_SAMPLES, rng)) > 3 * bound


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2, 6])
@pytest.mark.parametrize("kind", [BoundedQuadratic, Flat, BoundaryMode, Bimodal])
def test_samples_the_boltzmann_density(kind, d):
    target, rng = kind(d), np.random.default_rng(0)
    bound, exact = largest_exact_distance(target, rng), target.sample(N_SAMPLES, rng)
    n_steps = 10_000 if d == 6 else 5000
    distance = energy_distance(trained_samples(target, n_steps), exact)
    reference_samples = trained_samples(target, n_steps, particle_space="reference")
    reference = energy_distance(reference_samples, exact)
    print(f"{kind.__name__} {d}: {distance:.4f}, two exact samples at most {bound:.4f}, reference form {reference:.4f}")
    assert distance < 3 * bound
    assert reference > 3 * bound
    assert energy_distance(reference_samples, reference_sample(target, rng)) < reference
