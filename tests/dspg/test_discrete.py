"""Discrete actions: the gradient of the loss is that of the soft return, and learned policies are the softmax."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from scipy.optimize import brentq

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common import discrete
from sb3_maxent.common.discrete import choices_of
from sb3_maxent.common.errors import NonFiniteError
from tests.gradients import next_value
from tests.models import PLAIN, PLAIN_NETWORKS

SPACES = {
    "Discrete": spaces.Discrete(4),
    "MultiDiscrete": spaces.MultiDiscrete([3, 2]),
    "MultiBinary": spaces.MultiBinary(2),
}
ALPHA, GAMMA = 0.4, 0.8


def joint(space):
    """All joint actions, in an order of its own: one row each"""
    return np.array([*itertools.product(*(range(n) for n in choices_of(space)))])


class TabularMDP(gym.Env):
    """Random rewards, and transitions between a few states, which are seen as one-hot vectors. No end."""

    def __init__(self, action_space, n_states=3, seed=0, rewards=None, is_random=True):
        generator, n_actions = np.random.default_rng(seed), len(joint(action_space))
        self.n_states, self.action_space = n_states, action_space
        self.observation_space = spaces.Box(0, 1, (n_states,))
        self.rewards = generator.normal(size=(n_states, n_actions)) if rewards is None else rewards
        self.transitions = generator.dirichlet(np.ones(n_states), size=(n_states, n_actions))
        if not is_random:
            self.transitions = np.eye(n_states)[self.transitions.argmax(axis=2)]
        self.numbers = {tuple(action): number for number, action in enumerate(joint(action_space))}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.integers(self.n_states)
        return np.eye(self.n_states, dtype=np.float32)[self.state], {}

    def step(self, action):
        number = self.numbers[tuple(np.atleast_1d(action))]
        reward = self.rewards[self.state, number]
        self.state = self.np_random.choice(self.n_states, p=self.transitions[self.state, number])
        return np.eye(self.n_states, dtype=np.float32)[self.state], reward, False, False, {}

    def optimum(self, alpha=ALPHA, gamma=GAMMA):
        """Soft value iteration: softmax of Q* over alpha, shape (states, joint actions), and V*"""
        value = np.zeros(self.n_states)
        for _ in range(500):
            q_values = self.rewards + gamma * self.transitions @ value
            value = alpha * np.log(np.exp(q_values / alpha).sum(axis=1))
        return np.exp((q_values - value[:, None]) / alpha), value

    def optimal_policy(self, alpha=ALPHA, gamma=GAMMA):
        return self.optimum(alpha, gamma)[0]


def joint_probabilities(logits, space):
    """Of each joint action, by products of sigmoids or softmaxes, shape (states, joint actions)"""
    if isinstance(space, spaces.MultiBinary):
        logits = th.stack([-logits / 2, logits / 2], dim=2).flatten(1)
    factors = [th.softmax(part, dim=1) for part in logits.split(choices_of(space), dim=1)]
    return th.stack([th.stack([f[:, i] for f, i in zip(factors, a, strict=True)]).prod(dim=0) for a in joint(space)], dim=1)


def exact_gradient(env, logits, start):
    """Of the soft return from the start distribution, through the solution of the linear system for the values"""
    rewards, transitions = th.tensor(env.rewards), th.tensor(env.transitions)
    probabilities = joint_probabilities(logits, env.action_space)
    step_values = (probabilities * (rewards - ALPHA * probabilities.log())).sum(dim=1)
    chain = th.einsum("sa,sat->st", probabilities, transitions)
    system = th.eye(env.n_states, dtype=th.float64) - GAMMA * chain
    value = th.linalg.solve(system, step_values)
    (gradient,) = th.autograd.grad(start @ value, logits)
    q_values = rewards + GAMMA * transitions @ value
    visits = th.linalg.solve(system.T, start)
    return gradient, q_values.detach(), visits.detach()


def loss_gradient(env, q_values, visits, logits, n_samples=2, ent_coef=ALPHA, **kwargs):
    """Of DSPG's loss in a table of logits, in float64, each state as often as it is visited"""
    model = DSPG("MlpPolicy", env, policy_kwargs={"net_arch": [], **PLAIN_NETWORKS}, n_action_samples=n_samples, **kwargs)
    numbers = {tuple(action): number for number, action in enumerate(joint(env.action_space))}

    def exact_q_values(embedding, actions):
        columns = [[numbers[tuple(np.atleast_1d(a))] for a in row] for row in actions.numpy()]
        return q_values.gather(1, th.tensor(columns))

    model.critic.q_values = exact_q_values
    # SB3 makes observations float32
    model.actor.double().extract_features = lambda obs, extractor: obs
    with th.no_grad():
        model.actor.logits.weight.copy_(logits.T)
        model.actor.logits.bias.zero_()
    observations = th.eye(env.n_states, dtype=th.float64)
    noise = model._draw_noise(env.n_states).actions.double()
    loss, log_prob = model._actor_loss(observations, [], noise, th.tensor(ent_coef, dtype=th.float64))
    (gradient,) = th.autograd.grad(loss, model.actor.logits.weight)
    # The loss is a mean over states, and what is minimised
    return -gradient.T * env.n_states * visits.unsqueeze(1), log_prob


