"""Composition of soft Q-functions of several tasks, without further training."""

import torch as th

from sb3_maxent.functional.shapes import check_shapes
from sb3_maxent.functional.values import soft_value_importance

MODES = ("and", "or")


def composed_q_values(q_values: th.Tensor, ent_coefs: th.Tensor, weights: th.Tensor, mode: str) -> th.Tensor:
    r"""
    Q-values of a composed task.

    .. math:: Q_{and}(s, a) = \alpha \sum_i w_i Q_i(s, a) / \alpha_i, \quad
        Q_{or}(s, a) = \alpha \log \sum_i w_i \exp(Q_i(s, a) / \alpha_i), \quad \alpha = \sum_i w_i \alpha_i

    If all temperatures are equal, ``"and"`` is the weighted mean. Its policy at the temperature :math:`\alpha` is
    :math:`\prod_i \pi_i^{w_i}`, divided by its integral. It is optimal for the mean of the rewards if the policies agree, see
    :func:`policy_conflict`. ``"or"`` is optimal for tasks with deterministic dynamics, no discount, and rewards that differ
    only in the last step.

    Papers: https://arxiv.org/abs/1803.06773 (and), https://arxiv.org/abs/1807.04439 (or)

    :param q_values: Q-values of each task, shape (parts, batch, samples)
    :param ent_coefs: Entropy coefficient of each task, shape (parts,)
    :param weights: Positive weights with the sum 1, shape (parts,)
    :param mode: ``"and"`` or ``"or"``
    :return: Q-values, shape (batch, samples)
    :raises ValueError: If a shape is wrong, or there is no such mode
    """
    check_shapes((q_values, "parts batch samples"), (ent_coefs, "parts"), (weights, "parts"))
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not one of {MODES}")
    nats, weights = q_values / ent_coefs.view(-1, 1, 1), weights.view(-1, 1, 1)  # (parts, batch, samples), (parts, 1, 1)
    composed = (weights * nats).sum(dim=0) if mode == "and" else th.logsumexp(weights.log() + nats, dim=0)
    return (weights.flatten() * ent_coefs).sum() * composed  # (batch, samples)


def policy_conflict(q_values: th.Tensor, log_proposal: th.Tensor, ent_coefs: th.Tensor, weights: th.Tensor) -> th.Tensor:
    r"""
    Disagreement of the policies of several tasks in a state, in nats. It is 0 if the policies are equal.

    .. math:: G(s) = -\log \int \prod_i \pi_i(a|s)^{w_i} \, da = \frac{1}{\alpha} \Big( \sum_i w_i V_i(s) - V_{and}(s) \Big)

    The second form is for equal temperatures. With two equal weights the conflict is half of the Renyi divergence of order 1/2
    (the bound in the paper has the whole divergence). It bounds the loss of the composition ``"and"``. With the fixed points

    .. math:: C(s, a) = \gamma E_{s'} \big[ \alpha G(s') + \max_{a'} C(s', a') \big], \quad
        D(s, a) = \gamma E_{s'} E_{a' \sim \pi} \big[ C(s', a') + D(s', a') \big]

    the optimal Q-function of the mean reward is between :math:`Q_{and} - C` and :math:`Q_{and}`, and the Q-function of the
    composed policy :math:`\pi` is at most D below the optimal one. So if :math:`G \leq g` in all states, the loss of Q is at
    most :math:`\alpha g \gamma^2 / (1 - \gamma)^2`, and that of the soft value :math:`\alpha g \gamma / (1 - \gamma)^2`.

    The integral is estimated by importance sampling. All tasks use the same samples, so the estimate is never negative.

    Paper: https://arxiv.org/abs/1803.06773 (lemma 1 and theorem 1)

    :param q_values: Q-values of each task, shape (parts, batch, samples)
    :param log_proposal: Log density of the actions under the distribution that they were drawn from, shape (batch, samples).
        If they are all actions of a discrete space, it is minus the logarithm of their number
    :param ent_coefs: Entropy coefficient of each task, shape (parts,)
    :param weights: Positive weights with the sum 1, shape (parts,)
    :return: Conflict, shape (batch, 1)
    :raises ValueError: If a shape is wrong
    """
    check_shapes((q_values, "parts batch samples"), (log_proposal, "batch samples"), (ent_coefs, "parts"), (weights, "parts"))
    nats, weights = q_values / ent_coefs.view(-1, 1, 1), weights.view(-1, 1, 1)  # (parts, batch, samples), (parts, 1, 1)
    # The logarithm of the integral of each exp(Q / alpha), and that of their product
    log_parts = th.stack([soft_value_importance(part, log_proposal, 1.0) for part in nats])  # (parts, batch, 1)
    log_product = soft_value_importance((weights * nats).sum(dim=0), log_proposal, 1.0)  # (batch, 1)
    return (weights * log_parts).sum(dim=0) - log_product  # (batch, 1), lemma 1
