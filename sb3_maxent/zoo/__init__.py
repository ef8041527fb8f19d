"""
RL Zoo integration: ``python -m rl_zoo3.train --algo dspg ...`` and the other scripts, with an unmodified ``rl_zoo3``.

RL Zoo's documentation adds an algorithm by assigning to ``rl_zoo3.ALGOS``; this does the same, for the hyperparameter
samplers and the hyperparameter file too. Nothing has to be called: see ``startup/_sb3_maxent_zoo_hook.py``. Where
startup files are not read (``pip install --target``, a bare ``PYTHONPATH``) or are switched off (``SB3_MAXENT_ZOO=0``)
there are ``python -m sb3_maxent train ...`` and ``sb3_maxent.zoo.register()``.

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

# Parents first: the other two are only touched for the keys of ``ALGOS`` that are ours
MODULES = ("rl_zoo3.utils", "rl_zoo3.hyperparams_opt", "rl_zoo3.exp_manager")


def register() -> None:
    """
    Add the algorithms to RL Zoo now. Calling it twice, or after the startup file did it, changes nothing.

    :raises ModuleNotFoundError: If RL Zoo is not installed
    :raises RuntimeError: If this version of RL Zoo keeps its algorithms elsewhere
    """
    for name in MODULES:
        register_module(importlib.import_module(name))


def register_module(module: ModuleType) -> None:
    """
    Add the algorithms to one module of RL Zoo. An entry that is there already is never replaced.

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
    # Inside the package when installed, next to it in a checkout
    for folder in (package / "hyperparams", package.parent / "hyperparams"):
        if (folder / f"{key}.yml").is_file():
            return folder / f"{key}.yml"
    raise FileNotFoundError(f"sb3_maxent has no hyperparameter file {key}.yml")


def _table(module: ModuleType, name: str) -> MutableMapping[str, Any]:
    # ``getattr`` would speak of a circular import here: the module is not fully imported when the startup hook runs
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
                f"RL Zoo has an algorithm {key!r} already ({algos[key]!r}): it is kept, sb3_maxent's is not available there.",
                RuntimeWarning,
            )


def _is_ours(key: str) -> bool:
    algos = getattr(sys.modules.get("rl_zoo3.utils"), "ALGOS", {})
    return key in ALGORITHMS and isinstance(algos, MutableMapping) and algos.get(key) is ALGORITHMS[key]


def _add_hyperparams_files(module: ModuleType) -> None:
    """
    Let ``ExperimentManager`` read our hyperparameter file where the user chose none and RL Zoo has none.

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
