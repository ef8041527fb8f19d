"""
Integration with RL Zoo. With an unmodified ``rl_zoo3``, ``python -m rl_zoo3.train --algo dspg ...`` and the other scripts
work.

RL Zoo's documentation adds an algorithm by assigning to ``rl_zoo3.ALGOS``. This module does the same, and it also adds the
hyperparameter samplers and the hyperparameter files. Users need not call anything, see ``startup/_sb3_maxent_zoo_hook.py``.
If Python does not read startup files (``pip install --target``, a bare ``PYTHONPATH``), or if ``SB3_MAXENT_ZOO=0`` switches
them off, use ``python -m sb3_maxent train ...`` or ``sb3_maxent.zoo.register()``.

Importing this module does not import ``rl_zoo3``.
"""

import functools
import importlib
import inspect
import sys
import warnings
from collections.abc import Callable, MutableMapping
from pathlib import Path
from types import ModuleType
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_maxent.dspg import DSPG
from sb3_maxent.softqlearning import SoftQLearning
from sb3_maxent.zoo.samplers import (
    convert_dspg_params,
    convert_softqlearning_params,
    sample_dspg_params,
    sample_softqlearning_params,
)

__all__ = ["ALGORITHMS", "hyperparams_file", "register", "register_module"]

# A new algorithm is one line in each of these and a file in ``hyperparams/``
ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "dspg": DSPG,
    "softqlearning": SoftQLearning,
}
SAMPLERS: dict[str, Callable[..., dict[str, Any]]] = {
    "dspg": sample_dspg_params,
    "softqlearning": sample_softqlearning_params,
}
CONVERTERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "dspg": convert_dspg_params,
    "softqlearning": convert_softqlearning_params,
}

# ``rl_zoo3.utils`` comes first: the other two get entries only for the keys of its ``ALGOS`` that belong to this package
MODULES = ("rl_zoo3.utils", "rl_zoo3.hyperparams_opt", "rl_zoo3.exp_manager")


def register() -> None:
    """
    Add the algorithms to RL Zoo now. A second call changes nothing, and neither does a call after the startup file.

    :raises ModuleNotFoundError: If RL Zoo is not installed
    :raises RuntimeError: If this version of RL Zoo keeps its algorithms elsewhere
    """
    for name in MODULES:
        register_module(importlib.import_module(name))


def register_module(module: ModuleType) -> None:
    """
    Add the algorithms to one module of RL Zoo. Existing entries are never replaced.

    :param module: One of ``MODULES``
    :raises RuntimeError: If this version of RL Zoo keeps its algorithms elsewhere
    """
    if module.__name__ == "rl_zoo3.utils":
        _add_algorithms(_table(module, "ALGOS"))
    elif module.__name__ == "rl_zoo3.hyperparams_opt":
        for name, entries in (("HYPERPARAMS_SAMPLER", SAMPLERS), ("HYPERPARAMS_CONVERTER", CONVERTERS)):
            table = _table(module, name)
            for key in filter(_is_ours, entries):
                table.setdefault(key, entries[key])
    elif module.__name__ == "rl_zoo3.exp_manager":
        _add_hyperparams_files(module)


def hyperparams_file(key: str) -> Path:
    """
    Path of a hyperparameter file of this package.

    :param key: Name of the file without its suffix, for instance ``"dspg"`` or ``"dspg-paper"``
    :return: Path of the YAML file
    :raises FileNotFoundError: If there is none
    """
    package = Path(__file__).parents[1]
    # The folder is inside an installed package, and next to the package in a checkout
    for folder in (package / "hyperparams", package.parent / "hyperparams"):
        if (folder / f"{key}.yml").is_file():
            return folder / f"{key}.yml"
    raise FileNotFoundError(f"sb3_maxent has no hyperparameter file {key}.yml")


def _table(module: ModuleType, name: str) -> MutableMapping[str, Any]:
    # The module is not fully imported when the startup hook runs, so the error of ``getattr`` would mention a circular import
    table = vars(module).get(name)
    if not isinstance(table, MutableMapping):
        raise _unknown_version(f"{module.__name__}.{name} is not a dictionary")
    return table


def _unknown_version(reason: str) -> RuntimeError:
    return RuntimeError(f"{reason}: sb3_maxent does not know this version of rl_zoo3")


def _add_algorithms(algos: MutableMapping[str, Any]) -> None:
    for key, algorithm in ALGORITHMS.items():
        if algos.setdefault(key, algorithm) is not algorithm:
            warnings.warn(
                f"RL Zoo has an algorithm {key!r} already ({algos[key]!r}). It stays, so that of sb3_maxent is not available.",
                RuntimeWarning,
            )


def _is_ours(key: str) -> bool:
    algos = getattr(sys.modules.get("rl_zoo3.utils"), "ALGOS", {})
    return key in ALGORITHMS and isinstance(algos, MutableMapping) and algos.get(key) is ALGORITHMS[key]


def _add_hyperparams_files(module: ModuleType) -> None:
    """
    Let ``ExperimentManager`` read our hyperparameter file if the user chose no file and RL Zoo has no file for the algorithm.

    :param module: ``rl_zoo3.exp_manager``
    """
    original_init = getattr(vars(module).get("ExperimentManager"), "__init__", None)
    if hasattr(original_init, "__sb3_maxent__"):
        return
    if original_init is None or "config" not in inspect.signature(original_init).parameters:
        raise _unknown_version(f"{module.__name__}.ExperimentManager does not take a config")
    signature = inspect.signature(original_init)

    @functools.wraps(original_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original_init(self, *args, **kwargs)
        chosen_by_user = signature.bind(self, *args, **kwargs).arguments.get("config")
        if _is_ours(getattr(self, "algo", "")) and not chosen_by_user and not Path(self.config).is_file():
            self.config = str(hyperparams_file(self.algo))

    init.__sb3_maxent__ = True  # type: ignore[attr-defined]
    module.ExperimentManager.__init__ = init
