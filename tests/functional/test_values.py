import numpy as np
import pytest
import torch as th

from sb3_maxent.functional import critic_loss, expectation, soft_value, soft_value_importance, td_target
from tests.functional.closed_forms import BoundedQuadraticBandit, SoftLQR


def optimal_samples(bandit, n_samples, seed=0):
    """Actions of the optimal soft policy and their log probabilities, shape (1, samples)"""
    actions = bandit.policy.rvs(n_samples, random_state=seed)[None]
    return actions, th.as_tensor(bandit.policy.logpdf(actions))


def test_soft_value_by_hand():
    q_values, log_prob = th.tensor([[1.0, 3.0], [0.0, 4.0]]), th.tensor([[-1.0, 1.0], [2.0, 0.0]])
    # 1 + 0.5, 3 - 0.5 | 0 - 1, 4
    assert th.equal(soft_value(q_values, log_prob, 0.5), th.tensor([[2.0], [1.5]]))


def test_discrete_soft_value_by_hand():
    q_values = th.tensor([[0.0, 0.0], [1.0, -1.0], [500.0, -500.0]], dtype=th.float64)
    expected = [0.5 * np.log(2), 0.5 * np.log(np.exp(2) + np.exp(-2)), 500.0]
    # Every action once, as if drawn uniformly
    values = soft_value_importance(q_values, th.full((3, 2), -np.log(2), dtype=th.float64), 0.5)
    assert values.flatten().tolist() == pytest.approx(expected)
    # The value of the softmax policy: Q - alpha log pi is the same for every action
    log_prob = th.log_softmax(q_values / 0.5, dim=1)
    assert th.allclose(soft_value(q_values, log_prob, 0.5), values)
    assert th.allclose(soft_value(q_values, log_prob, 0.5, weights=log_prob.exp()), values)


def test_expectation_by_hand():
    values = th.tensor([[1.0, 3.0], [0.0, 4.0]])
    assert expectation(values).tolist() == [[2.0], [2.0]]
    assert expectation(values, th.tensor([[0.25, 0.75], [1.0, 0.0]])).tolist() == [[2.5], [0.0]]
    # Weighted with the probabilities of all actions: Q is 1, 3 and the entropy that of 0.25, 0.75
    probabilities = th.tensor([[0.25, 0.75]], dtype=th.float64)
    value = soft_value(values[:1], probabilities.log(), 0.5, probabilities).item()
    assert value == pytest.approx(2.5 - 0.5 * (0.25 * np.log(0.25) + 0.75 * np.log(0.75)))
    # Two actions of a stratum of probability 0.25, and one of another
    strata = th.tensor([[[0.125, 0.125, 0.0], [0.0, 0.0, 0.75]]])
    assert expectation(th.tensor([[1.0, 3.0, 4.0]]), strata).tolist() == [[3.5]]
    for wrong in (th.ones(2, 1), th.ones(1, 2), th.ones(2)):
        with pytest.raises(ValueError, match="Expected"):
            expectation(values, wrong)


def test_soft_value_of_the_optimal_policy_is_exact():
    """At the optimum Q - alpha log pi is the same for every action, so one sample gives the soft value"""
    bandit = BoundedQuadraticBandit(c=7.0, h=3.0, b=0.4, alpha=0.3)
    assert bandit.value == pytest.approx(6.92149773, abs=1e-8)
    actions, log_prob = optimal_samples(bandit, 1000)
    values = soft_value(th.as_tensor(bandit.reward(actions)).T, log_prob.T, bandit.alpha)
    assert th.allclose(values, th.full_like(values, bandit.value), atol=1e-9)


def test_soft_value_of_another_policy_is_smaller():
    bandit = BoundedQuadraticBandit(c=7.0, h=3.0, b=0.4, alpha=0.3)
    actions = np.random.default_rng(0).uniform(-1, 1, (1, 100_000))
    log_prob = th.full((1, 100_000), -np.log(2.0), dtype=th.float64)
    value = soft_value(th.as_tensor(bandit.reward(actions)), log_prob, bandit.alpha).item()
    exact = 7.0 - 1.5 * (1 / 3 + 0.4**2) + 0.3 * np.log(2.0)
    assert value == pytest.approx(exact, abs=0.01)
    assert value < bandit.value - 0.1


