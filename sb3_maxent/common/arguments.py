"""Values from what a user or a YAML file gives, or a clear error."""

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule

# Where the logarithm of a learned entropy coefficient stays: a target entropy out of reach would drive it on for ever, until
# the Q-values are not finite
LOG_ENT_COEF_BOUNDS = (-20.0, 10.0)
# Of the numbers that networks compute with
LARGEST, SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)


def make_schedule(value: float | str | Schedule, name: str) -> Schedule:
    """
    Turn a number, a schedule or an RL Zoo schedule string into a schedule.

    RL Zoo converts strings such as ``"lin_3e-4"`` for ``learning_rate`` only, so this does it for our own arguments.

    :param value: A number, a function of the remaining progress (from 1 to 0), ``"lin_x"``, linearly from x to zero, or
        ``"lin_x_y"``, linearly from x to y. A number in a string is accepted too: YAML reads ``3e-4`` as one.
    :param name: Name of the argument, for the message
    :return: The schedule
    :raises ValueError: If it has no meaning as a schedule, or is a function without one at the start or at the end
    """
    linear = isinstance(value, str) and value.startswith("lin_")
    # Errors of a function itself are its author's
    texts: list[Any] = [value(1.0), value(0.0)] if callable(value) else str(value).removeprefix("lin_").split("_")
    try:
        numbers = [float(text) for text in texts]
    except (TypeError, ValueError):
        numbers = []
    n_numbers = 2 if linear or callable(value) else 1
    if not 1 <= len(numbers) <= n_numbers or not all(0.0 <= number <= LARGEST for number in numbers):
        raise ValueError(
            f"{name}={value!r} is not a schedule: give a number >= 0, a function of the remaining progress, 'lin_x' "
            "or 'lin_x_y'"
        )
    if callable(value):
        return FloatSchedule(value)
    if linear:
        return FloatSchedule(LinearSchedule(numbers[0], numbers[1] if len(numbers) == 2 else 0.0, 1.0))
    return FloatSchedule(numbers[0])


def check_flag(value: object, name: str) -> None:
    """
    Check that an argument is a truth value: the string ``"False"`` of a command line would be true.

    :param value: Value to check
    :param name: Name of the argument
    :raises ValueError: If it is not a ``bool``
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}={value!r}: give True or False")


def is_count(value: object, minimum: int = 1) -> bool:
    """
    Whether a value is an integer, and large enough.

    :param value: The value
    :param minimum: Smallest number to accept
    :return: Whether it is
    """
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= minimum)


def check_count(value: int, name: str, minimum: int = 1) -> None:
    """
    Accept a positive integer, or one from another number on.

    :param value: The value
    :param name: Name of the argument, for the message
    :param minimum: Smallest number to accept
    :raises ValueError: If it is something else
    """
    if not is_count(value, minimum):
        raise ValueError(f"{name}={value!r}: give an integer >= {minimum}")


def check_number(value: float, name: str, low: float = 0.0, high: float = LARGEST) -> None:
    """
    Accept a number in a range.

    :param value: The value
    :param name: Name of the argument, for the message
    :param low: Smallest number to accept
    :param high: Largest number to accept
    :raises ValueError: If it is something else
    """
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        raise ValueError(f"{name}={value!r}: give a finite number from {low:g} to {high:g}")


def check_max_grad_norm(max_grad_norm: float | None) -> None:
    """
    Accept a positive number or ``None``.

    :param max_grad_norm: The value
    :raises ValueError: If it is something else
    """
    if max_grad_norm is not None and not (isinstance(max_grad_norm, (int, float, np.number)) and max_grad_norm > 0):
        raise ValueError(f"max_grad_norm={max_grad_norm!r}: give a positive number, or None not to clip")


def parse_ent_coef(ent_coef: float | str | Schedule) -> tuple[bool, Schedule]:
    """
    Read an entropy coefficient.

    :param ent_coef: A number or a schedule, ``"auto"``, or ``"auto_x"`` with the initial value x
    :return: Whether it is learned, and its schedule, or a constant one of its initial value
    :raises ValueError: If it is none of these, or if the initial value is not one that it may learn
    """
    value, learned = ent_coef, False
    if isinstance(ent_coef, str) and ent_coef.startswith("auto"):
        value, learned = "1" if ent_coef == "auto" else ent_coef.removeprefix("auto_"), True
    try:
        schedule = make_schedule(value, "ent_coef")
    except ValueError:
        schedule = None
    # A learned coefficient cannot follow a schedule
    if schedule is None or (learned and (schedule(1.0) < SMALLEST or "lin_" in str(ent_coef))):
        raise ValueError(
            f"ent_coef={ent_coef!r}: give a number >= 0, a schedule, 'auto', or 'auto_x' with an initial value x > 0"
        )
    lowest, highest = (math.exp(bound) for bound in LOG_ENT_COEF_BOUNDS)
    if learned and not lowest <= schedule(1.0) <= highest:
        raise ValueError(f"ent_coef={ent_coef!r}: a learned one stays between {lowest:.2g} and {highest:.2g}")
    return learned, schedule


def parse_target_entropy(target_entropy: float | str, action_space: spaces.Space) -> float:
    """
    Read a target entropy.

    :param target_entropy: A number of nats, or ``"auto"`` for minus the number of action components
    :param action_space: Action space
    :return: Target entropy in nats
    :raises ValueError: If it is neither, or not finite
    """
    if target_entropy == "auto":
        return -float(get_action_dim(action_space))
    try:
        nats = float(target_entropy)
    except (OverflowError, TypeError, ValueError):
        nats = float("nan")
    if not math.isfinite(nats):
        raise ValueError(f"target_entropy={target_entropy!r}: give a finite number of nats, or 'auto'")
    return nats
