"""What the policy classes of the algorithms share: the critics and the optimizer."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.sac.policies import SACPolicy

from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.common.sb3_arguments import check_policy_arguments


class MaxEntPolicy(SACPolicy):
    """
    Policy class with an actor, critics for many actions per state and target critics.

    :param observation_space: Observation space
    :param action_space: Action space
    :param lr_schedule: Learning rate schedule
    :param action_layer: Hidden layer of the critic that the action enters: 0 next to the features, as in SB3,
        -1 (default) the last one. The later, the cheaper are many actions per state.
    :param evaluation_precision: ``"bfloat16"`` evaluates the hidden layers behind that one in bfloat16 where no gradient is
        needed, see :class:`~sb3_maxent.common.critics.QNetwork`
    :param optimizer_class: Optimizer, ``th.optim.Adam`` by default
    :param optimizer_kwargs: Its arguments except the learning rate; Adam is fused unless they say otherwise
    :param kwargs: Arguments of SB3's ``SACPolicy``: ``net_arch``, ``activation_fn``, ``n_critics``, ...
    :raises ValueError: If an argument has no meaning
    """

    critic: MultiActionCritic  # type: ignore[assignment]
    critic_target: MultiActionCritic  # type: ignore[assignment]

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        action_layer: int = -1,
        evaluation_precision: str = "float32",
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        check_policy_arguments({"optimizer_class": optimizer_class, "optimizer_kwargs": optimizer_kwargs, **kwargs})
        if optimizer_class is th.optim.Adam and not {"fused", "foreach"} & set(optimizer_kwargs or {}):
            # One kernel for all parameters instead of a dozen for each
            optimizer_kwargs = {"fused": True, **(optimizer_kwargs or {})}
        self.action_layer = action_layer
        self.evaluation_precision = evaluation_precision
        super().__init__(
            observation_space,
            action_space,  # type: ignore[arg-type]
            lr_schedule,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            **kwargs,
        )

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        try:
            return super().make_features_extractor()
        except (AttributeError, LookupError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"features_extractor_class={self.features_extractor_class!r} does not fit observation_space="
                f"{self.observation_space}, or features_extractor_kwargs={self.features_extractor_kwargs!r}: {error}"
            ) from error

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> MultiActionCritic:  # type: ignore[override]
        critic_kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        critic = MultiActionCritic(
            **critic_kwargs, action_layer=self.action_layer, evaluation_precision=self.evaluation_precision
        )
        return critic.to(self.device)

    def unscale_action(self, scaled_action: np.ndarray) -> np.ndarray:
        """
        Turn actions of the networks into those of the environment.

        :param scaled_action: Actions in [-1, 1]
        :return: Actions in the box, where rounding could leave it
        """
        action, box = super().unscale_action(scaled_action), self.action_space
        return np.minimum(np.maximum(action, box.low), box.high)  # type: ignore[attr-defined]

    def sample_actions(self, obs: PyTorchObs, n_samples: int) -> th.Tensor:
        """
        Draw several actions per state.

        :param obs: Observations, shape (batch, ...)
        :param n_samples: Number of actions per state
        :return: Actions in [-1, 1], shape (batch, samples, action)
        """
        return self.actor.sample_actions(obs, n_samples)  # type: ignore[operator]

    def actions_from_noise(self, obs: PyTorchObs, noise: th.Tensor) -> th.Tensor:
        """
        Turn noise into actions.

        :param obs: Observations, shape (batch, ...)
        :param noise: Standard normal noise, shape (batch, samples, noise)
        :return: Actions in [-1, 1], shape (batch, samples, action)
        """
        return self.actor.actions_from_noise(obs, noise)  # type: ignore[operator]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            # SB3's SACPolicy forgets this one
            "share_features_extractor": self.share_features_extractor,
            "action_layer": self.action_layer,
            "evaluation_precision": self.evaluation_precision,
        }
