"""Stein variational gradient descent moves particles towards a density whose score is known."""

import math

import numpy as np
import torch as th

from sb3_maxent.functional.shapes import check_shapes

# Keeps the bandwidth positive if all particles coincide
MIN_BANDWIDTH = 1e-3


def lower_median(values: th.Tensor) -> th.Tensor:
    """
    Median of each row. For an even number of values it is the lower of the two in the middle.

    :param values: Values, shape (rows, columns)
    :return: Medians, shape (rows,)
    :raises ValueError: If the shape is wrong
    """
    check_shapes((values, "rows columns"))
    middle = (values.shape[1] - 1) // 2
    if th.compiler.is_exporting():
        return values.sort(dim=1).values[:, middle]  # ONNX has no median
    if th.compiler.is_compiling() or values.requires_grad or values.device.type != "cpu" or values.dtype is th.bfloat16:
        return values.median(dim=1).values
    # NumPy's selection is vectorised, and four to ten times as fast. NumPy sorts NaN last, but PyTorch returns NaN as the
    # median
    medians = np.partition(values.numpy(), middle, axis=1)[:, middle]
    return th.from_numpy(np.where(np.isnan(values.numpy()).any(axis=1), np.nan, medians).astype(medians.dtype))


def median_bandwidth(squared_distances: th.Tensor) -> th.Tensor:
    r"""
    Bandwidth of each state by the median heuristic, :math:`h = \mathrm{med}_{ij} \|x_i - y_j\|^2 / \log K`.

    With this bandwidth :math:`\sum_i \kappa(x_i, y) \approx K \exp(-\log K) = 1`. So each particle has about the weight of all
    others together. The median of an even number of distances is the lower one.

    Paper: https://arxiv.org/abs/1608.04471 (section 5)

    :param squared_distances: Squared distances between K fixed and M updated particles, shape (batch, fixed, updated)
    :return: Bandwidth, at least 1e-3, shape (batch, 1, 1)
    :raises ValueError: If the shape is wrong, or if there are fewer than two fixed particles (the logarithm of one is zero)
    """
    check_shapes((squared_distances, "batch fixed updated"))
    n_fixed = squared_distances.shape[1]
    if n_fixed < 2:
        raise ValueError(f"The median bandwidth needs at least two fixed particles, got {n_fixed}")
    median = lower_median(squared_distances.flatten(1))  # (batch,)
    return (median / math.log(n_fixed)).clamp(min=MIN_BANDWIDTH)[:, None, None]  # (batch, 1, 1)


