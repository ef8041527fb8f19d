"""Action masks as a part of the observation."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_maxent.common.discrete import choices_of
from sb3_maxent.common.masks import MASK, check_masks


class ActionMaskObservation(gym.Wrapper):
    """
    Wrapper that adds ``env.action_masks()``, sb3-contrib's convention, to the observation, for DSPG and SoftQLearning.

    Observations become a ``Dict``, so the policy is ``"MultiInputPolicy"``. Its key ``"action_mask"`` has the mask; the others
    are those of the environment if its observations are a ``Dict``, otherwise ``"observation"``.

    :param env: Environment with discrete actions and a method ``action_masks()``, which may be that of an inner wrapper: 1 or
        ``True`` where a choice is allowed, shape (sum of the numbers of choices,). A bit has two choices, 0 and 1
    :raises ValueError: If the actions are not discrete, there is no such method, or an observation has the name of the mask
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        choices, space = choices_of(env.action_space), env.observation_space
        if not choices:
            raise ValueError(f"action_space={env.action_space}: masks are for Discrete, MultiDiscrete and MultiBinary actions")
        try:
            env.get_wrapper_attr("action_masks")
        except AttributeError as error:
            raise ValueError(f"{env} has no method action_masks(): sb3_contrib's ActionMasker gives it one") from error
        self._is_dict = isinstance(space, spaces.Dict)
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"observation": space}
        if MASK in parts:
            raise ValueError(f"observation_space={space} has an observation {MASK!r} already: use it without this wrapper")
        self.observation_space = spaces.Dict({**parts, MASK: spaces.MultiBinary(sum(choices))})

    def reset(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """
        Start an episode.

        :param kwargs: Arguments of the environment
        :return: Observation with the mask, and information
        """
        observation, info = self.env.reset(**kwargs)
        return self._with_mask(observation), info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """
        Take a step.

        :param action: Action
        :return: Observation with the mask, reward, whether the episode has terminated or was truncated, and information
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._with_mask(observation, terminated), reward, terminated, truncated, info

    def _with_mask(self, observation: Any, terminated: bool = False) -> dict[str, Any]:
        # Nobody acts in a terminal state, where an environment may have nothing to allow
        size = self.observation_space[MASK].shape  # type: ignore[index]
        masks = np.ones(size) if terminated else self.env.get_wrapper_attr("action_masks")()
        mask = check_masks(masks, self.action_space)[0]
        return {**(observation if self._is_dict else {"observation": observation}), MASK: mask}
