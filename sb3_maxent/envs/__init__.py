"""Tasks of the Soft Q-learning paper. Importing ``sb3_maxent`` registers them in gymnasium."""

import gymnasium as gym

from sb3_maxent.envs.multi_goal import MultiGoalEnv

__all__ = ["MultiGoalEnv"]

gym.register("MultiGoal-v0", entry_point="sb3_maxent.envs.multi_goal:MultiGoalEnv", max_episode_steps=30)
