"""What ``pip install ".[zoo]"`` installs is enough: the tests themselves run with more."""

import importlib.metadata
from collections.abc import Iterable

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.zoo.interpreter import run_python

# ``None`` in ``sys.modules`` stands for a module that is not installed
WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys({modules}))
runpy.run_module({script!r}, run_name="__main__", alter_sys=True)
"""
OPTIMIZE = (
    "train --algo dspg --env Pendulum-v1 -n 60 --optimize --n-trials 1 --n-evaluations 1 --num-threads 1 -f tuning "
    "--storage sqlite:///tuning.db --study-name study -params learning_starts:50 batch_size:8 buffer_size:100"
)


def installed_with(name: str, extras: Iterable[str] = (), found: set[tuple[str, str]] | None = None) -> set[tuple[str, str]]:
    """
    Follow the requirements of a distribution.

    :param name: Name of the distribution
    :param extras: Its extras
    :param found: What has been found already
    :return: Distributions, each with every extra that is asked for and with ``""``
    """
    found = set() if found is None else found
    for extra in {"", *extras}:
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for requirement in map(Requirement, importlib.metadata.requires(name) or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                installed_with(canonicalize_name(requirement.name), requirement.extras, found)
    return found


def modules_without(extra: str) -> list[str]:
    """
    :param extra: Extra of this package
    :return: Installed modules that ``pip install ".[extra]"`` does not install
    """
    distributions = {name for name, _ in installed_with("sb3-maxent", [extra])}
    modules = importlib.metadata.packages_distributions().items()
    return sorted(module for module, names in modules if not distributions & set(map(canonicalize_name, names)))


# Passing the first one shows that the report was written: RL Zoo does that last
@pytest.mark.parametrize(
    "command, output", [(OPTIMIZE, "Writing report"), ("enjoy --help", "dspg")], ids=["optimize", "enjoy"]
)
def test_zoo_is_enough_for(tmp_path, command, output):
    modules = modules_without("zoo")
    assert "pytest" in modules and "torch" not in modules
    script, *args = command.split()
    code = WITHOUT.format(modules=modules, script=f"rl_zoo3.{script}")
    result = run_python("-c", code, *args, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert output in result.stdout
