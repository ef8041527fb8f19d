"""Densities on the box [-1, 1]^d from which importance-sampled soft values draw their actions."""

import math

import torch as th

from sb3_maxent.functional.shapes import check_shapes

# Share of uniform samples in the mixture: bounds every importance weight by ten times that of uniform sampling
UNIFORM_SHARE = 0.1
# Particles that coincide must not make a component a point
MIN_STD = 0.02


def uniform_proposal(noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    Uniform actions.

    Paper: https://arxiv.org/abs/1702.08165 (equation 10 with a uniform q)

    :param noise: Uniform noise in [0, 1), shape (batch, samples, action)
    :return: Actions, shape (batch, samples, action), and their log density, shape (batch, samples)
    :raises ValueError: If the shape is wrong
    """
    check_shapes((noise, "batch samples action"))
    return 2 * noise - 1, noise.new_full(noise.shape[:2], -noise.shape[2] * math.log(2))


def mixture_proposal(centres: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    r"""
    Actions near given ones: a defensive mixture of a kernel density estimate and the uniform density.

    .. math:: q(a) = 0.1 \cdot 2^{-d} + \frac{0.9}{C} \sum_{c} \prod_k N(a_k; c_k, b_k^2)|_{[-1, 1]}

    with truncated normals of the bandwidth :math:`b_k` of Scott's rule (in Silverman's form). Importance sampling with it is
    unbiased for any centres that do not depend on the noise; with centres from the policy its variance is small in many
    dimensions, where uniform actions miss the mass of the integrand.

    Literature: Owen & Zhou 2000, Safe and Effective Importance Sampling (defensive mixtures)

    :param centres: Actions of the sampler, shape (batch, centres, action)
    :param noise: Uniform noise in [0, 1), whose first component chooses the component of the mixture,
        shape (batch, samples, 1 + action)
    :return: Actions, shape (batch, samples, action), and their log density, shape (batch, samples)
    :raises ValueError: If a shape is wrong
    """
    check_shapes((centres, "batch centres action"), (noise[..., 1:], "batch samples action"))
    n_centres, action_dim = centres.shape[1:]
    std = centres.std(dim=1, keepdim=True, correction=0).clamp(min=MIN_STD)  # (batch, 1, action)
    bandwidth = std * (4 / ((action_dim + 2) * n_centres)) ** (1 / (action_dim + 4))  # (batch, 1, action)
    lower, upper = (th.special.ndtr((bound - centres) / bandwidth) for bound in (-1, 1))  # (batch, centres, action)

    choice, uniform = noise[..., :1], noise[..., 1:]  # (batch, samples, 1), (batch, samples, action)
    component = ((choice - UNIFORM_SHARE) / (1 - UNIFORM_SHARE) * n_centres).long().clamp(0, n_centres - 1)
    index = component.expand(-1, -1, action_dim)  # (batch, samples, action)
    centre, low, high = (tensor.gather(1, index) for tensor in (centres, lower, upper))  # (batch, samples, action)
    # Inverse of the distribution function; the clamp meets only its rounding at the bounds
    near = (centre + bandwidth * th.special.ndtri(low + uniform * (high - low))).clamp(-1, 1)
    actions = th.where(choice < UNIFORM_SHARE, 2 * uniform - 1, near)  # (batch, samples, action)

    log_near = _log_kernel_density(actions, centres, bandwidth, upper - lower) + math.log(1 - UNIFORM_SHARE)
    log_uniform = th.full_like(log_near, math.log(UNIFORM_SHARE) - action_dim * math.log(2))
    return actions, th.logaddexp(log_near, log_uniform)


def _log_kernel_density(actions: th.Tensor, centres: th.Tensor, bandwidth: th.Tensor, mass: th.Tensor) -> th.Tensor:
    """
    Log of the mean density of normals around the centres, truncated to the box.

    :param actions: Actions, shape (batch, samples, action)
    :param centres: Centres, shape (batch, centres, action)
    :param bandwidth: Standard deviation, shape (batch, 1, action)
    :param mass: What each normal has inside the box, shape (batch, centres, action)
    :return: Log density, shape (batch, samples)
    """
    # Squared distances from inner products, around the mean for precision: no tensor of samples x centres x action
    mean = centres.mean(dim=1, keepdim=True)  # (batch, 1, action)
    scaled_actions, scaled_centres = (actions - mean) / bandwidth, (centres - mean) / bandwidth
    products = scaled_actions @ scaled_centres.mT  # (batch, samples, centres)
    log_scale = th.log(bandwidth * mass) + 0.5 * math.log(2 * math.pi)  # (batch, centres, action)
    centre_part = (0.5 * scaled_centres.square() + log_scale).sum(dim=-1).unsqueeze(1)  # (batch, 1, centres)
    log_density = products - centre_part - 0.5 * scaled_actions.square().sum(dim=-1, keepdim=True)
    return th.logsumexp(log_density, dim=2) - math.log(centres.shape[1])  # (batch, samples)
