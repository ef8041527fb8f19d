"""Public docstrings name the parameters that there are, all of them and in order: ruff does not read Sphinx style."""

import importlib
import inspect
import pkgutil
import re

import pytest

import sb3_maxent


def public_objects():
    for info in pkgutil.walk_packages(sb3_maxent.__path__, "sb3_maxent."):
        if info.name.endswith("__main__") or ".startup" in info.name:
            continue
        module = importlib.import_module(info.name)
        yield info.name, module
        for name, member in vars(module).items():
            if name.startswith("_") or getattr(member, "__module__", None) != info.name:
                continue
            if inspect.isfunction(member) or inspect.isclass(member):
                yield f"{info.name}.{name}", member
            if inspect.isclass(member):
                for method_name, method in vars(member).items():
                    if inspect.isfunction(method) and not method_name.startswith("_"):
                        yield f"{info.name}.{name}.{method_name}", method


OBJECTS = dict(public_objects())


def test_the_list_is_not_empty():
    assert {"sb3_maxent.dspg.dspg.DSPG", "sb3_maxent.functional.values.soft_value"} <= set(OBJECTS)


@pytest.mark.parametrize("name", OBJECTS)
def test_documented_parameters_are_the_parameters(name):
    member = OBJECTS[name]
    overrides = "." in name and any(
        hasattr(base, name.rsplit(".", 1)[1])
        for owner in [OBJECTS.get(name.rsplit(".", 1)[0])]
        if inspect.isclass(owner)
        for base in owner.__mro__[1:]
    )
    if overrides and not member.__doc__:
        return  # described where it is declared
    assert member.__doc__, "no docstring"
    documented = re.findall(r":param (\w+):", member.__doc__)
    if not (inspect.isfunction(member) or inspect.isclass(member)) or issubclass_of_exception(member):
        return
    parameters = [parameter for parameter in inspect.signature(member).parameters if parameter not in ("self", "args")]
    documented = [parameter for parameter in documented if parameter != "args"]
    if "kwargs" in parameters:  # the arguments passed on are documented where they are declared
        assert set(parameters) - {"kwargs"} <= {*documented, *inherited(member)}
    else:
        assert documented == parameters


def issubclass_of_exception(member) -> bool:
    """The signature of an exception is that of the built-in one"""
    return inspect.isclass(member) and issubclass(member, Exception)


def inherited(member) -> set[str]:
    """Parameters that the base classes outside this package document"""
    bases = member.__mro__[1:] if inspect.isclass(member) else []
    return {name for base in bases for name in re.findall(r":param (\w+):", base.__doc__ or "")}
