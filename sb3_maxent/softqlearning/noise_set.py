"""A finite set of noise vectors. It shrinks during fine-tuning, so that the policy becomes deterministic."""

import math

from gymnasium import spaces
from stable_baselines3.common.type_aliases import Schedule

from sb3_maxent.common.schedules import make_schedule


def size_of_noise_set(
    value: float | str | Schedule | None, action_space: spaces.Space, progress_remaining: float, largest: int
) -> int | None:
    """
    Current number of noise vectors that the policy acts with.

    :param value: A number, a schedule, or ``None`` for fresh noise
    :param action_space: Action space
    :param progress_remaining: Remaining progress of training, from 1 to 0
    :param largest: Largest size
    :return: Size of the set, rounded up, or ``None``
    :raises ValueError: If it is not between 1 and the largest, or the actions are discrete
    """
    if value is None:
        return None
    if not isinstance(action_space, spaces.Box):
        raise ValueError(f"noise_set_size={value!r}: {type(action_space).__name__} actions need no noise, leave it out")
    schedule = make_schedule(value, "noise_set_size")
    sizes = [schedule(progress) for progress in (1.0, 0.0, progress_remaining)]
    if not 1 <= min(sizes) <= max(sizes) <= largest:
        raise ValueError(f"noise_set_size={value!r}: give None, or a number or schedule from 1 to {largest}")
    # Rounding errors must not raise an integer to the next one
    return math.ceil(sizes[-1] - 1e-6)
