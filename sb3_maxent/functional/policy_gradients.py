"""Score-function policy gradients and the loss of the entropy coefficient."""

import torch as th

from sb3_maxent.functional.shapes import check_shapes
from sb3_maxent.functional.values import expectation

BASELINES = ("none", "loo")


def score_function_weights(
    q_values: th.Tensor,
    log_prob: th.Tensor,
    ent_coef: th.Tensor | float,
    baseline: str = "loo",
    weights: th.Tensor | None = None,
) -> th.Tensor:
    r"""
    Multipliers of the score :math:`\nabla \log \pi(a_j|s)`. The mean of multiplier times score is the gradient of the soft
    value.

    Let :math:`f_j = Q(s, a_j) - \alpha \log \pi(a_j|s)`. ``"none"`` is the published estimator :math:`f_j - \alpha`. Its
    constant is the derivative of :math:`\alpha \log \pi`, and its expected effect is zero. ``"loo"`` subtracts from
    :math:`f_j` the mean of the *other* samples. Both are unbiased. With the mean over all samples the gradient would be
    biased: multiplied by :math:`1 - 1/M`. Without a baseline the variance grows with the square of the mean Q-value. With
    ``"loo"`` the variance does not depend on the mean Q-value. In an exact sum over all actions ``"loo"`` subtracts the
    expectation, which changes the gradient by rounding only.

    With strata ``"loo"`` subtracts the expectation over all strata. The mean of a sample's own stratum leaves out this sample.
    So all baselines have the same mean, and the gradient is unbiased. (A baseline from the own stratum alone would be biased,
    because the mean of :math:`\nabla \log \pi` within a component of a mixture is not zero.)

    Papers: https://arxiv.org/abs/1909.03198 (equation 17), leave-one-out: https://openreview.net/forum?id=r1lgTGL5DE

    :param q_values: Q-values of the sampled actions, shape (batch, samples)
    :param log_prob: Their log probabilities, shape (batch, samples)
    :param ent_coef: Entropy coefficient :math:`\alpha`, a scalar
    :param baseline: ``"none"`` or ``"loo"``
    :param weights: Probabilities of all actions, shape (batch, samples), if the expectation is an exact sum; or weights in
        strata of at least two samples, shape (batch, strata, samples), see :func:`~sb3_maxent.functional.expectation`
    :return: Multipliers without gradient, shape (batch, samples)
    :raises ValueError: If a shape or the baseline is wrong, or for ``"loo"`` with a single sample
    """
    check_shapes((q_values, "batch samples"), (log_prob, "batch samples"))
    values = (q_values - ent_coef * log_prob).detach()  # (batch, samples)
    if baseline == "none":
        return values - ent_coef  # eq. 17
    if baseline != "loo":
        raise ValueError(f"Unknown baseline {baseline!r}, expected one of {BASELINES}")
    if weights is not None:
        centred = values - expectation(values, weights)  # (batch, samples)
        return centred if weights.dim() == 2 else centred + _left_out(values, weights)
    n_samples = values.shape[1]
    if n_samples < 2:
        raise ValueError("The leave-one-out baseline needs at least two action samples per state, got 1")
    # f_j minus the mean of the others is M / (M - 1) times f_j minus the mean of all
    return (values - values.mean(dim=1, keepdim=True)) * (n_samples / (n_samples - 1))  # (batch, samples)


def _left_out(values: th.Tensor, weights: th.Tensor) -> th.Tensor:
    """
    Correction of the baseline that leaves each sample out of the mean of its stratum.

    :param values: Values of the actions, shape (batch, samples)
    :param weights: Weights in strata, shape (batch, strata, samples)
    :return: Difference, shape (batch, samples)
    """
    counts = (weights > 0).sum(dim=2, keepdim=True)  # (batch, strata, 1)
    values = values.unsqueeze(1)  # (batch, 1, samples)
    means = (weights * values).sum(dim=2, keepdim=True) / weights.sum(dim=2, keepdim=True)  # (batch, strata, 1)
    return (weights * counts / (counts - 1) * (values - means)).sum(dim=1)  # (batch, samples)


def score_function_loss(
    log_prob: th.Tensor,
    q_values: th.Tensor,
    ent_coef: th.Tensor | float,
    baseline: str = "loo",
    weights: th.Tensor | None = None,
) -> th.Tensor:
    r"""
    Surrogate loss. Its gradient is minus the likelihood-ratio (score-function) estimate of the soft policy gradient.

    .. math:: \nabla L = -\frac{1}{NM} \sum_{n,j} w_{nj} \nabla \log \pi(a_{nj} | s_n)

    The actions must be samples *without* gradient. A reparametrised sample would add its pathwise gradient to the score.

    Paper: https://arxiv.org/abs/1909.03198 (equation 17)

    :param log_prob: Log probabilities of fixed actions, differentiable in the policy parameters, shape (batch, samples)
    :param q_values: Q-values of these actions, shape (batch, samples)
    :param ent_coef: Entropy coefficient :math:`\alpha`, a scalar
    :param baseline: ``"none"`` or ``"loo"``, see :func:`score_function_weights`
    :param weights: Weights without gradient, see :func:`score_function_weights`. With the probabilities of all actions the
        gradient is exact
    :return: Loss, a scalar. Only its gradient has a meaning.
    :raises ValueError: If a shape or the baseline is wrong, or for ``"loo"`` with a single sample
    """
    multipliers = score_function_weights(q_values, log_prob, ent_coef, baseline, weights)  # (batch, samples)
    return -expectation(multipliers * log_prob, weights).mean()  # (), eq. 17


def ent_coef_loss(log_ent_coef: th.Tensor, log_prob: th.Tensor, target_entropy: float) -> th.Tensor:
    r"""
    Loss of the logarithm of the entropy coefficient, which rises while the entropy is below its target.

    .. math:: L = -\log \alpha \cdot \left( \overline{\log \pi} + \bar{H} \right)

    Paper: https://arxiv.org/abs/1812.05905 (equation 18, in :math:`\log \alpha` as in SB3's SAC)

    :param log_ent_coef: :math:`\log \alpha`, shape (1,)
    :param log_prob: Log probabilities of sampled actions, shape (batch, samples)
    :param target_entropy: Target entropy :math:`\bar{H}` in nats
    :return: Loss, a scalar
    :raises ValueError: If a shape is wrong
    """
    check_shapes((log_ent_coef, "1"), (log_prob, "batch samples"))
    return -(log_ent_coef * (log_prob.detach().mean() + target_entropy)).sum()  # (), eq. 18
