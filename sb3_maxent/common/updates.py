"""What goes into an update, what comes out of its losses, and the step with their gradients."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch as th


class UpdateNoise(NamedTuple):
    """
    Everything random in one update, drawn before it.

    :param next_actions: Noise of the actions in the critic target: a tensor, or several in a tuple
    :param actions: Noise of the actions in the actor loss, shape (batch, samples, noise)

    The noise is not contiguous, see :func:`draw`.
    """

    next_actions: Any
    actions: Any


class Losses(NamedTuple):
    """
    Losses of one update, and what is logged or learned from besides.

    :param critic: Loss of the critic, a scalar
    :param q_mean: Mean Q-value of the first critic, without gradient
    :param actor: Loss of the actor, a scalar, ``None`` without an actor
    :param log_prob: Log probabilities of the policy's actions without gradient, shape (batch, samples), or their means,
        shape (batch, 1), ``None`` for a policy without a density
    """

    critic: th.Tensor
    q_mean: th.Tensor
    actor: th.Tensor | None
    log_prob: th.Tensor | None


def draw(random: Callable[..., th.Tensor], batch_size: int, n_samples: int, n_components: int, device: th.device) -> th.Tensor:
    """
    Noise of several samples per state. In memory each component is on its own, so that sums over them run along the samples.

    :param random: ``th.randn`` or ``th.rand``
    :param batch_size: Number of states
    :param n_samples: Number of samples per state
    :param n_components: Number of components of a sample
    :param device: Device
    :return: Noise, shape (batch, samples, components)
    """
    return random(n_components, batch_size, n_samples, device=device).permute(1, 2, 0)


def optimized(optimizer: th.optim.Optimizer) -> list[th.Tensor]:
    """
    :param optimizer: Optimizer
    :return: Its parameters
    """
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def check_disjoint(*groups: Iterable[th.Tensor]) -> None:
    """
    Check that no two networks have a parameter in common, which would follow the gradient of both.

    :param groups: Parameters of each network
    :raises ValueError: If they have
    """
    addresses = [id(parameter) for group in groups for parameter in group]
    if len(addresses) != len(set(addresses)):
        raise ValueError(
            "policy_kwargs: actor, critic and target critic have parameters in common, because a module was given where a "
            "class and its arguments are needed. share_features_extractor=True shares an extractor of actor and critic"
        )


def step(optimizer: th.optim.Optimizer, max_grad_norm: float | None = None) -> th.Tensor:
    """
    Step of an optimizer with the gradients that are there.

    :param optimizer: Optimizer
    :param max_grad_norm: Largest norm of the gradient over all parameters, ``None`` not to clip
    :return: Norm before the clip
    """
    parameters = [parameter for parameter in optimized(optimizer) if parameter.grad is not None]
    norm = th.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if max_grad_norm is not None:
        th.nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, norm)
    optimizer.step()
    return norm
