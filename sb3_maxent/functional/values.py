"""Soft values and the losses of the critic."""

import math
from collections.abc import Sequence

import torch as th
from torch.nn import functional as F

from sb3_maxent.functional.shapes import check_shapes


def expectation(values: th.Tensor, weights: th.Tensor | None = None) -> th.Tensor:
    r"""
    Expectation over the actions of each state. It is the mean over samples, or a sum with the given weights.

    .. math:: E[f] = \frac{1}{M} \sum_{j=1}^{M} f(a_j) \quad \mathrm{or} \quad \sum_j w_j f(a_j)

    Actions may be drawn from strata. These are parts of the distribution with known probabilities, such as the components of a
    mixture. Then the weight of an action is the probability of its stratum, divided by the number of actions in the stratum.

    :param values: Values of the actions, shape (batch, samples)
    :param weights: Weight of each action, for instance the probabilities of all actions, shape (batch, samples); or, for
        actions of strata, shape (batch, strata, samples): positive for an action of the stratum, zero for any other
    :return: Expectation, shape (batch, 1)
    :raises ValueError: If a shape is wrong
    """
    if weights is None:
        check_shapes((values, "batch samples"))
        return values.mean(dim=1, keepdim=True)  # (batch, 1)
    if weights.dim() == 3:
        check_shapes((values, "batch samples"), (weights, "batch strata samples"))
        weights = weights.sum(dim=1)  # (batch, samples)
    check_shapes((values, "batch samples"), (weights, "batch samples"))
    return (weights * values).sum(dim=1, keepdim=True)  # (batch, 1)


def soft_value(
    q_values: th.Tensor, log_prob: th.Tensor, ent_coef: th.Tensor | float, weights: th.Tensor | None = None
) -> th.Tensor:
    r"""
    Soft value of a policy. It is estimated from several sampled actions per state, or computed exactly from all actions.

    .. math:: V(s) = E_{a \sim \pi(.|s)} \left[ Q(s, a) - \alpha \log \pi(a | s) \right]

    Paper: https://arxiv.org/abs/1909.03198 (equation 15, the mean over M samples)

    :param q_values: Q-values of the sampled actions, shape (batch, samples)
    :param log_prob: Their log probabilities under the policy that sampled them, shape (batch, samples)
    :param ent_coef: Entropy coefficient :math:`\alpha`, a scalar
    :param weights: Weight of each action, see :func:`expectation`
    :return: Soft value, shape (batch, 1)
    :raises ValueError: If a shape is wrong
    """
    check_shapes((q_values, "batch samples"), (log_prob, "batch samples"))
    return expectation(q_values - ent_coef * log_prob, weights)  # (batch, 1), eq. 15


def soft_value_importance(q_values: th.Tensor, log_proposal: th.Tensor, ent_coef: th.Tensor | float) -> th.Tensor:
    r"""
    Importance-sampled estimate of the optimal soft value.

    .. math:: V(s) = \alpha \log \int \exp(Q(s, a) / \alpha) \, da
        \approx \alpha \log \frac{1}{K} \sum_{k=1}^{K} \frac{\exp(Q(s, a_k) / \alpha)}{q(a_k)}, \quad a_k \sim q

    The estimate of :math:`\exp(V / \alpha)` is unbiased for any density q that covers the box. So V itself is biased
    downwards. The bias grows as q differs more from :math:`\exp(Q / \alpha)`. If the samples are all K ``Discrete`` actions
    once and
    :math:`q = 1 / K`, it is the exact sum of equation 5, :math:`V(s) = \alpha \log \sum_a \exp(Q(s, a) / \alpha)`.

    Paper: https://arxiv.org/abs/1702.08165 (equations 5 and 10)

    :param q_values: Q-values of the sampled actions, shape (batch, samples)
    :param log_proposal: Log density of the actions under the distribution that they were drawn from, shape (batch, samples)
    :param ent_coef: Entropy coefficient :math:`\alpha`, a positive scalar
    :return: Soft value, shape (batch, 1)
    :raises ValueError: If a shape is wrong
    """
    check_shapes((q_values, "batch samples"), (log_proposal, "batch samples"))
    log_weights = q_values / ent_coef - log_proposal  # (batch, samples)
    return ent_coef * (th.logsumexp(log_weights, dim=1, keepdim=True) - math.log(q_values.shape[1]))  # (batch, 1), eq. 10


def td_target(rewards: th.Tensor, dones: th.Tensor, next_value: th.Tensor, discounts: th.Tensor | float) -> th.Tensor:
    r"""
    One-step target of the critic. With n-step rewards and discounts it is the n-step target.

    .. math:: y = r + (1 - d) \gamma V(s')

    Paper: https://arxiv.org/abs/1909.03198 (equation 15)

    :param rewards: Rewards, shape (batch, 1)
    :param dones: 1 if the episode has terminated (a time limit does not count), otherwise 0, shape (batch, 1)
    :param next_value: Value of the next state, shape (batch, 1), or several values of its distribution, shape (batch, values)
    :param discounts: Discount of the next value, a scalar or shape (batch, 1)
    :return: Target, shape (batch, 1) or (batch, values)
    :raises ValueError: If a shape is wrong
    """
    check_shapes((rewards, "batch 1"), (dones, "batch 1"), (next_value, "batch values"))
    if isinstance(discounts, th.Tensor) and discounts.dim() > 0:
        check_shapes((rewards, "batch 1"), (discounts, "batch 1"))
    future = (1 - dones) * discounts * next_value  # (batch, values)
    # A terminal state has no value. It may be NaN, where a mask allows no action
    return rewards + th.where(dones < 1, future, 0.0)  # (batch, values), eq. 15


def critic_loss(q_values: Sequence[th.Tensor], target: th.Tensor) -> th.Tensor:
    r"""
    Squared Bellman error, summed over the critics and averaged over the batch.

    .. math:: L = \sum_i \frac{1}{2N} \sum_{n=1}^{N} \left( Q_i(s_n, a_n) - y_n \right)^2

    Paper: https://arxiv.org/abs/1909.03198 (equation 16; the factor 1/2 is that of SB3's SAC)

    :param q_values: One tensor per critic, each of shape (batch, 1)
    :param target: Target, without gradient, shape (batch, 1)
    :return: Loss, a scalar
    :raises ValueError: If a shape is wrong
    """
    check_shapes((target, "batch 1"), *[(values, "batch 1") for values in q_values])
    return 0.5 * th.stack([F.mse_loss(values, target) for values in q_values]).sum()  # (), eq. 16
