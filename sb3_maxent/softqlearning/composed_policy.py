"""Policy that combines several soft Q-functions. It only uses the networks of other policies."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn

from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.common.discrete import choices_of
from sb3_maxent.common.distributions import Categorical
from sb3_maxent.common.errors import finite
from sb3_maxent.common.masks import with_checked_mask
from sb3_maxent.common.observations import batch_size_of
from sb3_maxent.common.types import ActionSamples
from sb3_maxent.functional import composed_q_values, mixture_proposal, policy_conflict
from sb3_maxent.softqlearning.policies import SoftQLearningPolicy
from sb3_maxent.softqlearning.softmax_actor import NetworklessActor, SoftmaxActor

# Number of actions of each policy around which proposals are drawn, and number of proposals, one of which becomes the action
N_CENTRES = 32
N_PROPOSALS = 256


class ComposedCritic(MultiActionCritic):
    """
    Combination of the Q-functions of several policies. It only uses their parameters.

    :param policy: Composed policy
    """

    # Nothing is trained
    optimizer = None  # type: ignore[assignment]

    def __init__(self, policy: "ComposedPolicy"):
        # The constructor of the parent class would make networks
        BaseModel.__init__(self, policy.observation_space, policy.action_space)
        # The tuple hides the policy from PyTorch, which would register it as a submodule of its own critic
        self.owner = (policy,)
        self.choices = choices_of(policy.action_space)

    @property
    def policy(self) -> "ComposedPolicy":
        """Composed policy"""
        return self.owner[0]

    @property
    def device(self) -> th.device:
        """Device of the policies"""
        return self.policy.weights.device

    def embed(self, obs: PyTorchObs) -> list[Any]:
        """
        Embed the states once, for all actions of each state.

        :param obs: Observations, shape (batch, ...)
        :return: The embedding of each critic
        """
        return [part.critic.embed(obs) for part in self.policy.parts]

    def q_values_of_parts(self, embedding: list[Any], actions: th.Tensor) -> th.Tensor:
        """
        Q-values of each critic.

        :param embedding: Embedding of the states
        :param actions: Actions, as for ``predictions``
        :return: Shape (parts, batch, samples)
        """
        pairs = zip(self.policy.parts, embedding, strict=True)
        return th.stack([part.critic.q_values(embedded, actions) for part, embedded in pairs])

    def predictions(self, embedding: list[Any], actions: th.Tensor) -> th.Tensor:
        """
        Evaluate the composed Q-function at several actions per state, as if it were one network.

        :param embedding: Embedding of the states
        :param actions: Actions in [-1, 1] or choices, shape (batch, samples, action), or numbers, shape (batch, samples)
        :return: Shape (1, batch, samples)
        """
        return self.q_values(embedding, actions).unsqueeze(0)

    def q_values(self, embedding: list[Any], actions: th.Tensor) -> th.Tensor:
        values = self.q_values_of_parts(embedding, actions)  # (parts, batch, samples)
        return composed_q_values(values, self.policy.ent_coefs, self.policy.weights, self.policy.mode)  # (batch, samples)


class ResamplingActor(NetworklessActor):
    """
    Actor without a network. It draws proposals around the actions of several policies, and chooses one of them in proportion
    to its importance weight.

    :param policy: Composed policy
    """

    is_exact = False

    @property
    def noise_dim(self) -> int:  # type: ignore[override]
        """
        The number of noise components is not fixed.

        :raises ValueError: Always
        """
        raise ValueError("a composed policy draws many actions and resamples one: export it with deterministic=True")

    def value_samples(self, obs: PyTorchObs, noise: Any = None, proposal: str = "mixture") -> ActionSamples:
        """
        Draw actions near those of all policies.

        :param obs: Observations, shape (batch, ...)
        :param noise: Not used
        :param proposal: Not used
        :return: Actions, and their log density under the proposal
        """
        parts = self.policy.parts
        centres = th.cat([part.actor.sample_actions(obs, N_CENTRES) for part in parts], dim=1)
        uniform = th.rand(len(centres), N_PROPOSALS, 1 + centres.shape[2], device=centres.device)
        return ActionSamples(*mixture_proposal(centres, uniform))

    def sample_actions(self, obs: PyTorchObs, n_samples: int) -> th.Tensor:
        """
        Draw several actions per state. Each action has new proposals.

        :param obs: Observations, shape (batch, ...)
        :param n_samples: Number of actions per state
        :return: Actions in [-1, 1], shape (batch, samples, action)
        """
        embedding = self.policy.critic.embed(obs)
        return th.cat([self._resample(obs, embedding) for _ in range(n_samples)], dim=1)

    def _resample(self, obs: PyTorchObs, embedding: list[Any]) -> th.Tensor:
        actions, log_proposal, _ = self.value_samples(obs)  # (batch, proposals, action), (batch, proposals)
        q_values = finite(self.policy.critic.q_values(embedding, actions), "Q-value")  # (batch, proposals)
        weights = Categorical(q_values / self.policy.ent_coef - log_proposal)
        numbers = weights.sample(th.rand(len(actions), 1, 1, device=actions.device))  # (batch, 1)
        return actions.gather(1, numbers.unsqueeze(2).expand(-1, -1, actions.shape[2]))  # (batch, 1, action)

    def candidates(self, obs: PyTorchObs) -> th.Tensor:
        """
        Actions that ``deterministic=True`` compares: those of each policy, and others around them, made from fixed noise.

        :param obs: Observations, shape (batch, ...)
        :return: Actions in [-1, 1], shape (batch, candidates, action)
        """
        centres = th.cat([part.acting_actor(True).fixed_actions(obs) for part in self.policy.parts], dim=1)
        noise = self.policy.candidate_noise.expand(batch_size_of(obs), -1, -1)
        return th.cat([centres, mixture_proposal(centres, noise)[0]], dim=1)

    def fixed_actions(self, obs: PyTorchObs) -> th.Tensor:
        """
        The same actions, for a policy that is composed of this one.

        :param obs: Observations, shape (batch, ...)
        :return: Actions in [-1, 1], shape (batch, candidates, action)
        """
        return self.candidates(obs)


class ComposedPolicy(SoftQLearningPolicy):
    """
    Policy that combines several soft Q-functions, see :func:`~sb3_maxent.softqlearning.composition.compose`.

    :param observation_space: Observation space
    :param action_space: Action space
    :param lr_schedule: Not used: nothing is trained
    :param parts: Class and arguments of each policy
    :param weights: Weight of each policy, with the sum 1
    :param mode: ``"and"`` or ``"or"``
    """

    parts: Any
    candidate_noise: th.Tensor
    weights: th.Tensor
    actor: Any
    critic: ComposedCritic  # type: ignore[assignment]

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        parts: list[tuple[type[SoftQLearningPolicy], dict[str, Any]]],
        weights: list[float],
        mode: str,
    ):
        self.arguments: dict[str, Any] = {"parts": parts, "weights": weights, "mode": mode}
        self.mode = mode
        super().__init__(observation_space, action_space, lr_schedule)

    def _build(self, lr_schedule: Schedule) -> None:
        self.register_buffer("ent_coef", th.ones(()))
        self.register_buffer("weights", th.tensor(self.arguments["weights"]))
        spaces_of = self.observation_space, self.action_space
        self.parts = nn.ModuleList(kind(*spaces_of, lr_schedule, **given) for kind, given in self.arguments["parts"])
        self.critic = ComposedCritic(self)
        self.critic_target = self.critic
        if isinstance(self.action_space, spaces.Box):
            self.register_buffer("candidate_noise", th.rand(N_PROPOSALS, 1 + get_action_dim(self.action_space)))
        self.actor = ResamplingActor(self) if isinstance(self.action_space, spaces.Box) else SoftmaxActor(self)
        self.averaged_actor = None
        self.set_training_mode(False)

    @property
    def ent_coefs(self) -> th.Tensor:
        """Entropy coefficient of each policy, shape (parts,)"""
        return th.stack([part.ent_coef for part in self.parts])

    def set_training_mode(self, mode: bool) -> None:
        """
        Refuse to train.

        :param mode: ``False``
        :raises ValueError: For training
        """
        if mode:
            raise ValueError("a composed policy does not learn. Train the models that it is composed of")
        for part in self.parts:
            part.set_training_mode(False)
        self.training = False

    def conflict(self, observation: np.ndarray | dict[str, np.ndarray]) -> np.ndarray:
        """
        Disagreement of the policies in each state, see :func:`~sb3_maxent.functional.policy_conflict`. It is exact for
        discrete actions. Otherwise it is estimated from random actions.

        :param observation: One observation or a batch, as for ``predict``
        :return: Conflict in nats, shape (batch,), or a scalar for one observation
        :raises ValueError: With mode ``"or"``, which does not need policies that agree; or if a mask allows no action
        """
        if self.mode != "and":
            raise ValueError(f"mode={self.mode!r}: only policies that are composed by 'and' must agree")
        obs, vectorized = self.obs_to_tensor(with_checked_mask(self, observation))
        with th.no_grad():
            actions, log_proposal, _ = self.actor.value_samples(obs)
            q_values = self.critic.q_values_of_parts(self.critic.embed(obs), actions)  # (parts, batch, samples)
            conflict = policy_conflict(finite(q_values, "Q-value"), log_proposal, self.ent_coefs, self.weights)
        values = conflict.squeeze(1).cpu().numpy()
        return values if vectorized else values[0]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        names = ("observation_space", "action_space", "lr_schedule")
        data = super()._get_constructor_parameters()
        return {**{name: data[name] for name in names}, **self.arguments}
