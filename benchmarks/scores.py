"""Scores of the results, and rliable's estimates of them."""

import csv
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import yaml
from rliable import library, metrics

from benchmarks.matrix import read_matrix

PUBLISHED = Path(__file__).parent / "published.yml"
# In the folder of results
STEP_TIME = "step_time.csv"
# Where the time of a step was measured, the name of the clock begins with this
MEASURED = "measured step"
# Algorithms of this package: the report asks whether they improve on the others
OURS = ("dspg", "softqlearning")
REPS = 2000
# From so many on, means over seeds are interquartile means
INTERQUARTILE_SEEDS = 4
Result = dict[str, Any]


class Experiment:
    """
    Results that are compared with each other.

    :param name: Its name
    :param results: Its results
    """

    def __init__(self, name: str, results: Sequence[Result]):
        self.name = name
        planned = [run for run in read_matrix() if run.experiment == name]
        order = [run.name for run in planned] + sorted(result["name"] for result in results)
        self.results = sorted(results, key=lambda run: (run["algo"] not in OURS, order.index(run["name"]), run["seed"]))
        done = {(result["name"], result["env"], result["seed"]) for result in results}
        self.missing = [run for run in planned if (run.name, run.env, run.seed) not in done]
        self.names = list(dict.fromkeys(result["name"] for result in self.results))
        order = [run.env for run in planned] + sorted(result["env"] for result in results)
        self.envs = [env for env in dict.fromkeys(order) if any(result["env"] == env for result in results)]
        # What aggregates are over: the tasks of the first entry of the matrix
        first = {run.env for run in planned if run.entry == planned[0].entry} if planned else set(self.envs)
        self.common_envs = [env for env in self.envs if env in first]

    def pairs(self) -> list[tuple[str, str]]:
        """
        Pairs of names to compare.

        :return: Each algorithm of this package with each other one; none if all are of this package: the control is not known
        """
        peers = dict.fromkeys(result["name"] for result in self.results if result["algo"] not in OURS)
        return [(x, y) for x in self.names if x not in peers for y in peers]

    def runs(self, name: str, env: str) -> list[Result]:
        """
        Results of an algorithm on a task.

        :param name: Algorithm or variant
        :param env: Task
        :return: Results in the order of their seeds
        """
        return [result for result in self.results if result["name"] == name and result["env"] == env]

    def scores(self, name: str, envs: Sequence[str], score: Callable[[Result], float]) -> np.ndarray | None:
        """
        Scores of an algorithm on several tasks.

        :param name: Algorithm or variant
        :param envs: Tasks
        :param score: Score of a result
        :return: Scores, of as many seeds as all tasks have, ``None`` if there is a task without, shape: (n_seeds, n_envs)
        """
        columns = [[score(result) for result in self.runs(name, env)] for env in envs]
        n_seeds = min(map(len, columns), default=0)
        return np.array([column[:n_seeds] for column in columns]).T if n_seeds else None


def read_results(folder: str | Path) -> dict[str, Experiment]:
    """
    Read all results.

    :param folder: Folder of the results
    :return: Experiments by name, those of the matrix first, also without results
    """
    results = [json.loads(file.read_text()) for file in sorted(Path(folder).glob("*/*.json"))]
    step_times = read_step_times(Path(folder) / STEP_TIME)
    for result in results:
        add_times(result, step_times.get((result["experiment"], result["name"], result["env"])))
    planned = [run.experiment for run in read_matrix()]
    names = dict.fromkeys([*planned, *sorted(result["experiment"] for result in results)])
    return {name: Experiment(name, [result for result in results if result["experiment"] == name]) for name in names}


def read_step_times(file: Path) -> dict[tuple[str, ...], tuple[float, str]]:
    """
    Read the measured times of steps. What is compared is the ratio, whose median is over rounds in which all took turns: so a
    time is the ratio times the time of the algorithm that ratios are to.

    :param file: Table of ``step_time.py``, which may be missing
    :return: Time (milliseconds) and processor, by experiment, name and task
    """
    if not file.is_file():
        return {}
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    references: dict[tuple[str, str], float] = {}
    for row in rows:
        if float(row["ratio"]) == 1:
            # The first one, as another algorithm may happen to be as fast
            references.setdefault((row["experiment"], row["env"]), float(row["ms"]))
    keys = [(row["experiment"], row["name"], row["env"]) for row in rows]
    times = [float(row["ratio"]) * references[row["experiment"], row["env"]] for row in rows]
    return {key: (ms, row["processor"]) for key, ms, row in zip(keys, times, rows, strict=True)}


def add_times(result: Result, step_time: tuple[float, str] | None) -> None:
    """
    Add the time of each evaluation, and what it was measured with: ``clock``.

    :param result: Result
    :param step_time: Measured time of a step after the random ones (milliseconds) and its processor, if there is one: it is
        not longer on a busy machine
    """
    evaluations, hyperparameters = result["evaluations"], result["hyperparameters"]
    evaluations["time"], result["clock"] = evaluations["processor_time"], result["processor"]
    if step_time and hyperparameters is not None:
        n_updates = np.maximum(np.array(evaluations["timesteps"]) - hyperparameters.get("learning_starts", 100), 0)
        evaluations["time"] = (n_updates * step_time[0] / 1000).tolist()
        result["clock"] = f"{MEASURED}, {step_time[1]}"


