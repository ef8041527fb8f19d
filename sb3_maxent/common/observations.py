"""Batches of observations, which may be dictionaries."""

import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs


def batch_size_of(obs: PyTorchObs) -> int:
    """
    Number of states in observations.

    :param obs: Observations, shape (batch, ...), or a dictionary of such
    :return: Batch size
    """
    # Not len(): an exported graph has no fixed batch size
    return (next(iter(obs.values())) if isinstance(obs, dict) else obs).shape[0]


def join_batches(first: PyTorchObs, second: PyTorchObs) -> PyTorchObs:
    """
    Put the states of two batches into one.

    :param first: Observations, shape (batch, ...), or a dictionary of such
    :param second: Observations of the same space
    :return: Observations, shape (2 * batch, ...)
    """
    if isinstance(first, dict):
        return {name: th.cat([first[name], second[name]]) for name in first}  # type: ignore[index]
    return th.cat([first, second])  # type: ignore[list-item]
