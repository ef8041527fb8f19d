"""Scores of the results, and rliable's estimates of them."""

import csv
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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

        :return: Each algorithm of this package with each other one; the first with all others where there are no others
        """
        peers = [result["name"] for result in self.results if result["algo"] not in OURS]
        ours = [name for name in self.names if name not in peers]
        if not peers or not ours:
            return [(self.names[0], name) for name in self.names[1:]] if ours else []
        return [(x, y) for x in ours for y in dict.fromkeys(peers)]

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
    step_times: dict[tuple[str, ...], dict[str, str]] = {}
    if (file := Path(folder) / STEP_TIME).is_file():
        with file.open(newline="") as lines:
            step_times = {(row["experiment"], row["name"], row["env"]): row for row in csv.DictReader(lines)}
    for result in results:
        add_times(result, step_times.get((result["experiment"], result["name"], result["env"])))
    planned = [run.experiment for run in read_matrix()]
    names = dict.fromkeys([*planned, *sorted(result["experiment"] for result in results)])
    return {name: Experiment(name, [result for result in results if result["experiment"] == name]) for name in names}


def add_times(result: Result, step_time: dict[str, str] | None) -> None:
    """
    Add the time of each evaluation, and what it was measured with: ``clock``.

    :param result: Result
    :param step_time: Measured time of a step after the random ones, if there is one: it is not longer on a busy machine
    """
    evaluations, hyperparameters = result["evaluations"], result["hyperparameters"]
    evaluations["time"], result["clock"] = evaluations["processor_time"], result["processor"]
    if step_time and hyperparameters is not None:
        n_updates = np.maximum(np.array(evaluations["timesteps"]) - hyperparameters.get("learning_starts", 100), 0)
        evaluations["time"] = (n_updates * float(step_time["ms"]) / 1000).tolist()
        result["clock"] = f"{MEASURED}, {step_time['processor']}"


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


def average(result: Result) -> float:
    """
    Return during training.

    :param result: Result
    :return: Mean over all evaluations
    """
    return float(np.mean(result["evaluations"]["mean_return"]))


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


def iqm(scores: np.ndarray) -> np.ndarray:
    """
    Interquartile mean.

    :param scores: Scores, shape: (n_seeds, n_envs)
    :return: Interquartile mean, shape: (1,)
    """
    return np.array([metrics.aggregate_iqm(scores)])


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


def improvement(experiment: Experiment, x: str, y: str, envs: Sequence[str], score: Callable[[Result], float]) -> Any:
    """
    Probability that an algorithm improves on another one.

    :param experiment: Experiment
    :param x: The one
    :param y: The other
    :param envs: Tasks
    :param score: Score of a result
    :return: Probability and interval, ``None`` if one of them was not run on all tasks
    """
    scores = [experiment.scores(name, envs, score) for name in (x, y)]
    if not envs or scores[0] is None or scores[1] is None:
        return None
    return estimate(scores, metrics.probability_of_improvement)
