"""The value network of ``examples/7_value_network.py`` against closed forms of the soft value."""

import runpy
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_maxent import DSPG
from tests.dspg.test_discrete import TabularMDP, distance, policy_of
from tests.models import PLAIN, PLAIN_NETWORKS

EXAMPLE = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "7_value_network.py"))
ALGORITHM, POLICY = EXAMPLE["ValueNetworkSAC"], EXAMPLE["ValueNetworkPolicy"]
ALPHA, GAMMA = 0.5, 0.6


class Bandit(gym.Env):
    """One state that never ends: its value is that of one step, divided by 1 - gamma"""

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), -float(action[0]) ** 2, False, False, {}


def soft_reward(model):
    """Expected reward and entropy of the policy, by quadrature"""
    with th.no_grad():
        distribution = model.actor.action_distribution(th.zeros(1, 1))
        pre_tanh = th.linspace(-8, 8, 4001).reshape(1, -1, 1)
        log_prob = distribution.log_prob(pre_tanh)  # (1, points), of the action
        actions = th.tanh(pre_tanh).squeeze(2)
        density = log_prob.exp() * (1 - actions.square())
        return th.trapezoid(density * (-actions.square() - ALPHA * log_prob), pre_tanh.squeeze(2)).item()


def make_bandit_model(**kwargs):
    arguments = {"learning_starts": 300, "batch_size": 128, "n_action_samples": 2, "tau": 0.1, "gamma": GAMMA, **kwargs}
    policy_kwargs = {"net_arch": [16], "n_critics": 1, **PLAIN_NETWORKS}
    return ALGORITHM(POLICY, Bandit(), **{**PLAIN, "ent_coef": ALPHA, "seed": 0, **arguments}, policy_kwargs=policy_kwargs)


def test_the_value_of_a_fixed_policy_is_its_soft_return():
    """V follows single actions, and Q follows r + gamma V(s'): a policy that does not change has a value in closed form"""
    model = make_bandit_model(learning_rate=1e-12, qf_learning_rate=lambda progress: 2e-2 * progress)
    model.learn(300)
    for left in range(10, 0, -1):
        model._current_progress_remaining = left / 10
        model.train(30, 128)
    exact = soft_reward(model) / (1 - GAMMA)
    with th.no_grad():
        assert model.critic.state_value(th.zeros(1, 1)).item() == pytest.approx(exact, abs=0.03)
        q_values = model.critic(th.zeros(3, 1), th.tensor([[-0.8], [0.0], [0.8]]))[0]
    assert q_values[:, 0].tolist() == pytest.approx([GAMMA * exact - a * a for a in (-0.8, 0.0, 0.8)], abs=0.06)
    # The nearest wrong answer is farther: the value of one step
    assert abs(soft_reward(model) - exact) > 0.1


def test_the_policy_and_the_values_of_a_table_are_the_optimal_ones():
    """With discrete actions the value network regresses on the exact sum"""
    env = TabularMDP(spaces.Discrete(4), is_random=False)
    exact, value = env.optimum(ALPHA, GAMMA)
    model = ALGORITHM(
        *(POLICY, env),
        **{**PLAIN, "learning_rate": lambda progress: 1e-2 * progress, "ent_coef": ALPHA, "gamma": GAMMA, "batch_size": 128},
        **{"tau": 0.1, "learning_starts": 1000, "seed": 0},
        policy_kwargs={"net_arch": [32], "n_critics": 1, **PLAIN_NETWORKS},
    )
    model.learn(1000)
    for left in range(10, 0, -1):
        model._current_progress_remaining = left / 10
        model.train(40, 128)
    assert distance(policy_of(model, env), exact) < 0.03
    with th.no_grad():
        assert model.critic.state_value(th.eye(3))[:, 0].numpy() == pytest.approx(value, abs=0.05)
    # The nearest wrong answer is farther: a policy that does not look ahead
    assert distance(env.optimal_policy(ALPHA, gamma=0.0), exact) > 0.1


def test_the_target_is_the_value_network_of_next_states():
    """Not of any action: the noise changes nothing, as it does in DSPG's target"""
    losses = {}
    for algorithm, policy in ((ALGORITHM, POLICY), (DSPG, "MlpPolicy")):
        kwargs = {
            "batch_size": 32,
            "learning_starts": 40,
            "n_action_samples": 2,
            "seed": 0,
            "policy_kwargs": {"net_arch": [8]},
        }
        model = algorithm(policy, "Pendulum-v1", **kwargs)
        model.learn(40)
        data, noises = model.replay_buffer.sample(32), [model._draw_noise(32) for _ in range(2)]
        losses[algorithm] = [model._losses(data, noise, th.tensor(ALPHA)).critic.item() for noise in noises]
        if algorithm is ALGORITHM:
            with th.no_grad():
                next_value = model.critic_target.state_value(data.next_observations)
                target = data.rewards + (1 - data.dones) * model.gamma * next_value
                exact = 0.5 * sum((q - target).square().mean() for q in model.critic(data.observations, data.actions))
    assert losses[ALGORITHM][0] == losses[ALGORITHM][1] == pytest.approx(exact.item())
    assert losses[DSPG][0] != losses[DSPG][1]


def test_it_is_saved_and_loaded(tmp_path):
    model = make_bandit_model(learning_starts=20).learn(24)
    model.save(tmp_path / "model")
    loaded = ALGORITHM.load(tmp_path / "model", env=Bandit())
    assert loaded.critic.state_value(th.zeros(1, 1)).equal(model.critic.state_value(th.zeros(1, 1)))
