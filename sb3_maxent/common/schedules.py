"""Schedules from the values that a user or a YAML file gives."""

from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule


def make_schedule(value: float | str | Schedule, name: str) -> Schedule:
    """
    Turn a number, a schedule or an RL Zoo schedule string into a schedule.

    RL Zoo converts strings such as ``"lin_3e-4"`` for ``learning_rate`` only, so this does it for our own arguments.

    :param value: A number, a function of the remaining progress (from 1 to 0), or ``"lin_x"``:
        linearly from x to zero. A number in a string is accepted too: YAML reads ``3e-4`` as one.
    :param name: Name of the argument, for the message
    :return: The schedule
    :raises ValueError: If the string or the number has no meaning as a schedule
    """
    if callable(value):
        return FloatSchedule(value)
    try:
        number = float(value.removeprefix("lin_")) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0.0 <= number < float("inf"):
        raise ValueError(
            f"{name}={value!r} is not a schedule: give a number >= 0, a function of the remaining progress or 'lin_x'"
        )
    if isinstance(value, str) and value.startswith("lin_"):
        return FloatSchedule(LinearSchedule(number, 0.0, 1.0))
    return FloatSchedule(number)
