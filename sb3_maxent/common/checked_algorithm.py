"""SB3's off-policy algorithm, with checks of what the environment gives."""

import io
import pathlib
import warnings
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, TensorDict, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv

from sb3_maxent.common.arguments import LARGEST, check_count, check_number, make_schedule
from sb3_maxent.common.errors import check_finite, check_observation, check_parameters, check_transition, distribution_errors
from sb3_maxent.common.loading import check_model_file, loading_errors
from sb3_maxent.common.sb3_arguments import (
    check_action_box,
    check_device,
    check_dict,
    check_observation_space,
    check_off_policy_arguments,
    check_policy,
)

ACTION_HINT = "The networks or the action noise gave it: go on from the last checkpoint, or normalise the observations"
SelfCheckedAlgorithm = TypeVar("SelfCheckedAlgorithm", bound="CheckedOffPolicyAlgorithm")


class CheckedOffPolicyAlgorithm(OffPolicyAlgorithm):
    """
    Off-policy algorithm that refuses arguments without a meaning, non-finite observations and rewards before they are stored,
    and damaged files, and counts updates per step.

    :param policy: Name or class of the policy
    :param env: Environment, or its name
    :param learning_rate: Learning rate, a number or a schedule
    :param policy_kwargs: Arguments of the policy
    :param replay_buffer_kwargs: Arguments of the replay buffer
    :param verbose: Verbosity level
    :param device: Device
    :param kwargs: Keyword arguments of SB3's ``OffPolicyAlgorithm``
    :raises ValueError: If an argument has no meaning
    """

    # What every policy of the algorithm is derived from
    policy_base: ClassVar[type[BasePolicy]]

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str,
        learning_rate: Any,
        *,
        policy_kwargs: dict[str, Any] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        device: th.device | str = "auto",
        **kwargs: Any,
    ):
        check_policy(policy, self.policy_base)
        check_device(device)
        check_dict(policy_kwargs, "policy_kwargs")
        check_dict(replay_buffer_kwargs, "replay_buffer_kwargs")
        check_count(int(verbose) if isinstance(verbose, bool) else verbose, "verbose", minimum=0)
        super().__init__(
            policy,
            env,
            learning_rate,
            # Copies, as SB3 adds entries of this model
            policy_kwargs=dict(policy_kwargs or {}),
            replay_buffer_kwargs=dict(replay_buffer_kwargs or {}),
            verbose=verbose,
            device=device,
            **kwargs,
        )
        # Environment steps of the last rollout, over all environments
        self._rollout_timesteps = 0
        self._few_updates_warned_of = False

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        if hasattr(env, "observation_space"):
            check_observation_space(env.observation_space)
        return OffPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def _check_hyperparameters(self) -> None:
        if not hasattr(self, "observation_space"):
            raise ValueError("env=None: give an environment, or its name")
        check_action_box(self.action_space)
        check_off_policy_arguments(self)
        if self.seed is not None:
            self.seed = int(self.seed)  # which Python's generator insists on

    def _setup_model(self) -> None:
        try:
            super()._setup_model()
        except TypeError as error:
            if "argument" not in str(error):
                raise
            names = f"policy_kwargs={self.policy_kwargs!r}, replay_buffer_kwargs={self.replay_buffer_kwargs!r}"
            raise ValueError(f"{names}: {error}") from error

    def _setup_lr_schedule(self) -> None:
        self.lr_schedule = make_schedule(self.learning_rate, "learning_rate")

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        # The last rollout may pass the end, where a schedule may be negative
        self._current_progress_remaining = max(0.0, self._current_progress_remaining)

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

        :raises NonFiniteError: If an action, a reward or an observation is NaN or infinite; nothing is stored then
        """
        check_finite({"action": buffer_action}, self.num_timesteps, ACTION_HINT)
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
        :raises ValueError: If an argument has no meaning
        :raises NonFiniteError: If a reward, observation, action, loss or parameter is NaN or infinite
        """
        # Less than none are left where a rollout passed the end
        check_number(total_timesteps, "total_timesteps", low=-LARGEST)
        if log_interval is not None and (log_interval == 0 or not isinstance(log_interval, (int, np.integer))):
            raise ValueError(f"log_interval={log_interval!r}: give a number of episodes, or None")
        with distribution_errors(self):
            super().learn(
                total_timesteps=int(total_timesteps),
                callback=callback,
                log_interval=log_interval,  # type: ignore[arg-type]
                tb_log_name=type(self).__name__ if tb_log_name is None else tb_log_name,
                reset_num_timesteps=reset_num_timesteps,
                progress_bar=progress_bar,
            )
        check_parameters(self)
        return self

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Choose actions as SB3 does.

        :param observation: One observation or a batch
        :param state: Not used
        :param episode_start: Not used
        :param deterministic: Whether to choose the best action instead of a random one
        :return: Actions, and ``state``
        :raises NonFiniteError: If an action is NaN
        """
        with distribution_errors(self):
            actions, state = super().predict(observation, state, episode_start, deterministic)
        check_finite({"action": actions}, self.num_timesteps, ACTION_HINT)
        return actions, state

    def set_parameters(
        self, load_path_or_dict: str | TensorDict, exact_match: bool = True, device: th.device | str = "auto"
    ) -> None:
        """
        Set the parameters of networks and optimizers as SB3 does.

        :param load_path_or_dict: File, or a dictionary of state dictionaries
        :param exact_match: Whether all of them must be there
        :param device: Device
        :raises ValueError: If there are parameters of something that this model has not
        """
        for name in load_path_or_dict if isinstance(load_path_or_dict, dict) else ():
            if recursive_getattr(self, name, self) is None:
                raise ValueError(f"got the parameters of {name}, which this model has not: is ent_coef the same?")
        super().set_parameters(load_path_or_dict, exact_match, device)

    @classmethod
    def load(
        cls: type[SelfCheckedAlgorithm],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> SelfCheckedAlgorithm:
        """
        Load a model as SB3 does, after a look at the file.

        :param path: File, with or without ``.zip``, or a file object
        :param env: Environment to go on in, with the spaces of the first one
        :param device: Device
        :param custom_objects: Values of entries that are not to be read from the file
        :param print_system_info: Whether to print with which versions the model was saved
        :param force_reset: Whether the environment is reset before training goes on
        :param kwargs: Attributes of the model to change
        :return: The model
        :raises ValueError: If the file is damaged, incomplete, of another algorithm, or does not fit the other arguments
        """
        check_device(device)
        check_model_file(path, cls, cls.policy_base, custom_objects)
        with loading_errors(path, cls):
            return super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)
