"""Tuples of tensors that one part of an update passes to the next."""

from typing import Any, NamedTuple

import torch as th
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples

ReplayData = ReplayBufferSamples | DictReplayBufferSamples


class UpdateNoise(NamedTuple):
    """
    All random numbers of one update, drawn before the update.

    :param next_actions: Noise of the actions in the critic target: a tensor, or several in a tuple
    :param actions: Noise of the actions in the actor loss, not contiguous, shape (batch, samples, noise)
    """

    next_actions: Any
    actions: Any


class ValueNoise(NamedTuple):
    """
    Noise of the soft value.

    :param centres: Standard normal noise of the sampler's actions, shape (batch, samples, action)
    :param proposal: Uniform noise of the proposal around them, shape (batch, samples, 1 + action)
    """

    centres: th.Tensor
    proposal: th.Tensor


class ActionSamples(NamedTuple):
    """
    Actions from which an expectation is computed.

    :param actions: Actions without gradient, in [-1, 1] or choices of discrete factors, shape (batch, samples, action), or
        numbers of ``Discrete`` actions, shape (batch, samples)
    :param log_prob: Their log density under the distribution that they were drawn from, shape (batch, samples)
    :param weights: Weight of each action, shape (batch, samples), or in strata, shape (batch, strata, samples), see
        :func:`~sb3_maxent.functional.expectation`; ``None`` for the plain mean
    """

    actions: th.Tensor
    log_prob: th.Tensor
    weights: th.Tensor | None = None


class CriticOutput(NamedTuple):
    """
    Outputs of the critic in one update.

    :param predictions: Predictions for the actions in the replay buffer, with gradient, shape (networks, batch, 1, ...)
    :param embedding: Embedding of the states without gradient, for the loss of the actor
    :param next_predictions: Predictions of the target networks for the next actions, without gradient,
        shape (networks, batch, samples, ...)
    """

    predictions: th.Tensor
    embedding: list[th.Tensor]
    next_predictions: th.Tensor


class Losses(NamedTuple):
    """
    Losses of one update, and other values that are logged or used for learning.

    :param critic: Loss of the critic, a scalar
    :param q_mean: Mean prediction of the first critic network, without gradient
    :param actor: Loss of the actor, a scalar, ``None`` for an actor without parameters
    :param log_prob: Mean log probability of the policy's actions without gradient, shape (batch, 1), ``None`` for a policy
        without a density
    """

    critic: th.Tensor
    q_mean: th.Tensor
    actor: th.Tensor | None
    log_prob: th.Tensor | None
