"""Composed soft Q-functions against exact ones: values, policies, and bounds of what is lost."""

import math

import numpy as np
import pytest
import torch as th

from sb3_maxent.functional import composed_q_values, policy_conflict
from tests.functional.closed_forms import BoundedQuadraticBandit
from tests.functional.tabular import TabularTask, corridors, random_tasks

HALVES = th.tensor([0.5, 0.5], dtype=th.float64)


def compose_tables(tables, alpha, mode, weights=HALVES):
    ent_coefs = th.full((len(tables),), alpha, dtype=th.float64)
    return composed_q_values(th.as_tensor(np.stack(tables)), ent_coefs, weights, mode).numpy()


def conflict_of_tables(tables, alpha):
    n_states, n_actions = tables[0].shape
    log_proposal = th.full((n_states, n_actions), -math.log(n_actions), dtype=th.float64)
    ent_coefs = th.full((2,), alpha, dtype=th.float64)
    return policy_conflict(th.as_tensor(np.stack(tables)), log_proposal, ent_coefs, HALVES)[:, 0].numpy()


def test_by_hand():
    q_values, ent_coefs = th.tensor([[[1.0, 4.0]], [[3.0, 2.0]]]), th.tensor([1.0, 1.0])
    weights = th.tensor([0.25, 0.75])
    assert th.allclose(composed_q_values(q_values, ent_coefs, weights, "and"), th.tensor([[2.5, 2.5]]))
    expected = [math.log(0.25 * math.exp(1) + 0.75 * math.exp(3)), math.log(0.25 * math.exp(4) + 0.75 * math.exp(2))]
    assert composed_q_values(q_values, ent_coefs, weights, "or")[0].tolist() == pytest.approx(expected)
    # The same rewards in another unit: the policy is the same
    scaled, units = q_values * th.tensor([2.0, 5.0]).view(2, 1, 1), th.tensor([2.0, 5.0])
    for mode in ("and", "or"):
        nats = composed_q_values(scaled, units, weights, mode) / (weights * units).sum()
        assert th.allclose(nats, composed_q_values(q_values, ent_coefs, weights, mode))
    # Policies (1/2, 1/2) and (1/5, 4/5)
    disagreeing = th.tensor([[[0.0, 0.0]], [[0.0, math.log(4)]]])
    exact = -math.log(math.sqrt(0.5 * 0.2) + math.sqrt(0.5 * 0.8))
    log_proposal = th.full((1, 2), -math.log(2))
    assert policy_conflict(disagreeing, log_proposal, ent_coefs, th.tensor([0.5, 0.5])).item() == pytest.approx(exact)
    exact = -math.log(0.5**0.25 * 0.2**0.75 + 0.5**0.25 * 0.8**0.75)
    assert policy_conflict(disagreeing, log_proposal, ent_coefs, weights).item() == pytest.approx(exact, rel=1e-5)
    with pytest.raises(ValueError, match=r"mode='xor' is not one of \('and', 'or'\)"):
        composed_q_values(q_values, ent_coefs, weights, "xor")
    with pytest.raises(ValueError, match="Expected parts = 2"):
        composed_q_values(q_values, ent_coefs, weights[:1], "and")


