"""Maximum-entropy reinforcement learning for Stable-Baselines3."""

from sb3_maxent import envs
from sb3_maxent.dspg import DSPG
from sb3_maxent.softqlearning import SoftQLearning

__version__ = "0.1.0"

__all__ = ["DSPG", "SoftQLearning", "__version__", "envs"]
