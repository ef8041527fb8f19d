"""
The equations: pure functions from tensors to tensors, without modules, random numbers or logging.

Batch first, samples second. The dimensions named in docstrings and in :func:`check_shapes` are

- ``batch``: states of a minibatch
- ``samples``: actions sampled per state
- ``action``: components of one flattened action
"""

from sb3_maxent.functional.policy_gradients import ent_coef_loss, score_function_loss, score_function_weights
from sb3_maxent.functional.shapes import check_shapes
from sb3_maxent.functional.values import critic_loss, soft_value, td_target

__all__ = [
    "check_shapes",
    "critic_loss",
    "ent_coef_loss",
    "score_function_loss",
    "score_function_weights",
    "soft_value",
    "td_target",
]
