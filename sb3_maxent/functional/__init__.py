"""
The equations as pure functions from tensors to tensors. They use no modules, draw no random numbers and log nothing.

The batch is the first dimension, and the samples are the second. These names of dimensions are used in docstrings and in
:func:`check_shapes`:

- ``batch``: states of a minibatch
- ``samples``: actions sampled per state
- ``fixed``, ``updated``: particles per state
- ``action``: components of one flattened action
- ``actions``: all actions of a ``Discrete`` space
- ``parts``: tasks whose Q-functions are composed
"""

from sb3_maxent.functional.composition import composed_q_values, policy_conflict
from sb3_maxent.functional.policy_gradients import ent_coef_loss, score_function_loss, score_function_weights
from sb3_maxent.functional.proposals import mixture_proposal, uniform_proposal
from sb3_maxent.functional.shapes import check_shapes
from sb3_maxent.functional.stein import (
    kernel_density,
    lower_median,
    median_bandwidth,
    mixed_space_score,
    pre_tanh_score,
    rbf_kernel,
    stein_variational_gradient,
)
from sb3_maxent.functional.values import critic_loss, expectation, soft_value, soft_value_importance, td_target

__all__ = [
    "check_shapes",
    "composed_q_values",
    "critic_loss",
    "ent_coef_loss",
    "expectation",
    "kernel_density",
    "lower_median",
    "median_bandwidth",
    "mixed_space_score",
    "mixture_proposal",
    "policy_conflict",
    "pre_tanh_score",
    "rbf_kernel",
    "score_function_loss",
    "score_function_weights",
    "soft_value",
    "soft_value_importance",
    "stein_variational_gradient",
    "td_target",
    "uniform_proposal",
]
