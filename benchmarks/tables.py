"""Tables of the report."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.scores import (
    Experiment,
    Result,
    after,
    average,
    best,
    common_end,
    estimate,
    final,
    improvement,
    measured,
    middle,
    normalized,
    one_clock,
    read_published,
)


def row(*cells: object) -> str:
    """
    Row of a table.

    :param cells: What it has
    :return: Markdown
    """
    return "| " + " | ".join(map(str, cells)) + " |"


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """
    Table.

    :param header: Names of the columns
    :param rows: Cells of the rows
    :return: Markdown, empty without rows
    """
    lines = [row(*cells) for cells in rows]
    return "\n".join([row(*header), "|" + len(header) * "---|", *lines]) if lines else ""


def number(points: np.ndarray, intervals: np.ndarray, n_seeds: int, digits: int = 0) -> str:
    """
    Estimate as text.

    :param points: Estimate, shape: (1,)
    :param intervals: Interval, shape: (2, 1)
    :param n_seeds: Number of seeds: one has no interval
    :param digits: Digits after the point
    :return: Text
    """
    low, high = intervals.ravel()
    text = f"{points[0]:.{digits}f}"
    return f"{text} [{low:.{digits}f}, {high:.{digits}f}]" if n_seeds > 1 else text


def digits_of(experiment: Experiment, env: str) -> int:
    """
    Digits that a return needs.

    :param experiment: Experiment
    :param env: Task
    :return: Digits after the point
    """
    return 0 if max(abs(final(run)) for run in experiment.results if run["env"] == env) > 500 else 1


def returns_table(experiment: Experiment) -> str:
    """
    Table of returns on each task.

    :param experiment: Experiment
    :return: Markdown
    """
    header = [
        "task",
        "algorithm",
        "seeds",
        "steps",
        "final",
        "max of mean",
        "mean of max",
        "average",
        "at equal time",
        "time",
    ]
    rows = []
    for env in experiment.envs:
        comparable = one_clock([run for run in experiment.results if run["env"] == env and measured(run)])
        limit = common_end(comparable, "time")
        for name in experiment.names:
            if runs := experiment.runs(name, env):
                rows.append(_returns(experiment, env, name, runs, limit if all(run in comparable for run in runs) else None))
    return table(header, rows)


def _returns(experiment: Experiment, env: str, name: str, runs: Sequence[Result], limit: float | None) -> list[object]:
    digits, n_seeds = digits_of(experiment, env), len(runs)

    def interval(score: Callable[[Result], float]) -> str:
        scores = experiment.scores(name, [env], score)
        return number(*estimate(scores, middle), n_seeds, digits)

    n_common = min(len(run["evaluations"]["mean_return"]) for run in runs)
    of_mean = np.max(np.mean([run["evaluations"]["mean_return"][:n_common] for run in runs], axis=0))
    of_max = np.mean([best(run) for run in runs])
    times = [run["evaluations"]["time"][-1] for run in runs]
    star = "" if measured(runs[0]) else "\\*"
    minutes = "not recorded" if None in times else f"{np.mean(times) / 60:.0f} min{star}"
    at_time = interval(after(limit)) if limit else ""
    largest = [f"{of_mean:.{digits}f}", f"{of_max:.{digits}f}"]
    return [env, name, n_seeds, f"{runs[0]['steps']:,}", interval(final), *largest, interval(average), at_time, minutes]


def improvement_table(experiment: Experiment) -> str:
    """
    Table of the probabilities that an algorithm of this package improves on another.

    :param experiment: Experiment
    :return: Markdown
    """
    rows = []
    for x, y in experiment.pairs():
        envs = [env for env in experiment.envs if experiment.runs(x, env) and experiment.runs(y, env)]
        common = [env for env in experiment.common_envs if env in envs]
        chosen = {env: [env] for env in envs}
        if len(common) > 1:
            chosen[f"all: {', '.join(common)}"] = common
        rows += [[x, y, label, *_improvements(experiment, x, y, tasks)] for label, tasks in chosen.items()]
    return table(["algorithm", "over", "task", "seeds", "at equal steps", "at equal time"], rows)


def _improvements(experiment: Experiment, x: str, y: str, envs: Sequence[str]) -> list[object]:
    counts = [min(len(experiment.runs(name, env)) for env in envs) for name in (x, y)]
    runs = {env: [*experiment.runs(x, env), *experiment.runs(y, env)] for env in envs}
    # Two or three seeds say nothing about the spread of a probability
    n_seeds = min(counts) if min(counts) >= 5 else 1
    cells = []
    for column in ("timesteps", "time"):
        limits = {env: common_end(each, column) for env, each in runs.items()}
        if None in limits.values() or (column == "time" and not _one_measured_clock(runs)):
            cells.append("")
            continue
        score = _until({env: limit or 0.0 for env, limit in limits.items()}, column)
        cells.append(number(*improvement(experiment, x, y, envs, score), n_seeds, 2))
    return [f"{counts[0]}, {counts[1]}", *cells]


def _one_measured_clock(runs: dict[str, list[Result]]) -> bool:
    every = [run for of_env in runs.values() for run in of_env]
    return all(map(measured, every)) and len({run["clock"] for run in every}) == 1


def _until(limits: dict[str, float], column: str) -> Callable[[Result], float]:
    return lambda run: after(limits[run["env"]], column)(run)


def aggregate_table(experiment: Experiment, limits: dict[str, float]) -> str:
    """
    Table of means over tasks.

    :param experiment: Experiment
    :param limits: Number of steps after which runs are compared, by task
    :return: Markdown
    """
    rows = []
    for name in experiment.names:
        last = experiment.scores(name, [*limits], lambda run: normalized(run, after(limits[run["env"]], "timesteps")(run)))
        mean = experiment.scores(name, [*limits], lambda run: normalized(run, average(run, limits[run["env"]])))
        if last is not None and mean is not None:
            cells = [number(*estimate(scores, middle), len(scores), 3) for scores in (last, mean)]
            rows.append([name, len(last), *cells])
    return table(["algorithm", "seeds", "at equal steps", "average until then"], rows)


def published_table(envs: Sequence[str]) -> str:
    """
    Table of published returns.

    :param envs: Tasks
    :return: Markdown
    """
    header = ["algorithm", "steps", "task version", "seeds", "statistic", *envs, "source"]
    rows: list[list[Any]] = []
    for entry in read_published()["published"]:
        if set(envs) & set(entry["returns"]):
            returns = [entry["returns"].get(env, "") for env in envs]
            labels = [entry["algo"], f"{entry['steps']:,}", entry["task"], entry["seeds"] or "", entry["statistic"]]
            rows.append([*labels, *returns, entry["source"]])
    return table(header, rows)
