"""
Figures of the exploration and pretraining experiments of the Soft Q-learning paper, from runs of benchmarks/experiments.py.

    python examples/4_experiments.py best SwimmerFinishLine-v0
    python examples/4_experiments.py best PointTwoPassages-v0
    python examples/4_experiments.py returns PointNarrowHallway-v0
    python examples/4_experiments.py traces PointArena-v0 softqlearning-0.1 softqlearning-10

``best``: the largest forward distance, or the smallest distance to the goal, over training, and how many seeds pass the finish
line or get nearer than the threshold: at some time, and in the mean of the last ten episodes. ``returns``: learning curves,
for instance pretrained against from scratch, and the mean return of all seeds, over the run and at the end. ``traces``: paths
of the trained policies from above, of the first seed, and how far the directions of each seed spread. Each draws a PNG of all
results, or of those whose names are given, in the working directory. It needs the extra ``plots``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "experiments"
N_BINS = 12


def read_results(env_id: str, folder: Path = RESULTS) -> dict[str, list[dict[str, Any]]]:
    """
    Results of a task.

    :param env_id: Environment ID
    :param folder: Folder of all results
    :return: Results of all seeds by name
    :raises ValueError: If there are none
    """
    results: dict[str, list[dict[str, Any]]] = {}
    for file in sorted((folder / env_id).glob("*.json")):
        result = json.loads(file.read_text())
        results.setdefault(result["name"], []).append(result)
    if not results:
        raise ValueError(f"no results of {env_id} in {folder}: make runs with benchmarks/experiments.py")
    return results


def draw_curves(results: dict[str, list[dict[str, Any]]], column: str, label: str) -> Figure:
    """
    One line for each seed, and their mean.

    :param results: Results of all seeds by name
    :param column: ``"best"`` or ``"return"``
    :param label: What it is
    :return: The figure
    """
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for number, (name, seeds) in enumerate(results.items()):
        length = min(len(seed["timesteps"]) for seed in seeds)
        curves = np.array([seed[column][:length] for seed in seeds], float)  # (seeds, entries)
        timesteps = seeds[0]["timesteps"][:length]
        axes.plot(timesteps, curves.T, color=f"C{number}", linewidth=0.5, alpha=0.6)
        axes.plot(timesteps, curves.mean(axis=0), color=f"C{number}", label=f"{name}, {len(seeds)} seeds")
    threshold = next(iter(results.values()))[0]["threshold"]
    if column == "best" and threshold is not None:
        axes.axhline(threshold, color="black", linestyle="--", linewidth=0.8, label="threshold")
    axes.set(xlabel="steps", ylabel=label)
    axes.legend(fontsize="x-small")
    return figure


def n_passed(seeds: list[dict[str, Any]], column: str, larger: bool) -> int:
    """
    How many seeds pass the threshold of their task.

    :param seeds: Results
    :param column: ``"best"`` for the best of all training, ``"last"`` for the mean of the last ten episodes
    :param larger: Whether a larger value is a better one
    :return: Number of seeds
    """
    ends = [(seed.get(column, [None])[-1], seed["threshold"]) for seed in seeds]
    return sum((end > threshold) == larger for end, threshold in ends if end is not None and threshold is not None)


def spread(paths: list[np.ndarray]) -> tuple[float, float]:
    """
    How far the directions from start to end spread.

    :param paths: Positions, shape (steps, 2) each
    :return: Length of the mean direction, 0 if directions cancel and 1 if all are the same, and the entropy of the
        directions in nats, in twelve bins
    """
    ways = np.array([path[-1] - path[0] for path in paths])
    angles = np.arctan2(ways[:, 1], ways[:, 0])
    shares = np.histogram(angles, N_BINS, (-np.pi, np.pi))[0] / len(angles)
    entropy = sum(-share * np.log(share) for share in shares if share > 0) + 0.0
    return float(np.abs(np.exp(1j * angles).mean())), float(entropy)


def draw_traces(paths: dict[str, list[np.ndarray]]) -> Figure:
    """
    Paths seen from above.

    :param paths: Positions, shape (steps, 2) each, of several models by name
    :return: The figure, with a panel for each model
    """
    figure = Figure(figsize=(3.2 * len(paths), 3.6), layout="constrained")
    for axes, (name, traces) in zip(figure.subplots(1, len(paths), squeeze=False)[0], paths.items(), strict=True):
        for path in traces:
            axes.plot(*path.T, linewidth=0.7)
        resultant, entropy = spread(traces)
        axes.set_title(f"{name}\nmean direction {resultant:.2f}, entropy {entropy:.2f}", fontsize="medium")
        axes.set(xlabel="x", ylabel="y")
        axes.set_aspect("equal", adjustable="datalim")
    return figure


def summary(kind: str, seeds: list[dict[str, Any]], larger: bool) -> str:
    """
    What the seeds of a name have at the end.

    :param kind: ``"best"``, ``"returns"`` or ``"traces"``
    :param seeds: Results
    :param larger: Whether a larger value is a better one
    :return: Text
    """
    if kind == "best":
        some_time, last = (n_passed(seeds, column, larger) for column in ("best", "last"))
        return f"{some_time} of {len(seeds)} seeds at some time, {last} in the last ten episodes"
    if kind == "returns":
        returns = [[each for each in seed["return"] if each is not None] for seed in seeds]
        run, ends = np.mean([np.mean(each) for each in returns]), [each[-1] for each in returns]
        return f"{len(seeds)} seeds, mean of the run {run:.0f}, end {np.mean(ends):.0f} ({min(ends):.0f} to {max(ends):.0f})"
    spreads = [spread([np.array(path) for path in seed["paths"]]) for seed in seeds if seed.get("paths")]
    return "mean direction and entropy " + ", ".join(f"{resultant:.2f} {entropy:.2f}" for resultant, entropy in spreads)


def main(kind: str, env_id: str, *names: str) -> None:
    """
    Draw a figure.

    :param kind: ``"best"``, ``"returns"`` or ``"traces"``
    :param env_id: Environment ID
    :param names: Names of the results in the figure, all by default
    """
    results, larger = read_results(env_id), "Swimmer" in env_id
    if missing := set(names) - set(results):
        raise ValueError(f"names={sorted(missing)}: results of {env_id} are {sorted(results)}")
    results = {name: results[name] for name in names or results}
    if kind == "traces":
        paths = {name: [np.array(path) for path in seeds[0].get("paths", [])] for name, seeds in results.items()}
        if not any(paths.values()):
            raise ValueError(f"no paths of {env_id}: make runs with benchmarks/experiments.py --episodes 50")
        figure = draw_traces({name: traces for name, traces in paths.items() if traces})
    elif kind == "best":
        label = "largest forward distance" if larger else "smallest distance to the goal"
        figure = draw_curves(results, "best", f"{label} so far")
    else:
        figure = draw_curves(results, "return", "return")
    for name, seeds in results.items():
        print(f"{name}: {summary(kind, seeds, larger)}")
    figure.savefig(f"{kind}_{env_id}.png", dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:])
