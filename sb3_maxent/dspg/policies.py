"""Networks of DSPG: actors with a squashed Gaussian or a discrete distribution, and critics for many actions per state."""

from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.sac.policies import Actor as SACActor
from torch import nn

from sb3_maxent.common.checks import check_flag
from sb3_maxent.common.compilation import store
from sb3_maxent.common.discrete import choices_of, make_distribution
from sb3_maxent.common.distributions import PolicyDistribution, SquashedGaussian, draw_noise
from sb3_maxent.common.errors import finite
from sb3_maxent.common.layers import make_trunk
from sb3_maxent.common.policies import MaxEntPolicy, SampledActor
from sb3_maxent.common.types import ActionSamples

STD_HEADS = ("log_std", "sigmoid")
# The authors' code adds it to the sigmoid
MIN_STD = 1e-4


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
        samples, weights = distribution.support(noise)
        return ActionSamples(store(distribution.actions(samples)), distribution.log_prob(samples), weights)


class Actor(DistributionActor, SACActor):
    """
    SAC's actor network, sampled many times per state. The standard deviation of the paper is an option.

    For another policy distribution override ``action_distribution`` and, where its noise differs, ``noise_dim`` and
    ``draw_noise``.

    :param std_head: ``"log_std"`` for SB3's clamped logarithm of the standard deviation, ``"sigmoid"`` for the paper's
        sigmoid + 1e-4, which bounds it by 1 (the squashed Gaussian of largest entropy has 0.874)
    :param batch_norm: Whether to normalise features and hidden layers over the batch
    :param kwargs: Arguments of SB3's SAC ``Actor``
    :raises ValueError: If there is no such head, or if it is chosen together with gSDE, which has its own
    """

    def __init__(self, *args: Any, std_head: str = "log_std", batch_norm: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if std_head not in STD_HEADS:
            raise ValueError(f"std_head={std_head!r} is not one of {STD_HEADS}")
        if self.use_sde and std_head != "log_std":
            raise ValueError(f"std_head={std_head!r} has no effect with use_sde=True, which learns its own standard deviation")
        self.std_head, self.batch_norm = std_head, batch_norm
        if batch_norm:
            self.latent_pi = make_trunk(self.features_dim, self.net_arch, self.activation_fn, batch_norm)
        self.noise_dim = get_action_dim(self.action_space)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "std_head": self.std_head, "batch_norm": self.batch_norm}

    def get_action_dist_params(self, obs: PyTorchObs) -> tuple[th.Tensor, th.Tensor, dict[str, th.Tensor]]:
        """
        Parameters of SB3's action distribution.

        :param obs: Observations, shape (batch, ...)
        :return: Mean and logarithm of the standard deviation, shape (batch, action) each, and what gSDE needs besides
        """
        if self.std_head == "log_std":
            return super().get_action_dist_params(obs)
        latent = self.latent_pi(self.extract_features(obs, self.features_extractor))
        std = th.sigmoid(self.log_std(latent)) + MIN_STD  # type: ignore[operator]
        return self.mu(latent), th.log(std), {}

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        if self.use_sde and not deterministic:
            # gSDE explores with its noise matrix, of which ``action_distribution`` is the marginal
            return SACActor.forward(self, obs, deterministic)
        return super().forward(obs, deterministic)

    def action_distribution(self, obs: PyTorchObs) -> PolicyDistribution:
        mean, log_std, kwargs = self.get_action_dist_params(obs)
        if isinstance(self.action_dist, StateDependentNoiseDistribution):
            # gSDE fixes one noise matrix for a while: its samples of one state are all alike, so use the marginal
            distribution, latent = self.action_dist, kwargs["latent_sde"]  # (batch, latent)
            latent = latent if distribution.learn_features else latent.detach()
            variance = latent.square() @ distribution.get_std(log_std).square()  # (batch, action)
            log_std = 0.5 * th.log(variance + distribution.epsilon)
        return SquashedGaussian(mean, log_std)


