"""Networks of Soft Q-learning: critics for many actions per state and, for a box, a network that turns noise into actions."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn

from sb3_maxent.common.critics import batch_size_of
from sb3_maxent.common.layers import NarrowLinear, add_linear, chunk_size
from sb3_maxent.common.policies import MaxEntPolicy

# Actions among which ``deterministic=True`` chooses
N_CANDIDATES = 32


class Actor(BasePolicy):
    r"""
    State-conditioned sampling network: :math:`a = \tanh f(\xi; s)` with standard normal noise :math:`\xi`.

    It has no density that could be evaluated. Features and noise enter through a layer each, initialised by the number of
    their own inputs, so that the actions spread over the box at first however many features there are and however large: with
    one layer for both, the noise of a few components would drown in a hundred features, and nothing would be explored.

    Paper: https://arxiv.org/abs/1702.08165 (section 3.3)

    :param observation_space: Observation space
    :param action_space: Action space
    :param net_arch: Widths of the hidden layers, at least one
    :param features_extractor: Network to extract features
    :param features_dim: Number of features
    :param activation_fn: Activation function
    :param normalize_images: Whether to divide images by 255
    :param noise_layer: Index of the hidden layer that the noise enters: 0 with the features, as in the authors' code, -1 the
        last one. The later, the cheaper are many samples per state.
    :raises ValueError: If there is no such layer
    """

    deterministic_noise: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        net_arch: list[int],
        features_extractor: nn.Module,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        noise_layer: int = -1,
    ):
        super().__init__(
            observation_space,
            action_space,
            features_extractor=features_extractor,
            normalize_images=normalize_images,
            squash_output=True,
        )
        if len(net_arch) == 0:
            raise ValueError(f"net_arch={net_arch}: the sampling network needs at least one hidden layer")
        if not isinstance(noise_layer, int) or not -len(net_arch) <= noise_layer < len(net_arch):
            raise ValueError(f"noise_layer={noise_layer} is not a hidden layer of the sampling network's net_arch={net_arch}")
        self.net_arch, self.features_dim = net_arch, features_dim
        self.activation_fn, self.noise_layer = activation_fn, noise_layer
        self.noise_dim = get_action_dim(action_space)
        self.register_buffer("deterministic_noise", th.randn(N_CANDIDATES, self.noise_dim))
        layer = noise_layer % len(net_arch)
        widths = [features_dim, *net_arch]
        trunk = create_mlp(features_dim, -1, net_arch[:layer], activation_fn)
        self.features_network = nn.Sequential(*trunk, nn.Linear(widths[layer], net_arch[layer]))
        self.noise_network = nn.Linear(self.noise_dim, net_arch[layer], bias=False)
        head = create_mlp(net_arch[layer], -1, net_arch[layer + 1 :], activation_fn)
        self.head = nn.Sequential(activation_fn(), *head, NarrowLinear(net_arch[-1], self.noise_dim))
        self._initialise()

    def _initialise(self) -> None:
        # Keeps the size of the noise on its way, where PyTorch's own initialisation shrinks it sixfold per layer. The state's
        # way keeps PyTorch's: observations are larger than noise, and would put the actions at the bounds
        for module in (self.noise_network, *self.head):
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.ReLU):
                # As in the critic: a second copy of a hidden layer of all samples costs more than the product that made it
                module.inplace = True

    def hidden_features(self, obs: PyTorchObs) -> th.Tensor:
        """
        What the states contribute to the layer that the noise enters, once for all samples of a state.

        :param obs: Observations, shape (batch, ...)
        :return: Features, shape (batch, 1, hidden)
        """
        features = self.extract_features(obs, self.features_extractor)  # (batch, features)
        return self.features_network(features).unsqueeze(1)

    def transform(self, features: th.Tensor, noise: th.Tensor) -> th.Tensor:
        """
        Turn noise into actions before the squash.

        :param features: ``hidden_features`` of the states, shape (batch, 1, hidden)
        :param noise: Standard normal noise, shape (batch, samples, action)
        :return: Actions before tanh, shape (batch, samples, action)
        """
        weight = self.noise_network.weight
        if th.is_grad_enabled() or th.compiler.is_compiling():
            return self.head(add_linear(features, noise, weight))
        # As many states at a time as stay in cache, as in the critic
        chunk = chunk_size(noise, len(weight))
        parts = zip(features.split(chunk), noise.split(chunk), strict=True)
        return th.cat([self.head(add_linear(some, some_noise, weight)) for some, some_noise in parts])

    def pre_tanh(self, obs: PyTorchObs, noise: th.Tensor) -> th.Tensor:
        """
        Turn noise into actions before the squash.

        :param obs: Observations, shape (batch, ...)
        :param noise: Standard normal noise, shape (batch, samples, action)
        :return: Actions before tanh, shape (batch, samples, action)
        """
        return self.transform(self.hidden_features(obs), noise)

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """
        Act.

        :param obs: Observations, shape (batch, ...)
        :return: One random action per state in [-1, 1], shape (batch, action)
        """
        return self.sample_actions(obs, 1).squeeze(1)

    def sample_actions(self, obs: PyTorchObs, n_samples: int) -> th.Tensor:
        """
        Draw several actions per state.

        :param obs: Observations, shape (batch, ...)
        :param n_samples: Number of actions per state
        :return: Actions in [-1, 1], shape (batch, samples, action)
        """
        return self.actions_from_noise(obs, th.randn(batch_size_of(obs), n_samples, self.noise_dim, device=self.device))

    def actions_from_noise(self, obs: PyTorchObs, noise: th.Tensor) -> th.Tensor:
        """
        Turn noise into actions.

        :param obs: Observations, shape (batch, ...)
        :param noise: Standard normal noise, shape (batch, samples, action)
        :return: Actions in [-1, 1], shape (batch, samples, action)
        """
        return th.tanh(self.pre_tanh(obs, noise))

    def candidates(self, obs: PyTorchObs) -> th.Tensor:
        """
        Turn the noise of ``deterministic_noise``, the same for all states and times, into actions.

        :param obs: Observations, shape (batch, ...)
        :return: Actions in [-1, 1], shape (batch, candidates, action)
        """
        return self.actions_from_noise(obs, self.deterministic_noise.expand(batch_size_of(obs), -1, -1))

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        if deterministic:
            raise ValueError(
                "deterministic=True chooses by Q-values, which the actor does not know: ask the policy or the model"
            )
        return self(observation)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        names = ("net_arch", "features_extractor", "features_dim", "activation_fn", "noise_layer")
        return {**data, **{name: getattr(self, name) for name in names}}


class SoftQLearningPolicy(MaxEntPolicy):
    """
    Policy class of Soft Q-learning: critics, target critics and, for ``Box`` actions, a sampling network.

    For ``Discrete`` actions the policy is the softmax of the Q-values over the temperature, without a network of its own.

    :param observation_space: Observation space
    :param action_space: Action space, ``Box`` or ``Discrete``
    :param lr_schedule: Learning rate schedule
    :param noise_layer: Hidden layer of the sampling network that the noise enters: 0 next to the features, -1 (default) the
        last one, see :class:`Actor`
    :param kwargs: Arguments of :class:`~sb3_maxent.common.policies.MaxEntPolicy` and of SB3's ``SACPolicy``
    :raises ValueError: If an argument has no meaning
    """

    actor: Actor | None  # type: ignore[assignment]
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
            raise ValueError("use_sde=True: gSDE is for Gaussian policies, the sampling network explores by itself")
        self.noise_layer = noise_layer
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        # The temperature belongs to the policy of discrete actions: it acts the same when saved and loaded on its own
        self.register_buffer("ent_coef", th.ones(()))
        if isinstance(self.action_space, spaces.Box):
            super()._build(lr_schedule)
            return
        if self.share_features_extractor:
            raise ValueError("share_features_extractor=True: without an actor there is nothing to share with, leave it out")
        self.actor = None
        self.critic, self.critic_target = self.make_critic(), self.make_critic()
        self.critic_target.load_state_dict(self.critic.state_dict())
        self.critic_target.set_training_mode(False)
        self.critic.optimizer = self.optimizer_class(
            self.critic.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:  # type: ignore[override]
        actor_kwargs = self._update_features_extractor(self.net_args, features_extractor)
        return Actor(**actor_kwargs, noise_layer=self.noise_layer).to(self.device)

    def sample_actions(self, obs: PyTorchObs, n_samples: int) -> th.Tensor:
        """
        Draw several actions per state.

        :param obs: Observations, shape (batch, ...)
        :param n_samples: Number of actions per state
        :return: Actions in [-1, 1], shape (batch, samples, action), or numbers of actions, shape (batch, samples)
        """
        if self.actor is not None:
            return self.actor.sample_actions(obs, n_samples)
        return self.actions_from_noise(obs, th.rand(batch_size_of(obs), n_samples, 1, device=self.device))

    def actions_from_noise(self, obs: PyTorchObs, noise: th.Tensor) -> th.Tensor:
        """
        Turn noise into actions.

        :param obs: Observations, shape (batch, ...)
        :param noise: Standard normal noise, shape (batch, samples, action); for ``Discrete`` actions uniform in [0, 1),
            shape (batch, samples, 1)
        :return: Actions in [-1, 1], shape (batch, samples, action), or numbers of actions, shape (batch, samples)
        """
        if self.actor is not None:
            return self.actor.actions_from_noise(obs, noise)
        probabilities = th.softmax(self.critic.all_q_values(obs) / self.ent_coef, dim=1)  # (batch, actions), eq. 6
        # Without the last sum, which may round to less than the noise
        bounds = probabilities.cumsum(dim=1)[:, :-1].unsqueeze(1)  # (batch, 1, actions - 1)
        return (noise >= bounds).sum(dim=2)  # (batch, samples)

    def best_actions(self, obs: PyTorchObs) -> th.Tensor:
        """
        The action of largest Q-value: of all ``Discrete`` ones, or of those that the sampling network makes of fixed noise.

        :param obs: Observations, shape (batch, ...)
        :return: Actions in [-1, 1], shape (batch, action), or numbers of actions, shape (batch,)
        """
        if self.actor is None:
            return self.critic.all_q_values(obs).argmax(dim=1)
        candidates = self.actor.candidates(obs)  # (batch, candidates, action)
        best = self.critic.q_values(obs, candidates).argmax(dim=1)  # (batch,)
        return candidates[th.arange(best.shape[0], device=best.device), best]

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self.best_actions(observation) if deterministic else self.sample_actions(observation, 1).squeeze(1)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "noise_layer": self.noise_layer}

    def set_training_mode(self, mode: bool) -> None:
        """
        Switch the trained networks between training and evaluation mode.

        :param mode: Whether to train
        """
        for network in filter(None, (self.actor, self.critic)):
            network.set_training_mode(mode)
        self.training = mode


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
