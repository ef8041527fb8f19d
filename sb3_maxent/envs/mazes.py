"""Tasks of the Soft Q-learning paper for a robot in a maze of gymnasium-robotics."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled

from sb3_maxent.common.checks import check_choice

ROBOTS = ("point", "ant")
HALLWAY_LENGTH = 21
# 1 is a wall, "r" the start and "g" the goal
TWO_PASSAGES: list[list[Any]] = [
    [1, 1, 1, 1, 1, 1, 1],
    [1, 0, 0, 0, 0, 1, 1],
    [1, "r", 1, 1, 1, "g", 1],
    [1, 0, 0, 0, 0, 0, 1],
    [1, 1, 1, 1, 1, 1, 1],
]
U_MAZE: list[list[Any]] = [[1, 1, 1, 1, 1], [1, "r", 0, 0, 1], [1, 1, 1, 0, 1], [1, "g", 0, 0, 1], [1, 1, 1, 1, 1]]


def make_hallway(half_width: int) -> list[list[Any]]:
    """
    A hallway along x that is open at both ends, with the start in the middle.

    :param half_width: Number of free cells on either side of the middle
    :return: Map
    """
    free = [[0] * HALLWAY_LENGTH for _ in range(2 * half_width + 1)]
    rows: list[list[Any]] = [[1] * HALLWAY_LENGTH, *free, [1] * HALLWAY_LENGTH]
    middle = rows[half_width + 1]
    middle[HALLWAY_LENGTH // 2], middle[0] = "r", "g"
    return rows


# Speed tasks have a goal cell because gymnasium-robotics needs one. Nothing depends on it
LAYOUTS: dict[str, list[list[Any]]] = {
    "two_passages": TWO_PASSAGES,
    "u_maze": U_MAZE,
    "arena": [["g", 0, "r", 0, 0]],
    "wide_hallway": make_hallway(1),
    "narrow_hallway": make_hallway(0),
}
GOAL_LAYOUTS = ("two_passages", "u_maze")
# Standard deviation of the reward's bump, in cells
BUMP_WIDTH = 1.5


class MazeTaskEnv(gym.Env[np.ndarray, np.ndarray]):
    r"""
    ## Description

    A robot moves in a maze. All tasks of a robot have the same spaces, so a policy of one task can start another one
    (`model.start_from`). The paper first trains in the empty arena, and then in the hallways and the U-maze.

    | layout | task | reward |
    |---|---|---|
    | `two_passages` | Two passages lead around a wall towards the goal. The upper one is a dead end near the goal | bump |
    | `u_maze` | Get from one end of a U to the other | bump |
    | `arena` | Move in an empty plane | speed |
    | `wide_hallway`, `narrow_hallway` | Move in a hallway, 3 cells or 1 cell wide, 21 cells long, open at both ends | speed |

    Paper: https://arxiv.org/abs/1702.08165 (sections 5.2 and 5.3). It gives neither the sizes nor the width of the bump, and
    the authors have not published code for these tasks. This package chose all maps, the size of a cell (1 m for the point, 4
    m for the ant), the width of the bump (1.5 cells), the fixed start, the observations, and Gymnasium's ant instead of
    rllab's. Both rewards, the 500 steps, and the end of an episode when the ant lies on its back come from the paper.

    ## Action Space

    That of the robot: forces on the point, `Box(-1, 1, (2,), float32)`, or torques of the ant's joints,
    `Box(-1, 1, (8,), float32)`.

    ## Observation Space

    Positions and velocities of the robot, with x and y first: `Box(-inf, inf, (4,), float64)` for the point,
    `Box(-inf, inf, (29,), float64)` for the ant, without contact forces.

    ## Rewards

    With the position $p$ after the step, the goal $g$ and the size $c$ of a cell,

    - bump: $r = \exp(-\|p - g\|^2 / (2 \cdot 1.5^2 c^2))$
    - speed: $r = \|\dot p\|$, in m/s, of the torso

    ## Starting State

    At rest in the middle of the start cell. The middle of the map is the origin.

    ## Episode End

    1. Termination: the ant lies on its back, or the simulation diverges.
    2. Truncation: 500 steps.

    `info` has `position`. For the tasks with a goal it also has `distance` and `min_distance`, the smallest distance of the
    episode. If the distance is smaller than `threshold`, the robot has taken the open passage of `two_passages`, because no
    point of the other passage is that near to the goal.

    ## Arguments

    It needs gymnasium-robotics: `pip install "sb3-maxent[mazes]"`.

    ## Version History

    * v0: Initial version

    :param robot: ``"point"`` or ``"ant"``
    :param layout: Name of the map
    :param render_mode: As those of Gymnasium's MuJoCo environments
    :raises ValueError: If there is no such robot or layout
    :raises DependencyNotInstalled: If gymnasium-robotics is missing
    """

    metadata = {"render_modes": ["human", "rgb_array", "depth_array"]}  # noqa: RUF012

    def __init__(self, robot: str = "point", layout: str = "two_passages", render_mode: str | None = None):
        check_choice(robot, "robot", ROBOTS)
        check_choice(layout, "layout", LAYOUTS)
        self.render_mode, self.is_ant, self.has_goal = render_mode, robot == "ant", layout in GOAL_LAYOUTS
        self.maze = make_maze(robot, LAYOUTS[layout], render_mode)
        # The goal is fixed, without noise
        self.maze.position_noise_range = 0.0
        self.robot = (self.maze.ant_env if self.is_ant else self.maze.point_env).unwrapped
        self.cell = float(self.maze.maze.maze_size_scaling)
        self.goal = np.array(self.maze.maze.unique_goal_locations[0])
        # Half the diagonal of a cell is the distance from the middle of the goal's cell to its corner
        self.threshold = self.cell * np.sqrt(0.5)
        self.min_distance = np.inf
        self.action_space = spaces.Box(-1.0, 1.0, self.robot.action_space.shape, np.float32)
        size = self.robot.data.qpos.size + self.robot.data.qvel.size
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float64)
        self.metadata = {**self.metadata, "render_fps": round(1 / self.robot.dt)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Start an episode.

        :param seed: Seed. It has no effect, because the start is fixed
        :param options: Not used
        :return: Observation and information
        """
        super().reset(seed=seed)
        self.maze.reset(seed=seed)
        self.min_distance = np.inf
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        Move.

        :param action: Forces or torques
        :return: Observation, reward, whether the robot has fallen or the simulation has diverged, False, and information
        """
        before, end = self._position(), self.robot.data.time + self.robot.dt
        self.robot.step(np.clip(action, -1.0, 1.0))
        observation, info = self._observation(), self._info()
        if self.has_goal:
            reward = np.exp(-(info["distance"] ** 2) / (2 * (BUMP_WIDTH * self.cell) ** 2))
        else:
            reward = np.linalg.norm(info["position"] - before) / self.robot.dt
        if self.robot.data.time < end - 0.5 * self.robot.model.opt.timestep:
            # The simulation has diverged, and MuJoCo has put the robot back to the start, where its clock began again
            return observation, 0.0, True, False, info
        return observation, float(reward), self._has_fallen(observation), False, info

    def render(self) -> Any:
        """
        Draw the robot and the walls.

        :return: An image, or ``None``
        """
        return self.robot.render()

    def close(self) -> None:
        """Close the window."""
        self.maze.close()

    def _position(self) -> np.ndarray:
        return self.robot.data.qpos[:2].copy()

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.robot.data.qpos, self.robot.data.qvel])

    def _info(self) -> dict[str, Any]:
        position = self._position()
        if not self.has_goal:
            return {"position": position}
        distance = float(np.linalg.norm(position - self.goal))
        self.min_distance = min(self.min_distance, distance)
        return {"position": position, "distance": distance, "min_distance": self.min_distance}

    def _has_fallen(self, observation: np.ndarray) -> bool:
        # From the quaternion of the torso: the z component of its upward axis. A point has none
        return bool(self.is_ant and 1 - 2 * (observation[4] ** 2 + observation[5] ** 2) < 0)


def make_maze(robot: str, layout: list[list[Any]], render_mode: str | None) -> Any:
    """
    Make the maze of gymnasium-robotics.

    :param robot: ``"point"`` or ``"ant"``
    :param layout: Map
    :param render_mode: How it is drawn
    :return: The environment
    :raises DependencyNotInstalled: If gymnasium-robotics is missing
    """
    try:
        from gymnasium_robotics.envs.maze.ant_maze_v5 import AntMazeEnv
        from gymnasium_robotics.envs.maze.point_maze import PointMazeEnv
    except ImportError as error:
        raise DependencyNotInstalled('Mazes need gymnasium-robotics: pip install "sb3-maxent[mazes]"') from error
    arguments = {"maze_map": layout, "render_mode": render_mode}
    return AntMazeEnv(**arguments, include_cfrc_ext_in_observation=False) if robot == "ant" else PointMazeEnv(**arguments)
