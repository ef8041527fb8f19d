"""Which folder may import which: the equations import nothing of ours, and what training needs imports nothing above it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import sb3_maxent

PACKAGE = Path(sb3_maxent.__file__).parent
LAYERS = {"functional": 0, "common": 1, "envs": 1, "dspg": 2, "softqlearning": 2, "saving": 2, "zoo": 3}


def imports() -> dict[str, set[str]]:
    """Modules of the package that each of its modules imports"""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        found[name] = {node.module for node in nodes if (node.module or "").startswith("sb3_maxent.")}
    return found


def layer(module: str) -> int | None:
    return LAYERS.get([*module.split("."), ""][1])


def test_no_import_runs_upward():
    edges = [(name, module) for name, modules in imports().items() if layer(name) is not None for module in modules]
    assert len(edges) > 50
    assert [(name, module) for name, module in edges if layer(module) > layer(name)] == []
    # The two algorithms know nothing of each other
    pair = {"dspg", "softqlearning"}
    assert [edge for edge in edges if {part.split(".")[1] for part in edge} == pair] == []


def test_no_import_runs_in_a_circle():
    assert len(list(TopologicalSorter(imports()).static_order())) >= 40


def test_files_are_short():
    assert {path.name: n for path in PACKAGE.rglob("*.py") if (n := len(path.read_text().splitlines())) > 300} == {}
