"""
Changes a hyperparameter in the middle of a run, to measure what limits learning then.

    python -m rl_zoo3.train --algo dspg --env Ant-v4 --seed 1 -n 160000 --hyperparams \
        callback:"[{'benchmarks.later.ChangeLater': {'n_action_samples': 16}}]"
"""

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import ConstantSchedule


class ChangeLater(BaseCallback):
    """
    Callback that changes hyperparameters of DSPG. What is ``None`` stays as it is.

    :param after: Environment step after which they change
    :param n_steps: Number of steps of the returns, for a model with ``n_steps > 1``
    :param learning_rate: Learning rate of all networks
    :param n_action_samples: Number of actions per state in the actor loss
    :param target_entropy: Target entropy in nats
    """

    def __init__(
        self,
        after: int = 100_000,
        n_steps: int | None = None,
        learning_rate: float | None = None,
        n_action_samples: int | None = None,
        target_entropy: float | None = None,
    ):
        super().__init__()
        self.after, self.learning_rate, self.target_entropy = after, learning_rate, target_entropy
        self.n_steps, self.n_action_samples = n_steps, n_action_samples

    def _on_step(self) -> bool:
        model: Any = self.model
        if self.num_timesteps > self.after:
            if self.n_steps is not None:
                # The buffer holds single steps, and computes the returns when it is sampled
                model.replay_buffer.n_steps = self.n_steps
            if self.n_action_samples is not None:
                model.n_action_samples = self.n_action_samples
            if self.learning_rate is not None:
                model.lr_schedule = ConstantSchedule(self.learning_rate)
            if self.target_entropy is not None:
                model.target_entropy = self.target_entropy
        return True
