"""Action space of real numbers and choices together, as one box."""

from typing import Any

import numpy as np
from gymnasium import spaces


class HybridBox(spaces.Box):
    """
    Box whose last components are choices: component k of a factor with n choices reads from -1/2 to n - 1/2, and the nearest
    integer is the choice.

    So SB3, its replay buffers and its vector environments take it for a ``Box``. In the replay buffer, and for the networks,
    choice k of n is the middle of the k-th of n equal parts of [-1, 1]. Policies know their number from :attr:`choices`, also
    when they are loaded. :class:`~sb3_maxent.envs.flatten_action.FlattenAction` makes such a space of a ``Dict`` or ``Tuple``.

    :param box: Space of the real numbers, one-dimensional
    :param choices: Numbers of choices of the factors
    :raises ValueError: If a number or its shape has no meaning
    """

    def __init__(self, box: spaces.Box, choices: tuple[int, ...]):
        if len(box.shape) != 1 or box.dtype.kind != "f":
            raise ValueError(f"box={box}: give a one-dimensional box of floats")
        if len(choices) == 0 or min(choices) < 1:
            raise ValueError(f"choices={choices}: give one number >= 1 per factor")
        low = np.concatenate([box.low, np.full(len(choices), -0.5)])
        high = np.concatenate([box.high, np.array(choices) - 0.5])
        super().__init__(low.astype(box.dtype), high.astype(box.dtype), dtype=box.dtype.type)
        self.choices = tuple(int(n) for n in choices)

    def sample(self, mask: Any = None, probability: None = None) -> np.ndarray:
        """
        Draw an action uniformly.

        :param mask: Which choices are allowed, those of the first factor first, shape (sum of the numbers of choices,);
            ``None`` for all
        :param probability: Must be ``None``
        :return: Action, whose choices are integers, shape (components,)
        """
        action = super().sample(None, probability)
        if mask is None:
            drawn = self.np_random.integers(self.choices)
        else:
            allowed = np.split(np.asarray(mask), np.cumsum(self.choices)[:-1])
            drawn = np.array([self.np_random.choice(np.flatnonzero(part)) for part in allowed])
        # Not just any number near them: rounding might take it for the next one, in the environment or in the networks
        action[-len(self.choices) :] = drawn
        return action

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and isinstance(other, HybridBox) and self.choices == other.choices

    def __repr__(self) -> str:
        return f"HybridBox({super().__repr__()}, choices={self.choices})"
