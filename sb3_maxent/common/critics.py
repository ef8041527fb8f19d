"""Critics that are evaluated at many actions per state."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn
from torch.nn import functional as F

from sb3_maxent.common.layers import ScalarLinear, add_linear, chunk_size

PRECISIONS = {"float32": th.float32, "bfloat16": th.bfloat16}


def batch_size_of(obs: PyTorchObs) -> int:
    """
    Number of states in observations.

    :param obs: Observations, shape (batch, ...), or a dictionary of such
    :return: Batch size
    """
    # Not len(): an exported graph has no fixed batch size
    return (next(iter(obs.values())) if isinstance(obs, dict) else obs).shape[0]


class QNetwork(nn.Module):
    r"""
    Q-function in which the action joins at one chosen layer.

    The joining layer is linear in features and action together, so for many actions of one state the features' part,
    :math:`W_s h(s) + b`, is computed once and :math:`W_a a` is added for each action: nothing is tiled. (So the layer
    ``join`` is used through its weights: forward hooks on it are not called.)

    :param features_dim: Number of features of the state
    :param action_dim: Number of action components
    :param net_arch: Widths of the hidden layers
    :param activation_fn: Activation function
    :param action_layer: Index of the layer that the action enters: 0 with the features, as in SB3's ``ContinuousCritic``;
        ``len(net_arch) - 1`` at the last hidden layer. Negative values count from the last hidden layer.
    :param evaluation_precision: Precision of the hidden layers behind it where many actions are evaluated without gradient:
        ``"float32"``, or ``"bfloat16"``, three times as fast on processors with matrix units for it. It has no effect when
        the action enters at the last hidden layer.
    :raises ValueError: If there is no such layer or precision
    """

    def __init__(
        self,
        features_dim: int,
        action_dim: int,
        net_arch: list[int],
        activation_fn: type[nn.Module],
        action_layer: int,
        evaluation_precision: str = "float32",
    ):
        super().__init__()
        if evaluation_precision not in tuple(PRECISIONS):
            raise ValueError(f"evaluation_precision={evaluation_precision!r} is not one of {tuple(PRECISIONS)}")
        self.evaluation_dtype = PRECISIONS[evaluation_precision]
        n_layers = max(len(net_arch), 1)
        if not isinstance(action_layer, int) or not -n_layers <= action_layer < n_layers:
            raise ValueError(f"action_layer={action_layer} is not a hidden layer of net_arch={net_arch}")
        action_layer %= n_layers
        widths = [features_dim, *net_arch, 1]
        self.trunk = nn.Sequential(*create_mlp(features_dim, -1, widths[1 : action_layer + 1], activation_fn))
        self.join = nn.Linear(widths[action_layer] + action_dim, widths[action_layer + 1])
        if action_layer > 0:
            # As if the action had a layer of its own: the usual range, one over the root of all inputs, hundreds of them
            # features, leaves the Q-function nearly linear in the action for thousands of updates
            nn.init.uniform_(self.join.weight[:, -action_dim:], -(action_dim**-0.5), action_dim**-0.5)
        hidden = create_mlp(widths[action_layer + 1], -1, net_arch[action_layer + 1 :], activation_fn)
        head = [activation_fn(), *hidden, ScalarLinear(widths[-2])] if net_arch else [nn.Flatten(start_dim=1)]
        self.head = nn.Sequential(*head)
        for module in head:
            if isinstance(module, nn.ReLU):
                # A hidden layer of all samples is large: a second copy costs more than the product that made it
                module.inplace = True

    def state_part(self, features: th.Tensor) -> th.Tensor:
        """
        What a state contributes to the joining layer, the same for all its actions.

        :param features: Features of the states, shape (batch, features)
        :return: State part, shape (batch, 1, join)
        """
        hidden = self.trunk(features)  # (batch, hidden)
        return F.linear(hidden, self.join.weight[:, : hidden.shape[1]], self.join.bias).unsqueeze(1)  # (batch, 1, join)

    def forward(self, state_part: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        Evaluate several actions per state.

        :param state_part: ``state_part`` of the states, shape (batch, 1, join)
        :param actions: Actions in [-1, 1], shape (batch, samples, action)
        :return: Q-values, shape (batch, samples)
        """
        weight_action = self.join.weight[:, -actions.shape[2] :]  # (join, action)
        if th.is_grad_enabled():
            return self._evaluate(state_part, actions, weight_action)
        # What runs an exported graph need not know another type
        reduced = self.evaluation_dtype is not th.float32 and not th.compiler.is_exporting()
        with th.autocast(actions.device.type, dtype=self.evaluation_dtype) if reduced else nullcontext():
            return self._evaluate_in_chunks(state_part, actions, weight_action)

    def _evaluate_in_chunks(self, state_part: th.Tensor, actions: th.Tensor, weight_action: th.Tensor) -> th.Tensor:
        if th.compiler.is_compiling():
            return self._evaluate(state_part, actions, weight_action)
        # Fresh large temporaries cost page faults and cache misses: as many states at a time as stay in cache, in one buffer
        # Without a hidden layer the Q-values are views of the buffer, which must not be used again
        chunk = chunk_size(actions, self.join.out_features) if len(self.head) > 1 else len(actions)
        # With a buffer of its own the product keeps its precision under autocast
        buffer = actions.new_empty(chunk, actions.shape[1], self.join.out_features)
        return th.cat(
            [
                self._evaluate(part, some_actions, weight_action, buffer[: len(part)])
                for part, some_actions in zip(state_part.split(chunk), actions.split(chunk), strict=True)
            ]
        )

    def _evaluate(
        self, state_part: th.Tensor, actions: th.Tensor, weight_action: th.Tensor, out: th.Tensor | None = None
    ) -> th.Tensor:
        return self.head(add_linear(state_part, actions, weight_action, out))  # (batch, samples)


