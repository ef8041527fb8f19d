"""Schedules, made from the arguments of a user or of a YAML file."""

from typing import Any

from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule

from sb3_maxent.common.checks import LARGEST, SMALLEST


class LogLinearSchedule:
    """
    Schedule whose logarithm is linear in the progress: it changes by the same factor in equal times.

    :param start: Value at the start, positive
    :param end: Value at the end, positive
    :param end_fraction: Fraction of training after which the end is reached, as in SB3's ``LinearSchedule``
    """

    def __init__(self, start: float, end: float, end_fraction: float = 1.0):
        self.start, self.end, self.end_fraction = start, end, end_fraction

    def __call__(self, progress_remaining: float) -> float:
        """
        :param progress_remaining: Remaining progress of training, from 1 to 0
        :return: The value
        """
        share = (1 - progress_remaining) / self.end_fraction
        # Return the end value exactly, without a rounding error
        return self.end if share >= 1 else self.start * (self.end / self.start) ** share

    def __repr__(self) -> str:
        return f"LogLinearSchedule(start={self.start}, end={self.end}, end_fraction={self.end_fraction})"


def make_schedule(value: float | str | Schedule, name: str) -> FloatSchedule:
    """
    Turn a number, a schedule or an RL Zoo schedule string into a schedule.

    RL Zoo converts strings such as ``"lin_3e-4"`` only for ``learning_rate``. This function converts them for the other
    arguments.

    :param value: A number; a function of the remaining progress (from 1 to 0); ``"lin_x"``, which falls linearly from x to
        zero; ``"lin_x_y"``, which goes linearly from x to y; or ``"log_x_y"``, which goes from x to y by equal factors in
        equal times. A third number is the fraction of training after which y is reached, as in ``"log_0.1_0.001_0.2"``. A
        number in a string is accepted too, because YAML reads ``3e-4`` as a string.
    :param name: Name of the argument, for the message
    :return: The schedule
    :raises ValueError: If it is not a schedule, or if it is a function that does not return a number >= 0 at the start and the
        end
    """
    kind = value[:4] if isinstance(value, str) and value.startswith(("lin_", "log_")) else ""
    # An error inside the function of a user is not caught
    texts: list[Any] = [value(1.0), value(0.0)] if callable(value) else str(value).removeprefix(kind).split("_")
    try:
        numbers = [float(text) for text in texts]
    except (TypeError, ValueError):
        numbers = []
    if not _is_allowed(numbers, kind, callable(value)):
        raise ValueError(
            f"{name}={value!r} is not a schedule: give a number >= 0, a function of the remaining progress, 'lin_x', "
            "'lin_x_y', or 'log_x_y' with positive numbers; 'lin_x_y_f' and 'log_x_y_f' end after the fraction f of training"
        )
    if kind:
        end = numbers[1] if len(numbers) > 1 else 0.0
        end_fraction = numbers[2] if len(numbers) > 2 else 1.0
        value = (LinearSchedule if kind == "lin_" else LogLinearSchedule)(numbers[0], end, end_fraction)
    return FloatSchedule(value if callable(value) else numbers[0])


def _is_allowed(numbers: list[float], kind: str, is_function: bool) -> bool:
    n_numbers = {"": (2,) if is_function else (1,), "lin_": (1, 2, 3), "log_": (2, 3)}[kind]
    low = SMALLEST if kind == "log_" else 0.0
    in_range = all(low <= number <= LARGEST for number in numbers[:2]) and all(0.0 < number <= 1.0 for number in numbers[2:])
    return len(numbers) in n_numbers and in_range
