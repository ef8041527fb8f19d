"""Actor of Soft Q-learning for ``Box`` actions: a network that turns noise into actions."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_maxent.common.checks import check_layer
from sb3_maxent.common.compilation import store
from sb3_maxent.common.distributions import draw_noise
from sb3_maxent.common.layers import NarrowLinear, add_linear, chunk_size, make_trunk, per_sample
from sb3_maxent.common.observations import batch_size_of
from sb3_maxent.common.sampled_actor import SampledActor, check_random
from sb3_maxent.common.types import ActionSamples, ValueNoise
from sb3_maxent.functional import kernel_density, mixture_proposal, uniform_proposal

VALUE_PROPOSALS = ("mixture", "uniform")
# Number of vectors of fixed noise, of which half make the candidates, and the largest size of the noise set
N_NOISE_VECTORS = 32


class Actor(SampledActor, BasePolicy):
    r"""
    State-conditioned sampling network: :math:`a = \tanh f(\xi; s)` with standard normal noise :math:`\xi`.

    Its density is unknown. Features and noise pass through separate layers, and the initial range of each layer depends on the
    number of its own inputs. So the first actions spread over the whole box, for any number of features of order one. Those of
    order 30 put most actions at the bounds: use ``batch_norm=True`` or ``VecNormalize`` then. With a single layer for both, a
    few components of noise would have almost no effect compared with a hundred features.

    Paper: https://arxiv.org/abs/1702.08165 (section 3.3)

    :param observation_space: Observation space
    :param action_space: Action space
    :param net_arch: Widths of the hidden layers, at least one
    :param features_extractor: Network to extract features
    :param features_dim: Number of features
    :param activation_fn: Activation function
    :param normalize_images: Whether to divide images by 255
    :param noise_layer: Index of the hidden layer that takes the noise as an input. 0 is the first one, as in the authors'
        code, and -1 is the last one. A later layer makes many samples per state cheaper.
    :param batch_norm: Whether to normalise the features, and the hidden layers before that layer, over the batch
    :raises ValueError: If there is no such layer
    """

    is_exact = False
    deterministic_noise: th.Tensor
    # If this is a number, the policy acts with so many vectors of ``deterministic_noise``. ``None`` means fresh noise
    noise_set_size: int | None = None

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
        batch_norm: bool = False,
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
        check_layer(noise_layer, "noise_layer", len(net_arch), net_arch)
        self.net_arch, self.features_dim = net_arch, features_dim
        self.activation_fn, self.noise_layer, self.batch_norm = activation_fn, noise_layer, batch_norm
        self.noise_dim = get_action_dim(action_space)
        self.register_buffer("deterministic_noise", th.randn(N_NOISE_VECTORS, self.noise_dim))
        layer = noise_layer % len(net_arch)
        widths = [features_dim, *net_arch]
        trunk = make_trunk(features_dim, net_arch[:layer], activation_fn, batch_norm)
        self.features_network = nn.Sequential(*trunk, nn.Linear(widths[layer], net_arch[layer]))
        self.noise_network = nn.Linear(self.noise_dim, net_arch[layer], bias=False)
        head = create_mlp(net_arch[layer], -1, net_arch[layer + 1 :], activation_fn)
        self.head = nn.Sequential(activation_fn(), *head, NarrowLinear(net_arch[-1], self.noise_dim))
        self._initialise()

    def _initialise(self) -> None:
        # This initialisation keeps the size of the noise through the layers. PyTorch's default reduces it sixfold per layer.
        # The layers of the features keep PyTorch's default, because larger features would put all actions at the bounds
        for module in (self.noise_network, *self.head):
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif type(module) is nn.ReLU:
                # As in the critic: a second copy of this hidden layer for all samples costs more than its matrix product
                module.inplace = True

    def hidden_features(self, obs: PyTorchObs) -> th.Tensor:
        """
        Compute the features of the states at the layer of the noise, once for all samples of a state.

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
        # In training mode a batch normalisation must see all samples together
        if th.is_grad_enabled() or (self.training and any(isinstance(layer, nn.BatchNorm1d) for layer in self.head)):
            return per_sample(self.head, add_linear(features, noise, weight))
        if th.compiler.is_compiling():
            return store(per_sample(self.head, add_linear(features, noise, weight)))
        # Compute as many states at a time as fit in the cache, as in the critic
        chunk = chunk_size(noise, len(weight))
        parts = zip(features.split(chunk), noise.split(chunk), strict=True)
        return th.cat([per_sample(self.head, add_linear(some, some_noise, weight)) for some, some_noise in parts])

    def pre_tanh(self, obs: PyTorchObs, noise: th.Tensor) -> th.Tensor:
        """
        Turn noise into actions before the squash.

        :param obs: Observations, shape (batch, ...)
        :param noise: Standard normal noise, shape (batch, samples, action)
        :return: Actions before tanh, shape (batch, samples, action)
        """
        return self.transform(self.hidden_features(obs), noise)

    def squash(self, pre_tanh: th.Tensor) -> th.Tensor:
        """
        Squash variables without gradient into actions.

        :param pre_tanh: Actions before tanh, shape (batch, samples, action)
        :return: Actions in [-1, 1], shape (batch, samples, action)
        """
        return store(th.tanh(pre_tanh))

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        """
        Act.

        :param obs: Observations, shape (batch, ...)
        :param deterministic: Must be ``False``
        :return: One random action per state in [-1, 1], shape (batch, action)
        :raises ValueError: For a deterministic action
        """
        check_random(deterministic)
        return self.sample_actions(obs, 1).squeeze(1)

    def actions_from_noise(self, obs: PyTorchObs, noise: th.Tensor) -> th.Tensor:
        return th.tanh(self.pre_tanh(obs, noise))

    def sample_actions(self, obs: PyTorchObs, n_samples: int) -> th.Tensor:
        if self.noise_set_size is None:
            return super().sample_actions(obs, n_samples)
        numbers = th.randint(self.noise_set_size, (batch_size_of(obs), n_samples), device=self.device)
        return self.actions_from_noise(obs, self.deterministic_noise[numbers])

    def draw_value_noise(self, batch_size: int, n_samples: int) -> ValueNoise:
        """
        Draw the noise of the soft value.

        :param batch_size: Number of states
        :param n_samples: Number of actions per state
        :return: Noise
        """
        centres = self.draw_noise(batch_size, n_samples)
        return ValueNoise(centres, draw_noise(th.rand, batch_size, n_samples, 1 + self.noise_dim, self.device))

    def value_samples(self, obs: PyTorchObs, noise: ValueNoise, proposal: str) -> ActionSamples:
        """
        Draw the actions from which the soft value is estimated.

        :param obs: Observations, shape (batch, ...)
        :param noise: Noise
        :param proposal: ``"mixture"`` for actions near those of this network, or ``"uniform"``
        :return: Actions, and their log density under the proposal
        """
        if proposal == "mixture":
            centres = self.squash(self.pre_tanh(obs, noise.centres))  # (batch, samples, action)
            actions, log_proposal = mixture_proposal(centres, noise.proposal)  # (batch, samples, action), (batch, samples)
        else:
            actions, log_proposal = uniform_proposal(noise.proposal[..., 1:])  # (batch, samples, action), (batch, samples)
        return ActionSamples(store(actions), log_proposal)

    def fixed_actions(self, obs: PyTorchObs) -> th.Tensor:
        """
        Turn ``deterministic_noise``, which is the same for all states at all times, into actions.

        :param obs: Observations, shape (batch, ...)
        :return: Actions in [-1, 1], shape (batch, vectors of noise, action)
        """
        return th.tanh(self._fixed_pre_tanh(obs))

    def candidates(self, obs: PyTorchObs) -> th.Tensor:
        """
        Actions that ``deterministic=True`` compares: the half of the ``fixed_actions`` that lies densest, by the kernel of the
        particles. The critic has seen few actions like the others.

        :param obs: Observations, shape (batch, ...)
        :return: Actions in [-1, 1], the densest first, shape (batch, candidates, action)
        """
        pre_tanh = self._fixed_pre_tanh(obs)  # (batch, 2 * candidates, action)
        densest = kernel_density(pre_tanh).topk(N_NOISE_VECTORS // 2, dim=1).indices  # (batch, candidates)
        return th.tanh(pre_tanh.gather(1, densest.unsqueeze(2).expand(-1, -1, self.noise_dim)))

    def _fixed_pre_tanh(self, obs: PyTorchObs) -> th.Tensor:
        return self.pre_tanh(obs, self.deterministic_noise.expand(batch_size_of(obs), -1, -1))

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self(observation, deterministic)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        names = ("net_arch", "features_extractor", "features_dim", "activation_fn", "noise_layer", "batch_norm")
        return {**data, **{name: getattr(self, name) for name in names}}
