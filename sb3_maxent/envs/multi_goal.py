"""The multi-goal task of the Soft Q-learning paper."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_maxent.envs.drawing import draw_image

SIZE = 7.0


class MultiGoalEnv(gym.Env[np.ndarray, np.ndarray]):
    r"""
    ## Description

    A point in the plane starts near the origin. It gets a higher reward the closer it is to any of four goals, which are
    equally good and equally far. The Boltzmann policy goes to each goal in a quarter of the episodes. A policy with one mode
    commits to one goal, or it averages over the goals and stays near the start.

    Paper: https://arxiv.org/abs/1702.08165 (section 5.1). The constants and dynamics are those of the authors' code
    (https://github.com/haarnoja/softqlearning). The text of the paper differs from this code.

    ## Action Space

    A `Box(-1, 1, (2,), float32)`: the displacement of the point in x and y. Larger values are clipped.

    ## Observation Space

    A `Box(-7, 7, (2,), float32)`: the position of the point. The point cannot leave this box.

    ## Rewards

    With the position $s'$ after the step and the nearest goal $g$,

    $$r = -30 \|a\|^2 - \|s' - g\|^2 + 10 \cdot [\|s' - g\| < 1]$$

    ## Starting State

    Normal around the origin with standard deviation 0.1 in x and y.

    ## Episode End

    1. Termination: the point is closer than 1 to a goal, (5, 0), (-5, 0), (0, 5) or (0, -5).
    2. Truncation: 30 steps.

    `info["goal"]` is the number of the goal that was reached, -1 if none was.

    ## Arguments

    - `render_mode`: `"rgb_array"` draws the goals and the path of the episode, with matplotlib.
    - `start`: a fixed start position, for instance to look at single states.

    ```python
    >>> import gymnasium as gym
    >>> import sb3_maxent
    >>> gym.make("MultiGoal-v0", start=(2.5, 2.5))
    <TimeLimit<OrderEnforcing<PassiveEnvChecker<MultiGoalEnv<MultiGoal-v0>>>>>

    ```

    ## Version History

    * v0: Initial version

    :param render_mode: ``"rgb_array"`` or ``None``
    :param start: Fixed start position. By default the start is random and near the origin
    :raises ValueError: If the start is not a position inside the box
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012
    goals: ClassVar[np.ndarray] = np.array([[5.0, 0.0], [-5.0, 0.0], [0.0, 5.0], [0.0, -5.0]])
    action_cost = 30.0
    goal_reward = 10.0
    goal_radius = 1.0
    start_std = 0.1

    def __init__(self, render_mode: str | None = None, start: tuple[float, float] | None = None):
        self.observation_space = spaces.Box(-SIZE, SIZE, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.render_mode = render_mode
        if start is not None and (np.shape(start) != (2,) or not np.all(np.abs(start) <= SIZE)):
            raise ValueError(f"start={start}: give a position (x, y) with both between {-SIZE} and {SIZE}")
        self.start = start
        self.path: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Start an episode.

        :param seed: Seed of the starting position
        :param options: Not used
        :return: Position, shape (2,), and no information
        """
        super().reset(seed=seed)
        position = self.np_random.normal(0.0, self.start_std, 2) if self.start is None else np.asarray(self.start, float)
        self.path = [np.clip(position, -SIZE, SIZE)]
        return self.path[-1].astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        Move the point.

        :param action: Displacement, shape (2,)
        :return: Position, reward, whether a goal was reached, False, and the number of that goal
        """
        action = np.clip(np.asarray(action, float), -1.0, 1.0)
        position = np.clip(self.path[-1] + action, -SIZE, SIZE)
        self.path.append(position)
        squared_distances = ((position - self.goals) ** 2).sum(axis=1)
        nearest = int(squared_distances.argmin())
        reached = bool(squared_distances[nearest] < self.goal_radius**2)
        reward = -self.action_cost * (action**2).sum() - squared_distances[nearest] + self.goal_reward * reached
        return position.astype(np.float32), float(reward), reached, False, {"goal": nearest if reached else -1}

    def render(self) -> np.ndarray | None:
        """
        Draw the goals, the contours of the distance to the nearest one and the path of the episode.

        :return: Image, shape (height, width, 3), or ``None`` without a render mode
        :raises DependencyNotInstalled: If matplotlib is missing
        """
        return None if self.render_mode is None else draw_image(self._draw)

    def _draw(self, axes: Any) -> None:
        grid = np.stack(np.meshgrid(*[np.linspace(-SIZE, SIZE, 100)] * 2), axis=-1)  # (100, 100, 2)
        cost = ((grid[:, :, None] - self.goals) ** 2).sum(axis=-1).min(axis=-1)  # (100, 100)
        axes.contour(grid[..., 0], grid[..., 1], cost, 20, colors="lightgray", linewidths=0.8)
        axes.plot(*self.goals.T, "ro", markersize=10)
        axes.plot(*np.array(self.path).T, "b.-")
        axes.set(xlim=(-SIZE, SIZE), ylim=(-SIZE, SIZE), aspect="equal")
