"""Actors of DSPG: squashed Gaussians and mixtures of them, and discrete distributions."""

import math
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from stable_baselines3.sac.policies import Actor as SACActor
from torch import nn

from sb3_maxent.common.checks import check_choice, check_count
from sb3_maxent.common.compilation import store
from sb3_maxent.common.discrete import choices_of, make_distribution
from sb3_maxent.common.distributions import PolicyDistribution, SquashedGaussian
from sb3_maxent.common.errors import finite
from sb3_maxent.common.layers import make_trunk
from sb3_maxent.common.masks import mask_of
from sb3_maxent.common.mixtures import SquashedMixture, spread_points
from sb3_maxent.common.sampled_actor import SampledActor
from sb3_maxent.common.types import ActionSamples

STD_HEADS = ("log_std", "sigmoid")
# The authors' code adds it to the sigmoid
MIN_STD = 1e-4


def log_std_of(output: th.Tensor, std_head: str) -> th.Tensor:
    """
    Turn the output of a network into the logarithm of a standard deviation.

    :param output: Output, any shape
    :param std_head: ``"log_std"`` or ``"sigmoid"``
    :return: Logarithm, of the same shape
    """
    if std_head == "sigmoid":
        return th.log(th.sigmoid(output) + MIN_STD)
    return output.clamp(LOG_STD_MIN, LOG_STD_MAX)


class DistributionActor(SampledActor):
    """What the actors of DSPG share: their policy is a distribution. A mixin."""

    def action_distribution(self, obs: PyTorchObs) -> PolicyDistribution:
        """
        Distribution of the actions in each state, to train with and to act with.

        :param obs: Observations, shape (batch, ...)
        :return: The distribution, to be sampled many times per state
        """
        raise NotImplementedError

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        """
        Act.

        :param obs: Observations, shape (batch, ...)
        :param deterministic: Whether to return the mode instead of a sample
        :return: Actions in [-1, 1] or choices, shape (batch, action), or numbers of actions, shape (batch,)
        """
        return self.action_distribution(obs).mode() if deterministic else self.sample_actions(obs, 1).squeeze(1)

    def candidates(self, obs: PyTorchObs) -> th.Tensor | None:
        """
        Deterministic actions among which the critic chooses.

        :param obs: Observations, shape (batch, ...)
        :return: Actions in [-1, 1], shape (batch, candidates, action), or ``None`` if there is one only, that of ``forward``
        """
        return None

    def actions_from_noise(self, obs: PyTorchObs, noise: th.Tensor) -> th.Tensor:
        distribution = self.action_distribution(obs)
        return distribution.actions(distribution.sample(noise))

    def action_samples(self, obs: PyTorchObs, noise: th.Tensor) -> ActionSamples:
        """
        Actions at which the losses evaluate their expectation over the policy.

        :param obs: Observations, shape (batch, ...)
        :param noise: Noise, shape (batch, samples, ``noise_dim``)
        :return: Actions without gradient, their log probabilities with gradient, and their weights
        """
        distribution = self.action_distribution(obs)
        samples, weights = distribution.weighted_samples(noise)
        # The score-function gradient holds the samples fixed. A gradient through them would make it wrong without an error
        samples = samples.detach()
        return ActionSamples(store(distribution.actions(samples)), distribution.log_prob(samples), weights)


