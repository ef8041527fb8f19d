"""
Layers that are evaluated for many samples of one state.

A hidden layer of all samples is large: 256 states x 64 actions x 256 units are 16 MiB. Eager code without gradient evaluates
as many states at a time as stay in cache. Compiled code, see :mod:`sb3_maxent.common.compilation`, does not store it at all:
what is written below as plain sums becomes one loop from the samples to the outputs.
"""

from collections.abc import Iterable

import torch as th
from stable_baselines3.common.torch_layers import create_mlp
from torch import nn
from torch.nn import functional as F

# Floats of a hidden layer that are evaluated at a time without gradient: 1 MiB, to stay in a second-level cache
CHUNK_FLOATS = 256 * 1024
# Inputs or outputs of a layer up to which compiled code writes its sum out; more are left to the matrix product
MAX_WRITTEN_OUT = 32


class BatchNorm(nn.BatchNorm1d):
    """
    Batch normalisation with the constants of CrossQ: statistics over the last hundred batches in evaluation mode.

    Paper: https://arxiv.org/abs/1902.05605

    :param num_features: Number of features
    :param affine: Whether to learn a scale and a shift
    """

    def __init__(self, num_features: int, affine: bool = True):
        super().__init__(num_features, eps=1e-3, momentum=0.01, affine=affine)

    def fixed_scale_and_shift(self) -> tuple[th.Tensor, th.Tensor]:
        """
        What it multiplies with and adds in evaluation mode.

        :return: Two tensors of shape (features,)
        """
        scale = self.weight * th.rsqrt(self.running_var + self.eps)  # type: ignore[operator,arg-type]
        return scale, self.bias - self.running_mean * scale  # type: ignore[operator]


def follow_each_batch(target: nn.Module) -> None:
    """
    Let the statistics of evaluation mode be those of the last batch alone.

    For target networks. They get copies of the critic's running statistics, which do not fit their own weights. So each batch
    first passes them in training mode, and evaluation mode then uses the statistics of this batch. With the copied ones,
    critics diverged on some seeds where the target has many next actions.

    :param target: Target networks
    """
    for layer in target.modules():
        if isinstance(layer, BatchNorm):
            layer.momentum = 1.0


def make_hidden(n_inputs: int, net_arch: list[int], activation_fn: type[nn.Module], batch_norm: bool) -> list[nn.Module]:
    """
    Hidden layers.

    :param n_inputs: Number of inputs
    :param net_arch: Widths of the layers
    :param activation_fn: Activation function
    :param batch_norm: Whether to normalise each layer before its activation
    :return: The layers
    """
    # Normalisation takes a bias away: it would have no gradient but rounding, which Adam magnifies
    norm: list[type[nn.Module]] = [BatchNorm] if batch_norm else []
    return create_mlp(n_inputs, -1, net_arch, activation_fn, with_bias=not batch_norm, post_linear_modules=norm)


def make_trunk(n_inputs: int, net_arch: list[int], activation_fn: type[nn.Module], batch_norm: bool) -> nn.Sequential:
    """
    Hidden layers after a features extractor.

    :param n_inputs: Number of features
    :param net_arch: Widths of the layers
    :param activation_fn: Activation function
    :param batch_norm: Whether to normalise the features, and each layer before its activation
    :return: The layers
    """
    # The next layer has its own scale and bias
    features_norm = [BatchNorm(n_inputs, affine=False)] if batch_norm else []
    return nn.Sequential(*features_norm, *make_hidden(n_inputs, net_arch, activation_fn, batch_norm))


