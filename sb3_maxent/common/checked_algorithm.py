"""SB3's off-policy algorithm, with checks of its arguments, of values from the environment, and of the files that it loads."""

import operator
import pickle
import warnings
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, Schedule
from stable_baselines3.common.vec_env import VecEnv

from sb3_maxent.common.checks import (
    LARGEST,
    check_action_space,
    check_number,
    check_observation_space,
    check_off_policy_arguments,
)
from sb3_maxent.common.episodes import start_new_episodes
from sb3_maxent.common.errors import ENVIRONMENT_HINT, NonFiniteError, check_finite, check_parameters
from sb3_maxent.common.loading import ModelFile, check_load_arguments, read_data
from sb3_maxent.common.masks import MASK, check_masks, sample_allowed
from sb3_maxent.common.schedules import make_schedule

# Errors that SB3 raises if the parts of a file do not fit each other, the algorithm or the arguments
UNFIT = (AttributeError, EOFError, ImportError, LookupError, RuntimeError, TypeError, ValueError, pickle.PickleError)
SelfCheckedAlgorithm = TypeVar("SelfCheckedAlgorithm", bound="CheckedOffPolicyAlgorithm")


class CheckedOffPolicyAlgorithm(OffPolicyAlgorithm):
    """
    Off-policy algorithm with additional checks. It refuses arguments with which SB3 would fail late or learn something wrong.
    It refuses damaged files. It stops at non-finite observations and rewards before they are stored.

    :param policy: Name or class of the policy
    :param env: Environment, or its name
    :param learning_rate: Learning rate, a number, a schedule or an RL Zoo string such as ``"lin_3e-4"``
    :param kwargs: Keyword arguments of SB3's ``OffPolicyAlgorithm``
    :raises ValueError: If an argument is invalid
    """

    policy: Any
    # Base class of every policy of the algorithm, and the action spaces that it can learn
    policy_base: ClassVar[type[BasePolicy]]
    supported_action_spaces: ClassVar[tuple[type[spaces.Space], ...]]
    # Whether an error or the user has ended the last ``learn``, maybe in the middle of an update
    was_interrupted: bool = False

    def __init__(
        self, policy: str | type[BasePolicy], env: GymEnv | str, learning_rate: float | str | Schedule, **kwargs: Any
    ):
        if policy not in [*self.policy_aliases] and not (isinstance(policy, type) and issubclass(policy, self.policy_base)):
            choices = ", ".join(self.policy_aliases)
            raise ValueError(f"policy={policy!r}: give one of {choices}, or a subclass of {self.policy_base.__name__}")
        for name in ("policy_kwargs", "replay_buffer_kwargs"):
            kwargs[name] = {**(kwargs.get(name) or {})}  # copies, because SB3 adds entries to them
        super().__init__(policy, env, learning_rate, **kwargs)  # type: ignore[arg-type]

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        space = getattr(env, "observation_space", None)
        if isinstance(space, spaces.Space):  # SB3 converts spaces of the old Gym
            check_observation_space(space)
        return OffPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def _check_hyperparameters(self) -> None:
        if not hasattr(self, "action_space"):
            raise ValueError("env=None: give an environment, or its name")
        check_action_space(self)
        check_off_policy_arguments(self)

    def _setup_model(self) -> None:
        # SB3 overwrites both with the buffer that it chooses. Keep what the user gave, so that a loaded model chooses again by
        # its own n_steps and gamma
        given = self.replay_buffer_class, dict(self.replay_buffer_kwargs)
        super()._setup_model()
        self.replay_buffer_class, self.replay_buffer_kwargs = given
        if isinstance(self.action_space, spaces.Box) and self.action_space.dtype not in (np.float32, np.float64):
            # SB3's buffer has the type of the space. An integer type would truncate actions, which are scaled to [-1, 1]
            self.replay_buffer.actions = self.replay_buffer.actions.astype(np.float32)  # type: ignore[union-attr]
        frequency, n_envs = self.train_freq.frequency, self.n_envs  # type: ignore[union-attr]
        # With one environment these numbers give at least one update per step. Users who want fewer choose other numbers
        if frequency <= self.gradient_steps < frequency * n_envs:
            warnings.warn(
                f"{self.gradient_steps / (frequency * n_envs):.3g} updates per step: train_freq={frequency} counts a step of "
                f"all {n_envs} environments as one step. Set gradient_steps=-1 to make as many updates as environment steps"
            )

    def _setup_lr_schedule(self) -> None:
        self.lr_schedule = make_schedule(self.learning_rate, "learning_rate")

    def set_random_seed(self, seed: int | None = None) -> None:
        """
        Seed the random generators as SB3 does.

        :param seed: An integer, of Python or NumPy (Python's generator refuses those of NumPy). With ``None`` nothing is
            seeded
        """
        if seed is not None and not hasattr(seed, "__index__"):
            raise ValueError(f"seed={seed!r}: give an integer, or None")
        super().set_random_seed(None if seed is None else operator.index(seed))

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        # The last rollout may take more steps than the total, where a schedule may be negative
        self._current_progress_remaining = max(0.0, self._current_progress_remaining)

    def _setup_learn(
        self, total_timesteps: int, callback: MaybeCallback = None, reset_num_timesteps: bool = True, *args: Any, **kwargs: Any
    ) -> tuple[int, BaseCallback]:
        if reset_num_timesteps or self._last_obs is None:
            # SB3 resets the environments now, maybe in the middle of an episode
            start_new_episodes(self)
        total_timesteps, callback = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)
        # This checks the first observation. The later ones are checked before they are stored
        try:
            check_finite({"observation": self._last_obs}, self.num_timesteps, ENVIRONMENT_HINT)
        except NonFiniteError:
            self._last_obs = None  # the next ``learn`` resets the environments again
            raise
        return total_timesteps, callback

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.policy.has_mask and self.num_timesteps < learning_starts:
            # SB3 would draw from all actions, also from forbidden ones
            masks = check_masks(self._last_obs[MASK], self.action_space)  # type: ignore[index]
            actions = np.array([sample_allowed(self.action_space, mask) for mask in masks])
            return actions, self.policy.scale_action(actions)
        return super()._sample_action(learning_starts, action_noise, n_envs)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Act.

        :param observation: One observation, or a batch
        :param state: Not used
        :param episode_start: Not used
        :param deterministic: Whether to act deterministically
        :param action_masks: Masks that replace those in the observation, in the form of sb3-contrib's ``MaskablePPO``
        :return: Actions, and the state
        :raises ValueError: If the model was trained without masks, or a mask allows no action
        """
        if action_masks is None:
            return super().predict(observation, state, episode_start, deterministic)
        return self.policy.predict(observation, state, episode_start, deterministic, action_masks)

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """
        Collect transitions as SB3 does.

        :param args: Arguments of SB3's ``collect_rollouts``
        :param kwargs: Its keyword arguments
        :return: Number of steps and of episodes, and whether training goes on
        """
        try:
            rollout = super().collect_rollouts(*args, **kwargs)
        except BaseException:
            start_new_episodes(self)  # the environments may be a step ahead of the replay buffer
            raise
        if not rollout.continue_training:
            # SB3 does not store the transition of the step in which a callback stops
            start_new_episodes(self)
        return rollout

    def _store_transition(
        self, replay_buffer: Any, buffer_action: np.ndarray, new_obs: Any, reward: np.ndarray, dones: np.ndarray, infos: list
    ) -> None:
        # A transition with a non-finite value is not stored: every later update could sample it
        self._check_transition(new_obs, reward, dones, infos)
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)

    def _check_transition(self, new_obs: Any, reward: np.ndarray, dones: np.ndarray, infos: list) -> None:
        vec_normalize, hint, step = self._vec_normalize_env, ENVIRONMENT_HINT, self.num_timesteps
        obs, rewards = new_obs, reward
        if vec_normalize is not None:
            # SB3 stores the original values. In the normalised ones the wrapper has clipped infinity to a finite number
            obs, rewards = vec_normalize.get_original_obs(), vec_normalize.get_original_reward()
            hint += ". The running statistics of VecNormalize have seen it and are wrong now: load them again"
        check_finite({"reward": rewards, "observation": obs}, step, hint)
        for info, done in zip(infos, dones, strict=True):
            if done:
                check_finite({"observation": info.get("terminal_observation")}, step, hint)
                if self.policy.has_mask and info.get("TimeLimit.truncated"):
                    check_masks(info["terminal_observation"][MASK], self.action_space)  # this state has a value

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

        :param total_timesteps: Number of environment steps, over all environments; ``3e6`` is fine. With
            ``reset_num_timesteps=False`` it may be negative, if the last rollout has already passed the total. Then no step is
            taken
        :param callback: Callback(s) called at every step
        :param log_interval: Number of episodes between two logs. With ``None`` nothing is logged at the end of episodes
        :param tb_log_name: Name of the run for TensorBoard, by default the name of the class
        :param reset_num_timesteps: Whether to count steps from zero
        :param progress_bar: Whether to show a progress bar (needs tqdm and rich)
        :return: The trained model
        :raises ValueError: If ``total_timesteps`` is not a valid number of steps
        :raises NonFiniteError: If a reward, observation, action, loss or parameter is NaN or infinite
        """
        check_number(total_timesteps, "total_timesteps", low=0.0 if reset_num_timesteps else -LARGEST)
        name = tb_log_name or type(self).__name__
        self.was_interrupted = False
        try:
            super().learn(int(total_timesteps), callback, log_interval, name, reset_num_timesteps, progress_bar)  # type: ignore
        except BaseException as error:
            self.was_interrupted = True
            # These errors come from the policy, or from PyTorch's distributions (gSDE), without the step
            theirs = ("action is not finite", "Q-value is not finite", "Expected parameter")
            if not isinstance(error, ValueError) or not str(error).startswith(theirs):
                raise
            raise NonFiniteError(f"policy is not finite at environment step {self.num_timesteps}: {error}") from error
        finally:
            self.policy.set_training_mode(False)
        check_parameters(self)
        return self

    @classmethod
    def load(
        cls: type[SelfCheckedAlgorithm],
        path: ModelFile,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> SelfCheckedAlgorithm:
        """
        Check the file, and load the model as SB3 does.

        :param path: File, with or without ``.zip``, or a file object
        :param env: Environment to continue in, with the spaces of the first one
        :param device: Device
        :param custom_objects: Values that replace entries of the file, which are not read then
        :param print_system_info: Whether to print the versions with which the model was saved
        :param force_reset: Whether the environment is reset before training continues
        :param kwargs: Attributes of the model to change. A new ``ent_coef`` applies at once. With the one that
            the model has, a learned coefficient goes on. ``policy_kwargs`` must not differ
        :return: The model
        :raises ValueError: If the file is damaged, incomplete, of another algorithm, or does not fit the other arguments
        """
        data = read_data(path, cls)
        check_load_arguments(cls, data, kwargs)
        if "policy_kwargs" in kwargs and "use_sde" in data["policy_kwargs"]:
            # SB3 added it to those of the model
            kwargs["policy_kwargs"] = {"use_sde": data["use_sde"], **(kwargs["policy_kwargs"] or {})}
        try:
            model = super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)
        except UNFIT as error:
            # SB3 handles every file with wrong parameters as an old file of DQN, so the first error has the cause
            cause = error.__context__ if isinstance(error.__context__, ValueError) else error
            raise ValueError(
                f"{path} does not load as a {cls.__name__} model with these arguments, {type(cause).__name__}: {cause}. "
                "Load a model with the algorithm that saved it; custom_objects replaces entries that cannot be read"
            ) from error
        model._loaded(data, {**(custom_objects or {}), **kwargs})
        return model

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "was_interrupted"]

    def _loaded(self, saved: dict[str, Any], given: dict[str, Any]) -> None:
        """
        Finish loading, after SB3 has restored everything that was saved.

        :param saved: Attributes in the file, by name
        :param given: Attributes that replace them
        """
