"""
Shortens the returns of three steps to one step in the middle of a run, to measure whether it pays.

    python -m rl_zoo3.train --algo dspg --env Ant-v4 --hyperparams callback:"'benchmarks.shorter_returns.ShortenReturns'"
"""

from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback


class ShortenReturns(BaseCallback):
    """
    Callback that shortens the n-step returns. Returns of several steps learn faster at first. But they hold the actions of
    earlier policies, without a correction, which may limit what is learned later.

    :param after: Environment step from which on they are shorter
    :param n_steps: Number of steps from then on
    :raises ValueError: If the model has no n-step returns
    """

    def __init__(self, after: int = 100_000, n_steps: int = 1):
        super().__init__()
        self.after, self.n_steps = after, n_steps

    def _on_step(self) -> bool:
        buffer = self.model.replay_buffer  # type: ignore[attr-defined]
        if not isinstance(buffer, NStepReplayBuffer):
            raise ValueError("ShortenReturns needs a model with n_steps > 1")
        if self.num_timesteps >= self.after:
            # The buffer holds single steps, and computes the returns when it is sampled
            buffer.n_steps = self.n_steps
        return True
