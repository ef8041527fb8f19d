"""Soft Q-learning."""

from sb3_maxent.softqlearning.composition import compose
from sb3_maxent.softqlearning.policies import CnnPolicy, MlpPolicy, MultiInputPolicy
from sb3_maxent.softqlearning.softqlearning import SoftQLearning

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy", "SoftQLearning", "compose"]
