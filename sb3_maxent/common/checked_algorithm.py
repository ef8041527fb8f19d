"""SB3's off-policy algorithm, with checks of what the environment gives."""

import warnings
from typing import Any, TypeVar

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import MaybeCallback, RolloutReturn, TrainFrequencyUnit

from sb3_maxent.common.errors import check_observation, check_transition

SelfCheckedAlgorithm = TypeVar("SelfCheckedAlgorithm", bound="CheckedOffPolicyAlgorithm")


class CheckedOffPolicyAlgorithm(OffPolicyAlgorithm):
    """
    Off-policy algorithm that refuses non-finite observations and rewards before they are stored, and counts updates per step.

    :param args: Arguments of SB3's ``OffPolicyAlgorithm``
    :param kwargs: Keyword arguments of SB3's ``OffPolicyAlgorithm``
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Environment steps of the last rollout, over all environments
        self._rollout_timesteps = 0
        self._few_updates_warned_of = False

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        total_timesteps, callback = super()._setup_learn(*args, **kwargs)
        self._warn_of_few_updates()
        # The first observation; the later ones are checked before they are stored
        check_observation(self._last_obs, self.num_timesteps)
        return total_timesteps, callback

    def _warn_of_few_updates(self) -> None:
        # ``train_freq`` counts steps of all environments together as one
        train_freq: Any = self.train_freq
        if self.n_envs == 1 or self.gradient_steps <= 0 or train_freq.unit != TrainFrequencyUnit.STEP:
            return
        updates_per_step = self.gradient_steps / (train_freq.frequency * self.n_envs)
        if updates_per_step < 1 and not self._few_updates_warned_of:
            self._few_updates_warned_of = True
            warnings.warn(
                f"{updates_per_step:.3g} updates per step: train_freq={train_freq.frequency} counts a step of all "
                f"{self.n_envs} environments as one. gradient_steps=-1 makes as many updates as steps"
            )

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """
        Collect a rollout as SB3 does, and remember its length for the log.

        :param args: Arguments of ``OffPolicyAlgorithm.collect_rollouts``
        :param kwargs: Keyword arguments of ``OffPolicyAlgorithm.collect_rollouts``
        :return: Number of steps and episodes, and whether to go on
        """
        rollout = super().collect_rollouts(*args, **kwargs)
        self._rollout_timesteps = rollout.episode_timesteps
        return rollout

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """
        Store a transition as SB3 does, unless it would poison the replay buffer.

        :raises NonFiniteError: If a reward or an observation is NaN or infinite; nothing is stored then
        """
        check_transition(new_obs, reward, dones, infos, self._vec_normalize_env, self.num_timesteps)
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)

    def learn(
        self: SelfCheckedAlgorithm,
        total_timesteps: float,
        callback: MaybeCallback = None,
        log_interval: int | None = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfCheckedAlgorithm:
        """
        Train the model.

        :param total_timesteps: Number of environment steps, over all environments; ``3e6`` is fine
        :param callback: Callback(s) called at every step
        :param log_interval: Number of episodes between two logs, ``None`` not to log by episodes
        :param tb_log_name: Name of the run for TensorBoard, by default the name of the class
        :param reset_num_timesteps: Whether to count steps from zero
        :param progress_bar: Whether to show a progress bar (needs tqdm and rich)
        :return: The trained model
        """
        return super().learn(
            total_timesteps=int(total_timesteps),
            callback=callback,
            log_interval=log_interval,  # type: ignore[arg-type]
            tb_log_name=type(self).__name__ if tb_log_name is None else tb_log_name,
            reset_num_timesteps=reset_num_timesteps,
            progress_bar=progress_bar,
        )
