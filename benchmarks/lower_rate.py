"""
Lowers the learning rate in the middle of a run, to measure whether it pays.

    python -m rl_zoo3.train --algo dspg --env Ant-v4 --hyperparams callback:"'benchmarks.lower_rate.LowerLearningRate'"
"""

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import ConstantSchedule


class LowerLearningRate(BaseCallback):
    """
    Callback that lowers the learning rate of all networks. Weights of norm one do not grow. So a step changes them as much at
    the end of a run as at its start, unless the rate falls.

    :param after: Environment step after which it is lower
    :param learning_rate: Learning rate from then on
    """

    def __init__(self, after: int = 100_000, learning_rate: float = 1e-4):
        super().__init__()
        self.after, self.learning_rate = after, learning_rate

    def _on_step(self) -> bool:
        if self.num_timesteps > self.after:
            self.model.lr_schedule = ConstantSchedule(self.learning_rate)
        return True
