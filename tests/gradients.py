"""Parts of an update on their own: which networks it moves, and the soft value of next states."""

from collections.abc import Callable, Mapping
from typing import Any

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


def next_value(model: Any, observations: Any, noise: Any, ent_coef: th.Tensor) -> th.Tensor:
    """
    Soft value of next states, as an update computes it.

    :param model: The model
    :param observations: Next observations
    :param noise: ``UpdateNoise.next_actions``
    :param ent_coef: Entropy coefficient
    :return: Soft value, shape (batch, 1)
    """
    with th.no_grad():
        samples = model._next_samples(observations, noise)
        predictions = model.critic_target.predictions(model.critic_target.embed(observations), samples.actions)
        return model._next_value(predictions, samples, ent_coef)
