"""Named errors."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm

ENVIRONMENT_HINT = (
    "The environment returned it (stable_baselines3.common.vec_env.VecCheckNan finds the action that led there). "
    "The networks and the replay buffer hold none of it"
)
Finite = TypeVar("Finite", np.ndarray, th.Tensor)
ACTION_HINT = "The networks or the action noise gave it: go on from the last checkpoint, or normalise the observations"
PARAMETER_HINT = (
    "Go on from the last checkpoint, with a smaller learning rate or max_grad_norm, or normalised rewards and observations"
)


class NonFiniteError(ValueError):
    """
    A reward, observation, action, Q-value, loss, gradient or parameter is NaN or infinite.

    A ``ValueError``, so that RL Zoo prunes the trial instead of ending the study.
    """


def check_finite(values: Mapping[str, Any], step: int, hint: str) -> None:
    """
    Stop at the first value that is NaN or infinite in float32, in which networks compute.

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
    Stop before something that is NaN or infinite chooses an action, or is one.

    :param values: Array or tensor
    :param name: Its name, for the message
    :return: The same
    :raises NonFiniteError: If a value is NaN or infinite; not while a network is compiled or exported
    """
    if not th.compiler.is_compiling() and not th.isfinite(th.as_tensor(values)).all():
        raise NonFiniteError(f"{name} is not finite: {values}. {ACTION_HINT}")
    return values


def check_parameters(model: BaseAlgorithm) -> None:
    """
    Stop if a parameter, or a moment of an optimizer, is NaN or infinite: with an infinite one Adam moves nothing any more.

    :param model: The model
    :raises NonFiniteError: If it is
    """
    for part, tensors in model.get_parameters().items():
        if "param_groups" in tensors:  # of an optimizer
            state = tensors["state"].items()
            tensors = {f"{part} {number} {key}": value for number, each in state for key, value in each.items()}
        for name, value in tensors.items():
            if isinstance(value, th.Tensor) and not th.isfinite(value).all():
                step = model.num_timesteps
                raise NonFiniteError(f"parameter {name} is not finite at environment step {step}: {PARAMETER_HINT}")
