"""Checks of what SB3 takes as it is, and fails on later or not at all: spaces, its algorithm's and its policy's arguments."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.utils import get_device
from torch import nn

from sb3_maxent.common.arguments import LARGEST, check_count, check_flag, check_number, is_count

OBSERVATION_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def check_observation_space(space: spaces.Space, name: str = "observation_space") -> None:
    """
    Accept the observation spaces that SB3's networks and buffers can hold.

    :param space: Observation space
    :param name: Its name, for the message
    :raises ValueError: If it is another one
    """
    if isinstance(space, spaces.Dict) and len(space) > 0:
        for key, subspace in space.items():
            # SB3 refuses nested ones itself
            if not isinstance(subspace, (spaces.Dict, spaces.Tuple)):
                check_observation_space(subspace, f"{name}[{key!r}]")
        return
    if not isinstance(space, OBSERVATION_SPACES):
        raise ValueError(f"{name}={space}: give a Box, Discrete, MultiDiscrete or MultiBinary space, or a Dict of these")
    if isinstance(space, (spaces.Box, spaces.MultiBinary)) and 0 in (len(space.shape), *space.shape):
        raise ValueError(f"{name}={space}: give it at least one dimension, and none of size zero")
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)) and np.any(space.start != 0):
        raise ValueError(f"{name}={space}: SB3 supports numbers that start at 0 only")
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim != 1:
        raise ValueError(f"{name}={space}: SB3 supports one dimension only, flatten it")


def check_action_box(space: spaces.Space) -> None:
    """
    Accept a box that actions can be scaled to; other spaces pass.

    :param space: Action space
    :raises ValueError: If its numbers are not real, if it is empty, or if its width is zero or too large for its numbers
    """
    if not isinstance(space, spaces.Box):
        return
    if space.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"action_space={space}: actions are real numbers, give a Box of float32 or float64, not {space.dtype}"
        )
    if 0 in space.shape:
        raise ValueError(f"action_space={space}: give it no dimension of size zero")
    with np.errstate(over="ignore"):
        width = space.high - space.low
    # Networks compute in float32, whatever the numbers of the box
    if not ((width > 0) & (width <= LARGEST) & (np.abs([space.low, space.high]).max(axis=0) <= LARGEST)).all():
        raise ValueError(
            f"action_space={space}: each upper bound must lie above the lower one, by no more than a float32 can hold"
        )


def check_policy(policy: str | type[BasePolicy], base: type[BasePolicy]) -> None:
    """
    Accept a name, which SB3 looks up, or a class.

    :param policy: Name or class
    :param base: Class that the algorithm needs
    :raises ValueError: If it is something else, or the policy of another algorithm
    """
    if not isinstance(policy, str) and not (isinstance(policy, type) and issubclass(policy, base)):
        raise ValueError(f"policy={policy!r}: give a name such as 'MlpPolicy', or a subclass of {base.__name__}")


def check_device(device: th.device | str) -> None:
    """
    Accept a device that can compute here.

    :param device: The device
    :raises ValueError: If there is no such device
    """
    try:
        th.zeros(1, device=get_device(device)).item()
    except Exception as error:  # of whatever library computes there
        raise ValueError(f"device={device!r} is not available, give 'auto', 'cpu' or 'cuda': {error}") from error


def check_dict(value: Mapping[str, Any] | None, name: str) -> None:
    """
    Accept keyword arguments.

    :param value: The value
    :param name: Name of the argument, for the message
    :raises ValueError: If it is neither a dictionary nor ``None``
    """
    if value is not None and not (isinstance(value, dict) and all(isinstance(key, str) for key in value)):
        raise ValueError(f"{name}={value!r}: give a dictionary of keyword arguments")


def check_off_policy_arguments(model: OffPolicyAlgorithm) -> None:
    """
    Check the arguments of SB3's ``OffPolicyAlgorithm``.

    :param model: Model that is about to be set up
    :raises ValueError: If one has no meaning
    """
    for name in ("buffer_size", "batch_size", "n_steps"):
        check_count(getattr(model, name), name)
    check_count(model._stats_window_size, "stats_window_size")
    for name in ("gradient_steps", "sde_sample_freq"):
        check_count(getattr(model, name), name, minimum=-1)
    check_number(model.learning_starts, "learning_starts")
    for name in ("tau", "gamma"):
        check_number(getattr(model, name), name, high=1.0)
    for name in ("optimize_memory_usage", "use_sde", "use_sde_at_warmup"):
        check_flag(getattr(model, name), name)
    _check_train_freq(model.train_freq)
    _check_seed(model.seed)
    _check_action_noise(model.action_noise, model.action_space)
    if model.tensorboard_log is not None and not isinstance(model.tensorboard_log, (str, os.PathLike)):
        raise ValueError(f"tensorboard_log={model.tensorboard_log!r}: give a folder, or None for no log")
    buffer_class: Any = model.replay_buffer_class
    if buffer_class is not None and not (isinstance(buffer_class, type) and issubclass(buffer_class, ReplayBuffer)):
        raise ValueError(f"replay_buffer_class={buffer_class!r}: give a subclass of ReplayBuffer, or None to choose one")
    if model.optimize_memory_usage and model.buffer_size < 2 * model.n_envs:
        raise ValueError(
            f"buffer_size={model.buffer_size}: optimize_memory_usage=True needs two steps per environment at least"
        )


def _check_train_freq(train_freq: int | tuple[int, str] | TrainFreq) -> None:
    frequency, unit = train_freq if isinstance(train_freq, tuple) and len(train_freq) == 2 else (train_freq, "step")
    if type(frequency) is not int or frequency < 1 or getattr(unit, "value", unit) not in ("step", "episode"):
        raise ValueError(
            f"train_freq={train_freq!r}: `train_freq` must be an integer >= 1, or a tuple like (2, 'step') or (1, 'episode')"
        )


def _check_seed(seed: int | None) -> None:
    # The range of NumPy's generator
    if seed is not None and not (is_count(seed, minimum=0) and seed < 2**32):
        raise ValueError(f"seed={seed!r}: give an integer from 0 to 2**32 - 1, or None")


def _check_action_noise(noise: ActionNoise | None, action_space: spaces.Space) -> None:
    if noise is not None and not isinstance(noise, ActionNoise):
        raise ValueError(f"action_noise={noise!r}: give an ActionNoise of SB3, or None")
    if not isinstance(noise, (NormalActionNoise, OrnsteinUhlenbeckActionNoise)) or not isinstance(action_space, spaces.Box):
        return
    mean, sigma = np.asarray(noise._mu, np.float64), np.asarray(noise._sigma, np.float64)
    try:
        fits = np.broadcast_shapes(mean.shape, sigma.shape, action_space.shape) == action_space.shape
    except ValueError:
        fits = False
    if not fits or not np.isfinite(mean).all() or not np.isfinite(sigma).all() or (sigma < 0).any():
        raise ValueError(
            f"action_noise={noise!r}: give finite means and deviations >= 0 of the shape of actions, {action_space.shape}"
        )


def check_policy_arguments(arguments: Mapping[str, Any]) -> None:
    """
    Check the arguments of SB3's ``SACPolicy``.

    :param arguments: Those that are given, by name
    :raises ValueError: If one has no meaning
    """
    for name in ("use_sde", "use_expln", "normalize_images", "share_features_extractor"):
        check_flag(arguments.get(name, False), name)
    check_number(arguments.get("clip_mean", 0.0), "clip_mean", low=-LARGEST)
    # The standard deviation itself must be a number > 0
    check_number(arguments.get("log_std_init", 0.0), "log_std_init", low=-80.0, high=80.0)
    check_count(arguments.get("n_critics", 1), "n_critics")
    check_dict(arguments.get("features_extractor_kwargs"), "features_extractor_kwargs")
    extractor_class = arguments.get("features_extractor_class", BaseFeaturesExtractor)
    if not _is_class(extractor_class, nn.Module):
        raise ValueError(f"features_extractor_class={extractor_class!r}: give a subclass of BaseFeaturesExtractor")
    _check_net_arch(arguments.get("net_arch"))
    _check_activation(arguments.get("activation_fn", nn.ReLU))
    _check_optimizer(arguments.get("optimizer_class", th.optim.Adam), arguments.get("optimizer_kwargs"))


def _is_class(value: Any, base: type) -> bool:
    # Or a functools.partial of one
    value = getattr(value, "func", value)
    return isinstance(value, type) and issubclass(value, base)


def _check_net_arch(net_arch: Any) -> None:
    parts = [] if net_arch is None else [net_arch]
    if isinstance(net_arch, dict) and {"pi", "qf"} <= set(net_arch):
        parts = [list(part) if isinstance(part, tuple) else part for part in (net_arch["pi"], net_arch["qf"])]
    if not all(isinstance(part, list) and all(is_count(width) for width in part) for part in parts):
        raise ValueError(
            f"net_arch={net_arch!r}: give a list of integers >= 1, or a dictionary of two, "
            "'pi' for the actor and 'qf' for the critic"
        )


def _check_activation(activation_fn: Any) -> None:
    try:
        # Hidden layers of one sample per state, and of many
        fits = all(activation_fn().eval()(th.zeros(shape)).shape == shape for shape in [(2, 4), (2, 3, 4)])
    except Exception as error:  # whatever a class of another kind raises
        raise ValueError(f"activation_fn={activation_fn!r}: give a class of modules such as torch.nn.ReLU: {error}") from error
    if not fits:
        raise ValueError(f"activation_fn={activation_fn!r}: give one that keeps the shape of its input")


def _check_optimizer(optimizer_class: Any, optimizer_kwargs: Any) -> None:
    check_dict(optimizer_kwargs, "optimizer_kwargs")
    if not _is_class(optimizer_class, th.optim.Optimizer):
        raise ValueError(f"optimizer_class={optimizer_class!r}: give a subclass of torch.optim.Optimizer")
    kwargs, parameter = optimizer_kwargs or {}, nn.Parameter(th.zeros(1))
    parameter.grad = th.zeros(1)
    try:
        optimizer = optimizer_class([parameter], lr=1e-3, **kwargs)
        if not kwargs.get("capturable"):  # which is for CUDA
            optimizer.step()
    except Exception as error:  # each optimizer has its own ways to refuse an argument
        raise ValueError(f"optimizer_class={optimizer_class!r}, optimizer_kwargs={optimizer_kwargs!r}: {error}") from error
