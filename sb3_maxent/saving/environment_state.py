"""The state of environments in the middle of their episodes."""

import io
import pickle
import types
import warnings
from typing import Any, NamedTuple

import gymnasium as gym
from stable_baselines3.common.monitor import ResultsWriter
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

# A new environment makes these itself: functions, modules, and files of results
NOT_STATE = (types.FunctionType, types.ModuleType, ResultsWriter)


class EnvironmentState(NamedTuple):
    """
    State of vectorized environments.

    :param names: Class of each layer
    :param pickled: Attributes of each layer, pickled
    :param complete: Whether that is all, so that the episodes can go on
    """

    names: list[str]
    pickled: bytes
    complete: bool


def layers_of(env: VecEnv | None) -> list[Any]:
    """
    Everything that holds a part of an environment's state.

    :param env: Vectorized environment
    :return: It, its wrappers, the environments in them, and those that these hold as attributes, without what is in other
        processes
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
    """Pickles layers as their numbers: loading fills the layers of a new environment, and references must point to these."""

    def __init__(self, file: io.BytesIO, layers: list[Any]):
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.numbers = {id(layer): number for number, layer in enumerate(layers)}

    def persistent_id(self, obj: Any) -> int | None:
        number = self.numbers.get(id(obj))
        if number is None and isinstance(obj, gym.Env | VecEnv):
            # Many environments, MuJoCo's too, are pickled as the arguments that make a new one
            raise pickle.PicklingError(f"{type(obj).__name__} is out of reach")
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
    except Exception:  # whatever the classes of an environment raise
        return False
    return True


def environment_state(env: VecEnv | None) -> EnvironmentState:
    """
    Collect the attributes of environments and wrappers.

    Warns if some of them cannot be pickled, for instance those of a simulator in C++: the state is incomplete then.

    :param env: Vectorized environment
    :return: Its state
    """
    layers = layers_of(env)
    attributes: list[dict[str, Any]] = []
    lost = [] if layers else [type(env).__name__]
    for layer in layers:
        attributes.append({})
        for name, value in vars(layer).items():
            # SB3's wrappers look up the attributes of their class here
            if name == "class_attributes" or isinstance(value, NOT_STATE):
                continue
            if _can_be_pickled(value, layers):
                attributes[-1][name] = value
            else:
                lost.append(f"{type(layer).__name__}.{name}")
    if lost:
        warnings.warn(f"these parts of the environment cannot be saved, new episodes start after loading: {', '.join(lost)}")
    # All at once, so that what is shared stays shared
    return EnvironmentState([type(layer).__name__ for layer in layers], _dumps(attributes, layers), not lost)


def restore_environment(env: VecEnv | None, state: EnvironmentState) -> bool:
    """
    Put environments and wrappers back to where they were.

    :param env: Vectorized environment, made as the first one was
    :param state: State of the first one
    :return: Whether the episodes can go on
    :raises ValueError: If it consists of other classes
    """
    layers = layers_of(env)
    names = [type(layer).__name__ for layer in layers]
    if names != state.names:
        raise ValueError(f"the environment is {names}, the one of the checkpoint was {state.names}")
    for layer, attributes in zip(layers, _Unpickler(io.BytesIO(state.pickled), layers).load(), strict=True):
        vars(layer).update(attributes)
    return state.complete
