"""Schedules from what a user or a YAML file gives."""

from typing import Any

from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule

from sb3_maxent.common.checks import LARGEST


def make_schedule(value: float | str | Schedule, name: str) -> FloatSchedule:
    """
    Turn a number, a schedule or an RL Zoo schedule string into a schedule.

    RL Zoo converts strings such as ``"lin_3e-4"`` for ``learning_rate`` only, so this does it for our own arguments.

    :param value: A number, a function of the remaining progress (from 1 to 0), ``"lin_x"``, linearly from x to zero, or
        ``"lin_x_y"``, linearly from x to y. A number in a string is accepted too: YAML reads ``3e-4`` as one.
    :param name: Name of the argument, for the message
    :return: The schedule
    :raises ValueError: If it is no schedule, or is a function that gives no number >= 0 at the start or at the end
    """
    linear = isinstance(value, str) and value.startswith("lin_")
    # An error that the function itself raises is not caught
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
    if linear:
        value = LinearSchedule(numbers[0], [*numbers, 0.0][1], 1.0)
    return FloatSchedule(value if callable(value) else numbers[0])