def rbf_kernel(fixed: th.Tensor, updated: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    r"""
    Gaussian kernel :math:`\kappa(x, y) = \exp(-\|x - y\|^2 / h)` with the median bandwidth of each state.

    Paper: https://arxiv.org/abs/1702.08165 (appendix C.1, D.1)

    :param fixed: Particles that carry the score, shape (batch, fixed, action)
    :param updated: Other particles, or the same, shape (batch, updated, action)
    :return: Kernel values, shape (batch, fixed, updated), and bandwidth, shape (batch, 1, 1)
    :raises ValueError: If a shape is wrong or there are fewer than two fixed particles
    """
    check_shapes((fixed, "batch fixed action"), (updated, "batch updated action"))
    # Inner products need no tensor of fixed x updated x action. Rounding can make a distance of zero negative, hence the clamp
    squared_norms = fixed.square().sum(dim=-1).unsqueeze(2) + updated.square().sum(dim=-1).unsqueeze(1)
    squared_distances = (squared_norms - 2 * fixed @ updated.mT).clamp(min=0)  # (batch, fixed, updated)
    bandwidth = median_bandwidth(squared_distances)  # (batch, 1, 1)
    return th.exp(-squared_distances / bandwidth), bandwidth


def kernel_density(particles: th.Tensor) -> th.Tensor:
    """
    Density of the particles at each of them, up to a constant of the state: the sum of the kernels of all particles.

    :param particles: Particles, shape (batch, fixed, action)
    :return: Shape (batch, fixed)
    :raises ValueError: If the shape is wrong or there are fewer than two particles
    """
    check_shapes((particles, "batch fixed action"))
    centred = particles - particles.mean(dim=1, keepdim=True)  # (batch, fixed, action), for precise inner products
    values, _ = rbf_kernel(centred, centred)  # (batch, fixed, fixed)
    return values.sum(dim=1)  # (batch, fixed)


def stein_variational_gradient(score: th.Tensor, fixed: th.Tensor, updated: th.Tensor) -> th.Tensor:
    r"""
    Direction in which the updated particles approach the target density.

    .. math:: \Delta_j = \frac{1}{K} \sum_{i=1}^{K} \left[ \kappa(x_i, y_j) \nabla_{x_i} \log p(x_i)
        + \nabla_{x_i} \kappa(x_i, y_j) \right],
        \quad \nabla_{x_i} \kappa(x_i, y_j) = \frac{2}{h} (y_j - x_i) \, \kappa(x_i, y_j)

    The first term moves particles towards high density, and the second moves them apart.

    Paper: https://arxiv.org/abs/1702.08165 (equation 13)

    :param score: Gradient of the log density at the fixed particles, shape (batch, fixed, action)
    :param fixed: Particles that carry the score, shape (batch, fixed, action)
    :param updated: Particles to be moved, disjoint from the fixed ones, shape (batch, updated, action)
    :return: Direction, shape (batch, updated, action)
    :raises ValueError: If a shape is wrong or there are fewer than two fixed particles
    """
    check_shapes((score, "batch fixed action"), (fixed, "batch fixed action"), (updated, "batch updated action"))
    # The direction does not depend on the origin. Subtracting the mean keeps the inner products precise
    mean = fixed.mean(dim=1, keepdim=True)  # (batch, 1, action)
    fixed, updated = fixed - mean, updated - mean
    values, bandwidth = rbf_kernel(fixed, updated)  # (batch, fixed, updated), (batch, 1, 1)
    attraction = values.mT @ score  # (batch, updated, action)
    weights = values.sum(dim=1).unsqueeze(2)  # (batch, updated, 1)
    repulsion = 2 / bandwidth * (weights * updated - values.mT @ fixed)  # (batch, updated, action)
    return (attraction + repulsion) / score.shape[1]  # (batch, updated, action), eq. 13


def pre_tanh_score(actions: th.Tensor, q_gradient: th.Tensor, ent_coef: th.Tensor | float) -> th.Tensor:
    r"""
    Score of the variable :math:`u` if its squashed value :math:`a = \tanh u` has the density :math:`\exp(Q(s, a) / \alpha)`.

    .. math:: \nabla_u \left[ Q(s, \tanh u) / \alpha + \sum_k \log(1 - \tanh^2 u_k) \right]
        = (1 - a^2) \nabla_a Q / \alpha - 2 a

    :param actions: Actions, shape (batch, fixed, action)
    :param q_gradient: Gradient of the Q-function in the action, shape (batch, fixed, action)
    :param ent_coef: Entropy coefficient :math:`\alpha`, a positive scalar
    :return: Score in the space before the squash, shape (batch, fixed, action)
    :raises ValueError: If a shape is wrong
    """
    check_shapes((actions, "batch fixed action"), (q_gradient, "batch fixed action"))
    return (1 - actions.square()) * q_gradient / ent_coef - 2 * actions  # (batch, fixed, action)


def mixed_space_score(actions: th.Tensor, q_gradient: th.Tensor, ent_coef: th.Tensor | float) -> th.Tensor:
    r"""
    Score of the reference implementations. They add the correction for the space before the squash, but differentiate it with
    respect to the action.

    Their kernel and particles are in action space. So the fixed point is :math:`\exp(Q / \alpha) \prod_k (1 - a_k^2)`, which
    is not the Boltzmann density. This function reproduces their results, and it is the control in tests.

    Code: https://github.com/haarnoja/softqlearning

    :param actions: Actions, shape (batch, fixed, action)
    :param q_gradient: Gradient of the Q-function in the action, shape (batch, fixed, action)
    :param ent_coef: Entropy coefficient :math:`\alpha`, a positive scalar
    :return: Score in action space, shape (batch, fixed, action)
    :raises ValueError: If a shape is wrong
    """
    check_shapes((actions, "batch fixed action"), (q_gradient, "batch fixed action"))
    return q_gradient / ent_coef - 2 * actions / (1 - actions.square() + 1e-6)  # (batch, fixed, action)
