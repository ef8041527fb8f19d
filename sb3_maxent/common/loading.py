"""Checks of a saved model before SB3 loads it. Nothing is unpickled here."""

import difflib
import inspect
import io
import json
import pathlib
import zipfile
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import open_path

ModelFile = str | pathlib.Path | io.BufferedIOBase


def read_data(path: ModelFile, algorithm: type[BaseAlgorithm]) -> dict[str, Any]:
    """
    Read the attributes of a saved model from its JSON part. Pickles in it stay text.

    :param path: File, with or without ``.zip``, or a file object
    :param algorithm: Algorithm that is to load it
    :return: Attributes by name
    :raises ValueError: If the file is no zip file, or is damaged or incomplete
    :raises FileNotFoundError: If there is no such file
    """
    file = open_path(path, "r", suffix="zip")
    try:
        with zipfile.ZipFile(file) as archive:
            # If this part is missing, SB3 silently keeps the initial temperature. It checks the other parts itself
            archive.getinfo("pytorch_variables.pth")
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"its part {damaged} has changed")
            return dict(json.loads(archive.read("data")))
    except Exception as error:  # a damaged zip file can raise any exception
        raise ValueError(
            f"{path} is not a zip file, is damaged or its end is missing, expected a file that {algorithm.__name__}.save "
            f"wrote: {type(error).__name__}: {error}"
        ) from error
    finally:
        if file is not path:
            file.close()


def check_load_arguments(algorithm: type[BaseAlgorithm], data: dict[str, Any], arguments: dict[str, Any]) -> None:
    """
    Check that the arguments exist. SB3 would set an unknown name as an attribute that nothing reads.

    :param algorithm: Algorithm that is to load a model
    :param data: Attributes of the saved model
    :param arguments: Attributes to change, by name
    :raises ValueError: If one is neither an attribute of the model nor an argument of the algorithm
    """
    known = {*data, *inspect.signature(algorithm).parameters}
    for name in arguments.keys() - known:
        close = difflib.get_close_matches(name, known)
        hint = f", did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"{algorithm.__name__} has no argument {name}{hint}")
