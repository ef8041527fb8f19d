"""
Add the algorithms of ``sb3_maxent`` to RL Zoo when, and only when, RL Zoo is imported.

RL Zoo reads the choices of ``--algo`` from its tables before any user code runs, and it has no plugin mechanism. So
``sb3_maxent.pth`` (``sb3_maxent.start`` from Python 3.15 on, PEP 829) calls ``install()`` when Python starts. ``install`` only
waits for the modules of RL Zoo below. After each of them has run, it calls ``sb3_maxent.zoo.register_module``.

``SB3_MAXENT_ZOO=0`` in the environment switches it off. ``python -m sb3_maxent`` and ``sb3_maxent.zoo.register()`` work
without it. This file is installed next to the package and not inside it, because importing a part of ``sb3_maxent`` imports
torch.
"""

import os
import sys

# Type checkers know this name. Importing ``typing`` would slow down every start of Python
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

MODULES = frozenset({"rl_zoo3.utils", "rl_zoo3.hyperparams_opt", "rl_zoo3.exp_manager"})

# Modules that this finder is searching for. Python holds its import lock during a search, so only one thread is here
_searched: "set[str]" = set()


class _Loader:
    """
    Loader of a module that registers the algorithms after the module has run.

    :param loader: The module's own loader
    """

    def __init__(self, loader: "Any") -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> "Any":
        # ``copy`` and ``pickle`` look up methods before ``loader`` is set
        if name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        return self.loader.create_module(spec)

    def exec_module(self, module: "ModuleType") -> None:
        # Restore the module's own loader for ``inspect``, ``pickle`` and ``importlib.reload``
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        _register(module)


class _Finder:
    """Ask the other finders for the modules of RL Zoo and wrap the loader that they return."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        # The second condition prevents endless recursion: this finder asks all finders, and another one may do the same
        if fullname not in MODULES or fullname in _searched:
            return None
        _searched.add(fullname)
        try:
            finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
            spec: Any = next(filter(None, (finder.find_spec(fullname, path, target) for finder in finders)), None)
        finally:
            _searched.remove(fullname)
        # Namespace packages and loaders of the old protocol do not have it. They are not wrapped
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader)
        return spec


def _register(module: "ModuleType") -> None:
    """
    Register the algorithms in one module. RL Zoo must work even if this fails, so errors become warnings.

    :param module: A module of RL Zoo that has just run
    """
    try:
        from sb3_maxent.zoo import register_module
    except Exception as error:
        # It would fail for the other modules too, so warn only once
        if _Finder in sys.meta_path:
            sys.meta_path.remove(_Finder)
        _warn(module, error)
        return
    try:
        register_module(module)
    except Exception as error:
        _warn(module, error)


def _warn(module: "ModuleType", error: Exception) -> None:
    import warnings

    warnings.warn(
        f"sb3_maxent could not add its algorithms to {module.__name__} ({type(error).__name__}: {error}). "
        "RL Zoo's own algorithms are not affected. Set SB3_MAXENT_ZOO=0 to switch the registration off.",
        RuntimeWarning,
    )


def install() -> None:
    """Start waiting for RL Zoo, unless ``SB3_MAXENT_ZOO=0``."""
    if os.environ.get("SB3_MAXENT_ZOO", "1") != "0" and _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
