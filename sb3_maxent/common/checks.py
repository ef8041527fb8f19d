"""Checks of arguments that SB3 does not check. With a wrong value it would learn something wrong, or fail late."""

import warnings
from collections.abc import Collection
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_maxent.common.discrete import choices_of
from sb3_maxent.common.hybrid_space import HybridBox

# Largest and smallest positive number of float32, in which networks compute
LARGEST, SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
# Actions are scaled in float64, which represents all integers up to this one exactly
LARGEST_INTEGER = 2.0**53
# Arguments that are counts, and their smallest values
COUNTS = {"buffer_size": 1, "batch_size": 1, "n_steps": 1, "gradient_steps": -1}


def check_flag(value: object, name: str, allowed: str = "True or False") -> None:
    """
    Check that an argument is a truth value. The string ``"False"`` from a command line would count as true.

    :param value: Value to check
    :param name: Name of the argument, for the message
    :param allowed: What is allowed, for the message
    :raises ValueError: If it is not ``True`` or ``False``, nor 1 or 0
    """
    if not isinstance(value, (bool, int, np.bool_)) or value not in (0, 1):
        raise ValueError(f"{name}={value!r}: give {allowed}")


def check_precision(evaluation_precision: str, device: th.device) -> None:
    """
    Warn where a precision is slow that should be fast.

    :param evaluation_precision: Precision of evaluations without gradient
    :param device: Device of the networks
    """
    if evaluation_precision == "bfloat16" and device.type == "cpu" and th.backends.cpu.get_cpu_capability() == "AVX2":
        warnings.warn(
            "evaluation_precision='bfloat16' is slow on this processor, which has no instructions for it: on one of its kind "
            "an update took eight times as long as with 'float32'"
        )


def check_count(value: object, name: str, minimum: int = 1) -> None:
    """
    Check that an argument is an integer, and large enough.

    :param value: Value to check
    :param name: Name of the argument, for the message
    :param minimum: Smallest allowed number
    :raises ValueError: If it is not
    """
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name}={value!r}: give an integer >= {minimum}")


def check_number(value: object, name: str, low: float = 0.0, high: float = LARGEST) -> None:
    """
    Check that an argument is a number in a range.

    :param value: Value to check
    :param name: Name of the argument, for the message
    :param low: Smallest allowed number
    :param high: Largest allowed number
    :raises ValueError: If it is not
    """
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name}={value!r}: give a finite number from {low:g} to {high:g}")


def check_choice(value: object, name: str, allowed: Collection[object]) -> None:
    """
    Check that an argument is one of several values.

    :param value: Value to check
    :param name: Name of the argument, for the message
    :param allowed: The values
    :raises ValueError: If it is none of them
    """
    choices = tuple(allowed)
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not one of {choices}")


def check_layer(layer: object, name: str, n_layers: int, net_arch: list[int]) -> None:
    """
    Check that an argument is the index of a layer.

    :param layer: Value to check
    :param name: Name of the argument, for the message
    :param n_layers: Number of layers
    :param net_arch: Widths of the hidden layers, for the message
    :raises ValueError: If there is no such layer
    """
    if not isinstance(layer, int) or isinstance(layer, bool) or not -n_layers <= layer < n_layers:
        raise ValueError(f"{name}={layer!r} is not a hidden layer of net_arch={net_arch}")


def check_max_grad_norm(max_grad_norm: float | None) -> None:
    """
    Check that the limit of the gradient norm is a positive number or ``None``.

    :param max_grad_norm: Value to check
    :raises ValueError: If it is not
    """
    is_number = isinstance(max_grad_norm, (int, float, np.number)) and not isinstance(max_grad_norm, bool)
    if max_grad_norm is not None and not (is_number and max_grad_norm > 0):
        raise ValueError(f"max_grad_norm={max_grad_norm!r}: give a positive number, or None for no clipping")


def check_observation_space(space: spaces.Space, name: str = "observation_space") -> None:
    """
    Check that SB3's networks and buffers can hold the observations.

    :param space: Observation space
    :param name: Its name, for the message
    :raises ValueError: If they cannot
    """
    if isinstance(space, spaces.Dict) and len(space) > 0:
        for key, subspace in space.items():
            check_observation_space(subspace, f"{name}[{key!r}]")
        return
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        fits = not np.any(space.start) and np.ndim(space.start) <= 1
    else:
        fits = isinstance(space, (spaces.Box, spaces.MultiBinary)) and 0 not in (len(space.shape), *space.shape)
    if not fits:
        raise ValueError(
            f"{name}={space}: give a Box or MultiBinary space with at least one dimension and no dimension of size zero, a "
            "Discrete or one-dimensional MultiDiscrete space that starts at 0, or a Dict of these"
        )