def test_conflict_of_two_bandits():
    """The exact soft values of two quadratic bandits and of their mean, which is quadratic too"""
    alpha = 0.3
    first, second = BoundedQuadraticBandit(1.0, 3.0, 0.4, alpha), BoundedQuadraticBandit(-2.0, 5.0, -0.3, alpha)
    h, b = 4.0, (3 * 0.4 - 5 * 0.3) / 8
    mean = BoundedQuadraticBandit(0.5 * (1 - 2) - 0.25 * (3 * 0.4**2 + 5 * 0.3**2) + 0.5 * h * b**2, h, b, alpha)
    actions = np.linspace(-1, 1, 20_001)
    q_values = np.stack([first.reward(actions), second.reward(actions)])[:, None]
    composed = compose_tables(q_values, alpha, "and")[0]
    assert composed == pytest.approx(mean.reward(actions))
    ent_coefs = th.full((2,), alpha, dtype=th.float64)
    log_proposal = th.full((1, len(actions)), -math.log(2), dtype=th.float64)
    conflict = policy_conflict(th.as_tensor(q_values), log_proposal, ent_coefs, HALVES).item()
    exact = (0.5 * (first.value + second.value) - mean.value) / alpha
    assert conflict == pytest.approx(exact, abs=1e-3) and exact > 0.5
    # Half of the Renyi divergence of order 1/2, and none of a policy from itself
    products = np.sqrt(first.policy.pdf(actions) * second.policy.pdf(actions))
    assert exact == pytest.approx(-np.log(np.trapezoid(products, actions)), abs=1e-3)
    same = policy_conflict(th.as_tensor(q_values[[0, 0]]), log_proposal, ent_coefs, HALVES).item()
    assert same == pytest.approx(0, abs=1e-12)


def test_bounds_of_what_and_loses():
    """Pairs of tasks whose optima are known. Without the conflict the bounds do not hold: the control"""
    rng = np.random.default_rng(0)
    for _ in range(10):
        tasks = random_tasks(rng)
        tables = [task.optimal_q_values() for task in tasks]
        both = TabularTask(tasks[0].transitions, 0.5 * (tasks[0].rewards + tasks[1].rewards), tasks[0].ends)
        composed, optimum = compose_tables(tables, both.alpha, "and"), both.optimal_q_values()
        policy, conflict = both.policy(composed), conflict_of_tables(tables, both.alpha)
        over, loss = both.bounds(conflict, policy)
        achieved = both.q_values_of(policy)
        assert (conflict >= 0).all()
        assert (composed >= optimum - 1e-9).all() and (composed - over <= optimum + 1e-9).all()
        assert (achieved <= optimum + 1e-9).all() and (achieved >= optimum - loss - 1e-9).all()
        # The documented bound by the largest conflict
        assert loss.max() <= both.alpha * conflict.max() * both.gamma**2 / (1 - both.gamma) ** 2 + 1e-9
        assert (composed > optimum + 0.05).any() and (achieved < optimum - 1e-3).any()


def test_and_is_exact_where_the_policies_agree():
    rng = np.random.default_rng(1)
    (task,) = random_tasks(rng, n_tasks=1)
    shifted = TabularTask(task.transitions, task.rewards + 3, task.ends)
    tables = [each.optimal_q_values() for each in (task, shifted)]
    mean = TabularTask(task.transitions, task.rewards + 1.5, task.ends)
    assert conflict_of_tables(tables, task.alpha) == pytest.approx(0, abs=1e-9)
    assert compose_tables(tables, task.alpha, "and") == pytest.approx(mean.optimal_q_values())


@pytest.mark.parametrize(("stochastic", "gamma"), [(False, 1.0), (True, 1.0), (False, 0.9)])
def test_or_is_exact_where_rewards_differ_at_the_end(stochastic, gamma):
    left, right = corridors(stochastic, gamma)
    tables = [task.optimal_q_values() for task in (left, right)]
    # Where the episode ends the soft maximum of both rewards, elsewhere the reward that both have
    rewards = compose_tables([left.rewards, right.rewards], left.alpha, "or")
    either = TabularTask(left.transitions, np.where(left.ends == 1, rewards, left.rewards), left.ends, gamma=gamma)
    exact = np.allclose(compose_tables(tables, left.alpha, "or"), either.optimal_q_values(), atol=1e-9)
    # With random dynamics or a discount it is not: the controls
    assert exact == (not stochastic and gamma == 1)
    if exact:
        # From the middle to either end, where the mean of both tasks wants neither
        policy = either.policy(either.optimal_q_values())
        assert policy[2] == pytest.approx([0.5, 0.5]) and policy[1, 0] > 0.9
