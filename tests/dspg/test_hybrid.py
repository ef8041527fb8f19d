"""Choices and real numbers in one action: learned policies against quadrature, each with something that fails."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from scipy.optimize import brentq
from scipy.special import logsumexp, softmax

from sb3_maxent import DSPG
from sb3_maxent.common.errors import NonFiniteError
from sb3_maxent.envs import FlattenAction
from tests.models import PLAIN, PLAIN_NETWORKS

ALPHA = 0.4
# Reward of choice c with the real number a: heights - curvatures / 2 (a - centres)^2
HEIGHTS, CURVATURES, CENTRES = np.array([0.0, 0.4, 0.7]), np.array([2.0, 6.0, 20.0]), np.array([-0.5, 0.5, -0.1])
GRID = np.linspace(-1, 1, 4001)
SPACES = {
    "Dict": spaces.Dict({"gear": spaces.Discrete(3, start=1), "force": spaces.Box(0, 4, (1,))}),
    "Tuple": spaces.Tuple([spaces.Box(0, 4, (1,)), spaces.Discrete(3, start=1)]),
}


class HybridBandit(gym.Env):
    """One state. The best force, in other units than the networks', depends on the gear"""

    observation_space = spaces.Box(0, 1, (1,))

    def __init__(self, space: str):
        self.action_space = copy.deepcopy(SPACES[space])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        force, gear = (action["force"], action["gear"]) if isinstance(action, dict) else action
        c, a = gear - 1, force[0] / 2 - 1
        reward = HEIGHTS[c] - 0.5 * CURVATURES[c] * (a - CENTRES[c]) ** 2
        return np.ones(1, np.float32), float(reward), True, False, {}


def rewards():
    """Shape (choices, points)"""
    return HEIGHTS[:, None] - 0.5 * CURVATURES[:, None] * (GRID - CENTRES[:, None]) ** 2


def soft_values(alpha=ALPHA):
    """alpha log of the integral of exp(reward / alpha), shape (choices,)"""
    return alpha * (logsumexp(rewards() / alpha, axis=1) + np.log(GRID[1] - GRID[0]))


def choices_of_the_optimum(alpha=ALPHA):
    return softmax(soft_values(alpha) / alpha)


def choices_without_conditions():
    """Of the best policy whose real number does not depend on its choice, by alternating optimisation"""
    choice = np.full(3, 1 / 3)
    for _ in range(200):
        force = softmax(choice @ rewards() / ALPHA)
        choice = softmax(rewards() @ force / ALPHA)
    return choice


def trained(env, n_updates=400, **kwargs):
    """Random actions first, and all updates then"""
    arguments = {"ent_coef": ALPHA, "gamma": 0.0, "learning_starts": 1000, "batch_size": 128, "seed": 0, **kwargs}
    arguments = {**PLAIN, "learning_rate": lambda progress: 1e-2 * progress, "n_action_samples": 32, **arguments}
    policy_kwargs = {"net_arch": [32, 32], "n_critics": 1, **PLAIN_NETWORKS, "action_layer": 0}
    model = DSPG("MlpPolicy", env, policy_kwargs=policy_kwargs, **arguments)
    model.learn(1000)
    for left in range(20, 0, -1):
        model._current_progress_remaining = left / 20
        model.train(n_updates // 20, 128)
    return model


def sampled(model, n=40_000):
    """Choices and real numbers from -1 to 1"""
    actions = model.sample_actions(np.ones(1, np.float32), n)
    return np.rint(actions[:, 1]).astype(int), actions[:, 0] / 2 - 1


def total_variation(first, second):
    return 0.5 * np.abs(first - second).sum()


@pytest.mark.parametrize("space", ["Dict", pytest.param("Tuple", marks=pytest.mark.slow)])
def test_the_learned_policy_is_the_optimal_one(space):
    """Its choices are the softmax of the soft values, its real numbers have the moments of the optimum, given the choice"""
    env = FlattenAction(HybridBandit(space))
    model = trained(env)
    choices, forces = sampled(model)
    exact = choices_of_the_optimum()
    assert total_variation(np.bincount(choices, minlength=3) / len(choices), exact) < 0.02
    for c in range(3):
        density = softmax(rewards()[c] / ALPHA)
        mean = density @ GRID
        assert forces[choices == c].mean() == pytest.approx(mean, abs=0.04)
        assert forces[choices == c].std() == pytest.approx(np.sqrt(density @ (GRID - mean) ** 2), abs=0.03)
    action, _ = model.predict(np.ones(1, np.float32), deterministic=True)
    assert action[1] == exact.argmax() == 2 and env.action(action) in SPACES[space]
    # Controls: the best rewards without their widths, another temperature, and real numbers that do not know the choice
    wrong = softmax(HEIGHTS / ALPHA), choices_of_the_optimum(0.1), choices_without_conditions()
    assert all(total_variation(each, exact) > 0.1 for each in wrong)


@pytest.mark.slow
def test_a_plain_box_does_not_learn_it():
    """The control: the same numbers, but nobody knows that some of them are choices"""
    env = FlattenAction(HybridBandit("Dict"))
    env.action_space = spaces.Box(env.action_space.low, env.action_space.high)
    choices, _ = sampled(trained(env))
    assert total_variation(np.bincount(choices, minlength=3) / len(choices), choices_of_the_optimum()) > 0.05


def entropy_of_the_optimum(alpha):
    """Of actions from -1 to 1, in nats"""
    choice, width = choices_of_the_optimum(alpha), GRID[1] - GRID[0]
    densities = softmax(rewards() / alpha, axis=1)
    inner = -(densities * np.log(np.maximum(densities, 1e-300) / width)).sum(axis=1)
    return choice @ (inner - np.log(choice))


@pytest.mark.slow
def test_the_default_target_entropy_is_reached():
    model = trained(FlattenAction(HybridBandit("Dict")), 1500, ent_coef="auto")
    exact = brentq(lambda alpha: entropy_of_the_optimum(alpha) - model.target_entropy, 1e-3, 10)
    print(exact, model.temperature.value.item(), model.target_entropy)
    assert model.temperature.value.item() == pytest.approx(exact, rel=0.05)
    # Controls: the part of the real numbers alone, and that of the choices alone
    for part in (-1.0, model.target_entropy + 1.0):
        assert abs(brentq(lambda alpha, part=part: entropy_of_the_optimum(alpha) - part, 1e-3, 10) - exact) > 0.1 * exact


def test_networks_that_are_not_finite_choose_no_action():
    for name in ("logits", "mu"):
        policy_kwargs = {"net_arch": [8], "actor_averaging": None}
        model = DSPG("MlpPolicy", FlattenAction(HybridBandit("Dict")), policy_kwargs=policy_kwargs)
        getattr(model.actor, name).bias.data[:] = th.nan
        for deterministic in (False, True):
            with pytest.raises(NonFiniteError, match="action is not finite"):
                model.predict(np.ones(1, np.float32), deterministic=deterministic)


@pytest.mark.parametrize(("std_head", "widest"), [("log_std", 2.0), ("sigmoid", np.log(1.0001))])
def test_heads_of_the_standard_deviation(std_head, widest):
    model = DSPG("MlpPolicy", FlattenAction(HybridBandit("Dict")), policy_kwargs={"net_arch": [8], "std_head": std_head})
    model.actor.log_std.bias.data.fill_(100.0)
    assert model.actor.action_distribution(th.rand(2, 1)).log_stds.max().item() == pytest.approx(widest, abs=1e-6)