class MultiActionCritic(BaseModel):
    """
    Critic networks with one features extractor, evaluated at one or many actions per state.

    Takes the place of SB3's ``ContinuousCritic``; with ``action_layer=0`` it is the same function. Actions of a ``Discrete``
    space enter as one-hot vectors.

    :param observation_space: Observation space
    :param action_space: Action space, ``Box`` or ``Discrete``
    :param net_arch: Widths of the hidden layers of each network
    :param features_extractor: Network to extract features
    :param features_dim: Number of features
    :param activation_fn: Activation function
    :param normalize_images: Whether to divide images by 255
    :param n_critics: Number of critic networks
    :param share_features_extractor: Whether the features extractor is the actor's, which the critic loss must not move
    :param action_layer: Index of the hidden layer that the action enters, see :class:`QNetwork`
    :param evaluation_precision: Precision of evaluations without gradient, see :class:`QNetwork`
    :raises ValueError: If there is no critic, no such layer or no such precision
    """

    features_extractor: BaseFeaturesExtractor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        n_critics: int = 2,
        share_features_extractor: bool = True,
        action_layer: int = 0,
        evaluation_precision: str = "float32",
    ):
        super().__init__(
            observation_space, action_space, features_extractor=features_extractor, normalize_images=normalize_images
        )
        if n_critics < 1:
            raise ValueError(f"n_critics={n_critics}: at least one critic is needed")
        self.share_features_extractor = share_features_extractor
        self.action_dim = spaces.flatdim(action_space)
        self.q_networks = nn.ModuleList(
            QNetwork(features_dim, self.action_dim, net_arch, activation_fn, action_layer, evaluation_precision)
            for _ in range(n_critics)
        )

    def forward(self, obs: PyTorchObs, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        """
        Q-values of one action per state, from every network.

        :param obs: Observations, shape (batch, ...)
        :param actions: Actions in [-1, 1], shape (batch, action), or numbers of actions, shape (batch, 1)
        :return: One tensor of shape (batch, 1) per network
        """
        return self.forward_state_parts(self.state_parts(obs), actions)

    def forward_state_parts(self, state_parts: Sequence[th.Tensor], actions: th.Tensor) -> tuple[th.Tensor, ...]:
        """
        Q-values of one action per state, from every network, where the state parts are known.

        :param state_parts: ``state_parts`` of the states
        :param actions: Actions in [-1, 1], shape (batch, action), or numbers of actions, shape (batch, 1)
        :return: One tensor of shape (batch, 1) per network
        """
        if isinstance(self.action_space, spaces.Discrete):
            actions = F.one_hot(actions.squeeze(1).long(), self.action_dim).float()  # (batch, actions)
        return tuple(self._of_each_network(state_parts, actions.unsqueeze(1)))

    def q_values(self, obs: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        The smallest Q-value over the networks, for several actions per state.

        :param obs: Observations, shape (batch, ...)
        :param actions: Actions in [-1, 1], shape (batch, samples, action)
        :return: Q-values, shape (batch, samples)
        """
        return self.q_values_of_state_parts(self.state_parts(obs), actions)

    def q_values_of_state_parts(self, state_parts: Sequence[th.Tensor], actions: th.Tensor) -> th.Tensor:
        """
        The smallest Q-value over the networks, for several actions per state, where the state parts are known.

        :param state_parts: ``state_parts`` of the states
        :param actions: Actions in [-1, 1], shape (batch, samples, action)
        :return: Q-values, shape (batch, samples)
        """
        return th.stack(self._of_each_network(state_parts, actions)).amin(dim=0)  # (batch, samples)

    def _of_each_network(self, state_parts: Sequence[th.Tensor], actions: th.Tensor) -> list[th.Tensor]:
        return [q_network(part, actions) for q_network, part in zip(self.q_networks, state_parts, strict=True)]

    def all_q_values(self, obs: PyTorchObs) -> th.Tensor:
        """
        The smallest Q-value over the networks, for every action of a ``Discrete`` space.

        :param obs: Observations, shape (batch, ...)
        :return: Q-values, shape (batch, actions)
        """
        return self.q_values(obs, self.all_actions(batch_size_of(obs)))

    def all_actions(self, batch_size: int) -> th.Tensor:
        """
        Every action of a ``Discrete`` space, as a one-hot vector, for each of several states.

        :param batch_size: Number of states
        :return: Actions, shape (batch, actions, actions)
        """
        return th.eye(self.action_dim, device=self.device).expand(batch_size, -1, -1)

    def state_parts(self, obs: PyTorchObs) -> list[th.Tensor]:
        """
        What each network makes of the states before an action joins.

        :param obs: Observations, shape (batch, ...)
        :return: One tensor of shape (batch, 1, join) per network
        """
        # The actor loss alone trains a shared extractor
        with th.set_grad_enabled(th.is_grad_enabled() and not self.share_features_extractor):
            features = self.extract_features(obs, self.features_extractor)  # (batch, features)
        return [q_network.state_part(features) for q_network in self.q_networks]  # type: ignore[operator]
