"""Actor of Soft Q-learning for discrete actions: the softmax of their Q-values."""

import math
from typing import Any

import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_maxent.common.distributions import Categorical
from sb3_maxent.common.errors import finite
from sb3_maxent.common.masks import joint_mask, mask_of
from sb3_maxent.common.observations import batch_size_of
from sb3_maxent.common.sampled_actor import SampledActor, check_random
from sb3_maxent.common.types import ActionSamples


class NetworklessActor(SampledActor):
    """
    Base class of actors without a network, which choose actions by their Q-values.

    :param policy: Policy with the critic and the temperature
    """

    optimizer = None
    features_extractor = None
    # Noise sets are for sampling networks
    noise_set_size = None

    def __init__(self, policy: Any):
        self.policy = policy

    @property
    def device(self) -> th.device:  # type: ignore[override]
        """Device of the critic"""
        return self.policy.device

    def __call__(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        """
        Act.

        :param obs: Observations, shape (batch, ...)
        :param deterministic: Must be ``False``
        :return: One random action per state: in [-1, 1] or choices, shape (batch, action), or a number, shape (batch,)
        :raises ValueError: For a deterministic action
        """
        check_random(deterministic)
        return self.sample_actions(obs, 1).squeeze(1)

    def set_training_mode(self, mode: bool) -> None:
        """
        Do nothing: there is no network.

        :param mode: Not used
        """


class SoftmaxActor(NetworklessActor):
    r"""
    Policy of discrete actions: :math:`\pi(a|s) \propto \exp(Q(s, a) / \alpha)` over all joint actions, or over those that a
    mask in the observation allows. It has no parameters.

    Paper: https://arxiv.org/abs/1702.08165 (equation 6)

    :param policy: Policy with the critic and the temperature
    """

    is_exact = True
    noise_dim = 1
    noise_generator = staticmethod(th.rand)

    def actions_from_noise(self, obs: PyTorchObs, noise: th.Tensor) -> th.Tensor:
        critic = self.policy.critic
        q_values = finite(critic.q_values(critic.embed(obs), self.candidates(obs)), "Q-value")  # (batch, actions)
        numbers = self.distribution(obs, q_values, self.policy.ent_coef).sample(noise)  # (batch, samples)
        return critic.actions_of(numbers)

    def allowed(self, obs: PyTorchObs) -> th.Tensor | None:
        """
        Find the joint actions that the mask in the observation allows.

        :param obs: Observations, shape (batch, ...)
        :return: Which are allowed, shape (batch, actions), ``None`` without a mask
        """
        mask = mask_of(obs)
        return None if mask is None else joint_mask(mask, self.policy.critic.choices)

    def distribution(self, obs: PyTorchObs, q_values: th.Tensor, ent_coef: th.Tensor) -> Categorical:
        """
        Compute the policy in each state.

        :param obs: Observations, shape (batch, ...)
        :param q_values: Q-values of all actions, shape (batch, actions)
        :param ent_coef: Entropy coefficient
        :return: Softmax of the Q-values of the allowed actions
        """
        allowed, logits = self.allowed(obs), q_values / ent_coef  # (batch, actions), eq. 6
        return Categorical(logits if allowed is None else logits.masked_fill(~allowed, -math.inf))

    def candidates(self, obs: PyTorchObs) -> th.Tensor:
        """
        All actions.

        :param obs: Observations, shape (batch, ...)
        :return: Numbers of actions, shape (batch, actions), or choices, shape (batch, actions, action)
        """
        return self.policy.critic.all_actions(batch_size_of(obs))

    def value_samples(self, obs: PyTorchObs, noise: Any = None, proposal: str = "") -> ActionSamples:
        """
        Return every action once, which makes the soft value exact. A forbidden action gets infinite density, so its weight is
        0.

        :param obs: Observations, shape (batch, ...)
        :param noise: Not used
        :param proposal: Not used
        :return: All actions, and the logarithm of one over their number, shape (batch, actions)
        """
        actions = self.candidates(obs)  # (batch, actions) or (batch, actions, action)
        log_proposal = th.full(actions.shape[:2], -math.log(actions.shape[1]), device=actions.device)
        allowed = self.allowed(obs)
        return ActionSamples(actions, log_proposal if allowed is None else log_proposal.masked_fill(~allowed, math.inf))
