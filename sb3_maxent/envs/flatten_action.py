"""Actions that are a ``Dict`` or ``Tuple``, flattened for SB3."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_maxent.common.checks import LARGEST_INTEGER
from sb3_maxent.common.discrete import choices_of
from sb3_maxent.common.hybrid_space import HybridBox

FlatSpace = spaces.Box | spaces.MultiDiscrete


class FlattenAction(gym.ActionWrapper):
    """
    Wrapper that flattens ``Dict`` and ``Tuple`` actions, also nested ones, into actions that SB3's buffers and vector
    environments accept.

    - ``Box`` and discrete parts together become a :class:`~sb3_maxent.common.hybrid_space.HybridBox`, for DSPG.
    - ``Box`` parts alone become one ``Box``, and ``Discrete``, ``MultiDiscrete`` and ``MultiBinary`` parts alone one
      ``MultiDiscrete`` space, for both algorithms.

    The components of all boxes come first and those of the discrete parts after them, both in the order of the space. A
    uniform random action is uniform in the original space, too: the bounds of integers in a ``Box`` lie half a unit farther
    out, and actions are rounded. Any other space is flattened as if it were the only part, so that it may have several
    dimensions, or start at another number than 0.

    :param env: Environment, whose ``step`` takes actions of its own space
    :raises ValueError: If a part is of another kind, empty, or not bounded
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.action_space = flatten_action_space(env.action_space)

    def action(self, action: np.ndarray) -> Any:
        """
        Turn a flat action, as ``predict`` returns it, into one of the environment.

        :param action: Flat action, shape (components,)
        :return: Action of the original space
        """
        return unflatten_action(self.env.action_space, action)

    def flatten(self, action: Any) -> np.ndarray:
        """
        Turn an action of the environment into a flat one.

        :param action: Action of the original space
        :return: Flat action, shape (components,)
        """
        return flatten_action(self.env.action_space, action)


def parts_of(space: spaces.Space) -> list[Any]:
    """
    Parts of an action space that are no ``Dict`` or ``Tuple``.

    :param space: Action space
    :return: Its parts in order
    """
    inner = space.values() if isinstance(space, spaces.Dict) else space if isinstance(space, spaces.Tuple) else None
    return [space] if inner is None else [part for each in inner for part in parts_of(each)]


def flatten_action_space(space: spaces.Space) -> FlatSpace:
    """
    Make the space of flat actions.

    :param space: Action space
    :return: A ``Box``, a ``MultiDiscrete`` space, or both in a ``HybridBox``
    :raises ValueError: If a part is of another kind, empty, or not bounded
    """
    parts = parts_of(space)
    for part in parts:
        _check_part(space, part)
    boxes = [part for part in parts if isinstance(part, spaces.Box)]
    choices = tuple(n for part in parts for n in choices_of(part))
    if not boxes and not choices:
        raise ValueError(f"action_space={space}: there is no part with an action")
    if not boxes:
        return spaces.MultiDiscrete(list(choices))
    # An integer has the numbers that round to it
    margins = [0.0 if box.dtype.kind == "f" else 0.5 for box in boxes]
    dtype: Any = np.result_type(np.float32, *(box.dtype for box in boxes))
    low = np.concatenate([(box.low.astype(dtype) - margin).ravel() for box, margin in zip(boxes, margins, strict=True)])
    high = np.concatenate([(box.high.astype(dtype) + margin).ravel() for box, margin in zip(boxes, margins, strict=True)])
    flat = spaces.Box(low, high, dtype=dtype.type)
    return HybridBox(flat, choices) if choices else flat


def _check_part(space: spaces.Space, part: spaces.Space) -> None:
    if not isinstance(part, spaces.Box):
        if not choices_of(part):
            raise ValueError(
                f"action_space={space}: {part} is no part that can be flattened, give Box, Discrete, MultiDiscrete and "
                "MultiBinary ones with one number at least"
            )
        return
    limit = np.inf if part.dtype.kind == "f" else LARGEST_INTEGER
    if 0 in part.shape or not (np.abs(np.asarray([part.low, part.high], np.float64)) < limit).all():
        raise ValueError(
            f"action_space={space}: {part} must have finite bounds, and one number at least. Integers must be below 2**53"
        )


def flatten_action(space: spaces.Space, action: Any) -> np.ndarray:
    """
    Turn an action into a flat one.

    :param space: Action space
    :param action: Action of this space
    :return: Action of ``flatten_action_space(space)``, shape (components,)
    """
    flat = flatten_action_space(space)
    pairs = [*zip(parts_of(space), _values_of(space, action), strict=True)]
    boxes = [np.ravel(value) for part, value in pairs if isinstance(part, spaces.Box)]
    numbers = [np.ravel(value - getattr(part, "start", 0)) for part, value in pairs if not isinstance(part, spaces.Box)]
    return np.concatenate([*boxes, *numbers]).astype(flat.dtype)


def _values_of(space: spaces.Space, action: Any) -> Iterator[Any]:
    if isinstance(space, spaces.Dict):
        for key, each in space.items():
            yield from _values_of(each, action[key])
    elif isinstance(space, spaces.Tuple):
        for each, value in zip(space, action, strict=True):
            yield from _values_of(each, value)
    else:
        yield np.asarray(action)


def unflatten_action(space: spaces.Space, flat: np.ndarray) -> Any:
    """
    Turn a flat action into one of the original space.

    :param space: Original action space
    :param flat: Flat action, shape (components,)
    :return: Action of the original space
    """
    parts = parts_of(space)
    # Boxes come first
    order = sorted(range(len(parts)), key=lambda i: not isinstance(parts[i], spaces.Box))
    ends = np.cumsum([int(np.prod(parts[i].shape)) for i in order])
    values = dict(zip(order, np.split(np.asarray(flat).reshape(-1), ends[:-1]), strict=True))
    return _rebuild(space, iter([_read(part, values[i]) for i, part in enumerate(parts)]))


def _read(part: Any, value: np.ndarray) -> Any:
    value = value.reshape(part.shape)
    if isinstance(part, spaces.Box):
        value = value if part.dtype.kind == "f" else np.rint(value)
        return np.clip(value, part.low, part.high).astype(part.dtype)
    numbers = np.rint(value).astype(np.int64)
    highest = np.reshape(choices_of(part), part.shape) - 1
    action = (np.clip(numbers, 0, highest) + getattr(part, "start", 0)).astype(part.dtype)
    return action[()] if isinstance(part, spaces.Discrete) else action


def _rebuild(space: spaces.Space, values: Iterator[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _rebuild(each, values) for key, each in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_rebuild(each, values) for each in space)
    return next(values)
