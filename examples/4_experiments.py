"""
Figures of the exploration and pretraining experiments of the Soft Q-learning paper, from runs of benchmarks/experiments.py.

    python examples/4_experiments.py best SwimmerFinishLine-v0
    python examples/4_experiments.py best PointTwoPassages-v0
    python examples/4_experiments.py returns PointNarrowHallway-v0
    python examples/4_experiments.py traces PointArena-v0 logs/experiments/PointArena-v0/softqlearning_1/final.zip

``best``: the largest forward distance, or the smallest distance to the goal, over training, and how many seeds pass the finish
line or get nearer than the threshold: at some time, and in the mean of the last ten episodes. ``returns``:
learning curves, for instance pretrained against from scratch. ``traces``: paths of one or several policies from above, and
how far their directions spread. Each draws a PNG in the working directory.
"""

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure
from stable_baselines3.common.base_class import BaseAlgorithm

import sb3_maxent  # noqa: F401
from sb3_maxent import SoftQLearning

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


def rollouts(model: BaseAlgorithm, env_id: str, n_rollouts: int) -> list[np.ndarray]:
    """
    Act with the stochastic policy.

    :param model: The model
    :param env_id: Environment ID
    :param n_rollouts: Number of episodes
    :return: Positions, shape (steps, 2) each
    """
    env = gym.make(env_id)
    paths = []
    for seed in range(n_rollouts):
        observation, _ = env.reset(seed=seed)
        path, done = [observation[:2]], False
        while not done:
            observation, _, terminated, truncated, _ = env.step(model.predict(observation)[0])
            path.append(observation[:2])
            done = terminated or truncated
        paths.append(np.array(path))
    return paths


def spread(paths: list[np.ndarray]) -> tuple[float, float]:
    """
    How far the directions from start to end spread.

    :param paths: Positions, shape (steps, 2) each
    :return: Length of the mean direction, from 0 for all directions alike to 1 for one direction, and the entropy of the
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


def main(kind: str, env_id: str, *files: str) -> None:
    """
    Draw a figure.

    :param kind: ``"best"``, ``"returns"`` or ``"traces"``
    :param env_id: Environment ID
    :param files: Files of models, for ``"traces"``
    """
    if kind == "traces":
        models = [SoftQLearning.load(file) for file in files]
        figure = draw_traces({f"temperature {model.ent_coef}": rollouts(model, env_id, 50) for model in models})
    elif kind == "best":
        results, larger = read_results(env_id), "Swimmer" in env_id
        for name, seeds in results.items():
            some_time, last = (n_passed(seeds, column, larger) for column in ("best", "last"))
            print(f"{name}: {some_time} of {len(seeds)} seeds at some time, {last} in the last ten episodes")
        label = "largest forward distance" if larger else "smallest distance to the goal"
        figure = draw_curves(results, "best", f"{label} so far")
    else:
        figure = draw_curves(read_results(env_id), "return", "return")
    figure.savefig(f"{kind}_{env_id}.png", dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:])
