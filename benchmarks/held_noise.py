"""
Explores with noise that is held for several steps, to measure whether it pays.

    python -m rl_zoo3.train --algo dspg --env Walker2d-v4 --seed 1 --hyperparams callback:"'benchmarks.held_noise.HoldNoise'"
"""

from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback


class HoldNoise(BaseCallback):
    """
    Callback that draws new noise for the actions of a rollout every few steps. Updates and evaluations draw theirs as before.

    :param steps: Number of steps with the same noise
    """

    def __init__(self, steps: int = 4):
        super().__init__()
        self.steps, self.step = steps, 0
        self.noise: th.Tensor | None = None

    def _on_rollout_start(self) -> None:
        policy: Any = self.model.policy
        policy.actor.draw_noise = self._held

    def _on_rollout_end(self) -> None:
        policy: Any = self.model.policy
        del policy.actor.draw_noise

    def _held(self, batch_size: int, n_samples: int) -> th.Tensor:
        if self.step % self.steps == 0:
            actor: Any = self.model.policy.actor
            self.noise = type(actor).draw_noise(actor, batch_size, n_samples)  # (environments, 1, noise)
        self.step += 1
        assert self.noise is not None and self.noise.shape[:2] == (batch_size, n_samples)
        return self.noise

    def _on_step(self) -> bool:
        return True