@pytest.mark.parametrize("name", SPACES)
def test_gradient_of_the_soft_return(name, monkeypatch):
    env, generator = TabularMDP(SPACES[name]), th.Generator().manual_seed(0)
    logits = th.randn(3, spaces.flatdim(env.action_space), generator=generator, dtype=th.float64, requires_grad=True)
    start = th.tensor([0.5, 0.3, 0.2], dtype=th.float64)
    exact, q_values, visits = exact_gradient(env, logits, start)
    arguments = (env, q_values, visits, logits.detach())
    for baseline in ("loo", "none"):
        gradient, log_prob = loss_gradient(*arguments, baseline=baseline)
        assert (gradient - exact).abs().max() < 1e-10
    probabilities = joint_probabilities(logits.detach(), env.action_space)
    assert th.allclose(log_prob[:, 0], (probabilities * probabilities.log()).sum(dim=1))
    # Controls: without the entropy it is another one, and samples come near but no nearer
    assert (loss_gradient(*arguments, ent_coef=0.0)[0] - exact).abs().max() > 0.05
    if name != "Discrete":
        monkeypatch.setattr(discrete, "MAX_SUMMED_ACTIONS", 1)
        assert 1e-5 < (loss_gradient(*arguments, n_samples=20_000, seed=0)[0] - exact).abs().max() < 0.05


@pytest.mark.parametrize("name", SPACES)
def test_the_target_is_the_exact_soft_value(name):
    """Of the smallest critic at every joint action"""
    env = TabularMDP(SPACES[name])
    model = DSPG("MlpPolicy", env, policy_kwargs={"net_arch": [16, 16]}, n_action_samples=2, seed=0)
    observations = th.eye(3)
    with th.no_grad():
        probabilities = joint_probabilities(model.actor.logits(model.actor.latent_pi(observations)), env.action_space)
        actions = th.tensor(joint(env.action_space))
        q_values = th.stack(
            [th.cat(model.critic_target(observations, action.expand(3, -1)), dim=1).amin(dim=1) for action in actions], dim=1
        )
        exact = (probabilities * (q_values - ALPHA * probabilities.log())).sum(dim=1, keepdim=True)
    values = [next_value(model, observations, model._draw_noise(3).next_actions, th.tensor(ALPHA)) for _ in range(2)]
    assert th.allclose(values[0], exact, atol=1e-5) and values[0].equal(values[1])


