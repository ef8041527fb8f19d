import importlib
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.matrix import read_matrix
from tests.zoo.interpreter import run_python

ROOT = Path(__file__).parents[2]
SMALL = {
    "evaluation": {"freq": 100, "episodes": 2},
    "runs": [
        {"experiment": "first", "names": ["sac", "wide"], "envs": ["Pendulum-v1", "Hopper-v4"], "seeds": 2, "steps": 1000},
        {"experiment": "second", "names": ["sac"], "envs": ["Pendulum-v1"], "seeds": 1, "steps": 500},
    ],
    "variants": {
        "wide": {"algo": "dspg", "conf": "file.yml", "params": {"compile": True, "policy_kwargs": "dict(net_arch=[8])"}}
    },
}


def in_rl_zoo(code: str, *args: str, cwd) -> Any:
    """What a new process prints: ``rl_zoo3`` changes gymnasium's TimeLimit for all of this one"""
    result = run_python(
        "-c", f"import argparse, json, sys; from rl_zoo3.utils import ALGOS, StoreDict; {code}", *args, cwd=cwd
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def write(tmp_path, matrix):
    file = tmp_path / "matrix.yml"
    file.write_text(yaml.safe_dump(matrix))
    return file


def test_all_of_a_seed_come_before_the_next_seed(tmp_path):
    runs = read_matrix(write(tmp_path, SMALL))
    assert [run.path for run in runs[:5]] == [
        "first/sac_Pendulum-v1_1",
        "first/wide_Pendulum-v1_1",
        "first/sac_Hopper-v4_1",
        "first/wide_Hopper-v4_1",
        "first/sac_Pendulum-v1_2",
    ]
    assert runs[-1].path == "second/sac_Pendulum-v1_1" and runs[-1].steps == 500


def test_a_choice_keeps_the_order(tmp_path):
    chosen = read_matrix(write(tmp_path, SMALL), names=["sac"], experiments=["first"])
    assert {run.name for run in chosen} == {"sac"} and len(chosen) == 4


def test_rl_zoo_reads_the_hyperparameters_of_a_command(tmp_path):
    run = next(run for run in read_matrix(write(tmp_path, SMALL)) if run.name == "wide")
    words = shlex.split(run.command("logs"))
    code = (
        "values = argparse.Namespace(); StoreDict([], 'hyperparams', nargs='+')(None, values, sys.argv[1:]); "
        "print(json.dumps(values.hyperparams))"
    )
    hyperparams = in_rl_zoo(code, *words[words.index("--hyperparams") + 1 :], cwd=tmp_path)
    assert hyperparams == {"compile": True, "policy_kwargs": "dict(net_arch=[8])"}
    assert words[words.index("--algo") + 1] == "dspg" and words[words.index("--conf-file") + 1] == "file.yml"


@pytest.mark.parametrize("choice", [{"names": ["sacc"]}, {"experiments": ["third"]}])
def test_an_unknown_choice_is_named(tmp_path, choice):
    with pytest.raises(ValueError, match=r"has no (sacc|third), only "):
        read_matrix(write(tmp_path, SMALL), **choice)


def test_the_same_run_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has second/sac_Pendulum-v1_1 twice"):
        read_matrix(write(tmp_path, {**SMALL, "runs": [*SMALL["runs"], SMALL["runs"][-1]]}))


def classes_of(params):
    """Names of the classes that RL Zoo imports for a run, each a name or a dictionary of its arguments"""
    callbacks = params.get("callback", [])
    names = [*callbacks] if isinstance(callbacks, list) else [callbacks]
    names = [next(iter(name)) if isinstance(name, dict) else name for name in names]
    return [*names, *(name for name in [params.get("policy", "")] if "." in name)]


def test_the_matrix_has_algorithms_files_and_classes_that_exist(tmp_path):
    runs = read_matrix()
    assert {run.algo for run in runs} <= {*in_rl_zoo("print(json.dumps([*ALGOS]))", cwd=tmp_path)}
    configurations = {run.conf for run in runs if run.conf}
    assert configurations and [name for name in configurations if not (ROOT / name).is_file()] == []
    names = {name for run in runs for name in classes_of(run.params)}
    assert len(names) > 3
    for module, _, name in (each.rpartition(".") for each in names):
        assert isinstance(getattr(importlib.import_module(module), name), type), name
    assert runs[0].path == "mujoco-300k/dspg_Hopper-v4_1"
    assert sum(run.experiment == "mujoco-300k" and run.name == "sac" and run.env == "Ant-v4" for run in runs) == 5
