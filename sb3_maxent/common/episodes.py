"""Episodes that are left before their end."""

import warnings

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.her import HerReplayBuffer


def start_new_episodes(model: OffPolicyAlgorithm) -> None:
    """
    Make the next ``learn`` reset the environments, and end the current episodes in the replay buffer at their last
    transitions.

    Otherwise n-step returns, the goals of HER, and next observations that are not stored separately
    (``optimize_memory_usage``) would mix two episodes.

    :param model: The model
    """
    model._last_obs = None
    replay_buffer = model.replay_buffer
    if not isinstance(replay_buffer, ReplayBuffer) or replay_buffer.size() == 0:
        return
    last = replay_buffer.pos - 1
    if isinstance(replay_buffer, HerReplayBuffer):
        with warnings.catch_warnings():
            # It advises against what is right here
            warnings.filterwarnings("ignore", "The last trajectory in the replay buffer will be truncated")
            replay_buffer.truncate_last_trajectory()
    elif replay_buffer.optimize_memory_usage:
        # As in SB3: the next observation will be overwritten, so its value must not be in a target
        replay_buffer.dones[last] = True
    else:
        replay_buffer.timeouts[last] = np.logical_or(replay_buffer.timeouts[last], np.logical_not(replay_buffer.dones[last]))