def trained(algorithm, env, n_updates, alpha=ALPHA, gamma=GAMMA, **kwargs):
    """Random transitions first and all updates then: a few seconds less than both by turns"""
    arguments = {"learning_rate": lambda progress: 1e-2 * progress, "batch_size": 128, "tau": 0.05, "seed": 0, **kwargs}
    policy_kwargs = {"net_arch": [32], "n_critics": 1, **(PLAIN_NETWORKS if algorithm is DSPG else {}), "action_layer": 0}
    arguments = {**(PLAIN if algorithm is DSPG else {}), "ent_coef": alpha, "gamma": gamma, **arguments}
    model = algorithm("MlpPolicy", env, policy_kwargs=policy_kwargs, learning_starts=1500, **arguments)
    model.learn(1500)
    for left in range(10, 0, -1):
        model._current_progress_remaining = left / 10
        model.train(n_updates // 10, 128)
    return model


def policy_of(model, env):
    """Shares of 40,000 actions in each state"""
    actions = model.sample_actions(np.eye(env.n_states, dtype=np.float32), 40_000).reshape(env.n_states, 40_000, -1)
    numbers = np.ravel_multi_index(np.moveaxis(actions, 2, 0), choices_of(env.action_space))
    return np.stack([np.bincount(row, minlength=len(joint(env.action_space))) / row.size for row in numbers])


def distance(policy, other):
    """Total variation, in the worst state"""
    return 0.5 * np.abs(policy - other).sum(axis=1).max()


@pytest.mark.parametrize("algorithm", [DSPG, SoftQLearning])
def test_the_learned_policy_is_the_softmax(algorithm):
    # With random transitions the buffer would have the chances of its own samples
    env = TabularMDP(spaces.Discrete(4), is_random=False)
    exact, value = env.optimum()
    model = trained(algorithm, env, 600)
    assert distance(policy_of(model, env), exact) < 0.02
    observations = np.eye(3, dtype=np.float32)
    assert model.predict(observations, deterministic=True)[0].tolist() == exact.argmax(axis=1).tolist()
    learned = next_value(model, th.tensor(observations), model._draw_noise(3).next_actions, th.tensor(ALPHA))
    assert learned[:, 0].numpy() == pytest.approx(value, abs=0.03)
    # The nearest wrong answers are farther: another temperature, and a policy that does not look ahead
    assert distance(env.optimal_policy(alpha=0.8), exact) > 0.1 < distance(env.optimal_policy(gamma=0.0), exact)


@pytest.mark.parametrize("algorithm", [DSPG, pytest.param(SoftQLearning, marks=pytest.mark.slow)])
def test_a_learned_temperature_gives_the_softmax_its_entropy(algorithm, tmp_path):
    """Of all temperatures one has this entropy, and the policy acts by it, also when it is loaded on its own"""
    rewards, target = np.array([[0.0, 1.0, -0.5, 0.3]]), 0.7
    env = TabularMDP(spaces.Discrete(4), n_states=1, rewards=rewards)
    model = trained(algorithm, env, 600, alpha="auto_2", gamma=0.0, target_entropy=target)

    def entropy(alpha):
        policy = env.optimal_policy(alpha, gamma=0.0)
        return -(policy * np.log(policy)).sum()

    exact = brentq(lambda alpha: entropy(alpha) - target, 0.05, 10)
    learned = model.temperature.value.item()
    assert learned == pytest.approx(exact, abs=0.01) and abs(entropy(2.0) - target) > 0.5
    assert distance(policy_of(model, env), env.optimal_policy(exact, gamma=0.0)) < 0.02
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model")
    assert loaded.temperature.value.item() == learned and loaded.target_entropy == target
    if algorithm is SoftQLearning:
        model.policy.save(tmp_path / "policy")
        policy = type(model.policy).load(tmp_path / "policy")
        assert policy.ent_coef.item() == loaded.policy.ent_coef.item() == model.policy.ent_coef.item() == learned


FACTORS = {
    "MultiDiscrete": (spaces.MultiDiscrete([3, 2]), [np.array([0.0, 0.6, -0.3]), np.array([0.5, 0.0])]),
    "MultiBinary, sampled": (spaces.MultiBinary(7), [np.array([0.0, 0.1 * k - 0.3]) for k in range(7)]),
}


@pytest.mark.parametrize("name", FACTORS)
def test_a_bandit_of_factors(name):
    """A sum of rewards has a product of softmaxes, which independent factors can be"""
    space, parts = FACTORS[name]
    rewards = np.array([[sum(part[i] for part, i in zip(parts, action, strict=True)) for action in joint(space)]])
    env = TabularMDP(space, n_states=1, rewards=rewards)
    model = trained(DSPG, env, 400, gamma=0.0, n_action_samples=32)
    actions = model.sample_actions(np.ones(1, np.float32), 100_000)
    for factor, part in enumerate(parts):
        exact = np.exp(part / ALPHA) / np.exp(part / ALPHA).sum()
        shares = np.bincount(actions[:, factor], minlength=len(part)) / len(actions)
        assert 0.5 * np.abs(shares - exact).sum() < 0.02, factor
    other = np.exp(parts[0] / 0.8) / np.exp(parts[0] / 0.8).sum()
    first = np.exp(parts[0] / ALPHA) / np.exp(parts[0] / ALPHA).sum()
    assert 0.5 * np.abs(other - first).sum() > 0.06


@pytest.mark.parametrize("name", ["MultiDiscrete", "MultiBinary"])
def test_soft_q_learning_knows_joint_actions(name):
    """Rewards for choices that agree: the softmax over joint actions, which no product of factors is near"""
    space = SPACES[name]
    rewards = np.array([[1.0 if action[0] == action[1] else 0.0 for action in joint(space)]])
    env = TabularMDP(space, n_states=1, rewards=rewards)
    model = trained(SoftQLearning, env, 400, gamma=0.0)
    exact = env.optimal_policy(gamma=0.0)
    assert distance(policy_of(model, env), exact) < 0.02
    table = exact.reshape(choices_of(space))
    product = (table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True)).reshape(1, -1)
    assert distance(product, exact) > 0.1


def test_networks_that_are_not_finite_choose_no_action():
    policy_kwargs = {"net_arch": [8], "actor_averaging": None}
    model = DSPG("MlpPolicy", TabularMDP(spaces.Discrete(3)), policy_kwargs=policy_kwargs)
    model.actor.logits.bias.data[0] = th.nan
    for deterministic in (False, True):
        with pytest.raises(NonFiniteError, match="action is not finite"):
            model.predict(np.ones(3, np.float32), deterministic=deterministic)