def chunk_size(samples: th.Tensor, width: int) -> int:
    """
    Number of states to evaluate at a time, so that a hidden layer of all their samples stays in a processor's cache.

    :param samples: Actions or their noise, shape (batch, samples, ...)
    :param width: Width of the hidden layer
    :return: Number of states, all of them on other devices
    """
    if samples.device.type != "cpu":
        return len(samples)
    return min(len(samples), max(1, CHUNK_FLOATS // (samples.shape[1] * width)))


def keep_freed_memory() -> None:
    """
    Let the C library keep the memory of hidden layers that are freed after each update.

    glibc gives blocks back to the system, and asks for their pages again in the next update, when they are large in comparison
    with the largest block freed so far, up to 32 MiB. So one of almost that size is freed here, without being touched. Without
    it the eager update of Soft Q-learning meets 5,000 page faults, a quarter of its time.
    """
    th.empty(31 * 2**20, dtype=th.uint8)


def add_linear(embedding: th.Tensor, samples: th.Tensor, weight: th.Tensor, out: th.Tensor | None = None) -> th.Tensor:
    """
    Hidden layer of several samples per state: the embedding of the state, plus a linear layer of the sample.

    :param embedding: Embedding of the states, shape (batch, 1, hidden)
    :param samples: Actions or noise, shape (batch, samples, inputs)
    :param weight: Weights of the samples, shape (hidden, inputs)
    :param out: Where to put the result, shape (batch, samples, hidden)
    :return: Hidden layer before its activation, shape (batch, samples, hidden)
    """
    n_inputs = samples.shape[2]
    if not th.compiler.is_compiling() or n_inputs > MAX_WRITTEN_OUT:
        if out is None:  # also with a gradient, where one product of many rows is slower
            return th.matmul(samples, weight.t()).add_(embedding)  # (batch, samples, hidden)
        # One product of all rows, few enough to stay in cache. PyTorch would make one per state, as noise is not contiguous
        th.mm(samples.reshape(-1, n_inputs), weight.t(), out=out.view(-1, out.shape[2]))  # (batch * samples, hidden)
        return out.add_(embedding)  # (batch, samples, hidden)
    # The product with the identity makes the weights of each input contiguous: a loop across their rows is ten times slower
    rows = F.linear(th.eye(n_inputs, device=weight.device), weight)  # (inputs, hidden)
    hidden = embedding
    for i in range(n_inputs):
        hidden = hidden + samples[:, :, i, None] * rows[i]
    return hidden  # (batch, samples, hidden)


def per_sample(layers: Iterable[nn.Module], samples: th.Tensor) -> th.Tensor:
    """
    Apply layers to each sample of each state.

    A normalisation, or an activation with parameters, takes the second dimension for its channels. It sees one row per sample.

    :param layers: Layers
    :param samples: Their input, shape (batch, samples, inputs)
    :return: Their output, shape (batch, samples, outputs)
    """
    for layer in layers:
        # The usual layers first: to look for parameters takes longer than to apply a small layer
        if isinstance(layer, (nn.Linear, nn.ReLU)) or not (isinstance(layer, nn.BatchNorm1d) or has_state(layer)):
            samples = layer(samples)
        else:
            samples = layer(samples.flatten(0, 1)).unflatten(0, samples.shape[:2])
    return samples


def has_state(layer: nn.Module) -> bool:
    """
    Whether a layer has parameters or buffers.

    :param layer: Layer
    :return: Whether it has
    """
    return any(next(tensors, None) is not None for tensors in (layer.parameters(), layer.buffers()))


class NarrowLinear(nn.Linear):
    """
    Linear layer with few outputs.

    :param in_features: Number of inputs
    :param out_features: Number of outputs
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features)

    def forward(self, input: th.Tensor) -> th.Tensor:
        """
        :param input: Shape (..., in_features)
        :return: Shape (..., out_features)
        """
        if not th.compiler.is_compiling() or self.out_features > MAX_WRITTEN_OUT:
            return super().forward(input)
        # Each output contiguous in memory, as in ``draw_noise``
        return th.stack([(input * row).sum(dim=-1) for row in self.weight]).movedim(0, -1) + self.bias


class ScalarLinear(nn.Linear):
    """
    Linear layer with one output, without its dimension: a matrix-vector product, twice as fast as a one-column matrix.

    :param in_features: Number of inputs
    """

    def __init__(self, in_features: int):
        super().__init__(in_features, 1)

    def forward(self, input: th.Tensor) -> th.Tensor:
        """
        :param input: Shape (..., in_features)
        :return: Shape (...), in the precision of the weights: a Q-value of hundreds has no decimals left in bfloat16
        """
        if th.compiler.is_compiling():
            return (input.to(self.weight.dtype) * self.weight[0]).sum(dim=-1) + self.bias
        if th.is_autocast_enabled(input.device.type):
            with th.autocast(input.device.type, enabled=False):
                return self.forward(input.to(self.weight.dtype))
        return input @ self.weight[0] + self.bias
