"""How parameters move: a step of an optimizer, and a target network that follows its source."""

from collections.abc import Sequence
from itertools import chain, islice

import torch as th
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

# Parameters of each network; gradients of the parameters of one, None where the loss does not depend on a parameter
ParameterLists = list[list[th.Tensor]]
Gradients = list[th.Tensor | None]


def parameters_of(optimizer: th.optim.Optimizer) -> list[th.Tensor]:
    """
    Parameters of an optimizer.

    :param optimizer: Optimizer
    :return: Its parameters
    """
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def trainable(optimizer: th.optim.Optimizer) -> list[th.Tensor]:
    """
    Parameters of an optimizer that are not frozen.

    :param optimizer: Optimizer
    :return: Those of its parameters that need a gradient
    """
    return [parameter for parameter in parameters_of(optimizer) if parameter.requires_grad]


def gradients_of(loss: th.Tensor, parameters: list[th.Tensor]) -> Gradients:
    """
    Differentiate a loss. Compiled, this belongs to the graph of the loss, which ``backward`` does not.

    :param loss: Loss, a scalar
    :param parameters: Parameters that are not frozen
    :return: Gradient of each, in its layout; ``None`` for one that the loss does not depend on
    """
    gradients: Gradients = []
    # Of a network that is frozen as a whole there are none, which PyTorch refuses
    found = th.autograd.grad(loss, parameters, allow_unused=True) if parameters else []
    for parameter, gradient in zip(parameters, found, strict=True):
        if gradient is not None and gradient.stride() != parameter.stride():
            # A fused optimizer walks through the memory of both
            gradient = th.empty_like(parameter).copy_(gradient)
        gradients.append(gradient)
    return gradients


def clip(gradients: Gradients, max_norm: float | None = None, device: th.device | None = None) -> tuple[Gradients, th.Tensor]:
    """
    Limit the norm of a gradient over all parameters.

    :param gradients: Gradient of each parameter, ``None`` for one that the loss does not depend on
    :param max_norm: Largest norm, ``None`` not to clip
    :param device: Their device, for the norm if there are none
    :return: The gradients, not longer than that, and the norm before, a scalar
    """
    # The compiler has its own code for a norm, and none for PyTorch's norm of a list
    norms = [th.linalg.vector_norm(gradient) for gradient in gradients if gradient is not None]
    norm = th.linalg.vector_norm(th.stack(norms)) if norms else th.zeros((), device=device)  # ()
    if max_norm is not None:
        scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)  # (), the constant is that of PyTorch's clip_grad_norm_
        gradients = [None if gradient is None else gradient * scale for gradient in gradients]
    return gradients, norm


def clipped_gradients(
    loss: th.Tensor, networks: ParameterLists, max_norms: Sequence[float | None]
) -> tuple[list[Gradients], list[th.Tensor]]:
    """
    Differentiate a loss, and limit the norm of each network's gradient.

    :param loss: Loss, a scalar
    :param networks: Parameters of each network that are not frozen
    :param max_norms: Largest norm for each network, see :func:`clip`; those of further networks are not used
    :return: The gradients of each network, see :func:`gradients_of`, and their norms before
    """
    gradients = iter(gradients_of(loss, [*chain(*networks)]))
    clipped = [
        clip([*islice(gradients, len(each))], norm, loss.device) for each, norm in zip(networks, max_norms, strict=False)
    ]
    return [gradient for gradient, _ in clipped], [norm for _, norm in clipped]


def gradient_step(optimizer: th.optim.Optimizer, gradients: Gradients) -> None:
    """
    Step an optimizer.

    :param optimizer: Optimizer
    :param gradients: Gradients of its parameters that are not frozen, see :func:`gradients_of`
    """
    remaining = list(reversed(gradients))
    for parameter in parameters_of(optimizer):
        # Without a gradient the optimizer leaves it as it is
        parameter.grad = remaining.pop() if parameter.requires_grad else None
    optimizer.step()


class TargetUpdate:
    """
    Moves a copy of a network towards the network.

    :param source: The trained network
    :param target: Its slowly moving copy
    :param average_statistics: Whether running statistics of batch normalisation move as the parameters do. By default they are
        copied, see SB3 issue 996, as other buffers are
    """

    def __init__(self, source: nn.Module, target: nn.Module, average_statistics: bool = False):
        # Listed once: walking through the modules costs more than moving the tensors
        self.moving: list[tuple[th.Tensor, th.Tensor]] = [*zip(source.parameters(), target.parameters(), strict=True)]
        self.copied: list[tuple[th.Tensor, th.Tensor]] = []
        for (name, buffer), follower in zip(source.named_buffers(), target.buffers(), strict=True):
            if average_statistics and "running_" in name and buffer.is_floating_point():
                self.moving.append((buffer, follower))
            elif not name.endswith("num_batches_tracked"):
                self.copied.append((buffer, follower))

    @th.no_grad()
    def __call__(self, tau: float) -> None:
        """
        Update the copy.

        :param tau: Soft update coefficient: 0 leaves the copy as it is, 1 makes it equal to the network
        """
        sources, targets = zip(*self.moving, strict=True)
        get_ema_multi_avg_fn(1 - tau)(targets, sources, 1)
        for source, target in self.copied:
            target.copy_(source)
