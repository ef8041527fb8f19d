"""Soft values and the losses of the critic."""

import math
from collections.abc import Sequence

import torch as th
from torch.nn import functional as F

from sb3_maxent.functional.shapes import check_shapes


def soft_value(q_values: th.Tensor, log_prob: th.Tensor, ent_coef: th.Tensor | float) -> th.Tensor:
    r"""
    Monte-Carlo estimate of the soft value of a policy from several of its actions per state.

    .. math:: V(s) = \frac{1}{M} \sum_{j=1}^{M} \left[ Q(s, a_j) - \alpha \log \pi(a_j | s) \right], \quad a_j \sim \pi(.|s)

    Paper: https://arxiv.org/abs/1909.03198 (equation 15)

    :param q_values: Q-values of the sampled actions, shape (batch, samples)
    :param log_prob: Their log probabilities under the policy that sampled them, shape (batch, samples)
    :param ent_coef: Entropy coefficient :math:`\alpha`, a scalar
    :return: Soft value, shape (batch, 1)
    :raises ValueError: If a shape is wrong
    """
    check_shapes((q_values, "batch samples"), (log_prob, "batch samples"))
    return (q_values - ent_coef * log_prob).mean(dim=1, keepdim=True)  # (batch, 1), eq. 15


def soft_value_importance(q_values: th.Tensor, log_proposal: th.Tensor, ent_coef: th.Tensor | float) -> th.Tensor:
    r"""
    Importance-sampled estimate of the optimal soft value.

    .. math:: V(s) = \alpha \log \int \exp(Q(s, a) / \alpha) \, da
        \approx \alpha \log \frac{1}{K} \sum_{k=1}^{K} \frac{\exp(Q(s, a_k) / \alpha)}{q(a_k)}, \quad a_k \sim q

    :math:`\exp(V / \alpha)` is unbiased for any density q that covers the box, so V itself is biased downwards, the more
    the further q is from :math:`\exp(Q / \alpha)`.

    Paper: https://arxiv.org/abs/1702.08165 (equation 10)

    :param q_values: Q-values of the sampled actions, shape (batch, samples)
    :param log_proposal: Log density of these actions under the density they were drawn from, shape (batch, samples)
    :param ent_coef: Entropy coefficient :math:`\alpha`, a positive scalar
    :return: Soft value, shape (batch, 1)
    :raises ValueError: If a shape is wrong
    """
    check_shapes((q_values, "batch samples"), (log_proposal, "batch samples"))
    log_weights = q_values / ent_coef - log_proposal  # (batch, samples)
    return ent_coef * (th.logsumexp(log_weights, dim=1, keepdim=True) - math.log(q_values.shape[1]))  # (batch, 1), eq. 10


def soft_value_discrete(q_values: th.Tensor, ent_coef: th.Tensor | float) -> th.Tensor:
    r"""
    Optimal soft value over a finite number of actions, exactly.

    .. math:: V(s) = \alpha \log \sum_a \exp(Q(s, a) / \alpha)

    Paper: https://arxiv.org/abs/1702.08165 (equation 5, with a sum for the integral)

    :param q_values: Q-values of all actions, shape (batch, actions)
    :param ent_coef: Entropy coefficient :math:`\alpha`, a positive scalar
    :return: Soft value, shape (batch, 1)
    :raises ValueError: If the shape is wrong
    """
    check_shapes((q_values, "batch actions"))
    return ent_coef * th.logsumexp(q_values / ent_coef, dim=1, keepdim=True)  # (batch, 1), eq. 5


def td_target(rewards: th.Tensor, dones: th.Tensor, next_value: th.Tensor, discounts: th.Tensor | float) -> th.Tensor:
    r"""
    One-step (or, with the matching rewards and discounts, n-step) target of the critic.

    .. math:: y = r + (1 - d) \gamma V(s')

    Paper: https://arxiv.org/abs/1909.03198 (equation 15)

    :param rewards: Rewards, shape (batch, 1)
    :param dones: 1 where the episode ended for good (a time limit is not an end), shape (batch, 1)
    :param next_value: Value of the next state, shape (batch, 1)
    :param discounts: Discount of the next value, a scalar or shape (batch, 1)
    :return: Target, shape (batch, 1)
    :raises ValueError: If a shape is wrong
    """
    check_shapes((rewards, "batch 1"), (dones, "batch 1"), (next_value, "batch 1"))
    if isinstance(discounts, th.Tensor) and discounts.dim() > 0:
        check_shapes((rewards, "batch 1"), (discounts, "batch 1"))
    return rewards + (1 - dones) * discounts * next_value  # (batch, 1), eq. 15


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
