"""
Cost of the updates of one environment step, and of a step of ``learn()``, beside SB3, sb3-contrib and SBX if it is installed.

Every round measures every algorithm once, so that a machine that slows down slows all of them; a ratio is the median over the
rounds of the ratios to SB3's SAC of the same width within a round. Times are processor times of one thread. Each processor
has its own table, named by it: ratios of one do not hold for another.

    pip install sb3_contrib sbx-rl  # the latter brings JAX
    python -m benchmarks.speed

Some rows are measured alone, or again in a table that is there already, by their names, beside SB3's SAC:

    python -m benchmarks.speed --only "DSPG compiled" "SoftQLearning compiled"

With ``--device cuda`` networks are on the GPU, and times are those of a clock.
"""

import argparse
import csv
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

# Before JAX starts its threads
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import matplotlib
import torch as th
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from benchmarks.collect import processor
from sb3_maxent import DSPG, SoftQLearning

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ENV = "HalfCheetah-v5"
SAMPLES = (1, 4, 16, 64, 256)
# Width of two hidden layers: states per update, and critics of our algorithms; as in SB3's SAC, and as in the paper of DSPG.
# The others have the critics that they have: SAC, TD3, CrossQ and TQC two, DDPG one
SIZES = {256: (256, 2), 512: (100, 1)}
RESULTS = Path(__file__).parent / "results"
# One update with the networks of SB3's SAC, but for the layer that the action enters: what a number of samples costs
PLAIN_NETWORKS = {"action_layer": -1, "batch_norm": False, "actor_averaging": None}
PLAIN = {"gradient_steps": 1, "policy_delay": 1, "n_target_samples": None, "norm_reward": False}

# Where the networks are, see ``--device``
DEVICE = "cpu"

Maker = Callable[[], OffPolicyAlgorithm]


def make(algorithm: type, width: int, **kwargs) -> OffPolicyAlgorithm:
    policy_kwargs = {"net_arch": [width, width], **kwargs.pop("policy_kwargs", {})}
    # SBX has its own devices
    kwargs = kwargs if algorithm.__module__.startswith("sbx") else {"device": DEVICE, **kwargs}
    model = algorithm("MlpPolicy", ENV, learning_starts=300, buffer_size=10_000, seed=0, policy_kwargs=policy_kwargs, **kwargs)
    return model.learn(301)


def dspg(width: int, n_samples: int, **kwargs) -> Maker:
    batch_size, n_critics = SIZES[width]
    policy_kwargs = {"n_critics": n_critics, **PLAIN_NETWORKS, **kwargs.pop("policy_kwargs", {})}
    # A single sample has no others to subtract
    baseline = "loo" if n_samples > 1 else "none"
    arguments = {**PLAIN, "n_action_samples": n_samples, "baseline": baseline, "batch_size": batch_size, **kwargs}
    return lambda: make(DSPG, width, policy_kwargs=policy_kwargs, **arguments)


def compiled_sac(width: int) -> Maker:
    """
    :param width: Width of the hidden layers
    :return: How to make SB3's SAC with what a user can compile from outside: each network by itself
    """

    def maker() -> OffPolicyAlgorithm:
        model = make(SAC, width, batch_size=SIZES[width][0])
        model.actor.action_log_prob = th.compile(model.actor.action_log_prob)
        model.critic.compile()
        model.critic_target.compile()
        return model

    return maker


def contenders(width: int) -> dict[tuple[str, int | None], Maker]:
    """
    :param width: Width of the hidden layers
    :return: How to make each model, by its name and number of action samples
    """
    batch_size, n_critics = SIZES[width]
    makers: dict[tuple[str, int | None], Maker] = {}
    baselines = {"SAC": SAC, "DDPG": DDPG, "TD3": TD3, "TQC": TQC, "CrossQ": CrossQ}
    for name, algorithm in baselines.items():
        makers[name, None] = lambda algorithm=algorithm: make(algorithm, width, batch_size=batch_size)
    makers["SAC, compiled networks", None] = compiled_sac(width)
    try:
        import sbx
    except ImportError:
        print("SBX is not installed and left out")
    else:
        makers["SBX SAC", None] = lambda: make(sbx.SAC, width, batch_size=batch_size)
    concatenating = {"policy_kwargs": {"action_layer": 0}}
    for n_samples in SAMPLES:
        makers["DSPG", n_samples] = dspg(width, n_samples)
        makers["DSPG compiled", n_samples] = dspg(width, n_samples, compile=True)
        makers["DSPG concatenating", n_samples] = dspg(width, n_samples, **concatenating)
        makers["DSPG concatenating compiled", n_samples] = dspg(width, n_samples, compile=True, **concatenating)
    bfloat16 = {"policy_kwargs": {"action_layer": 0, "evaluation_precision": "bfloat16"}}
    makers["DSPG concatenating, bfloat16", 64] = dspg(width, 64, **bfloat16)
    makers["DSPG concatenating compiled, bfloat16", 64] = dspg(width, 64, compile=True, **bfloat16)
    if width == 256:
        # Two updates of half the states
        for name, arguments in (
            ("DSPG, defaults", {"compile": False}),
            ("DSPG, defaults, compiled", {"compile": True}),
            ("DSPG, policy_delay=4, compiled", {"compile": True, "policy_delay": 4}),
        ):
            makers[name, None] = lambda arguments=arguments: make(DSPG, width, **arguments)
    # As hyperparams/softqlearning.yml has it for HalfCheetah and Hopper
    networks = {"policy_kwargs": {"n_critics": n_critics, "batch_norm": True, "unit_norm": True}}
    normalised = {"n_particles": 16, "n_value_samples": 8, "policy_delay": 2, **networks}
    plain = {"policy_kwargs": {"n_critics": n_critics}}
    for name, changes in (("SoftQLearning", plain), ("SoftQLearning normalised", normalised)):
        for compiled, compile in (("", False), (" compiled", True)):
            arguments = {"batch_size": batch_size, "ent_coef": 0.1, "compile": compile, **changes}
            makers[name + compiled, None] = lambda arguments=arguments: make(SoftQLearning, width, **arguments)
    return makers