def test_two_step_chain():
    """The first reward counts, the second is discounted, nothing follows the end"""
    first = BoundedQuadraticBandit(c=0.0, h=2.0, b=0.2, alpha=1.0)
    second = BoundedQuadraticBandit(c=0.0, h=3.0, b=0.4, alpha=1.0)
    gamma = 0.9
    actions, log_prob = optimal_samples(second, 16)
    rewards = th.as_tensor(second.reward(actions)).T  # (16, 1)
    ended = th.ones_like(rewards)
    # Whatever the value after the end is, the mask removes it
    q_second = td_target(rewards, ended, th.full_like(rewards, 1e6), gamma)
    v_second = soft_value(q_second.T, log_prob, second.alpha)
    assert v_second.item() == pytest.approx(0.198837, abs=1e-6)

    actions, log_prob = optimal_samples(first, 16)
    rewards = th.as_tensor(first.reward(actions)).T
    q_first = td_target(rewards, th.zeros_like(rewards), v_second.expand(16, 1), gamma)
    assert soft_value(q_first.T, log_prob, first.alpha).item() == pytest.approx(0.560409, abs=1e-6)


def test_continuing_bandit():
    """Fixed point V = V_1 / (1 - gamma); a time limit taken for an end, or a forgotten entropy, gives another"""
    bandit, gamma = BoundedQuadraticBandit(c=0.5, h=3.0, b=0.4, alpha=0.3), 0.9
    actions, log_prob = optimal_samples(bandit, 8)
    rewards = th.as_tensor(bandit.reward(actions)).T

    def fixed_point(dones, alpha):
        value = th.zeros(1, 1, dtype=th.float64)
        for _ in range(400):
            q_values = td_target(rewards, dones, value.expand(8, 1), gamma)
            value = soft_value(q_values.T, log_prob, alpha)
        return value.item()

    exact = bandit.value / (1 - gamma)
    zeros, ones = th.zeros_like(rewards), th.ones_like(rewards)
    assert fixed_point(zeros, bandit.alpha) == pytest.approx(exact, abs=1e-9)
    assert abs(fixed_point(ones, bandit.alpha) - exact) > 1
    assert abs(fixed_point(zeros, 0.0) - exact) > 0.1


def test_target_is_the_exact_soft_value_of_the_lqr():
    """Mean over actions of Q - alpha log pi within Monte-Carlo error of V, in every one of 8 states"""
    lqr, rng, n_samples = SoftLQR(), np.random.default_rng(0), 40_000
    states = rng.normal(size=(8, 2))
    actions = -(states @ lqr.K.T)[:, None] + rng.normal(size=(8, n_samples, 2)) * np.sqrt(np.diag(lqr.Sigma))
    policy = th.distributions.Normal(th.as_tensor(-(states @ lqr.K.T))[:, None], th.as_tensor(np.sqrt(np.diag(lqr.Sigma))))
    log_prob = policy.log_prob(th.as_tensor(actions)).sum(-1)
    q_values = th.as_tensor(lqr.q_value(states, actions))
    standard_error = (q_values - lqr.alpha * log_prob).std(dim=1) / np.sqrt(n_samples)

    value = soft_value(q_values, log_prob, lqr.alpha)[:, 0]
    exact = th.as_tensor(lqr.value(states))
    assert ((value - exact).abs() < 4 * standard_error).all()
    # Control: half the temperature is found out in every state
    assert ((soft_value(q_values, log_prob, lqr.alpha / 2)[:, 0] - exact).abs() > 4 * standard_error).all()

    # One Bellman step, with the mean of the linear dynamics in closed form, reproduces Q
    next_states = states @ lqr.A.T + actions[:, 0] @ lqr.B.T
    next_value = th.as_tensor(lqr.value(next_states) - 0.5 * np.trace(lqr.P @ lqr.W))[:, None]
    rewards = th.as_tensor(lqr.reward(states, actions[:, :1]))
    target = td_target(rewards, th.zeros_like(rewards), next_value, lqr.gamma)
    assert th.allclose(target, q_values[:, :1])


def test_td_target_takes_a_discount_per_transition():
    rewards, dones, next_value = th.ones(3, 1), th.tensor([[0.0], [0.0], [1.0]]), th.full((3, 1), 10.0)
    discounts = th.tensor([[0.5], [0.25], [0.5]])
    assert th.equal(td_target(rewards, dones, next_value, discounts), th.tensor([[6.0], [3.5], [1.0]]))
    with pytest.raises(ValueError, match=r"Expected a tensor of shape \(batch, 1\), got \(3,\)"):
        td_target(rewards, dones, next_value, discounts[:, 0])
    assert th.equal(td_target(rewards, dones, next_value, th.tensor(0.5)), th.tensor([[6.0], [6.0], [1.0]]))


def test_critic_loss_by_hand():
    target = th.tensor([[1.0], [3.0]])
    first, second = th.tensor([[1.0], [5.0]], requires_grad=True), th.tensor([[0.0], [3.0]], requires_grad=True)
    loss = critic_loss([first, second], target)
    # 1/2 (0 + 4) / 2 + 1/2 (1 + 0) / 2
    assert loss.item() == pytest.approx(1.25)
    loss.backward()
    assert th.equal(first.grad, th.tensor([[0.0], [1.0]]))
    assert th.equal(second.grad, th.tensor([[-0.5], [0.0]]))
