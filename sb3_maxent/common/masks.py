"""Masks of discrete actions say which actions are allowed in a state. They are observations with the key ``action_mask``."""

import math
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_maxent.common.discrete import choices_of, joint_actions, one_hot
from sb3_maxent.common.hybrid_space import HybridBox

# As an observation, the mask of every state (also of the last state of an episode) is in replay buffers, checkpoints and
# exports
MASK = "action_mask"
Observation = np.ndarray | dict[str, np.ndarray]


def mask_of(obs: PyTorchObs) -> th.Tensor | None:
    """
    Find the mask in observations.

    :param obs: Observations, shape (batch, ...), or a dictionary of such
    :return: Which choices are allowed, shape (batch, sum of the numbers of choices), ``None`` without a mask
    """
    return obs[MASK] > 0 if isinstance(obs, dict) and MASK in obs else None


def joint_mask(mask: th.Tensor, choices: tuple[int, ...]) -> th.Tensor:
    """
    Find the joint actions all of whose choices are allowed.

    :param mask: Which choices are allowed, shape (batch, sum of the numbers of choices)
    :param choices: Numbers of choices of the factors
    :return: Which joint actions are allowed, shape (batch, actions)
    """
    if len(choices) == 1:
        return mask
    numbers = th.arange(math.prod(choices), device=mask.device).unsqueeze(0)  # (1, actions)
    chosen = one_hot(joint_actions(numbers, choices), choices)[0]  # (actions, sum of the numbers of choices)
    return (~mask).float() @ chosen.T.float() == 0


def has_mask(observation_space: spaces.Space, action_space: spaces.Space) -> bool:
    """
    Look for a mask of discrete actions in the observations.

    :param observation_space: Observation space
    :param action_space: Action space
    :return: Whether there is a mask
    :raises ValueError: If its size does not fit the action space
    """
    choices = choices_of(action_space)
    if not choices or not isinstance(observation_space, spaces.Dict) or MASK not in observation_space.spaces:
        return False
    expected = spaces.MultiBinary(sum(choices))
    if observation_space[MASK] != expected:
        raise ValueError(
            f"observation_space[{MASK!r}]={observation_space[MASK]}: the mask of {action_space} is {expected}, one number per "
            "choice of each factor. If this observation is not a mask, give it another name"
        )
    return True


def check_masks(masks: Any, action_space: spaces.Space) -> np.ndarray:
    """
    Check masks in sb3-contrib's form: 1 or True means that a choice is allowed, and the choices of the first factor come
    first.

    :param masks: Mask of one state, or of several, shape (..., sum of the numbers of choices)
    :param action_space: Action space
    :return: The same as int8, shape (states, sum of the numbers of choices)
    :raises ValueError: If the shape is wrong, or some factor has no allowed choice
    """
    choices = choices_of(action_space)
    array = np.asarray(masks)
    if array.size == 0 or array.size % sum(choices) > 0:
        raise ValueError(f"action_masks of shape {array.shape}: give {sum(choices)} numbers per state for {action_space}")
    array = (array.reshape(-1, sum(choices)) > 0).astype(np.int8)
    for part in np.split(array, np.cumsum(choices)[:-1], axis=1):
        if not part.any(axis=1).all():
            raise ValueError(f"action_masks={masks!r}: some state has no allowed action in {action_space}, allow at least one")
    return array


def with_checked_mask(policy: Any, observation: Observation, action_masks: Any = None) -> Observation:
    """
    Check the mask in an observation, or put another one there.

    :param policy: Policy that acts
    :param observation: One observation, or a batch
    :param action_masks: Masks in place of those in the observation, ``None`` for those
    :return: The observation with its mask as int8
    :raises ValueError: If there are masks but the policy was trained without, or no action is allowed
    """
    if policy.has_mask and isinstance(observation, dict):
        given = observation.get(MASK, action_masks)
        masks = check_masks(given if action_masks is None else action_masks, policy.action_space)
        rest = {key: value for key, value in observation.items() if key != MASK}
        # The mask may be all that is observed
        is_batch = policy.is_vectorized_observation(rest) if rest else np.asarray(given).ndim > 1
        n_states = len(next(iter(rest.values()), masks)) if is_batch else 1
        if len(masks) != n_states:
            raise ValueError(f"action_masks={action_masks!r}: {len(masks)} masks for {n_states} states, give one per state")
        return {**rest, MASK: masks if is_batch else masks[0]}
    if action_masks is not None:
        raise ValueError(
            f"action_masks={action_masks!r}: the policy was trained without masks. Train it in an environment that "
            "sb3_maxent.envs.ActionMaskObservation wraps"
        )
    return observation


def sample_allowed(action_space: spaces.Space, mask: np.ndarray) -> Any:
    """
    Draw an action uniformly from the allowed ones, with the generator of the space.

    :param action_space: Action space
    :param mask: Mask of one state, shape (sum of the numbers of choices,)
    :return: Action
    """
    mask = mask.astype(np.int8)
    if isinstance(action_space, HybridBox):
        return action_space.sample(mask)
    if isinstance(action_space, spaces.MultiDiscrete):
        return action_space.sample(mask=tuple(np.split(mask, np.cumsum(action_space.nvec)[:-1])))
    if isinstance(action_space, spaces.MultiBinary):
        # Gymnasium's mask of a bit is its only allowed value, or 2 if both values are allowed
        zero, one = mask.reshape(-1, 2).T
        return action_space.sample(mask=np.where(zero & one, 2, one).astype(np.int8))
    assert isinstance(action_space, spaces.Discrete)
    return action_space.sample(mask=mask)
