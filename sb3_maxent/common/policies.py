"""What the policy classes of the algorithms share: actors and critics for many actions per state."""

from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.sac.policies import SACPolicy
from torch import nn

from sb3_maxent.common.checks import check_count, check_flag
from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.common.discrete import choices_of
from sb3_maxent.common.errors import finite
from sb3_maxent.common.layers import follow_each_batch
from sb3_maxent.common.masks import has_mask, with_checked_mask
from sb3_maxent.common.updates import TargetUpdate, parameters_of


class MaxEntPolicy(SACPolicy):
    """
    Policy class with an actor, critics for many actions per state and target critics.

    :param observation_space: Observation space
    :param action_space: Action space
    :param lr_schedule: Learning rate schedule
    :param action_layer: Hidden layer of the critic that the action enters: 0 is next to the features, as in SB3, and -1
        (default) is the last one. Many actions per state are cheaper if the action enters later.
    :param evaluation_precision: ``"bfloat16"`` evaluates the hidden layers after that layer in bfloat16 where no gradient is
        needed, see :class:`~sb3_maxent.common.q_network.QNetwork`
    :param batch_norm: Whether to normalise features and hidden layers of actor and critics over the batch. The critics and
        their targets then evaluate states and next states in one batch, as in XQC
    :param target_critic: Whether the critic target comes from slowly moving copies of the critics. Without them use
        ``batch_norm``, as CrossQ does
    :param unit_norm: Whether the weights into each hidden unit of the critics have norm 1 after every step. It needs
        ``batch_norm``
    :param actor_averaging: Deterministic actions come from a moving average of the actor's parameters. This is its length in
        updates of the actor; early in a run it is a tenth of the updates so far. ``None`` acts with the newest parameters
    :param optimizer_class: Optimizer, ``th.optim.Adam`` by default
    :param optimizer_kwargs: Arguments of the optimizer, except the learning rate. Adam is fused unless they say otherwise
    :param kwargs: Arguments of SB3's ``SACPolicy``: ``net_arch``, ``activation_fn``, ``n_critics``, ...
    :raises ValueError: If an argument has no meaning, or actor, critic and target have parameters in common
    """

    # Override them to train another actor or critic
    actor_class: ClassVar[Any]
    critic_class: ClassVar[type[MultiActionCritic]] = MultiActionCritic
    actor: Any
    critic: MultiActionCritic  # type: ignore[assignment]
    critic_target: MultiActionCritic  # type: ignore[assignment]
    averaged_actor: Any

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        action_layer: int = -1,
        evaluation_precision: str = "float32",
        target_critic: bool = True,
        batch_norm: bool = False,
        unit_norm: bool = False,
        actor_averaging: int | None = None,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        for name, value in (("target_critic", target_critic), ("batch_norm", batch_norm), ("unit_norm", unit_norm)):
            check_flag(value, name)
        if actor_averaging is not None:
            check_count(actor_averaging, "actor_averaging")
        if optimizer_class is th.optim.Adam and not {"fused", "foreach"} & set(optimizer_kwargs or {}):
            # One kernel for all parameters instead of a dozen for each
            optimizer_kwargs = {"fused": True, **(optimizer_kwargs or {})}
        self.has_mask = has_mask(observation_space, action_space)
        self.action_layer = action_layer
        self.evaluation_precision, self.actor_averaging = evaluation_precision, actor_averaging
        self.target_critic, self.batch_norm, self.unit_norm = target_critic, batch_norm, unit_norm
        super().__init__(
            observation_space,
            action_space,  # type: ignore[arg-type]
            lr_schedule,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            **kwargs,
        )
        # Only an update evaluates in training mode, where a batch normalisation depends on the other states and moves
        self.set_training_mode(False)

    def _build(self, lr_schedule: Schedule) -> None:
        self.actor = self.make_actor()
        shared = self.actor.features_extractor if self.share_features_extractor else None
        self.critic = self.make_critic(shared)
        self.critic_target = self.critic
        if self.target_critic:
            self.critic_target = self.make_critic()
            self.critic_target.load_state_dict(self.critic.state_dict())
            self.critic_target.set_training_mode(False)
            follow_each_batch(self.critic_target.q_networks)
        # The actor loss alone trains a shared extractor
        parameters = [
            parameter for name, parameter in self.critic.named_parameters() if not (shared and "features_extractor" in name)
        ]
        self.critic.optimizer = self._make_optimizer(parameters, lr_schedule)
        # The softmax of Q-values has no parameters
        if isinstance(self.actor, nn.Module):
            self.actor.optimizer = self._make_optimizer(list(self.actor.parameters()), lr_schedule)
        self._check_disjoint()
        self.averaged_actor = None if self.actor_averaging is None else self._copy_actor()

    def _copy_actor(self) -> Any:
        actor = self.make_actor()
        actor.load_state_dict(self.actor.state_dict())
        actor.set_training_mode(False)
        return actor

    def acting_actor(self, deterministic: bool) -> Any:
        """
        Choose the actor that acts.

        :param deterministic: Whether to act deterministically
        :return: The averaged actor if there is one and actions are deterministic, otherwise the newest one
        """
        return self.averaged_actor if deterministic and self.averaged_actor is not None else self.actor

    def average_actor(self, n_before: int, n_updates: int) -> None:
        """
        Move the averaged actor towards the newest one.

        :param n_before: Number of updates of the actor at the last call
        :param n_updates: Number of updates of the actor
        """
        if self.averaged_actor is not None and n_updates > n_before:
            # A tenth of all updates at first: a longer average would hold on to actors that knew nothing
            n_averaged = min(self.actor_averaging or 1, 1 + n_updates // 10)
            weight = min(1.0, (n_updates - n_before) / n_averaged)
            TargetUpdate(self.actor, self.averaged_actor, average_statistics=True)(weight)

    def train(self, mode: bool = True) -> "MaxEntPolicy":
        """
        Set the mode of actor and critic, as ``set_training_mode`` does. Averages and target networks stay in evaluation mode.

        :param mode: Whether to train
        :return: The policy
        """
        self.training = mode
        for name, network in self.named_children():
            network.train(mode and name in ("actor", "critic"))
        return self

    def _make_optimizer(self, parameters: list[nn.Parameter], lr_schedule: Schedule) -> Any:
        return self.optimizer_class(parameters, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _check_disjoint(self) -> None:
        """
        Check that no two networks have a parameter in common that is trained: it would follow the gradient of both.

        :raises ValueError: If they have
        """
        networks: tuple[Any, ...] = (self.actor, self.critic)
        trained = [parameters_of(network.optimizer) for network in networks if network.optimizer is not None]
        target: list[th.Tensor] = [] if self.critic_target is self.critic else [*self.critic_target.parameters()]
        addresses = [id(parameter) for group in (*trained, target) for parameter in group if parameter.requires_grad]
        if len(addresses) != len(set(addresses)):
            raise ValueError(
                "policy_kwargs: actor, critic and target critic have parameters in common, because a module was given where "
                "a class and its arguments are needed. share_features_extractor=True shares an extractor of actor and critic"
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
        critic = self.critic_class(
            **critic_kwargs,
            action_layer=self.action_layer,
            evaluation_precision=self.evaluation_precision,
            batch_norm=self.batch_norm,
            unit_norm=self.unit_norm,
        )
        return critic.to(self.device)

    def scale_action(self, action: np.ndarray) -> np.ndarray:
        """
        Turn actions of the environment into those of the networks.

        :param action: Actions
        :return: Actions in [-1, 1], or the same choices
        """
        return super().scale_action(action) if isinstance(self.action_space, spaces.Box) else action

    def unscale_action(self, scaled_action: np.ndarray) -> np.ndarray:
        """
        Turn actions of the networks into those of the environment.

        :param scaled_action: Actions in [-1, 1], or choices
        :return: Actions in the box, where rounding could leave it, or the same choices, of the type of the space
        :raises NonFiniteError: If one is NaN or infinite
        """
        if not isinstance(self.action_space, spaces.Box):
            return scaled_action.astype(self.action_space.dtype, copy=False)
        action, box = super().unscale_action(finite(scaled_action, "action")), self.action_space
        if box.dtype.kind != "f":
            action = np.rint(action)
        # The last components of a HybridBox, none of another box
        first_choice = action.shape[-1] - len(choices_of(box))
        action[..., first_choice:] = np.rint(action[..., first_choice:])
        return np.minimum(np.maximum(action, box.low), box.high).astype(box.dtype)

    def best_action(self, obs: PyTorchObs, candidates: th.Tensor, allowed: th.Tensor | None = None) -> th.Tensor:
        """
        Choose by the Q-values.

        :param obs: Observations, shape (batch, ...)
        :param candidates: Actions, shape (batch, candidates, action), or numbers of actions, shape (batch, candidates)
        :param allowed: Which of them are allowed, shape (batch, candidates), ``None`` for all
        :return: The action of largest Q-value in each state, shape (batch, action), or (batch,)
        :raises NonFiniteError: If a Q-value is NaN or infinite
        """
        q_values = finite(self.critic.q_values(self.critic.embed(obs), candidates), "Q-value")  # (batch, candidates)
        if allowed is not None:
            q_values = q_values.masked_fill(~allowed, -th.inf)
        best = q_values.argmax(dim=1)  # (batch,)
        return candidates[th.arange(best.shape[0], device=best.device), best]

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Act, as SB3's policies do.

        :param observation: One observation, or a batch
        :param state: Not used
        :param episode_start: Not used
        :param deterministic: Whether to act deterministically
        :param action_masks: Masks in place of those in the observation, in the form of sb3-contrib's ``MaskablePPO``
        :return: Actions in the units of the environment, and the state
        :raises ValueError: If there are masks but no ``"action_mask"`` in the observations, or no action is allowed
        """
        observation = with_checked_mask(self, observation, action_masks)
        actions, state = super().predict(observation, state, episode_start, deterministic)
        # SB3 leaves choices int64, which a MultiDiscrete space of another type does not contain
        return actions.astype(self.action_space.dtype, copy=False), state

    def sample_actions(self, observation: np.ndarray | dict[str, np.ndarray], n_samples: int) -> np.ndarray:
        """
        Draw several actions per state.

        :param observation: One observation or a batch, as for ``predict``
        :param n_samples: Number of actions per state
        :return: Actions in the units of the environment, shape (samples, ...), or (batch, samples, ...) for a batch
        :raises ValueError: If ``n_samples`` is not a positive integer, or a mask allows no action
        """
        check_count(n_samples, "n_samples")
        self.set_training_mode(False)
        obs, vectorized = self.obs_to_tensor(with_checked_mask(self, observation))
        with th.no_grad():
            actions = self.actor.sample_actions(obs, n_samples).cpu().numpy()  # (batch, samples, action)
        actions = self.unscale_action(actions.reshape(*actions.shape[:2], *self.action_space.shape))  # type: ignore[misc]
        return actions if vectorized else actions[0]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            # SB3's SACPolicy forgets this one
            "share_features_extractor": self.share_features_extractor,
            "action_layer": self.action_layer,
            "evaluation_precision": self.evaluation_precision,
            "target_critic": self.target_critic,
            "batch_norm": self.batch_norm,
            "unit_norm": self.unit_norm,
            "actor_averaging": self.actor_averaging,
        }
