"""Composition of trained Soft Q-learning models."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sb3_maxent.common.checks import check_choice
from sb3_maxent.common.errors import check_parameters
from sb3_maxent.functional.composition import MODES
from sb3_maxent.softqlearning.composed_policy import ComposedPolicy
from sb3_maxent.softqlearning.softqlearning import SoftQLearning

# Arguments that the composed policy itself passes to its parts
GIVEN = ("observation_space", "action_space", "lr_schedule")


def compose(models: Sequence[SoftQLearning], mode: str = "and", weights: Sequence[float] | None = None) -> SoftQLearning:
    r"""
    Combine the soft Q-functions of trained models into one model, without further training.

    ``"and"`` is for the mean of the rewards of all tasks (of the scaled rewards, with ``norm_reward``). Its Q-function is the
    (weighted) mean. It is nearly optimal if the policies agree, and ``model.policy.conflict(observation)`` measures how much
    they disagree. ``"or"`` is for the final reward of any of the tasks. Its Q-function is the soft maximum,
    :math:`\alpha \log \sum_i w_i \exp(Q_i / \alpha)`. It is exact if dynamics are deterministic, there is no discount
    (``gamma=1``), and the rewards differ only in the last step.

    With ``Box`` actions each action is resampled from 256 proposals around the actions of all sampling networks. With discrete
    actions the policy is exact. The result has ``predict``, ``sample_actions``, ``save`` and ``load`` of
    :class:`~sb3_maxent.SoftQLearning`. It cannot learn.

    Papers: https://arxiv.org/abs/1803.06773 (and), https://arxiv.org/abs/1807.04439 (or)

    :param models: Two or more models with the same spaces, discount factor and ``norm_reward``. If their temperatures
        differ, each Q-function is divided by its temperature.
    :param mode: ``"and"`` or ``"or"``
    :param weights: Positive weights of the models, equal by default. Only their ratios matter
    :return: The composed model. Its temperature is the (weighted) mean of the temperatures
    :raises ValueError: If models, mode or weights do not fit
    """
    models = list(models)
    _check_models(models)
    check_choice(mode, "mode", MODES)
    normalised = _normalise(weights, len(models))
    parts = [(type(model.policy), model.policy._get_constructor_parameters()) for model in models]
    policy_kwargs: dict[str, Any] = {
        "parts": [(kind, {name: each for name, each in given.items() if name not in GIVEN}) for kind, given in parts],
        "weights": normalised,
        "mode": mode,
    }
    temperatures = [model.temperature.value.item() for model in models]
    composed = SoftQLearning(
        ComposedPolicy,
        None,  # type: ignore[arg-type]
        ent_coef=float(np.dot(normalised, temperatures)),
        gamma=models[0].gamma,
        norm_reward=bool(models[0].norm_reward),
        learning_starts=0,
        buffer_size=1,
        policy_kwargs=policy_kwargs,
        device=models[0].device,
        _init_setup_model=False,
    )
    # Set these attributes as SB3's ``load`` does without an environment
    composed.observation_space, composed.action_space = models[0].observation_space, models[0].action_space
    composed.n_envs = 1
    composed._setup_model()
    for part, model in zip(composed.policy.parts, models, strict=True):  # type: ignore[arg-type]
        part.load_state_dict(model.policy.state_dict())
    return composed


def _check_models(models: list[SoftQLearning]) -> None:
    if len(models) < 2:
        raise ValueError(f"models={models}: give two or more trained models")
    for model in models:
        if not isinstance(model, SoftQLearning):
            raise ValueError(f"models: {type(model).__name__} has no soft Q-function to compose, give SoftQLearning models")
        for name in ("observation_space", "action_space", "gamma", "norm_reward"):
            if getattr(model, name) != getattr(models[0], name):
                raise ValueError(f"models: {name}={getattr(models[0], name)} of the first is not {getattr(model, name)}")
        check_parameters(model)


def _normalise(weights: Sequence[float] | None, n_models: int) -> list[float]:
    values = np.ones(n_models) if weights is None else np.asarray(weights, np.float64)
    if values.shape != (n_models,) or not np.all(np.isfinite(values) & (values > 0)):
        raise ValueError(f"weights={weights!r}: give {n_models} positive numbers")
    return (values / values.sum()).tolist()
