"""Policies of DSPG: actors of any distribution, and critics for many actions per state."""

from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule

from sb3_maxent.common.checks import check_count, check_flag
from sb3_maxent.common.hybrid_space import HybridBox
from sb3_maxent.common.policies import MaxEntPolicy
from sb3_maxent.dspg.actors import Actor, DiscreteActor, DistributionActor
from sb3_maxent.dspg.hybrid_actor import HybridActor

__all__ = [
    "Actor",
    "CnnPolicy",
    "DSPGPolicy",
    "DiscreteActor",
    "DistributionActor",
    "HybridActor",
    "MlpPolicy",
    "MultiInputPolicy",
]


class DSPGPolicy(MaxEntPolicy):
    """
    Policy class (actor, critic and targets) of DSPG.

    :param observation_space: Observation space
    :param action_space: Action space
    :param lr_schedule: Learning rate schedule
    :param action_layer: Hidden layer of the critic that the action enters: 0 (default) is next to the features, as in SB3
    :param batch_norm: Whether to normalise features and hidden layers of actor and critics over the batch
    :param unit_norm: Whether the weights into each hidden unit of the critics have norm 1 after every step, ``None`` for the
        value of ``batch_norm``
    :param std_head: Standard deviation of the actor of ``Box`` or ``HybridBox`` actions: ``"log_std"`` (SB3's) or
        ``"sigmoid"`` (the paper's), see :class:`Actor`
    :param n_components: Number of squashed Gaussians that the policy of ``Box`` actions is a mixture of. With more than one,
        the deterministic action is the mean of largest Q-value
    :param target_actor: Whether the critic target samples from a slowly moving copy of the actor, as in the paper
    :param actor_averaging: Length of the moving average of the actor, see
        :class:`~sb3_maxent.common.policies.MaxEntPolicy`
    :param kwargs: Arguments of :class:`~sb3_maxent.common.policies.MaxEntPolicy` and of SB3's ``SACPolicy``
    :raises ValueError: If an argument has no meaning
    """

    # Override them to train another policy distribution
    actor_class: ClassVar[type[Actor]] = Actor
    discrete_actor_class: ClassVar[type[DiscreteActor]] = DiscreteActor
    hybrid_actor_class: ClassVar[type[HybridActor]] = HybridActor
    actor: Actor | DiscreteActor
    actor_target: Actor | DiscreteActor | None
    averaged_actor: Actor | DiscreteActor | None

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        action_layer: int = 0,
        batch_norm: bool = True,
        unit_norm: bool | None = None,
        std_head: str = "log_std",
        n_components: int = 1,
        target_actor: bool = False,
        actor_averaging: int | None = 2000,
        **kwargs: Any,
    ):
        check_flag(target_actor, "target_actor")
        check_count(n_components, "n_components")
        self.std_head, self.n_components = std_head, n_components
        self.target_actor = target_actor
        unit_norm = batch_norm if unit_norm is None else unit_norm
        shared: dict[str, Any] = {"action_layer": action_layer, "batch_norm": batch_norm, "unit_norm": unit_norm}
        super().__init__(observation_space, action_space, lr_schedule, actor_averaging=actor_averaging, **shared, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.actor_target = self._copy_actor() if self.target_actor else None

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        space, is_hybrid = self.action_space, isinstance(self.action_space, HybridBox)
        heads: dict[str, Any] = {"batch_norm": self.batch_norm, "std_head": self.std_head}
        if isinstance(space, spaces.Box) and not is_hybrid:
            actor_kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
            return self.actor_class(**actor_kwargs, **heads, n_components=self.n_components).to(self.device)
        unused: dict[str, tuple[Any, Any]] = {
            "n_components": (self.n_components, 1),
            "use_sde": (self.actor_kwargs["use_sde"], False),
        }
        if not is_hybrid:
            unused["std_head"] = heads.pop("std_head"), "log_std"
        for name, (value, default) in unused.items():
            if value != default:
                raise ValueError(f"{name}={value!r} has no effect on {type(space).__name__} actions: leave it out")
        actor_class = self.hybrid_actor_class if is_hybrid else self.discrete_actor_class
        return actor_class(**self._update_features_extractor(self.net_args, features_extractor), **heads).to(self.device)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        # The actor does not know which of several deterministic actions is the best
        actor = self.acting_actor(deterministic)
        candidates = actor.candidates(observation) if deterministic else None
        return actor(observation, deterministic) if candidates is None else self.best_action(observation, candidates)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "std_head": self.std_head,
            "n_components": self.n_components,
            "target_actor": self.target_actor,
        }


MlpPolicy = DSPGPolicy


class CnnPolicy(DSPGPolicy):
    """
    Policy class of DSPG for images: :class:`DSPGPolicy` with ``NatureCNN`` as the default features extractor.

    :param features_extractor_class: Features extractor
    :param kwargs: Arguments of :class:`DSPGPolicy`
    """

    def __init__(self, *args: Any, features_extractor_class: type[BaseFeaturesExtractor] = NatureCNN, **kwargs: Any):
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)


class MultiInputPolicy(DSPGPolicy):
    """
    Policy class of DSPG for Dict observations: :class:`DSPGPolicy` with ``CombinedExtractor`` as the default.

    :param features_extractor_class: Features extractor
    :param kwargs: Arguments of :class:`DSPGPolicy`
    """

    def __init__(self, *args: Any, features_extractor_class: type[BaseFeaturesExtractor] = CombinedExtractor, **kwargs: Any):
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)