def measured(result: Result) -> bool:
    """
    Whether the time of a step was measured. Otherwise times are of the run beside other work.

    :param result: Result
    :return: Whether its times are measured ones
    """
    return result["clock"].startswith(MEASURED)


def read_published() -> dict[str, Any]:
    """
    Read published returns.

    :return: Contents of ``published.yml``
    """
    return yaml.safe_load(PUBLISHED.read_text())


def normalized(result: Result, value: float) -> float:
    """
    Score that is comparable between tasks.

    :param result: Result
    :param value: Return
    :return: 0 for a random policy, 1 for published TD3
    """
    random, td3 = read_published()["normalization"][result["env"]]
    return (value - random) / (td3 - random)


def final(result: Result) -> float:
    """
    Return at the end.

    :param result: Result
    :return: Mean return of the last evaluation
    """
    return result["evaluations"]["mean_return"][-1]


def best(result: Result) -> float:
    """
    Largest return of a run.

    :param result: Result
    :return: Largest mean return of an evaluation
    """
    return max(result["evaluations"]["mean_return"])


def average(result: Result, limit: float = np.inf) -> float:
    """
    Return during training.

    :param result: Result
    :param limit: Number of steps
    :return: Mean over all evaluations until then
    """
    evaluations = result["evaluations"]
    n_evaluations = np.searchsorted(evaluations["timesteps"], limit, side="right")
    return float(np.mean(evaluations["mean_return"][:n_evaluations]))


def after(limit: float, column: str = "time") -> Callable[[Result], float]:
    """
    Return after some time, or some steps.

    :param limit: Time in seconds, or number of steps
    :param column: ``"time"`` or ``"timesteps"``
    :return: Score of a result: the mean return of its last evaluation until then, of which there must be one
    """

    def score(result: Result) -> float:
        evaluations = result["evaluations"]
        return evaluations["mean_return"][np.searchsorted(evaluations[column], limit, side="right") - 1]

    return score


def common_end(results: Sequence[Result], column: str) -> float | None:
    """
    Time, or number of steps, that all runs have at least.

    :param results: Results
    :param column: ``"time"`` or ``"timesteps"``
    :return: Time in seconds or steps, ``None`` if it is not known of all, if times were measured in different ways or on
        different processors, or if one of them was not evaluated until then
    """
    ends = [result["evaluations"][column][-1] for result in results]
    if not ends or None in ends or (column == "time" and len({result["clock"] for result in results}) > 1):
        return None
    return None if any(result["evaluations"][column][0] > min(ends) for result in results) else min(ends)


def equal_steps(experiment: Experiment, envs: Sequence[str]) -> dict[str, float]:
    """
    Numbers of steps after which the runs of a task can be compared.

    :param experiment: Experiment
    :param envs: Tasks
    :return: What all runs of a task have at least, by task; not of tasks on which a run was not evaluated until then
    """
    ends = {env: common_end([run for run in experiment.results if run["env"] == env], "timesteps") for env in envs}
    return {env: end for env, end in ends.items() if end is not None}


def one_clock(results: Sequence[Result]) -> list[Result]:
    """
    Choose results whose times can be compared.

    :param results: Results of one task
    :return: Those of the clock that most of the algorithms have, none if there is one algorithm
    """
    names: dict[str, set[str]] = {}
    for result in results:
        names.setdefault(result["clock"], set()).add(result["name"])
    clock = max(names, key=lambda key: len(names[key]), default="")
    return [result for result in results if result["clock"] == clock and len(names[clock]) > 1]


def middle(scores: np.ndarray) -> np.ndarray:
    """
    Mean of scores, from four seeds on their interquartile mean: with fewer it would leave out tasks in place of seeds.

    :param scores: Scores, shape: (n_seeds, n_envs, ...)
    :return: Mean over seeds and tasks, shape: (1,), or that of the other dimensions
    """
    proportion = 0.25 if len(scores) >= INTERQUARTILE_SEEDS else 0.0
    flat = scores.reshape(scores.shape[0] * scores.shape[1], -1)
    return scipy.stats.trim_mean(flat, proportiontocut=proportion, axis=0)


def estimate(scores: Any, function: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """
    Estimate with the 95 % interval of rliable's stratified bootstrap.

    :param scores: Scores, shape: (n_seeds, n_envs, ...), or a list of two of them
    :param function: Estimator
    :return: Estimate and interval, shapes: (n,), (2, n)
    """
    # rliable draws from NumPy's global generator
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        points, intervals = library.get_interval_estimates({"": scores}, function, reps=REPS)
    return np.atleast_1d(points[""]), intervals[""]


def improvement(
    experiment: Experiment, x: str, y: str, envs: Sequence[str], score: Callable[[Result], float]
) -> tuple[np.ndarray, np.ndarray]:
    """
    Probability that an algorithm improves on another one.

    :param experiment: Experiment
    :param x: The one
    :param y: The other
    :param envs: Tasks on which both were run
    :param score: Score of a result
    :return: Probability and interval
    """
    return estimate([experiment.scores(name, envs, score) for name in (x, y)], metrics.probability_of_improvement)
