"""Named errors."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm

ENVIRONMENT_HINT = (
    "The environment returned this value (stable_baselines3.common.vec_env.VecCheckNan finds the action that led to it). "
    "It is not in the replay buffer, and the networks have not learned from it"
)
Finite = TypeVar("Finite", np.ndarray, th.Tensor)
ACTION_HINT = (
    "The networks or the action noise returned this value, or the observation is not finite: continue from the last "
    "checkpoint, or normalise the observations"
)
PARAMETER_HINT = (
    "Continue from the last checkpoint, with a smaller learning_rate or max_grad_norm, or with normalised rewards and "
    "observations"
)


class NonFiniteError(ValueError):
    """
    A reward, observation, action, Q-value, loss, gradient or parameter is NaN or infinite.

    It is a ``ValueError``, because RL Zoo prunes the trial then and does not end the study.
    """


def check_finite(values: Mapping[str, Any], step: int, hint: str) -> None:
    """
    Stop at the first value that is NaN or infinite. Values are checked in float32, because networks compute in float32.

    :param values: Arrays, tensors or numbers by name, or dictionaries of these; ``None`` passes
    :param step: Environment steps taken so far, for the message
    :param hint: What to look at, for the message
    :raises NonFiniteError: If a value is NaN or infinite
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            check_finite({f"{name} {key}": part for key, part in value.items()}, step, hint)
            continue
        array = np.asarray(value)
        with np.errstate(over="ignore"):
            if array.dtype.kind == "f" and not np.isfinite(array.astype(np.float32, copy=False)).all():
                raise NonFiniteError(f"{name} is not finite at environment step {step}: {array}. {hint}")


def finite(values: Finite, name: str) -> Finite:
    """
    Stop if an action, or a value that chooses an action, is NaN or infinite.

    :param values: Array or tensor
    :param name: Its name, for the message
    :return: The same
    :raises NonFiniteError: If a value is NaN or infinite. While a network is compiled or exported nothing is checked
    """
    if not th.compiler.is_compiling() and not th.isfinite(th.as_tensor(values)).all():
        raise NonFiniteError(f"{name} is not finite: {values}. {ACTION_HINT}")
    return values


def check_parameters(model: BaseAlgorithm) -> None:
    """
    Stop if a parameter, or a moment of an optimizer, is NaN or infinite. With an infinite moment Adam no longer moves a
    parameter.

    :param model: The model
    :raises NonFiniteError: If it is
    """
    for part, tensors in model.get_parameters().items():
        if "param_groups" in tensors:  # this is the state of an optimizer
            state = tensors["state"].items()
            tensors = {f"{part} {number} {key}": value for number, each in state for key, value in each.items()}
        for name, value in tensors.items():
            if isinstance(value, th.Tensor) and not th.isfinite(value).all():
                step = model.num_timesteps
                raise NonFiniteError(f"parameter {name} is not finite at environment step {step}: {PARAMETER_HINT}")
