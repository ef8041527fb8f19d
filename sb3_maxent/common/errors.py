"""Named errors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th


class NonFiniteError(ValueError):
    """
    A reward, observation, loss or gradient is NaN or infinite.

    A ``ValueError``, so that RL Zoo prunes the trial instead of ending the study.
    """


def check_finite(values: Mapping[str, np.ndarray | th.Tensor | float], step: int, hint: str) -> None:
    """
    Stop at the first value that is NaN or infinite.

    :param values: Values by name
    :param step: Environment steps taken so far, for the message
    :param hint: What to look at, for the message
    :raises NonFiniteError: If a value is NaN or infinite
    """
    for name, value in values.items():
        array = np.asarray(value)
        # Neither None nor integers can be non-finite
        if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
            raise NonFiniteError(f"{name} is not finite at environment step {step}: {array}. {hint}")


def check_observation(obs: np.ndarray | Mapping[str, np.ndarray] | tuple | None, step: int, hint: str) -> None:
    """
    Stop at an observation that is NaN or infinite.

    :param obs: Observations of all environments; ``None`` passes
    :param step: Environment steps taken so far, for the message
    :param hint: What to look at, for the message
    :raises NonFiniteError: If a value is NaN or infinite
    """
    named: Mapping[str, Any] = obs if isinstance(obs, Mapping) else {"": obs}
    check_finite({f"observation {key}".strip(): value for key, value in named.items()}, step, hint)
