"""A look at a saved model before SB3 loads it, and what to say where it does not load."""

import base64
import io
import json
import pathlib
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cloudpickle
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import open_path

ModelFile = str | pathlib.Path | io.BufferedIOBase

PARTS = ("policy.pth", "critic.optimizer.pth", "pytorch_variables.pth")
# Without another entry SB3 takes the default
ENTRIES = ("policy_class", "policy_kwargs", "observation_space", "action_space")


def check_model_file(
    path: ModelFile, algorithm: type[BaseAlgorithm], policy_base: type[BasePolicy], custom_objects: dict[str, Any] | None
) -> None:
    """
    Check that a file is a complete model of an algorithm.

    :param path: File, with or without ``.zip``, or a file object, whose position is kept
    :param algorithm: Algorithm that is to load it
    :param policy_base: What its policies are derived from
    :param custom_objects: Values of entries that are not to be read from the file
    :raises ValueError: If it is something else, with what the file is and what was expected
    :raises FileNotFoundError: If there is no such file
    """
    if custom_objects is not None and not isinstance(custom_objects, dict):
        raise ValueError(f"custom_objects={custom_objects!r}: give a dictionary, or None")
    expected = f"expected a file that {algorithm.__name__}.save wrote"
    data, names = _read(path, expected)
    missing = [name for name in ENTRIES if name not in data]
    if missing:
        raise ValueError(f"{path} is incomplete, {expected} with {', '.join(missing)} in its part 'data'")
    given = custom_objects or {}
    # All of them, for an error that names the one
    values = {name: given[name] if name in given else _value(path, name, entry) for name, entry in data.items()}
    policy_class = values["policy_class"]
    if not (isinstance(policy_class, type) and issubclass(policy_class, policy_base)):
        raise ValueError(
            f"{path} holds a model with the policy {policy_class!r}, but {algorithm.__name__} needs a {policy_base.__name__}: "
            "load it with the algorithm that saved it"
        )
    missing = [name for name in PARTS if name not in names]
    if missing:
        raise ValueError(f"{path} is incomplete, {expected} with {', '.join(missing)}: found {', '.join(names)}")


def _read(path: ModelFile, expected: str) -> tuple[dict[str, Any], list[str]]:
    try:
        file = open_path(path, "r", suffix="zip")
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a folder, {expected}") from error
    position = file.tell()
    try:
        with zipfile.ZipFile(file) as archive:
            damaged, names = archive.testzip(), archive.namelist()
            data = json.loads(archive.read("data")) if damaged is None and "data" in names else None
    except Exception as error:  # a damaged zip file raises whatever its bytes lead to
        what = "damaged" if zipfile.is_zipfile(file) else "not a zip file, or its end is missing"
        raise ValueError(f"{path} is {what}, {expected}: {type(error).__name__}: {error}") from error
    finally:
        if file is path:
            file.seek(position)
        else:
            file.close()
    if damaged is not None:
        raise ValueError(f"{path} is damaged in its part {damaged}, {expected}")
    if not isinstance(data, dict):
        # The parts are zip files themselves, the last one of a truncated file is found
        found = ", ".join(names) or "nothing"
        raise ValueError(f"{path} has no dictionary 'data' or its end is missing, {expected}: found {found}")
    return data, names


def _value(path: ModelFile, name: str, entry: Any) -> Any:
    if not isinstance(entry, dict) or ":serialized:" not in entry:
        return entry
    try:
        return cloudpickle.loads(base64.b64decode(entry[":serialized:"].encode()))
    except Exception as error:  # a pickle raises whatever its classes do
        if isinstance(error, RuntimeError | TypeError | AttributeError) and name not in ENTRIES:
            return None  # SB3 warns and takes the default
        raise ValueError(
            f"{path}: its {name} cannot be read, give it in custom_objects: {type(error).__name__}: {error}"
        ) from error


@contextmanager
def loading_errors(path: ModelFile, algorithm: type[BaseAlgorithm]) -> Iterator[None]:
    """
    Say of which file and algorithm an error is that SB3 raises while it loads a model.

    :param path: File
    :param algorithm: Algorithm
    :raises ValueError: Instead of an error of a part that does not fit the others
    """
    try:
        yield
    except (AttributeError, EOFError, ImportError, LookupError, RuntimeError, TypeError, pickle.PickleError) as error:
        # SB3 looks at each wrong set of parameters as if it were an old DQN's
        cause = error.__context__ if isinstance(error.__context__, ValueError) else error
        raise ValueError(
            f"{path} does not fit {algorithm.__name__}, custom_objects or arguments: {type(cause).__name__}: {cause}"
        ) from error
