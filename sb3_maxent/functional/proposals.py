"""Proposal densities on the box [-1, 1]^d, for the importance-sampled soft value."""

import math

import torch as th

from sb3_maxent.functional.shapes import check_shapes

# Share of uniform samples in the mixture. It bounds every importance weight by ten times the weight with uniform sampling
UNIFORM_SHARE = 0.1
# Keeps the bandwidth positive if all centres coincide
MIN_STD = 0.02
# Giles 2010: erfinv(x) / x as a function of w = -log(1 - x^2) is a polynomial in w - 2.5 for w < 5, and in sqrt(w) - 3
# otherwise
CENTRE = (
    *(2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 2.1858087e-4, -1.25372503e-3, -4.17768164e-3),
    *(0.246640727, 1.50140941),
)
TAIL = (
    *(-2.00214257e-4, 1.00950558e-4, 1.34934322e-3, -3.67342844e-3, 5.73950773e-3, -7.6224613e-3, 9.43887047e-3),
    *(1.00167406, 2.83297682),
)
# The polynomials end here, at 5.6 standard deviations
MAX_W = 17.0


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
    Draw actions near given ones, from a defensive mixture of a kernel density estimate and the uniform density.

    .. math:: q(a) = 0.1 \cdot 2^{-d} + \frac{0.9}{C} \sum_{c} \prod_k N(a_k; c_k, b_k^2)|_{[-1, 1]}

    The normals are truncated, and their bandwidth :math:`b_k` is that of Scott's rule (in Silverman's form). Importance
    sampling with this density is unbiased if the centres do not depend on the noise. With centres from the policy, the
    variance is small in many dimensions too. Uniform actions would rarely fall where the integrand is large.

    Literature: Owen & Zhou 2000, Safe and Effective Importance Sampling (defensive mixtures)

    :param centres: Actions of the sampler, shape (batch, centres, action)
    :param noise: Uniform noise in [0, 1), whose first component chooses the component of the mixture,
        shape (batch, samples, 1 + action)
    :return: Actions, shape (batch, samples, action), in single precision, and their log density, shape (batch, samples)
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
    # Inverse of the distribution function; the clamp meets its rounding at the bounds
    near = (centre + bandwidth * normal_quantile(low + uniform * (high - low))).clamp(-1, 1)
    actions = th.where(choice < UNIFORM_SHARE, 2 * uniform - 1, near)  # (batch, samples, action)

    log_near = _log_kernel_density(actions, centres, bandwidth, upper - lower) + math.log(1 - UNIFORM_SHARE)
    log_uniform = th.full_like(log_near, math.log(UNIFORM_SHARE) - action_dim * math.log(2))
    return actions, th.logaddexp(log_near, log_uniform)


def normal_quantile(probability: th.Tensor) -> th.Tensor:
    r"""
    Inverse of the standard normal distribution function to single precision, up to 5.6 standard deviations.

    It uses polynomials, which a processor evaluates for many numbers at once. ``th.special.ndtri`` computes one number at a
    time.

    Literature: Giles 2010, Approximating the erfinv function

    :param probability: Probabilities, of any shape
    :return: Quantiles, of the same shape
    """
    w = -th.log((4 * probability * (1 - probability)).clamp(min=math.exp(-MAX_W)))
    # The clamp keeps the gradient of the square root finite in the branch that is not chosen
    ratio = th.where(w < 5, _polynomial(w - 2.5, CENTRE), _polynomial(w.clamp(min=5).sqrt() - 3, TAIL))
    return math.sqrt(2) * (2 * probability - 1) * ratio


def _polynomial(x: th.Tensor, coefficients: tuple[float, ...]) -> th.Tensor:
    value = th.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def _log_kernel_density(actions: th.Tensor, centres: th.Tensor, bandwidth: th.Tensor, mass: th.Tensor) -> th.Tensor:
    """
    Log of the mean density of normals around the centres, truncated to the box.

    :param actions: Actions, shape (batch, samples, action)
    :param centres: Centres, shape (batch, centres, action)
    :param bandwidth: Standard deviation, shape (batch, 1, action)
    :param mass: Probability of each normal inside the box, shape (batch, centres, action)
    :return: Log density, shape (batch, samples)
    """
    # Squared distances from inner products need no tensor of samples x centres x action. Subtracting the mean keeps them
    # precise
    mean = centres.mean(dim=1, keepdim=True)  # (batch, 1, action)
    scaled_actions, scaled_centres = (actions - mean) / bandwidth, (centres - mean) / bandwidth
    products = scaled_actions @ scaled_centres.mT  # (batch, samples, centres)
    log_scale = th.log(bandwidth * mass) + 0.5 * math.log(2 * math.pi)  # (batch, centres, action)
    centre_part = (0.5 * scaled_centres.square() + log_scale).sum(dim=-1).unsqueeze(1)  # (batch, 1, centres)
    log_density = products - centre_part - 0.5 * scaled_actions.square().sum(dim=-1, keepdim=True)
    return th.logsumexp(log_density, dim=2) - math.log(centres.shape[1])  # (batch, samples)
