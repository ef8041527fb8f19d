"""Box actions as discrete ones."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_maxent.common.checks import check_count


class DiscretizeAction(gym.ActionWrapper):
    """
    Wrapper that makes ``MultiDiscrete`` actions of ``Box`` actions: each component gets a number of values from its lower to
    its upper bound, at equal distances, bounds included. In a ``Box`` of integers they are rounded.

    An odd number includes the middle. In RL Zoo it is ``env_wrapper`` with the entry
    ``sb3_maxent.envs.DiscretizeAction: {n_bins: 5}``.

    :param env: Environment with ``Box`` actions
    :param n_bins: Number of values, the same for all components, or one number per component, two at least
    :raises ValueError: If the actions are not a ``Box`` of one dimension with finite bounds, the numbers do not fit, or there
        are not as many integers
    """

    def __init__(self, env: gym.Env, n_bins: int | Sequence[int] = 5):
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1 or not space.is_bounded():
            raise ValueError(f"action_space={space}: give an environment with a one-dimensional Box with finite bounds")
        numbers: list[Any] = [n_bins] * space.shape[0] if np.ndim(n_bins) == 0 else [*n_bins]  # type: ignore[misc]
        for number in numbers:
            check_count(number, "n_bins", 2)
        if len(numbers) != space.shape[0]:
            raise ValueError(f"n_bins={n_bins}: give one number, or {space.shape[0]}, one for each component of {space}")
        bounds = zip(space.low, space.high, numbers, strict=True)
        self.values = [self._between(*each) for each in bounds]
        self.action_space = spaces.MultiDiscrete(numbers)

    def _between(self, low: Any, high: Any, number: int) -> np.ndarray:
        values = np.linspace(low, high, number)
        if low.dtype.kind != "f":
            values = np.rint(values)
            if len(np.unique(values)) < number:
                raise ValueError(f"n_bins={number}: there are not as many integers from {low} to {high}")
        return values.astype(low.dtype)

    def action(self, action: np.ndarray) -> np.ndarray:
        """
        Turn choices into an action of the environment.

        :param action: Choices, shape (action,)
        :return: Action in the box, shape (action,)
        """
        return np.array([values[choice] for values, choice in zip(self.values, action, strict=True)])
