"""An off-policy algorithm with a temperature and a reward scale, which are saved and loaded under SB3's names."""

from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file, recursive_getattr
from stable_baselines3.common.type_aliases import GymEnv, Schedule, TensorDict

from sb3_maxent.common.checked_algorithm import CheckedOffPolicyAlgorithm
from sb3_maxent.common.checks import check_flag
from sb3_maxent.common.loading import ModelFile
from sb3_maxent.common.reward_scale import RewardScale
from sb3_maxent.common.starting import start_from
from sb3_maxent.common.temperature import Temperature, parse_ent_coef, parse_target_entropy
from sb3_maxent.common.types import ReplayData

SelfTemperedAlgorithm = TypeVar("SelfTemperedAlgorithm", bound="TemperedAlgorithm")


class TemperedAlgorithm(CheckedOffPolicyAlgorithm):
    """
    Off-policy algorithm with an entropy coefficient and a running scale of the rewards.

    :param policy: Name or class of the policy
    :param env: Environment, or its name
    :param learning_rate: Learning rate, a number, a schedule or an RL Zoo string such as ``"lin_3e-4"``
    :param ent_coef: Entropy coefficient (the temperature, the inverse of a reward scale): a number or a schedule, ``"auto"``
        to learn it from 1 on, or from 0.01 on if rewards are scaled; ``"auto_0.1"`` to learn it from 0.1 on. A learned one
        stays between 2.1e-9 and 2.2e4
    :param target_entropy: Target entropy in nats for a learned ``ent_coef``. ``"auto"`` is minus the action dimension, or with
        discrete actions the entropy of a policy with 5 % random actions; ``"auto_0.5"`` is half of that
    :param norm_reward: Whether to divide rewards by a running standard deviation of the discounted return, see
        :class:`~sb3_maxent.common.reward_scale.RewardScale`. The replay buffer keeps them as they are. ``None`` divides them
        if ``ent_coef`` is learned: a given one is in the unit of the rewards
    :param kwargs: Keyword arguments of SB3's ``OffPolicyAlgorithm``
    :raises ValueError: If an argument is invalid
    """

    # Smallest entropy coefficient that is not learned
    lowest_ent_coef: ClassVar[float] = 0.0
    # Whether the policy also chooses the actions before ``learning_starts``, which are random otherwise
    acts_from_start: bool = False

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str,
        learning_rate: float | str | Schedule,
        *,
        ent_coef: str | float | Schedule,
        target_entropy: str | float,
        norm_reward: bool | None,
        **kwargs: Any,
    ):
        super().__init__(policy, env, learning_rate, **kwargs)
        self.ent_coef = ent_coef
        self.target_entropy = target_entropy
        self.norm_reward = norm_reward
        # An attribute, so SB3 saves and restores it
        self.reward_scale = RewardScale()

    def _setup_model(self) -> None:
        self.target_entropy = parse_target_entropy(self.target_entropy, self.action_space)
        if self.norm_reward is None:
            self.norm_reward, _ = parse_ent_coef(self.ent_coef)
        # Scaled rewards are small
        initial = 0.01 if self.norm_reward else 1.0
        self.temperature = Temperature(self.ent_coef, self.device, initial, self.lowest_ent_coef)
        super()._setup_model()
        self._tell_policy()

    def _check_hyperparameters(self) -> None:
        super()._check_hyperparameters()
        if self.norm_reward is not None:
            check_flag(self.norm_reward, "norm_reward", "True, False or None")

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        last_obs = self._last_obs
        setup = super()._setup_learn(*args, **kwargs)
        if self._last_obs is not last_obs:
            self.reward_scale.start_new_episodes()
        return setup

    def _store_transition(
        self, replay_buffer: Any, buffer_action: np.ndarray, new_obs: Any, reward: np.ndarray, dones: np.ndarray, infos: list
    ) -> None:
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        if self.norm_reward:
            self.reward_scale.update(reward, dones, self.gamma)

    def _scaled(self, replay_data: ReplayData) -> ReplayData:
        """
        Divide rewards by their scale.

        :param replay_data: Transitions
        :return: The transitions, with scaled rewards if ``norm_reward`` is true
        """
        return replay_data._replace(rewards=replay_data.rewards / self.reward_scale.value) if self.norm_reward else replay_data

    @property
    def log_ent_coef(self) -> th.Tensor | None:
        """Logarithm of a learned entropy coefficient, shape (1,), otherwise ``None``"""
        return self.temperature.log_value

    @property
    def ent_coef_optimizer(self) -> th.optim.Adam | None:
        """Optimizer of a learned entropy coefficient, otherwise ``None``"""
        return self.temperature.optimizer

    @property
    def ent_coef_tensor(self) -> th.Tensor:
        """Entropy coefficient that is not learned, a scalar. An assignment, in a callback for instance, fixes its value."""
        return self.temperature.fixed_value

    @ent_coef_tensor.setter
    def ent_coef_tensor(self, value: th.Tensor | float) -> None:
        self.temperature.assign(value)
        # A model that is saved and loaded keeps this value
        self.ent_coef = float(value)
        self._tell_policy()

    def _tell_policy(self) -> None:
        """Give the policy the values that it acts with and that training changes, such as the entropy coefficient"""

    def start_from(
        self: SelfTemperedAlgorithm, source: "TemperedAlgorithm | ModelFile", take_ent_coef: bool = False
    ) -> SelfTemperedAlgorithm:
        """
        Start a new task with the critic and the policy of a trained model. Call it on a new model, before ``learn``.

        The networks are copied with their running statistics (batch normalisation, and the scale of ``norm_reward``), so this
        model acts exactly like the other one, if ``actor_averaging``, ``noise_set_size`` and, for discrete actions, the
        temperature are the same. Target networks equal the networks that they follow. Replay buffer and
        optimizers stay empty. Before ``learning_starts`` the policy chooses the actions; they are not uniformly random. All
        arguments stay those of this model.

        :param source: Trained model of the same algorithm, spaces and networks, or the file of one
        :param take_ent_coef: Whether to copy its current entropy coefficient: as the initial value if this model learns its
            coefficient, otherwise as a fixed value. By default the coefficient starts as ``ent_coef`` of this model says
        :return: This model
        :raises ValueError: If the models do not fit, or this model has learned already. Then this model has not changed
        :raises FileNotFoundError: If there is no such file
        """
        start_from(self, source, take_ent_coef)
        self.acts_from_start = True
        return self

    def sample_actions(self, observation: np.ndarray | dict[str, np.ndarray], n_samples: int) -> np.ndarray:
        """
        Draw several actions per state from the policy. They show, for instance, whether it has several modes.

        :param observation: One observation or a batch, as for ``predict``
        :param n_samples: Number of actions per state
        :return: Actions in the units of the environment, shape (samples, ...), or (batch, samples, ...) for a batch
        :raises ValueError: If ``n_samples`` is not a positive integer, or a mask allows no action
        """
        return self.policy.sample_actions(observation, n_samples)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        return super()._sample_action(0 if self.acts_from_start else learning_starts, action_noise, n_envs)

    def set_parameters(
        self, load_path_or_dict: str | TensorDict, exact_match: bool = True, device: th.device | str = "auto"
    ) -> None:
        """
        Set the parameters of networks and optimizers as SB3 does. An entropy coefficient that is not learned stays.

        :param load_path_or_dict: File, or a dictionary of state dictionaries
        :param exact_match: Whether all of them must be there
        :param device: Device
        :raises ValueError: If there are parameters of a part that this model does not have
        """
        if not isinstance(load_path_or_dict, dict):
            _, load_path_or_dict, _ = load_from_zip_file(load_path_or_dict, device=device, load_data=False)
        # SB3 notices it when it has set all others
        if missing := {*self._get_torch_save_params()[0]}.difference(load_path_or_dict) if exact_match else ():
            raise ValueError(f"Names of parameters do not match agents' parameters: {', '.join(sorted(missing))} missing")
        for name in load_path_or_dict:
            if recursive_getattr(self, name, self) is None:
                raise ValueError(f"got parameters of {name}, which this model does not have: is ent_coef the same?")
        super().set_parameters(load_path_or_dict, exact_match, device)
        self._tell_policy()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "temperature"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ([], ["ent_coef_tensor"]) if self.ent_coef_optimizer is None else (["ent_coef_optimizer"], ["log_ent_coef"])

    def _loaded(self, saved: dict[str, Any], given: dict[str, Any]) -> None:
        before = saved.get("norm_reward")
        if "norm_reward" in given and bool(self.norm_reward) != bool(before):
            raise ValueError(
                f"load: norm_reward={self.norm_reward}, but the Q-values were learned with norm_reward={before}: they "
                "would have another unit than the rewards. Leave it out, or train a new model"
            )
        # RL Zoo gives the old argument again, which does not restart a coefficient that is learned
        is_learned = self.log_ent_coef is not None
        if "ent_coef" in given and not (is_learned and given["ent_coef"] == saved.get("ent_coef")):
            # SB3 has restored the saved value, so set the new one
            self.temperature.restart(self._current_progress_remaining)
        self._tell_policy()
