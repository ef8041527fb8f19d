"""The swimmer with a finish line, a task of the Soft Q-learning paper."""

from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv

from sb3_maxent.common.checks import check_number


class FinishLineSwimmerEnv(SwimmerEnv):
    r"""
    ## Description

    A snake of three links swims in the plane. A finish line is in front of it. Before the line, swimming forward and swimming
    backward get the same reward. Behind the line, swimming forward gets more. An agent that keeps both options finds the line.
    An agent that has committed to swimming backward does not.

    Paper: https://arxiv.org/abs/1702.08165 (section 5.2). The paper does not give the position of the line and the reward
    behind it, and the authors have not published code for this task. This package chose: the line at 2 m, which a good swimmer
    reaches in less than a third of an episode; three times the reward for forward speed behind the line; no reward for
    swimming backward there; and the swimmer of Gymnasium, with its control cost and its start, instead of rllab's. Position
    and speed are those of the center of mass, as in rllab. Those of the front end, as `Swimmer-v5` has them, would pay for
    shaking it on the spot.

    ## Action Space

    A `Box(-1, 1, (2,), float32)`: the torques of the two joints, as in `Swimmer-v5`.

    ## Observation Space

    A `Box(-inf, inf, (10,), float64)`: the position in x and y, because the reward depends on it, and then the observation of
    `Swimmer-v5`.

    ## Rewards

    With the speed $v_x$ of the center of mass in a step, and its position after it before or behind the line,

    $$r = |v_x| - 10^{-4} \|a\|^2 \text{ before the line}, \quad r = 3 \max(v_x, 0) - 10^{-4} \|a\|^2 \text{ behind it}$$

    ## Starting State

    As in `Swimmer-v5`: near the origin, with uniform noise of 0.1 in all positions and velocities.

    ## Episode End

    Truncation: 500 steps.

    `info` has the position `x_center` of the center of mass, and its largest one of the episode so far, `max_x`.

    ## Version History

    * v0: Initial version

    :param finish_line: Position of the line in x, in m
    :param finish_weight: Reward for a forward speed of 1 m/s behind the line
    :param kwargs: Arguments of Gymnasium's ``SwimmerEnv``
    :raises ValueError: If an argument is not a number in its range
    """

    def __init__(self, finish_line: float = 2.0, finish_weight: float = 3.0, **kwargs: Any):
        check_number(finish_line, "finish_line")
        check_number(finish_weight, "finish_weight")
        self.finish_line, self.finish_weight = finish_line, finish_weight
        self.x_center = self.max_x = -np.inf
        super().__init__(exclude_current_positions_from_observation=False, **kwargs)
        # Gymnasium uses these arguments to make the environment again, for instance in another process
        self._ezpickle_args = ()
        self._ezpickle_kwargs = {"finish_line": finish_line, "finish_weight": finish_weight, **kwargs}
        assert isinstance(self.observation_space, spaces.Box)

    def reset_model(self) -> np.ndarray:
        """
        Start an episode.

        :return: Observation, shape (10,)
        """
        observation = super().reset_model()
        self.x_center = self.max_x = self._find_center()
        return observation

    def step(self, action: np.ndarray) -> Any:
        """
        Swim.

        :param action: Torques, shape (2,)
        :return: Observation, reward, False, False, and positions, speeds and parts of the reward
        """
        observation, reward, terminated, truncated, info = super().step(action)
        self.max_x = max(self.max_x, self.x_center)
        return observation, reward, terminated, truncated, {**info, "x_center": self.x_center, "max_x": self.max_x}

    def _find_center(self) -> float:
        # Of the state after the step: without these two calls the center is that of a stage of the integrator
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        return float(self.data.body("torso").subtree_com[0])

    def _get_rew(self, x_velocity: float, action: np.ndarray) -> tuple[float, dict[str, float]]:
        before, self.x_center = self.x_center, self._find_center()
        velocity = (self.x_center - before) / self.dt
        behind = self.x_center >= self.finish_line
        forward = self.finish_weight * max(velocity, 0.0) if behind else abs(velocity)
        cost = self.control_cost(action)
        return float(forward - cost), {"reward_forward": float(forward), "reward_ctrl": -float(cost)}
