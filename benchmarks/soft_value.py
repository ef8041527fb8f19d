"""
Bias of the importance-sampled soft value against the dimension of the action, for both proposals.

    python benchmarks/soft_value.py > benchmarks/results/soft_value.csv

One state, ``Q(a) / alpha = -|a - b|^2 / (2 w^2)`` on the box, whose soft value is known. The mixture's centres are exact
samples of exp(Q / alpha), or such samples moved by half a width in every component (a sampling network that lags behind).
"""

import csv
import math
import sys

import torch as th

from sb3_maxent.functional import mixture_proposal, soft_value_importance, uniform_proposal

N_STATES = 4000
CENTRE = 0.3
WIDTHS = (0.2, 0.5)
DIMENSIONS = (1, 2, 3, 6, 8, 17)
N_SAMPLES = (16, 32, 64)


def exact_value(action_dim: int, width: float) -> float:
    """
    The soft value at temperature 1.

    :param action_dim: Number of action components
    :param width: Width of the bump
    :return: The logarithm of the integral of exp(Q) over the box
    """
    lower, upper = ((bound - CENTRE) / (width * math.sqrt(2)) for bound in (-1, 1))
    return action_dim * math.log(width * math.sqrt(math.pi / 2) * (math.erf(upper) - math.erf(lower)))


def errors(proposal: str, action_dim: int, width: float, n_samples: int) -> th.Tensor:
    """
    Errors of the estimated soft value.

    :param proposal: ``"uniform"``, ``"mixture"`` or ``"mixture, moved"``
    :param action_dim: Number of action components
    :param width: Width of the bump
    :param n_samples: Number of evaluations per state, and of centres
    :return: Estimate minus exact value, shape (states,)
    """
    shape = N_STATES, n_samples, action_dim
    if proposal == "uniform":
        actions, log_density = uniform_proposal(th.rand(shape))
    else:
        mean = CENTRE + (0.5 * width if "moved" in proposal else 0.0)
        # Exact samples: the inverse of the distribution function between the bounds
        low, high = (th.special.ndtr(th.tensor((bound - mean) / width)) for bound in (-1, 1))
        centres = mean + width * th.special.ndtri(low + th.rand(shape) * (high - low))
        actions, log_density = mixture_proposal(centres.clamp(-1, 1), th.rand(N_STATES, n_samples, 1 + action_dim))
    q_values = -(actions - CENTRE).square().sum(dim=-1) / (2 * width**2)
    return soft_value_importance(q_values, log_density, 1.0).squeeze(1) - exact_value(action_dim, width)


if __name__ == "__main__":
    th.manual_seed(0)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["proposal", "action_dim", "width", "n_samples", "bias", "std"])
    for width in WIDTHS:
        for action_dim in DIMENSIONS:
            for n_samples in N_SAMPLES:
                for proposal in ("uniform", "mixture", "mixture, moved"):
                    error = errors(proposal, action_dim, width, n_samples)
                    row = [proposal, action_dim, width, n_samples, f"{error.mean():.3f}", f"{error.std():.3f}"]
                    writer.writerow(row)
