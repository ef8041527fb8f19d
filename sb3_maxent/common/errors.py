"""Named errors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th


class NonFiniteError(ValueError):
    """
    A reward, observation, loss or gradient is NaN or infinite.

    A ``ValueError``, so that RL Zoo prunes the trial instead of ending the study.
    """


def check_finite(values: Mapping[str, np.ndarray | th.Tensor | float], step: int, hint: str) -> None:
    """
    Stop at the first value that is NaN or infinite.

    :param values: Values by name
    :param step: Environment steps taken so far, for the message
    :param hint: What to look at, for the message
    :raises NonFiniteError: If a value is NaN or infinite
    """
    for name, value in values.items():
        array = np.asarray(value)
        if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
            raise NonFiniteError(f"{name} is not finite at environment step {step}: {array}. {hint}")


def check_transition(
    new_obs: np.ndarray | dict[str, np.ndarray], reward: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]], step: int
) -> None:
    """
    Stop at a transition that would poison the replay buffer.

    :param new_obs: Next observations, one per environment; the first of the next episode where one ended
    :param reward: Rewards, one per environment
    :param dones: Whether the episode ended, one per environment
    :param infos: Information, with the last observation of an episode that ended
    :param step: Environment steps taken so far
    :raises NonFiniteError: If a reward or an observation is NaN or infinite
    """
    terminal = (info.get("terminal_observation") for info, done in zip(infos, dones, strict=True) if done)
    for observation in (new_obs, *terminal):
        named: dict[str, Any] = observation if isinstance(observation, dict) else {"observation": observation}
        check_finite(
            {"reward": reward, **named},
            step,
            "The environment returned it (stable_baselines3.common.vec_env.VecCheckNan finds the action that led there). "
            "The networks and the replay buffer hold none of it",
        )
