"""Which networks an update moves."""

from collections.abc import Callable, Mapping

import torch as th
from torch import nn


def moved(networks: Mapping[str, nn.Module], update: Callable[[], object]) -> set[str]:
    """
    Names of the networks that an update moves or gives a gradient.

    :param networks: Networks by name
    :param update: The update
    :return: Names
    """
    for network in networks.values():
        network.zero_grad(set_to_none=True)
    before = {name: [parameter.detach().clone() for parameter in network.parameters()] for name, network in networks.items()}
    update()
    return {
        name
        for name, network in networks.items()
        for parameter, old in zip(network.parameters(), before[name], strict=True)
        if parameter.grad is not None or not parameter.equal(old)
    }


def descend(network: nn.Module, loss: th.Tensor) -> None:
    """
    Step of a network's own optimizer.

    :param network: Network with an optimizer
    :param loss: Loss, a scalar
    """
    network.optimizer.zero_grad()
    loss.backward()
    network.optimizer.step()
