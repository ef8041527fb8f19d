"""A Q-function that is evaluated at many actions of one state."""

from contextlib import nullcontext

import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_maxent.common.checks import check_choice, check_layer
from sb3_maxent.common.layers import BatchNorm, ScalarLinear, add_linear, chunk_size, make_hidden, make_trunk, per_sample

PRECISIONS = {"float32": th.float32, "bfloat16": th.bfloat16}


class QNetwork(nn.Module):
    r"""
    Q-function in which the action joins at one chosen layer.

    The joining layer is linear in features and action together. So for many actions of one state the embedding of the state,
    :math:`W_s h(s) + b`, is computed once and :math:`W_a a` is added for each action: nothing is tiled. (So the layer
    ``join`` is used through its weights: forward hooks on it are not called.)

    :param features_dim: Number of features of the state
    :param action_dim: Number of action components
    :param net_arch: Widths of the hidden layers
    :param activation_fn: Activation function
    :param action_layer: Index of the layer that the action enters: 0 with the features, as in SB3's ``ContinuousCritic``;
        ``len(net_arch) - 1`` at the last hidden layer. Negative values count from the last hidden layer.
    :param evaluation_precision: Precision of the hidden layers after it where many actions are evaluated without gradient:
        ``"float32"``, or ``"bfloat16"``, three times as fast on processors with matrix units for it. It has no effect when
        the action enters at the last hidden layer.
    :param batch_norm: Whether to normalise features and hidden layers over the batch, of the replay buffer's states and
        actions. In evaluation mode the normalisation of the joining layer is part of its weights, and costs nothing.
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
        batch_norm: bool = False,
    ):
        super().__init__()
        check_choice(evaluation_precision, "evaluation_precision", PRECISIONS)
        self.evaluation_dtype = PRECISIONS[evaluation_precision]
        n_layers = max(len(net_arch), 1)
        check_layer(action_layer, "action_layer", n_layers, net_arch)
        action_layer %= n_layers
        widths = [features_dim, *net_arch, 1]
        self.trunk = make_trunk(features_dim, widths[1 : action_layer + 1], activation_fn, batch_norm)
        # Without hidden layers the joining layer is the last one
        norm_join = batch_norm and len(net_arch) > 0
        self.join = nn.Linear(widths[action_layer] + action_dim, widths[action_layer + 1], bias=not norm_join)
        self.join_norm = BatchNorm(widths[action_layer + 1]) if norm_join else None
        if action_layer > 0:
            # As if the action had its own layer. PyTorch's range depends on all inputs, most of them features. It leaves the
            # Q-function nearly linear in the action for thousands of updates
            nn.init.uniform_(self.join.weight[:, -action_dim:], -(action_dim**-0.5), action_dim**-0.5)
        hidden = make_hidden(widths[action_layer + 1], net_arch[action_layer + 1 :], activation_fn, batch_norm)
        head = [activation_fn(), *hidden, ScalarLinear(widths[-2])] if net_arch else [nn.Flatten(start_dim=1)]
        self.head = nn.Sequential(*head)
        for module in head:
            # Subclasses may need their input again
            if type(module) is nn.ReLU:
                # A hidden layer of all samples is large: a second copy costs more than the product that made it
                module.inplace = True

    def embed(self, features: th.Tensor) -> th.Tensor:
        """
        Compute the part of the joining layer that depends on the state alone.

        :param features: Features of the states, shape (batch, features)
        :return: Embedding, shape (batch, 1, join)
        """
        hidden = self.trunk(features)  # (batch, hidden)
        return F.linear(hidden, self.join.weight[:, : hidden.shape[1]], self.join.bias).unsqueeze(1)  # (batch, 1, join)

    def forward(self, embedding: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        Evaluate several actions per state.

        :param embedding: Embedding of the states, shape (batch, 1, join)
        :param actions: Actions in [-1, 1], shape (batch, samples, action)
        :return: Q-values, shape (batch, samples), with one more dimension if the last layer has several outputs
        """
        weight_action = self.join.weight[:, -actions.shape[2] :]  # (join, action)
        if self.join_norm is not None and not self.join_norm.training:
            scale, shift = self.join_norm.fixed_scale_and_shift()  # (join,) each
            embedding, weight_action = embedding * scale + shift, weight_action * scale.unsqueeze(1)
        with th.autocast(actions.device.type, dtype=self.evaluation_dtype) if self._is_reduced() else nullcontext():
            return self._evaluate_in_chunks(embedding, actions, weight_action)

    def _evaluate_in_chunks(self, embedding: th.Tensor, actions: th.Tensor, weight_action: th.Tensor) -> th.Tensor:
        # In training mode a normalisation must see all samples at once
        if th.is_grad_enabled() or th.compiler.is_compiling() or self.training:
            return self._evaluate(embedding, actions, weight_action)
        # Fresh large temporaries cost page faults and cache misses: as many states at a time as stay in cache, in one buffer.
        # Without a hidden layer the Q-values are views of the buffer, which must not be used again
        chunk = chunk_size(actions, self.join.out_features) if len(self.head) > 1 else len(actions)
        buffer = actions.new_empty(chunk, actions.shape[1], self.join.out_features)
        return th.cat(
            [
                self._evaluate(part, some_actions, weight_action, buffer[: len(part)])
                for part, some_actions in zip(embedding.split(chunk), actions.split(chunk), strict=True)
            ]
        )

    def _evaluate(
        self, embedding: th.Tensor, actions: th.Tensor, weight_action: th.Tensor, out: th.Tensor | None = None
    ) -> th.Tensor:
        # The layer that the action enters keeps its precision
        with th.autocast(actions.device.type, enabled=False) if self._is_reduced() else nullcontext():
            hidden = add_linear(embedding, actions, weight_action, out)  # (batch, samples, join)
            if self.join_norm is not None and self.join_norm.training:
                hidden = per_sample([self.join_norm], hidden)  # (batch, samples, join)
        return per_sample(self.head, hidden)  # (batch, samples)

    def _is_reduced(self) -> bool:
        # What runs an exported graph need not know another type
        return self.evaluation_dtype is not th.float32 and not th.is_grad_enabled() and not th.compiler.is_exporting()

    def hidden_weights(self) -> list[th.Tensor]:
        """
        Weights of the hidden layers.

        :return: One tensor of shape (outputs, inputs) per layer
        """
        layers = [layer for layer in (*self.trunk, self.join, *self.head) if isinstance(layer, nn.Linear)]
        return [layer.weight for layer in layers[:-1]]