def processor_time(function: Callable[[], object]) -> float:
    if DEVICE == "cpu":
        start = time.process_time()
        function()
        return time.process_time() - start
    # The processor does not know when a GPU has finished
    start = time.perf_counter()
    function()
    th.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(measured: dict, n_rounds: int, reference: Hashable = ("SAC", None)) -> dict:
    """
    :param measured: Functions that return a time
    :param n_rounds: Number of rounds
    :param reference: The one that ratios are to
    :return: Median time and median ratio of each
    """
    rounds = [{name: function() for name, function in measured.items()} for _ in range(n_rounds)]
    return {
        name: (
            statistics.median(times[name] for times in rounds),
            statistics.median(times[name] / times[reference] for times in rounds),
        )
        for name in measured
    }


def updates(model: OffPolicyAlgorithm) -> Callable[[], float]:
    def run(n_steps: int) -> float:
        return processor_time(lambda: model.train(n_steps * model.gradient_steps, model.batch_size)) / n_steps

    run(3)  # compiles
    n_steps = max(2, int(0.15 / run(3)))
    run(n_steps)  # SBX compiles anew for each number of updates
    return lambda: run(n_steps)


def at_medium_precision(function: Callable[[], Any]) -> Any:
    """
    :param function: What to call while PyTorch may use another library, and less precision, for products of float32
    :return: What it returns
    """
    th.set_float32_matmul_precision("medium")
    try:
        return function()
    finally:
        th.set_float32_matmul_precision("highest")


def timers(makers: dict[tuple[str, int | None], Maker]) -> tuple[dict, dict]:
    """
    :param makers: How to make each model
    :return: The models, and functions that return the time of the updates of a step, of SAC at medium precision too
    """
    models = {name: maker() for name, maker in makers.items()}
    measured = {name: updates(model) for name, model in models.items()}
    timer = at_medium_precision(lambda: updates(models["SAC", None]))
    measured["SAC, medium precision", None] = lambda: at_medium_precision(timer)
    return models, measured


def steps(model: OffPolicyAlgorithm) -> Callable[[], float]:
    n_steps = 200
    return lambda: processor_time(lambda: model.learn(n_steps, reset_num_timesteps=False, log_interval=None)) / n_steps


ALONE = """
import re, sys, time, warnings
warnings.simplefilter("ignore")
import torch as th
from stable_baselines3 import SAC
from sb3_maxent import DSPG
th.set_num_threads(1)
algorithm, kwargs = (SAC, {}) if sys.argv[1] == "SAC" else (DSPG, {"compile": sys.argv[1] == "DSPG compiled"})
model = algorithm("MlpPolicy", "%s", device="cpu", **kwargs).learn(100)
start = time.perf_counter()
model.learn(2, reset_num_timesteps=False)
seconds = time.perf_counter() - start
model.learn(2000, reset_num_timesteps=False)
print(seconds, int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024)
"""


def alone() -> dict[str, tuple[float, float]]:
    """
    :return: Seconds of the first two updates, and largest memory in MiB of 2,000 steps, each in a process of its own
    """
    results = {}
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
        for name in ("SAC", "DSPG", "DSPG compiled", "DSPG compiled, warm cache"):
            command = [sys.executable, "-c", ALONE % ENV, name.split(",")[0]]
            output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
            seconds, memory = map(float, output.split()[-2:])
            results[name] = (seconds, memory)
    return results


def peak() -> float:
    """
    :return: Largest rate of a float32 matrix product in GFLOP/s
    """
    matrix = th.randn(2048, 2048, device=DEVICE)
    return 2 * 2048**3 / min(processor_time(lambda: matrix @ matrix) for _ in range(5)) / 1e9


