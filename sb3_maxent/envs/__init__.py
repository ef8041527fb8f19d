"""Tasks of the Soft Q-learning paper, and wrappers of action spaces. Importing ``sb3_maxent`` registers them in gymnasium."""

import gymnasium as gym

from sb3_maxent.envs.flatten_action import FlattenAction
from sb3_maxent.envs.masks import ActionMaskObservation
from sb3_maxent.envs.mazes import LAYOUTS, ROBOTS, MazeTaskEnv
from sb3_maxent.envs.multi_goal import MultiGoalEnv

__all__ = ["ActionMaskObservation", "FlattenAction", "MazeTaskEnv", "MultiGoalEnv"]

gym.register("MultiGoal-v0", entry_point="sb3_maxent.envs.multi_goal:MultiGoalEnv", max_episode_steps=30)
# It needs MuJoCo, so it is not imported before it is made
gym.register("SwimmerFinishLine-v0", entry_point="sb3_maxent.envs.swimmer:FinishLineSwimmerEnv", max_episode_steps=500)
for robot in ROBOTS:
    for layout in LAYOUTS:
        # For instance PointTwoPassages-v0, AntUMaze-v0
        name = robot.capitalize() + "".join(word.capitalize() for word in layout.split("_"))
        kwargs = {"robot": robot, "layout": layout}
        gym.register(f"{name}-v0", entry_point="sb3_maxent.envs.mazes:MazeTaskEnv", max_episode_steps=500, kwargs=kwargs)
