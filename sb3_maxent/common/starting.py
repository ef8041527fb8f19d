"""Start a model with the networks of a trained one, on another task."""

import copy
import math
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_maxent.common.checks import check_flag
from sb3_maxent.common.errors import check_parameters
from sb3_maxent.common.temperature import LOG_BOUNDS

# Arguments of a policy that may differ: they change what its networks compute by no more than rounding, or only which of them
# acts (``actor_averaging``)
FREE = (
    "observation_space",
    "action_space",
    "lr_schedule",
    "optimizer_class",
    "optimizer_kwargs",
    "evaluation_precision",
    "actor_averaging",
)
# Only the networks of the file are used. So do not allocate its replay buffer, and do not seed the random generators
NETWORKS_ONLY: dict[str, Any] = {
    "seed": None,
    "compile": False,
    "buffer_size": 1,
    "optimize_memory_usage": False,
    "n_steps": 1,
    "replay_buffer_class": None,
    "replay_buffer_kwargs": {},
    "action_noise": None,
    "tensorboard_log": None,
}


def start_from(model: Any, source: Any, take_ent_coef: bool) -> None:
    """
    Check that the models fit, and copy the networks and running statistics of the trained one.

    :param model: New model
    :param source: Trained model, or the file of one
    :param take_ent_coef: Whether to take over the entropy coefficient
    :raises ValueError: If something does not fit. Then nothing has changed
    """
    check_flag(take_ent_coef, "take_ent_coef")
    if model.num_timesteps > 0 or model._n_updates > 0 or model.replay_buffer.size() > 0:
        raise ValueError(
            f"start_from: this model has learned for {model.num_timesteps} steps already. Its replay buffer and the moments "
            "of its optimizers do not fit other networks. Call start_from on a new model"
        )
    source = read_source(model, source)
    check_fits(model, source)
    ent_coef = source.temperature.value.item()
    if take_ent_coef:
        check_ent_coef(model.temperature, ent_coef)
    model.policy.load_state_dict(state_without_average(source.policy), strict=False)
    if model.policy.averaged_actor is not None:
        model.policy.averaged_actor.load_state_dict(source.policy.acting_actor(deterministic=True).state_dict())
    for network, target in model._target_pairs():
        target.load_state_dict(network.state_dict())
    model.reward_scale.statistics = copy.deepcopy(source.reward_scale.statistics)
    if take_ent_coef and model.log_ent_coef is not None:
        model.log_ent_coef.data.fill_(math.log(ent_coef))
    elif take_ent_coef:
        model.ent_coef_tensor = ent_coef
    model._tell_policy()


def read_source(model: BaseAlgorithm, source: Any) -> Any:
    """
    Load the trained model if it is a file, and check it.

    :param model: New model
    :param source: Trained model, or the file of one
    :return: Trained model
    :raises ValueError: If it was trained with another algorithm, the file does not load, or a parameter is not finite
    """
    algorithm = type(model)
    if not isinstance(source, BaseAlgorithm):
        # Loading makes networks with random parameters. Afterwards the generator has the same state as if a model were given
        with th.random.fork_rng(devices=[]):
            source = algorithm.load(source, device=model.device, custom_objects=NETWORKS_ONLY)
    if getattr(source, "policy_base", None) is not algorithm.policy_base:  # type: ignore[attr-defined]
        raise ValueError(f"start_from: a {algorithm.__name__} model cannot start from one of {type(source).__name__}")
    check_parameters(source)
    return source


def check_fits(model: Any, source: Any) -> None:
    """
    Check that copied networks compute the same in the new model.

    :param model: New model
    :param source: Trained model
    :raises ValueError: If spaces, networks or ``norm_reward`` differ
    """
    for name in ("observation_space", "action_space"):
        if getattr(model, name) != getattr(source, name):
            raise ValueError(f"start_from: {name}={getattr(model, name)} of this model is not {getattr(source, name)}")
    ours, theirs = describe_networks(model.policy), describe_networks(source.policy)
    for name in {**ours, **theirs}:
        if ours.get(name) != theirs.get(name):
            raise ValueError(
                f"start_from: the networks differ, {name} is {ours.get(name)} here and {theirs.get(name)} in the other model. "
                "Give this model the same policy and policy_kwargs"
            )
    if bool(model.norm_reward) != bool(source.norm_reward):
        raise ValueError(
            f"start_from: norm_reward={model.norm_reward} of this model is not {source.norm_reward}, so the Q-values of the "
            "two models have different units. Give norm_reward: None follows ent_coef"
        )


def state_without_average(policy: Any) -> dict[str, th.Tensor]:
    """
    Parameters and running statistics of a policy, without those of the average of its actors, which it need not have.

    :param policy: Policy
    :return: State by name
    """
    return {name: value for name, value in policy.state_dict().items() if not name.startswith("averaged_actor.")}


def describe_networks(policy: Any) -> dict[str, str]:
    """
    Describe everything that determines what the networks of a policy compute, except for the values of their parameters.

    :param policy: Policy
    :return: Descriptions by name: the class, its arguments, and the shapes of the parameters
    """
    arguments = {name: value for name, value in policy._get_constructor_parameters().items() if name not in FREE}
    shapes = {name: tuple(value.shape) for name, value in state_without_average(policy).items()}
    return {name: repr(_describe(value)) for name, value in {"policy": type(policy), **arguments, **shapes}.items()}


def _describe(value: Any) -> Any:
    # Compare classes and functions by their names: a class of a script is a new object after saving and loading
    if isinstance(value, dict):
        return {key: _describe(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_describe(each) for each in value]
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    # The default representation contains the address of the object, which always differs
    return type(value).__qualname__ if type(value).__repr__ is object.__repr__ else value


def check_ent_coef(temperature: Any, value: float) -> None:
    """
    Check that a temperature can have a value.

    :param temperature: Temperature
    :param value: Value to take over
    :raises ValueError: If a learned temperature may not have this value
    """
    lowest, highest = (math.exp(bound) for bound in LOG_BOUNDS)
    if temperature.log_value is not None and not lowest <= value <= highest:
        raise ValueError(
            f"take_ent_coef=True: the coefficient of the other model is {value:g}, a learned one stays between {lowest:.2g} "
            f"and {highest:.2g}"
        )
