"""Docking by thrusters that are on or off: a task of several discrete actions at a time, with a known optimum."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_maxent.common.checks import check_choice, check_count
from sb3_maxent.envs.drawing import draw_image

SIZE = 8
# Largest speed from wall to wall: 1 + 2 + ... + MAX_SPEED <= 2 * SIZE
MAX_SPEED = 5
ACTIONS = ("MultiDiscrete", "MultiBinary")


class DockingEnv(gym.Env[np.ndarray, np.ndarray]):
    r"""
    ## Description

    A ship floats in a box and docks in the middle, where it must come to rest. Each axis has two thrusters, which push it
    to either side, and nothing brakes it but the other thruster. So it has to turn round halfway: pushing on until it is there
    carries it past. All axes are to be controlled at a time, and as none depends on another, a policy of independent factors
    can be optimal.

    ## Action Space

    - `actions="MultiDiscrete"`: `MultiDiscrete([3] * n_axes)`, the acceleration of each axis: 0, 1, 2 are -1, 0, 1.
    - `actions="MultiBinary"`: `MultiBinary(2 * n_axes)`, the thrusters of each axis. The first one accelerates by -1, the
      second one by 1, and both together by 0.

    ## Observation Space

    A `Box(-1, 1, (2 * n_axes,), float32)`: all positions divided by 8, then all velocities divided by 5.

    ## Transition

    Positions and velocities are whole numbers. On each axis $v' = v + a$ and $x' = x + v'$. At a wall, $|x'| \ge 8$, the axis
    stops: $|x'| = 8$ and $v' = 0$.

    ## Rewards

    Minus the share of the axes that are not docked, $(x', v') \ne (0, 0)$, after the step.

    **Optimum.** The largest distance that is covered in $n$ steps from rest to rest is $\lfloor n^2 / 4 \rfloor$: with full
    thrust, then full thrust against it. So an axis at distance $d$ docks in $\lceil 2 \sqrt{d} \rceil$ steps and no fewer,
    the last of which costs nothing, and the largest return is

    $$- \frac{1}{n} \sum_{i=1}^{n} \left( \lceil 2 \sqrt{|x_i|} \rceil - 1 \right)$$

    without a discount. Over random starts its mean is -3.375 for any number of axes. Uniform actions have about -50.

    ## Starting State

    At rest, on each axis at one of the positions -8, ..., -1, 1, ..., 8, all equally likely.

    ## Episode End

    1. Termination: all axes are docked.
    2. Truncation: 50 steps.

    `info["docked"]` is the number of axes that are docked.

    ## Version History

    * v0: Initial version

    :param actions: ``"MultiDiscrete"`` or ``"MultiBinary"``
    :param n_axes: Number of axes
    :param render_mode: ``"rgb_array"`` or ``None``
    :raises ValueError: If there is no such kind of actions, or the number is not a positive integer
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012

    def __init__(self, actions: str = "MultiDiscrete", n_axes: int = 2, render_mode: str | None = None):
        check_choice(actions, "actions", ACTIONS)
        check_count(n_axes, "n_axes")
        self.n_axes, self.render_mode = n_axes, render_mode
        self.action_space: spaces.Space = (
            spaces.MultiDiscrete([3] * n_axes) if actions == "MultiDiscrete" else spaces.MultiBinary(2 * n_axes)
        )
        self.observation_space = spaces.Box(-1.0, 1.0, (2 * n_axes,), np.float32)
        self.position = np.zeros(n_axes, int)
        self.velocity = np.zeros(n_axes, int)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Start an episode.

        :param seed: Seed of the starting position
        :param options: ``{"position": ...}`` to start there, whole numbers of shape (axes,)
        :return: Observation, shape (2 * axes,), and information
        :raises ValueError: If the position is not in the box, or docked already
        """
        super().reset(seed=seed)
        distance = self.np_random.integers(1, SIZE, self.n_axes, endpoint=True)
        position = distance * self.np_random.choice([-1, 1], self.n_axes)
        if options and "position" in options:
            position = np.asarray(options["position"])
            in_box = position.shape == (self.n_axes,) and position.dtype.kind == "i" and np.abs(position).max() <= SIZE
            if not in_box or not position.any():
                raise ValueError(f"position={options['position']}: give {self.n_axes} whole numbers, not all 0, up to {SIZE}")
        self.position, self.velocity = position, np.zeros(self.n_axes, int)
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        Fire the thrusters.

        :param action: Action
        :return: Observation, reward, whether all axes are docked, False, and the number of those that are
        """
        self.velocity = self.velocity + self._acceleration(np.asarray(action, int))
        self.position = self.position + self.velocity
        self.velocity = np.where(np.abs(self.position) >= SIZE, 0, self.velocity)
        self.position = np.clip(self.position, -SIZE, SIZE)
        info = self._info()
        share = info["docked"] / self.n_axes
        return self._observation(), share - 1.0, info["docked"] == self.n_axes, False, info

    def render(self) -> np.ndarray | None:
        """
        Draw a line for each axis, with the dock, the ship, and where its speed takes it in the next step.

        :return: Image, shape (height, width, 3), or ``None`` without a render mode
        :raises DependencyNotInstalled: If matplotlib is missing
        """
        return None if self.render_mode is None else draw_image(self._draw)

    def _draw(self, axes: Any) -> None:
        rows = np.arange(self.n_axes)
        axes.hlines(rows, -SIZE, SIZE, colors="lightgray")
        axes.plot(np.zeros(self.n_axes), rows, "rs", markersize=12)
        axes.hlines(rows, self.position, self.position + self.velocity, colors="b")
        axes.plot(self.position, rows, "bo")
        axes.set(xlim=(-SIZE - 1, SIZE + 1), ylim=(-0.5, self.n_axes - 0.5))

    def best_return(self) -> float:
        """
        The largest return from the start of an episode on, without a discount.

        :return: Return
        """
        return -sum(math.ceil(2 * math.sqrt(abs(x))) - 1 for x in self.position.tolist() if x) / self.n_axes

    def _acceleration(self, action: np.ndarray) -> np.ndarray:
        if isinstance(self.action_space, spaces.MultiDiscrete):
            return action - 1  # (axes,)
        thrusters = action.reshape(self.n_axes, 2)
        return thrusters[:, 1] - thrusters[:, 0]  # (axes,)

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.position / SIZE, self.velocity / MAX_SPEED]).astype(np.float32)

    def _info(self) -> dict[str, Any]:
        return {"docked": int(((self.position == 0) & (self.velocity == 0)).sum())}