def plot(rows: list[dict], path: Path) -> None:
    figure, axes = plt.subplots(1, len(SIZES), figsize=(10, 4), sharey=True)
    for width, axis in zip(SIZES, axes, strict=True):
        for name in ("DSPG", "DSPG compiled", "DSPG concatenating", "DSPG concatenating compiled"):
            points = [(row["samples"], row["ratio"]) for row in rows if (row["width"], row["name"]) == (width, name)]
            axis.plot(*zip(*points, strict=True), marker="o", label=name)
        axis.axhline(1, color="black", linestyle=":", label="SAC: one sample, two critics")
        batch_size, n_critics = SIZES[width]
        title = f"2 x {width}, batch {batch_size}, DSPG with {n_critics} critic{'s' if n_critics > 1 else ''}"
        axis.set(xscale="log", yscale="log", xlabel="action samples per state", title=title)
    axes[0].set_ylabel("time of an update, SAC = 1")
    axes[1].legend(loc="upper left")
    figure.savefig(path, dpi=120, bbox_inches="tight")


def device_name() -> str:
    """
    :return: Name of the GPU or processor that is measured
    """
    return th.cuda.get_device_name() if DEVICE == "cuda" else re.sub(r"\(R\)| Processor", "", processor())


def measure_updates(n_rounds: int, only: list[str]) -> tuple[list[dict], dict]:
    """
    :param n_rounds: Number of rounds
    :param only: Names of the algorithms, beside SAC, none for all
    :return: A row for each algorithm, number of samples and width, and the models with two layers of 256 units
    """
    rows, kept = [], {}
    for width in SIZES:
        makers = {key: maker for key, maker in contenders(width).items() if not only or key[0] in ("SAC", *only)}
        models, measured = timers(makers)
        timed = interleaved(measured, n_rounds)
        rows += [
            {"name": name, "samples": samples, "width": width, "ms": round(1000 * seconds, 2), "ratio": round(ratio, 2)}
            for (name, samples), (seconds, ratio) in timed.items()
        ]
        kept = kept or models
    return rows, kept


def measure_rest(models: dict, n_rounds: int) -> dict:
    """
    :param models: Models with two layers of 256 units
    :param n_rounds: Number of rounds
    :return: Versions, steps of ``learn()``, start and memory
    """
    names = [("SAC", None), *((name, 64) for name in ("DSPG", "DSPG compiled"))]
    names += [(name, None) for name in ("DSPG, defaults", "DSPG, defaults, compiled")]
    names += [(name, None) for name in ("SoftQLearning", "SoftQLearning compiled")]
    frames = interleaved({name: steps(models[name]) for name in names}, n_rounds)
    return {
        "processor": device_name(),
        "torch": th.__version__,
        "python": platform.python_version(),
        "float32 matrix product, GFLOP/s": round(peak()),
        "the same at medium precision": round(at_medium_precision(peak)),
        "learn(), frames per second": {name: round(1 / seconds) for (name, _), (seconds, _) in frames.items()},
        "learn(), time to SAC": {name: round(ratio, 2) for (name, _), (_, ratio) in frames.items()},
        "first two updates in s, peak memory in MiB": alone(),
    }


def merged(rows: list[dict], path: Path) -> list[dict]:
    """
    :param rows: New rows
    :param path: Table of earlier ones, if there is one
    :return: The rows of the table with those that were measured again, but for SAC's own. Ratios can be compared and times
        cannot, so that a time is the ratio times that of the table's SAC
    """
    if not path.is_file():
        return rows
    with open(path, newline="") as file:
        table = {(row["name"], row["samples"], row["width"]): row for row in csv.DictReader(file)}
    for row in rows:
        # The ratios of the other rows are to the table's own SAC
        if row["name"] != "SAC":
            width, samples = str(row["width"]), "" if row["samples"] is None else str(row["samples"])
            ms = round(row["ratio"] * float(table["SAC", "", width]["ms"]), 2)
            table[row["name"], samples, width] = {**row, "ms": ms}
    numbers = {"samples": int, "width": int, "ms": float, "ratio": float}
    return [{k: numbers[k](v) if k in numbers and v not in ("", None) else v for k, v in r.items()} for r in table.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="measure these rows alone")
    arguments = parser.parse_args()
    global DEVICE
    DEVICE = arguments.device
    th.set_num_threads(1)
    rows, models = measure_updates(arguments.rounds, arguments.only)
    name = "speed-" + re.sub(r"\W+", "-", device_name()).strip("-").lower()
    if arguments.only:
        rows = merged(rows, arguments.output / f"{name}.csv")
    else:
        summary = measure_rest(models, arguments.rounds)
        print(json.dumps(summary, indent=1))
        (arguments.output / f"{name}.json").write_text(json.dumps(summary, indent=1) + "\n")
    with open(arguments.output / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    plot(rows, arguments.output / f"{name}.png")
    for row in rows:
        print(f"{row['width']:4d}  {row['name']:30s} {row['samples'] or '':>4}  {row['ms']:8.2f} ms  {row['ratio']:6.2f}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