class DiscreteActor(DistributionActor, BasePolicy):
    """
    Actor network of ``Discrete``, ``MultiDiscrete`` and ``MultiBinary`` actions: a categorical distribution, or an independent
    one for each factor.

    For another policy distribution override ``action_distribution`` and, where its noise differs, ``noise_dim`` and
    ``draw_noise``.

    :param observation_space: Observation space
    :param action_space: Action space
    :param net_arch: Widths of the hidden layers
    :param features_extractor: Network to extract features
    :param features_dim: Number of features
    :param activation_fn: Activation function
    :param normalize_images: Whether to divide images by 255
    :param batch_norm: Whether to normalise features and hidden layers over the batch
    """

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
        self.logits = nn.Linear([features_dim, *net_arch][-1], spaces.flatdim(action_space))

    def draw_noise(self, batch_size: int, n_samples: int) -> th.Tensor:
        """
        Draw the noise of several actions per state.

        :param batch_size: Number of states
        :param n_samples: Number of actions per state
        :return: Uniform noise in [0, 1), not contiguous, shape (batch, samples, factors)
        """
        return draw_noise(th.rand, batch_size, n_samples, self.noise_dim, self.device)

    def action_distribution(self, obs: PyTorchObs) -> PolicyDistribution:
        latent = self.latent_pi(self.extract_features(obs, self.features_extractor))
        logits = self.logits(latent)  # (batch, sum of the numbers of choices)
        # In evaluation mode it acts: NaN would choose some action in silence
        return make_distribution(logits if self.training else finite(logits, "action"), self.action_space, self.choices)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self(observation, deterministic)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        names = ("net_arch", "features_extractor", "features_dim", "activation_fn", "batch_norm")
        return {**data, **{name: getattr(self, name) for name in names}}


class DSPGPolicy(MaxEntPolicy):
    """
    Policy class (actor, critic and targets) of DSPG.

    :param observation_space: Observation space
    :param action_space: Action space
    :param lr_schedule: Learning rate schedule
    :param std_head: Standard deviation of the actor of ``Box`` actions: ``"log_std"`` (SB3's) or ``"sigmoid"`` (the paper's),
        see :class:`Actor`
    :param target_actor: Whether the critic target samples from a slowly moving copy of the actor, as in the paper
    :param kwargs: Arguments of :class:`~sb3_maxent.common.policies.MaxEntPolicy` and of SB3's ``SACPolicy``
    :raises ValueError: If an argument has no meaning
    """

    # Override them to train another policy distribution
    actor_class: ClassVar[type[Actor]] = Actor
    discrete_actor_class: ClassVar[type[DiscreteActor]] = DiscreteActor
    actor: Actor | DiscreteActor
    actor_target: Actor | DiscreteActor | None

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        std_head: str = "log_std",
        target_actor: bool = False,
        **kwargs: Any,
    ):
        check_flag(target_actor, "target_actor")
        self.std_head = std_head
        self.target_actor = target_actor
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.actor_target = None
        if self.target_actor:
            self.actor_target = self.make_actor()
            self.actor_target.load_state_dict(self.actor.state_dict())
            self.actor_target.set_training_mode(False)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        if isinstance(self.action_space, spaces.Box):
            actor_kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
            return self.actor_class(**actor_kwargs, std_head=self.std_head, batch_norm=self.batch_norm).to(self.device)
        if self.std_head != "log_std":
            raise ValueError(f"std_head={self.std_head!r} has no effect without Box actions: leave it out")
        actor_kwargs = self._update_features_extractor(self.net_args, features_extractor)
        return self.discrete_actor_class(**actor_kwargs, batch_norm=self.batch_norm).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        ours = {"std_head": self.std_head, "target_actor": self.target_actor}
        return {**super()._get_constructor_parameters(), **ours}


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