class Actor(DistributionActor, SACActor):
    """
    SAC's actor network, sampled many times per state. The standard deviation of the paper is an option, and so is a mixture.

    For another policy distribution override ``action_distribution`` and, where its noise differs, ``noise_dim`` and
    ``noise_generator``.

    :param std_head: ``"log_std"`` for SB3's clamped logarithm of the standard deviation, ``"sigmoid"`` for the paper's
        sigmoid + 1e-4, which bounds it by 1 (the squashed Gaussian of largest entropy has 0.874)
    :param batch_norm: Whether to normalise features and hidden layers over the batch
    :param n_components: Number of Gaussians of the mixture that the policy is, each with its own mean and standard deviation
    :param kwargs: Arguments of SB3's SAC ``Actor``
    :raises ValueError: If there is no such head, or if gSDE, which is one Gaussian with its own standard deviation, is asked
        for another or for several
    """

    def __init__(self, *args: Any, std_head: str = "log_std", batch_norm: bool = False, n_components: int = 1, **kwargs: Any):
        super().__init__(*args, **kwargs)
        check_choice(std_head, "std_head", STD_HEADS)
        if self.use_sde and std_head != "log_std":
            raise ValueError(f"std_head={std_head!r} has no effect with use_sde=True, which learns its own standard deviation")
        check_count(n_components, "n_components")
        if self.use_sde and n_components > 1:
            raise ValueError(
                f"n_components={n_components} has no meaning with use_sde=True: gSDE's noise is that of one Gaussian"
            )
        self.std_head, self.batch_norm, self.n_components = std_head, batch_norm, n_components
        if batch_norm:
            self.latent_pi = make_trunk(self.features_dim, self.net_arch, self.activation_fn, batch_norm)
        self.noise_dim = get_action_dim(self.action_space)
        if n_components > 1:
            self._make_mixture_heads()

    def _make_mixture_heads(self) -> None:
        # One more component of the noise chooses the Gaussian
        action_dim, self.noise_dim = self.noise_dim, self.noise_dim + 1
        width = [self.features_dim, *self.net_arch][-1]
        means, log_stds = (nn.Linear(width, self.n_components * action_dim) for _ in range(2))
        # Gaussians that start alike follow the same gradient, and part slowly. So they start far from each other and narrower
        # than one alone, together about as wide. (The sigmoid of zero is a half already)
        with th.no_grad():
            means.bias.copy_(spread_points(self.n_components, action_dim).flatten())
            if self.std_head == "log_std":
                log_stds.bias.fill_(math.log(0.5))
        self.mu, self.log_std = means, log_stds  # type: ignore[assignment]
        self.logits = nn.Linear(width, self.n_components)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        ours = {"std_head": self.std_head, "batch_norm": self.batch_norm, "n_components": self.n_components}
        return {**super()._get_constructor_parameters(), **ours}

    def get_action_dist_params(self, obs: PyTorchObs) -> tuple[th.Tensor, th.Tensor, dict[str, th.Tensor]]:
        """
        Parameters of SB3's action distribution.

        :param obs: Observations, shape (batch, ...)
        :return: Mean and logarithm of the standard deviation, shape (batch, action) each, and what gSDE needs besides. Of a
            mixture, those of all components, shape (batch, components * action) each, and their ``logits``
        """
        if self.std_head == "log_std" and self.n_components == 1:
            return super().get_action_dist_params(obs)
        latent = self.latent_pi(self.extract_features(obs, self.features_extractor))
        log_std = log_std_of(self.log_std(latent), self.std_head)  # type: ignore[operator]
        return self.mu(latent), log_std, {} if self.n_components == 1 else {"logits": self.logits(latent)}

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        if self.use_sde and not deterministic:
            # gSDE explores with its noise matrix, of which ``action_distribution`` is the marginal
            return SACActor.forward(self, obs, deterministic)
        return super().forward(obs, deterministic)

    def action_distribution(self, obs: PyTorchObs) -> PolicyDistribution:
        mean, log_std, kwargs = self.get_action_dist_params(obs)
        if self.n_components > 1:
            logits = kwargs["logits"] if self.training else finite(kwargs["logits"], "action")
            means, log_stds = (part.unflatten(1, (self.n_components, -1)) for part in (mean, log_std))
            return SquashedMixture(logits, means, log_stds)  # (batch, components), (batch, components, action) twice
        if isinstance(self.action_dist, StateDependentNoiseDistribution):
            # gSDE fixes one noise matrix for a while: its samples of one state are all alike, so use the marginal
            distribution, latent = self.action_dist, kwargs["latent_sde"]  # (batch, latent)
            variance = latent.square() @ distribution.get_std(log_std).square()  # (batch, action)
            log_std = 0.5 * th.log(variance + distribution.epsilon)
        return SquashedGaussian(mean, log_std)

    def candidates(self, obs: PyTorchObs) -> th.Tensor | None:
        if self.n_components == 1:
            return None
        distribution = self.action_distribution(obs)
        assert isinstance(distribution, SquashedMixture)
        return distribution.modes()


class DiscreteActor(DistributionActor, BasePolicy):
    """
    Actor network of ``Discrete``, ``MultiDiscrete`` and ``MultiBinary`` actions: a categorical distribution, or an independent
    one for each factor. Choices that a mask in the observation forbids have probability zero.

    For another policy distribution override ``action_distribution`` and, where its noise differs, ``noise_dim`` and
    ``noise_generator``.

    :param observation_space: Observation space
    :param action_space: Action space
    :param net_arch: Widths of the hidden layers
    :param features_extractor: Network to extract features
    :param features_dim: Number of features
    :param activation_fn: Activation function
    :param normalize_images: Whether to divide images by 255
    :param batch_norm: Whether to normalise features and hidden layers over the batch
    """

    noise_generator = staticmethod(th.rand)

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        net_arch: list[int],
        features_extractor: nn.Module,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        batch_norm: bool = False,
    ):
        super().__init__(
            observation_space, action_space, features_extractor=features_extractor, normalize_images=normalize_images
        )
        self.net_arch, self.features_dim, self.activation_fn = net_arch, features_dim, activation_fn
        self.batch_norm = batch_norm
        self.choices = choices_of(action_space)
        self.noise_dim = len(self.choices)
        self.latent_pi = make_trunk(features_dim, net_arch, activation_fn, batch_norm)
        n_logits = len(self.choices) if isinstance(action_space, spaces.MultiBinary) else sum(self.choices)
        self.logits = nn.Linear([features_dim, *net_arch][-1], n_logits)

    def action_distribution(self, obs: PyTorchObs) -> PolicyDistribution:
        return self.choice_distribution(obs, self.latent_pi(self.extract_features(obs, self.features_extractor)))

    def choice_distribution(self, obs: PyTorchObs, latent: th.Tensor) -> PolicyDistribution:
        """
        Distribution of the choices in each state.

        :param obs: Observations, shape (batch, ...), for their mask
        :param latent: Last hidden layer, shape (batch, hidden)
        :return: The distribution
        """
        logits = self.logits(latent)  # (batch, sum of the numbers of choices), of bits (batch, bits)
        # In evaluation mode it acts: NaN would choose some action in silence
        logits = logits if self.training else finite(logits, "action")
        return make_distribution(logits, self.action_space, self.choices, mask_of(obs))

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self(observation, deterministic)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        names = ("net_arch", "features_extractor", "features_dim", "activation_fn", "batch_norm")
        return {**data, **{name: getattr(self, name) for name in names}}