def check_action_space(model: BaseAlgorithm) -> None:
    """
    Check that the algorithm can learn the actions, and that they can be scaled to a box.

    :param model: Model that is about to be set up
    :raises ValueError: If the algorithm does not support this kind of space, its bounds are equal or too far from each other,
        or its actions are not numbered from 0
    """
    space, supported = model.action_space, type(model).supported_action_spaces  # type: ignore[attr-defined]
    # A HybridBox is a box for SB3, but an algorithm that learns boxes alone cannot learn it
    if not isinstance(space, supported) or (isinstance(space, HybridBox) and HybridBox not in supported):
        *most, last = (kind.__name__ for kind in supported)
        choices = f"{', '.join(most)} or {last}" if most else last
        hint = ". sb3_maxent.envs.FlattenAction makes one of it" if isinstance(space, (spaces.Dict, spaces.Tuple)) else ""
        raise ValueError(f"action_space={space}: {type(model).__name__} learns {choices} actions{hint}")
    shape = space.shape or ()
    if not isinstance(space, spaces.Box) and (np.any(getattr(space, "start", 0)) or len(shape) > 1 or 0 in shape):
        raise ValueError(
            f"action_space={space}: SB3 supports Discrete and MultiDiscrete spaces that start at 0 only, and of MultiDiscrete "
            "and MultiBinary spaces those of one dimension"
        )
    if not isinstance(space, spaces.Box):
        return
    with np.errstate(over="ignore"):
        # The difference in the type of the space, as SB3 computes it: integers may overflow
        width = np.float64(space.high - space.low)
    bounds = np.abs(np.asarray([space.low, space.high], np.float64)).max(axis=0)
    limit = LARGEST if space.dtype.kind == "f" else LARGEST_INTEGER
    fits = (width > 0) & (np.maximum(width, bounds) <= limit)
    if 0 in space.shape or not fits.all():
        raise ValueError(
            f"action_space={space}: each upper bound must be larger than the lower bound, and the bounds and their difference "
            f"must be numbers that float32 and {space.dtype} can represent"
        )


def check_off_policy_arguments(model: OffPolicyAlgorithm) -> None:
    """
    Check the arguments of SB3's ``OffPolicyAlgorithm``.

    :param model: Model that is about to be set up
    :raises ValueError: If SB3 would fail late with an argument, or ignore it
    """
    for name, minimum in COUNTS.items():
        check_count(getattr(model, name), name, minimum)
    check_number(model.learning_starts, "learning_starts", low=-LARGEST)
    for name in ("tau", "gamma"):
        check_number(getattr(model, name), name, high=1.0)
    for name in ("optimize_memory_usage", "use_sde", "use_sde_at_warmup"):
        check_flag(getattr(model, name), name)
    _check_train_freq(model.train_freq)
    # SB3's two classes of noise have this private attribute. The shape of other noise is not known before it acts
    shape, space = np.shape(getattr(model.action_noise, "_mu", 0.0)), model.action_space
    if model.action_noise is not None and choices_of(space):
        kind = type(space).__name__
        raise ValueError(f"action_noise={model.action_noise!r} has no meaning for {kind} actions, leave it out")
    if isinstance(space, spaces.Box) and shape != space.shape and np.prod(shape) != 1:
        raise ValueError(f"action_noise={model.action_noise!r} has shape {shape}, give it that of actions, {space.shape}")
    buffer_class, n_steps = model.replay_buffer_class, model.n_steps
    if n_steps > 1 and buffer_class is not None and model.replay_buffer_kwargs.get("n_steps") != n_steps:
        raise ValueError(
            f"n_steps={n_steps} has no effect on replay_buffer_class={buffer_class!r}: leave n_steps out, or leave "
            "replay_buffer_class out. If the buffer class itself makes n-step returns, give n_steps and gamma in "
            "replay_buffer_kwargs"
        )


def _check_train_freq(train_freq: Any) -> None:
    frequency, unit = train_freq if isinstance(train_freq, tuple) and len(train_freq) == 2 else (train_freq, "step")
    if type(frequency) is not int or frequency < 1 or getattr(unit, "value", unit) not in ("step", "episode"):
        raise ValueError(
            f"train_freq={train_freq!r}: `train_freq` must be an integer >= 1, or a tuple like (2, 'step') or (1, 'episode')"
        )
