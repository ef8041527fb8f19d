"""
Compares ways to act with one model while it learns.

    python -m rl_zoo3.train --algo dspg --env Walker2d-v4 --seed 1 --hyperparams callback:"'benchmarks.acting.CompareActing'"

Every 10,000 steps the same model acts in each of these ways: by the mode of the policy, by a sample, by the best of 4 and of
16 samples by Q, and by the mode of an actor whose parameters are a moving average over 200 or 2,000 steps. Each is a line of
``benchmarks/results/acting.csv``: task, seed, steps, way, and the returns of five episodes that start alike. A run that goes
on after a kill starts its averages anew: delete its lines and start it again.

``CompareSampling`` does the same for SoftQLearning (``benchmarks/results/acting_softqlearning.csv``). The newest sampling
network and its averages act with zero noise, by a sample, and by one of the 32 actions of the fixed noise: by that of the
largest Q-value, also among the half of them that lies densest, of the largest Q-value of the target critic, and by that
where they are densest.
"""

import csv
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_maxent.common.updates import TargetUpdate

FILE = Path(__file__).parent / "results" / "acting.csv"
SOFT_Q_FILE = FILE.with_name("acting_softqlearning.csv")
AVERAGED_STEPS = (200, 2000)
N_SAMPLES = (4, 16)


class CompareActing(BaseCallback):
    """
    Callback that evaluates a DSPG model in several ways. It does not change what the model learns.

    :param freq: Number of steps between two evaluations
    :param n_episodes: Episodes of each way
    :param file: File to add lines to
    """

    def __init__(self, freq: int = 10_000, n_episodes: int = 5, file: str | Path = FILE):
        super().__init__()
        self.freq, self.n_episodes, self.file = freq, n_episodes, Path(file)

    def _init_callback(self) -> None:
        policy: Any = self.model.policy
        self.policy = policy
        self.averages = {steps: deepcopy(policy.actor).eval() for steps in AVERAGED_STEPS}
        self.env = gym.make(self.training_env.get_attr("spec")[0].id)

    def _on_step(self) -> bool:
        for steps, average in self.averages.items():
            TargetUpdate(self.policy.actor, average, average_statistics=True)(1 / steps)
        if self.num_timesteps % self.freq == 0:
            # The noise of training stays as it is
            with th.random.fork_rng(devices=[]):
                self._evaluate()
        return True

    def _evaluate(self) -> None:
        averaged, self.policy.averaged_actor = self.policy.averaged_actor, None
        self._write("mode", self._mode)
        self._write("sample", lambda observation: self.policy.predict(observation)[0])
        for n_samples in N_SAMPLES:
            self._write(f"best of {n_samples}", lambda observation, n=n_samples: self._best(observation, n))
        for steps, average in self.averages.items():
            self.policy.averaged_actor = average
            self._write(f"average of {steps}", self._mode)
        self.policy.averaged_actor = averaged

    def _mode(self, observation: np.ndarray) -> np.ndarray:
        return self.policy.predict(observation, deterministic=True)[0]

    def _best(self, observation: np.ndarray, n_samples: int) -> np.ndarray:
        return self._act(
            observation, lambda obs: self.policy.best_action(obs, self.policy.actor.sample_actions(obs, n_samples))
        )

    def _act(self, observation: np.ndarray, choose: Callable[[th.Tensor], th.Tensor]) -> np.ndarray:
        self.policy.set_training_mode(False)
        obs, _ = self.policy.obs_to_tensor(observation)
        with th.no_grad():
            actions = choose(obs)  # (1, action)
        return self.policy.unscale_action(actions.cpu().numpy())[0]

    def _write(self, way: str, act: Callable[[np.ndarray], np.ndarray]) -> None:
        returns = []
        for episode in range(self.n_episodes):
            observation, _ = self.env.reset(seed=1000 + episode)
            total, is_over = 0.0, False
            while not is_over:
                observation, reward, terminated, truncated, _ = self.env.step(act(observation))
                total, is_over = total + float(reward), terminated or truncated
            returns.append(round(total, 1))
        with self.file.open("a", newline="") as file:
            csv.writer(file).writerow([self.env.spec.id, self.model.seed, self.num_timesteps, way, *returns])


class CompareSampling(CompareActing):
    """
    Callback that evaluates a SoftQLearning model in several ways. It does not change what the model learns.

    :param freq: Number of steps between two evaluations
    :param n_episodes: Episodes of each way
    :param file: File to add lines to
    """

    def __init__(self, freq: int = 10_000, n_episodes: int = 5, file: str | Path = SOFT_Q_FILE):
        super().__init__(freq, n_episodes, file)

    def _evaluate(self) -> None:
        actors = {"": self.policy.actor, **{f" / average of {steps}": actor for steps, actor in self.averages.items()}}
        for name, actor in actors.items():
            ways = {
                "sample": lambda obs, actor=actor: actor.sample_actions(obs, 1)[:, 0],
                "zero noise": lambda obs, actor=actor: actor.actions_from_noise(
                    obs, th.zeros(1, 1, actor.noise_dim, device=actor.device)
                )[:, 0],
                "largest Q": lambda obs, actor=actor: self._largest(self.policy.critic, obs, actor.fixed_actions(obs)),
                "largest target Q": lambda obs, actor=actor: self._largest(
                    self.policy.critic_target, obs, actor.fixed_actions(obs)
                ),
                "densest": lambda obs, actor=actor: actor.candidates(obs)[:, 0],
                "largest Q of the denser half": lambda obs, actor=actor: self._largest(
                    self.policy.critic, obs, actor.candidates(obs)
                ),
            }
            for way, choose in ways.items():
                self._write(way + name, lambda observation, choose=choose: self._act(observation, choose))

    def _largest(self, critic: Any, obs: th.Tensor, candidates: th.Tensor) -> th.Tensor:
        best = critic.q_values(critic.embed(obs), candidates).argmax(dim=1)  # (1,)
        return candidates[:, best.item()]
