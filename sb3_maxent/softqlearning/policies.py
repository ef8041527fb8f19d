"""Networks of Soft Q-learning: a network that turns noise into actions, and critics for many actions per state."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_maxent.common.policies import MaxEntPolicy, batch_size_of


class Actor(BasePolicy):
    r"""
    State-conditioned sampling network: :math:`a = \tanh f(\xi; s)` with standard normal noise :math:`\xi`.

    It has no density that could be evaluated. Features and noise enter through a layer each, initialised by the number of
    their own inputs, so that the actions spread over the box at first however many features there are: with one layer for
    both, the noise of a few components would drown in a hundred features, and nothing would be explored.

    Paper: https://arxiv.org/abs/1702.08165 (section 3.3)

    :param observation_space: Observation space
    :param action_space: Action space
    :param net_arch: Widths of the hidden layers, at least one
    :param features_extractor: Network to extract features
    :param features_dim: Number of features
    :param activation_fn: Activation function
    :param normalize_images: Whether to divide images by 255
    :raises ValueError: If there is no hidden layer
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        net_arch: list[int],
        features_extractor: nn.Module,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
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
        self.net_arch, self.features_dim, self.activation_fn = net_arch, features_dim, activation_fn
        self.noise_dim = get_action_dim(action_space)
        self.features_layer = nn.Linear(features_dim, net_arch[0])
        self.noise_layer = nn.Linear(self.noise_dim, net_arch[0], bias=False)
        self.network = nn.Sequential(activation_fn(), *create_mlp(net_arch[0], self.noise_dim, net_arch[1:], activation_fn))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                # Keeps the size of what passes through, where PyTorch's own initialisation shrinks it sixfold per layer
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def pre_tanh(self, obs: PyTorchObs, noise: th.Tensor) -> th.Tensor:
        """
        Turn noise into actions before the squash.

        :param obs: Observations, shape (batch, ...)
        :param noise: Standard normal noise, shape (batch, samples, action)
        :return: Actions before tanh, shape (batch, samples, action)
        """
        features = self.features_layer(self.extract_features(obs, self.features_extractor))  # (batch, hidden)
        return self.network(features.unsqueeze(1) + self.noise_layer(noise))

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        """
        Act.

        :param obs: Observations, shape (batch, ...)
        :param deterministic: Whether to use zero noise instead of random one
        :return: Actions in [-1, 1], shape (batch, action)
        """
        if not deterministic:
            return self.sample_actions(obs, 1).squeeze(1)
        noise = th.zeros(batch_size_of(obs), 1, self.noise_dim, device=self.device)
        return th.tanh(self.pre_tanh(obs, noise)).squeeze(1)

    def sample_actions(self, obs: PyTorchObs, n_samples: int) -> th.Tensor:
        """
        Draw several actions per state.

        :param obs: Observations, shape (batch, ...)
        :param n_samples: Number of actions per state
        :return: Actions in [-1, 1], shape (batch, samples, action)
        """
        noise = th.randn(batch_size_of(obs), n_samples, self.noise_dim, device=self.device)
        return th.tanh(self.pre_tanh(obs, noise))

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self(observation, deterministic)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        names = ("net_arch", "features_extractor", "features_dim", "activation_fn")
        return {**data, **{name: getattr(self, name) for name in names}}


class SoftQLearningPolicy(MaxEntPolicy):
    """
    Policy class (sampling network, critics and target critics) of Soft Q-learning.

    :param observation_space: Observation space
    :param action_space: Action space
    :param lr_schedule: Learning rate schedule
    :param kwargs: Arguments of :class:`~sb3_maxent.common.policies.MaxEntPolicy` and of SB3's ``SACPolicy``
    :raises ValueError: If an argument has no meaning
    """

    actor: Actor  # type: ignore[assignment]

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:  # type: ignore[override]
        return Actor(**self._update_features_extractor(self.net_args, features_extractor)).to(self.device)


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
