"""Tasks of the Soft Q-learning paper, a task of several discrete actions, and wrappers of action spaces. Importing
``sb3_maxent`` registers the tasks in gymnasium."""

import gymnasium as gym

from sb3_maxent.envs.discretize import DiscretizeAction
from sb3_maxent.envs.docking import ACTIONS, DockingEnv
from sb3_maxent.envs.flatten_action import FlattenAction
from sb3_maxent.envs.masks import ActionMaskObservation
from sb3_maxent.envs.mazes import LAYOUTS, ROBOTS, MazeTaskEnv
from sb3_maxent.envs.multi_goal import MultiGoalEnv

__all__ = ["ActionMaskObservation", "DiscretizeAction", "DockingEnv", "FlattenAction", "MazeTaskEnv", "MultiGoalEnv"]

gym.register("MultiGoal-v0", entry_point="sb3_maxent.envs.multi_goal:MultiGoalEnv", max_episode_steps=30)
for kind in ACTIONS:
    # DockingMultiDiscrete-v0, DockingMultiBinary-v0
    entry_point = "sb3_maxent.envs.docking:DockingEnv"
    gym.register(f"Docking{kind}-v0", entry_point=entry_point, max_episode_steps=50, kwargs={"actions": kind})
# It needs MuJoCo, so it is not imported before it is made
gym.register("SwimmerFinishLine-v0", entry_point="sb3_maxent.envs.swimmer:FinishLineSwimmerEnv", max_episode_steps=500)
for robot in ROBOTS:
    for layout in LAYOUTS:
        # For instance PointTwoPassages-v0, AntUMaze-v0
        name = robot.capitalize() + "".join(word.capitalize() for word in layout.split("_"))
        kwargs = {"robot": robot, "layout": layout}
        gym.register(f"{name}-v0", entry_point="sb3_maxent.envs.mazes:MazeTaskEnv", max_episode_steps=500, kwargs=kwargs)
