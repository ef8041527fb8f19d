"""Policies of Soft Q-learning: critics for many actions per state, and an actor that samples from ``exp(Q / alpha)``."""

from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule

from sb3_maxent.common.policies import MaxEntPolicy
from sb3_maxent.softqlearning.actors import Actor
from sb3_maxent.softqlearning.softmax_actor import SoftmaxActor


class SoftQLearningPolicy(MaxEntPolicy):
    """
    Policy class of Soft Q-learning. It has critics, target critics and, for ``Box`` actions, a sampling network.

    For discrete actions the policy is the softmax of the Q-values, divided by the temperature, and there is no actor network.

    :param observation_space: Observation space
    :param action_space: Action space
    :param lr_schedule: Learning rate schedule
    :param noise_layer: Hidden layer of the sampling network that takes the noise as an input: 0 is the first one, and -1
        (default) is the last one, see :class:`Actor`
    :param kwargs: Arguments of :class:`~sb3_maxent.common.policies.MaxEntPolicy` and of SB3's ``SACPolicy``
    :raises ValueError: If an argument is invalid
    """

    actor_class: ClassVar[type[Actor]] = Actor
    actor: Actor | SoftmaxActor
    ent_coef: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        noise_layer: int = -1,
        **kwargs: Any,
    ):
        if kwargs.get("use_sde"):
            raise ValueError("use_sde=True: gSDE is for Gaussian policies, and SoftQLearning has none. Leave use_sde out")
        self.noise_layer = noise_layer
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        # A policy of discrete actions needs the temperature to act, also if it is saved and loaded without its model
        self.register_buffer("ent_coef", th.ones(()))
        super()._build(lr_schedule)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        if not isinstance(self.action_space, spaces.Box):
            if self.share_features_extractor:
                raise ValueError(
                    "share_features_extractor=True: without a network in the actor there is nothing to share. Leave it out"
                )
            if self.actor_averaging is not None:
                raise ValueError(f"actor_averaging={self.actor_averaging} has no effect without a network: leave it out")
            return SoftmaxActor(self)
        actor_kwargs = self._update_features_extractor(self.net_args, features_extractor)
        return self.actor_class(**actor_kwargs, noise_layer=self.noise_layer, batch_norm=self.batch_norm).to(self.device)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        actor = self.acting_actor(deterministic)
        if not deterministic:
            return actor(observation)  # (batch, action), or (batch,)
        # The action with the largest Q-value, of all discrete actions or of those that the actor makes from fixed noise
        allowed = actor.allowed(observation) if actor.is_exact else None
        return self.best_action(observation, actor.candidates(observation), allowed)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "noise_layer": self.noise_layer}


MlpPolicy = SoftQLearningPolicy


class CnnPolicy(SoftQLearningPolicy):
    """
    Policy class for images: :class:`SoftQLearningPolicy` with ``NatureCNN`` as the default features extractor.

    :param features_extractor_class: Features extractor
    :param kwargs: Arguments of :class:`SoftQLearningPolicy`
    """

    def __init__(self, *args: Any, features_extractor_class: type[BaseFeaturesExtractor] = NatureCNN, **kwargs: Any):
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)


class MultiInputPolicy(SoftQLearningPolicy):
    """
    Policy class for Dict observations: :class:`SoftQLearningPolicy` with ``CombinedExtractor`` as the default.

    :param features_extractor_class: Features extractor
    :param kwargs: Arguments of :class:`SoftQLearningPolicy`
    """

    def __init__(self, *args: Any, features_extractor_class: type[BaseFeaturesExtractor] = CombinedExtractor, **kwargs: Any):
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)
