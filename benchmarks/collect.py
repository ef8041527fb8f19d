"""
Makes the result of a finished run from its logs: a small JSON file.

    python -m benchmarks.collect LOGS/EXPERIMENT/RUN RESULTS/EXPERIMENT/RUN.json --experiment EXPERIMENT --name NAME

It has the returns and times of every evaluation, the hyperparameters, the command, the versions of Python and the packages
that returns and times depend on, the commit and the processor. ``benchmarks/README.md`` lists the fields. The checkpoints
are deleted.
"""

import argparse
import csv
import importlib.metadata
import json
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch as th
import yaml

from benchmarks.recorder import CHECKPOINTS, EVALUATIONS

# In the log folder of a run: each start, as a line of JSON
STARTS = "starts.jsonl"
PACKAGES = ("sb3-maxent", "stable_baselines3", "sb3_contrib", "rl_zoo3", "torch", "numpy", "gymnasium", "mujoco")


def processor() -> str:
    """
    Name the processor.

    :return: Its name and family as the system knows them, and the vectors that PyTorch uses: processors of one name may
        differ in both
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    # The first processor is like the others
    entries = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    name = entries.get("model name") or platform.processor() or platform.machine()
    family = f" (family {entries['cpu family']})" if "cpu family" in entries else ""
    return f"{name}{family}, {th.backends.cpu.get_cpu_capability()}"


def versions() -> dict[str, str]:
    """
    Name the versions of Python and of what returns and times depend on.

    :return: Version of each package that is installed
    """
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def commit() -> str:
    """
    Name the commit of the working folder.

    :return: Its hash, with ``-dirty`` if tracked files differ; empty outside of a repository
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:  # there is no git
        return ""


def starts_of(folder: Path) -> list[dict[str, Any]]:
    """
    List the starts that made the returns of a run: one from the beginning, and those that went on from a checkpoint.

    :param folder: Log folder of the run
    :return: For each its ``step``, ``commit``, ``command``, and ``config``, the folder of its hyperparameters
    """
    file = folder / STARTS
    starts = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    beginnings = [number for number, start in enumerate(starts) if start["step"] == 0]
    if not beginnings:
        # A run of before this file was written
        config = max(folder.glob("*/*/*/args.yml"), key=lambda path: path.stat().st_mtime).parent
        return [{"step": 0, "commit": commit(), "command": (config / "command.txt").read_text(), "config": str(config)}]
    return starts[beginnings[-1] :]


def result_of(folder: Path) -> dict[str, Any]:
    """
    Read the logs of a run.

    :param folder: Log folder of the run
    :return: What the JSON file has, but for experiment and name
    :raises ValueError: If its last evaluation is missing
    """
    # One folder for each start of the run
    last = max(folder.glob("*/*/*/args.yml"), key=lambda path: path.stat().st_mtime)
    arguments, starts = yaml.unsafe_load(last.read_text()), starts_of(folder)
    # A run that goes on keeps the hyperparameters with which it began
    first = starts[0]
    with (folder / EVALUATIONS).open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    steps, every = arguments["n_timesteps"], arguments["eval_freq"]
    # With several environments RL Zoo evaluates a little more often
    if len(rows) < max(1, steps // every):
        raise ValueError(f"{folder} is not finished: {len(rows)} of {steps // every} evaluations")
    return {
        "algo": arguments["algo"],
        "env": arguments["env"],
        "seed": arguments["seed"],
        "steps": steps,
        "command": first["command"],
        "starts": len(starts),
        "hyperparameters": dict(yaml.unsafe_load((Path(first["config"]) / "config.yml").read_text())),
        "commit": ", ".join(dict.fromkeys(start["commit"] for start in starts)),
        "processor": processor(),
        "versions": versions(),
        "wall_clock": rows[-1]["wall_clock"],
        "processor_time": rows[-1]["processor_time"],
        "evaluations": {key: [_number(row[key]) for row in rows] for key in rows[0]},
    }


def _number(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def write_result(file: Path, result: dict[str, Any]) -> None:
    """
    Write a result that is complete or not there.

    :param file: JSON file
    :param result: What it has
    """
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items() if key != "evaluations"]
    columns = [f"    {json.dumps(key)}: {json.dumps(values)}" for key, values in result["evaluations"].items()]
    text = ",\n".join([*lines, '  "evaluations": {\n' + ",\n".join(columns) + "\n  }"])
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".writing")
    unfinished.write_text("{\n" + text + "\n}\n")
    unfinished.replace(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--name", required=True)
    arguments = parser.parse_args()
    labels = {"experiment": arguments.experiment, "name": arguments.name}
    write_result(arguments.file, {**labels, **result_of(arguments.folder)})
    shutil.rmtree(arguments.folder / CHECKPOINTS, ignore_errors=True)


if __name__ == "__main__":
    main()
