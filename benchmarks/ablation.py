r"""
What the defaults of DSPG are chosen from: where the action enters the critic, samples per state, critics, precision.

    python -m benchmarks.ablation commands --env HalfCheetah-v4 --steps 40000 --seeds 1 2 > commands
    xargs -d '\n' -P 2 -I{} sh -c {} < commands
    python -m benchmarks.ablation table > benchmarks/results/ablation.csv
    python -m benchmarks.ablation time > benchmarks/results/ablation_time.csv
    python -m benchmarks.ablation compare --env HalfCheetah-v4 --steps 40000

``time`` measures an update of each variant, interleaved. ``compare`` prints the mean return over the evaluations up to a
number of steps, with the 95 % interval of rliable's bootstrap over the seeds, and the same up to the steps that a variant
reaches in the time in which the fastest one makes that number of them.
"""

import argparse
import csv
import shlex
import sys
from pathlib import Path

import numpy as np

from benchmarks.returns import evaluations

LATE, ONE_CRITIC = {"compile": True}, {"compile": True, "policy_kwargs": {"n_critics": 1}}
CONCATENATING = {"compile": True, "policy_kwargs": {"action_layer": 0}}
BFLOAT16 = {"compile": True, "policy_kwargs": {"action_layer": 0, "evaluation_precision": "bfloat16"}}
# Arguments on top of the shipped hyperparameters; the first is the default
VARIANTS: dict[str, dict] = {
    "late-64": LATE,
    "late-16": {**LATE, "n_action_samples": 16},
    "late-4": {**LATE, "n_action_samples": 4},
    "late-64-one-critic": ONE_CRITIC,
    "late-16-one-critic": {**ONE_CRITIC, "n_action_samples": 16},
    "concatenating-16": {**CONCATENATING, "n_action_samples": 16},
    "concatenating-16-bfloat16": {**BFLOAT16, "n_action_samples": 16},
    "concatenating-4": {**CONCATENATING, "n_action_samples": 4},
}
RESULTS = Path(__file__).parent / "results"
# Steps without updates, where the shipped hyperparameters do not say 10,000
LEARNING_STARTS = {"Pendulum-v1": 100}


def commands(arguments: argparse.Namespace) -> None:
    """Print the command of each run, those of one seed together"""
    for seed in arguments.seeds:
        for name in arguments.variants:
            hyperparameters = [f"{key}:{value!r}" for key, value in VARIANTS[name].items()]
            print(
                f"OMP_NUM_THREADS=1 python -m rl_zoo3.train --algo dspg --env {arguments.env} -n {arguments.steps} "
                f"--eval-freq {arguments.eval_freq} --eval-episodes 5 --n-eval-envs 1 --num-threads 1 "
                f"--seed {seed} -f {arguments.folder / name / str(seed)} "
                f"-params {shlex.join(hyperparameters)}"
            )


def table(arguments: argparse.Namespace) -> None:
    """Print all evaluations as CSV"""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["variant", "env", "seed", "timesteps", "mean_return", "std_return", "episodes"])
    for name in VARIANTS:
        writer.writerows([name, *row[1:]] for row in evaluations(arguments.folder / name))


def measure(arguments: argparse.Namespace) -> None:
    """Print the time of an update of each variant as CSV"""
    import torch as th
    from stable_baselines3 import SAC

    from benchmarks.speed import interleaved, make, updates
    from sb3_maxent import DSPG

    th.set_num_threads(1)
    models = {("SAC", None): make(SAC, 256)}
    models.update({(name, None): make(DSPG, 256, **kwargs) for name, kwargs in VARIANTS.items()})
    timed = interleaved({key: updates(model, 256) for key, model in models.items()}, arguments.rounds)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["variant", "ms", "ratio to SAC"])
    writer.writerows([name, round(1000 * seconds, 2), round(ratio, 2)] for (name, _), (seconds, ratio) in timed.items())


def compare(arguments: argparse.Namespace) -> None:
    """Print mean returns up to equal steps, and up to equal time"""
    from rliable import library, metrics

    with open(arguments.csv) as file:
        rows = [row for row in csv.DictReader(file) if row["env"] == arguments.env]
    with open(RESULTS / "ablation_time.csv") as file:
        milliseconds = {row["variant"]: float(row["ms"]) for row in csv.DictReader(file)}
    names = [name for name in VARIANTS if any(row["variant"] == name for row in rows)]
    fastest, n_random = min(milliseconds[name] for name in names), LEARNING_STARTS.get(arguments.env, 10_000)
    limits = {
        "steps": {name: arguments.steps for name in names},
        "time": {name: n_random + (arguments.steps - n_random) * fastest / milliseconds[name] for name in names},
    }
    for equal, limit in limits.items():
        scores = {}
        for name in names:
            runs: dict[str, list[float]] = {}
            for row in rows:
                if row["variant"] == name and int(row["timesteps"]) <= limit[name]:
                    runs.setdefault(row["seed"], []).append(float(row["mean_return"]))
            scores[name] = np.array([[np.mean(returns)] for returns in runs.values()])  # (seeds, 1)
        points, intervals = library.get_interval_estimates(scores, lambda x: np.array([metrics.aggregate_mean(x)]), reps=5000)
        print(f"{arguments.env}, equal {equal}")
        for name in names:
            (low,), (high,) = intervals[name]
            line = f"  {name:28s}{limits[equal][name]:8.0f} steps, {len(scores[name])} seeds"
            print(f"{line}  {points[name][0]:8.0f}  [{low:.0f}, {high:.0f}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("logs/ablation"))
    parser.add_argument("--env", default="HalfCheetah-v4")
    parser.add_argument("--csv", type=Path, default=RESULTS / "ablation.csv")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--eval-freq", type=int, default=5_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--rounds", type=int, default=7)
    actions = {"commands": commands, "table": table, "time": measure, "compare": compare}
    parser.add_argument("action", choices=list(actions))
    arguments = parser.parse_args()
    actions[arguments.action](arguments)


if __name__ == "__main__":
    main()
