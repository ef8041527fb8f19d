"""Named errors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.vec_env import VecNormalize

ENVIRONMENT_HINT = (
    "The environment returned it (stable_baselines3.common.vec_env.VecCheckNan finds the action that led there). "
    "The networks and the replay buffer hold none of it"
)


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
        if not _is_finite(array):
            raise NonFiniteError(f"{name} is not finite at environment step {step}: {array}. {hint}")


def _is_finite(array: np.ndarray) -> bool:
    # Neither None nor integers can be anything else
    if array.dtype.kind != "f":
        return True
    if array.dtype.itemsize > 4:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)  # in which the networks read it
    return bool(np.isfinite(array).all())


@contextmanager
def distribution_errors(model: BaseAlgorithm) -> Iterator[None]:
    """
    Name the step at which gSDE, which draws from the distributions of PyTorch, meets parameters that they refuse.

    :param model: The model
    :raises NonFiniteError: Instead of their ``ValueError``
    """
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("Expected parameter"):
            raise
        raise NonFiniteError(
            f"action distribution is not finite at environment step {model.num_timesteps}: {error}"
        ) from error


def check_parameters(model: BaseAlgorithm) -> None:
    """
    Stop if a parameter, or a moment of an optimizer, is NaN or infinite: with an infinite one Adam moves nothing any more.

    :param model: The model
    :raises NonFiniteError: If it is
    """
    tensors = {f"parameter {name}": parameter for name, parameter in model.policy.state_dict().items()}
    names, variables = model._get_torch_save_params()
    tensors.update({f"parameter {name}": getattr(model, name) for name in variables})
    for name in names:
        optimizer = recursive_getattr(model, name)
        if isinstance(optimizer, th.optim.Optimizer):
            for number, state in enumerate(optimizer.state.values()):
                tensors.update({f"parameter {name} {number} {key}": value for key, value in state.items()})
    for name, value in tensors.items():
        if isinstance(value, th.Tensor) and not th.isfinite(value).all():
            raise NonFiniteError(
                f"{name} is not finite at environment step {model.num_timesteps}: go on from the last checkpoint, "
                "with a smaller learning rate or max_grad_norm, or normalised rewards and observations"
            )


def check_observation(
    obs: np.ndarray | Mapping[str, np.ndarray] | tuple | None, step: int, hint: str = ENVIRONMENT_HINT
) -> None:
    """
    Stop at an observation that is NaN or infinite.

    :param obs: Observations of all environments; ``None`` passes
    :param step: Environment steps taken so far, for the message
    :param hint: What to look at, for the message
    :raises NonFiniteError: If a value is NaN or infinite
    """
    named: Mapping[str, Any] = obs if isinstance(obs, Mapping) else {"": obs}
    check_finite({f"observation {key}".strip(): value for key, value in named.items()}, step, hint)


def check_transition(
    new_obs: np.ndarray | Mapping[str, np.ndarray],
    reward: np.ndarray,
    dones: np.ndarray,
    infos: list[dict[str, Any]],
    vec_normalize: VecNormalize | None,
    step: int,
) -> None:
    """
    Stop at a transition that would poison the replay buffer.

    :param new_obs: Next observations, one per environment; the first of the next episode where one ended
    :param reward: Rewards, one per environment
    :param dones: Whether the episode ended, one per environment
    :param infos: Information, with the last observation of an episode that ended
    :param vec_normalize: The normalising wrapper, if there is one
    :param step: Environment steps taken so far, for the message
    :raises NonFiniteError: If a reward or an observation is NaN or infinite
    """
    hint = ENVIRONMENT_HINT
    if vec_normalize is not None:
        # What SB3 stores: the wrapper clips an infinite value to a finite one
        new_obs, reward = vec_normalize.get_original_obs(), vec_normalize.get_original_reward()
        hint += ". The running statistics of VecNormalize have seen it: load them again"
    check_finite({"reward": reward}, step, hint)
    check_observation(new_obs, step, hint)
    for info, done in zip(infos, dones, strict=True):
        if done:
            check_observation(info.get("terminal_observation"), step, hint)
