"""Maximum-entropy reinforcement learning for Stable-Baselines3."""

from sb3_maxent import envs
from sb3_maxent.dspg import DSPG

__version__ = "0.1.0"

__all__ = ["DSPG", "__version__", "envs"]
