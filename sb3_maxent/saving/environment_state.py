"""The state of environments in the middle of their episodes."""

import io
import pickle
import types
import warnings
from typing import Any, NamedTuple

import gymnasium as gym
from stable_baselines3.common.monitor import ResultsWriter
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

# Functions, modules and files of results are not saved, because a new environment makes them itself
NOT_STATE = (types.FunctionType, types.ModuleType, ResultsWriter)
# Nor is what SB3's wrappers know of their classes, and how Gymnasium made an environment, maybe with a function
NOT_STATE_NAMES = ("class_attributes", "spec", "_cached_spec", "_saved_kwargs")


class EnvironmentState(NamedTuple):
    """
    State of vectorized environments.

    :param names: Class of each layer
    :param pickled: Attributes of each layer, pickled
    :param complete: Whether the state is complete, so that the episodes can continue
    """

    names: list[str]
    pickled: bytes
    complete: bool


def layers_of(env: VecEnv | None) -> list[Any]:
    """
    Find all objects that hold a part of an environment's state.

    :param env: Vectorized environment
    :return: Its wrappers, the vectorized environment, the environments in it, and environments in their attributes.
        Environments in other processes are not included
    """
    layers: list[Any] = []
    found: list[Any] = [env]
    while found:
        layer = found.pop(0)
        if isinstance(layer, gym.Env | DummyVecEnv | VecEnvWrapper) and not any(layer is known for known in layers):
            layers.append(layer)
            for value in vars(layer).values():
                found += value if isinstance(value, list | tuple) else [value]
    return layers


class _Pickler(pickle.Pickler):
    """Pickler that writes a layer as its number. When the state is loaded, references then point to the new layers."""

    def __init__(self, file: io.BytesIO, layers: list[Any]):
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.numbers = {id(layer): number for number, layer in enumerate(layers)}

    def persistent_id(self, obj: Any) -> int | None:
        number = self.numbers.get(id(obj))
        if number is None and isinstance(obj, gym.Env | VecEnv):
            # Gymnasium pickles many environments (MuJoCo's too) as the arguments that make a new one, which loses their state
            raise pickle.PicklingError(f"{type(obj).__name__} is not one of the layers")
        return number


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, layers: list[Any]):
        super().__init__(file)
        self.layers = layers

    def persistent_load(self, pid: int) -> Any:
        return self.layers[pid]


def _dumps(value: Any, layers: list[Any]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, layers).dump(value)
    return file.getvalue()


def _can_be_pickled(value: Any, layers: list[Any]) -> bool:
    try:
        _dumps(value, layers)
    except Exception:  # the classes of an environment can raise any exception
        return False
    return True


def environment_state(env: VecEnv | None) -> EnvironmentState:
    """
    Collect the attributes of environments and wrappers.

    If some of them cannot be pickled, as those of some simulators in C++, there is a warning, and the state is incomplete.

    :param env: Vectorized environment
    :return: Its state
    """
    layers = layers_of(env)
    attributes: list[dict[str, Any]] = []
    lost = [] if layers else [type(env).__name__]
    for layer in layers:
        attributes.append({})
        for name, value in vars(layer).items():
            if name in NOT_STATE_NAMES or isinstance(value, NOT_STATE):
                continue
            if _can_be_pickled(value, layers):
                attributes[-1][name] = value
            else:
                lost.append(f"{type(layer).__name__}.{name}")
    if lost:
        warnings.warn(f"these parts of the environment cannot be saved, new episodes start after loading: {', '.join(lost)}")
    # Pickle all attributes together, so that shared objects stay shared
    return EnvironmentState([type(layer).__name__ for layer in layers], _dumps(attributes, layers), not lost)


def check_layers(env: VecEnv | None, state: EnvironmentState) -> None:
    """
    Check that an environment consists of the same classes as the one of a state.

    :param env: Vectorized environment
    :param state: State of another one
    :raises ValueError: If it does not
    """
    names = [type(layer).__name__ for layer in layers_of(env)]
    if names != state.names:
        raise ValueError(f"the environment is {names}, the one of the checkpoint was {state.names}")


def restore_environment(env: VecEnv | None, state: EnvironmentState) -> bool:
    """
    Restore the state of environments and wrappers.

    :param env: Vectorized environment, made in the same way as the first one
    :param state: State of the first one, of the same classes
    :return: Whether the episodes can continue
    """
    layers = layers_of(env)
    for layer, attributes in zip(layers, _Unpickler(io.BytesIO(state.pickled), layers).load(), strict=True):
        vars(layer).update(attributes)
    return state.complete
