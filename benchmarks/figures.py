"""Figures of the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from rliable import library, plot_utils

from benchmarks.scores import (
    REPS,
    Experiment,
    Result,
    after,
    common_end,
    estimate,
    measured,
    middle,
    normalized,
    one_clock,
    read_published,
)

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import EngFormatter

SIZE, COLUMNS = 4.2, 3
SMALL = {"labelsize": "medium", "ticklabelsize": "medium"}


def _curve(runs: Sequence[Result], column: str, unit: float, axis: Any, colors: dict[str, Any]) -> None:
    start = max(run["evaluations"][column][0] for run in runs)
    stop = min(run["evaluations"][column][-1] for run in runs)
    grid = np.linspace(start, stop, len(runs[0]["evaluations"][column]))
    rows = [np.interp(grid, run["evaluations"][column], run["evaluations"]["mean_return"]) for run in runs]
    points, intervals = estimate(np.array(rows)[:, None, :], middle)
    label, name = "steps", runs[0]["name"]
    if column == "time":
        # As in the tables
        label = "minutes of one core" if measured(runs[0]) else "minutes of one core*"
    plot_utils.plot_sample_efficiency_curve(
        grid / unit, {name: points}, {name: intervals}, colors=colors, ax=axis, xlabel=label, ylabel="return", **SMALL
    )


def curves(experiment: Experiment, column: str, file: Path) -> bool:
    """
    Draw returns against steps or time, with published returns where they are in the range.

    :param experiment: Experiment
    :param column: ``"timesteps"`` or ``"time"`` (drawn in minutes)
    :param file: Image
    :return: Whether there was something to draw: times are not known of all results
    """
    colors = dict(zip(experiment.names, sns.color_palette("colorblind", len(experiment.names)), strict=True))
    envs, unit = experiment.envs, 1.0
    if column == "time":
        comparable = {env: one_clock([run for run in experiment.results if run["env"] == env]) for env in envs}
        envs, unit = [env for env in envs if common_end(comparable[env], "time")], 60.0
    if not envs:
        return False
    rows, columns = -(-len(envs) // COLUMNS), min(COLUMNS, len(envs))
    figure, axes = plt.subplots(rows, columns, figsize=(SIZE * columns, 0.85 * SIZE * rows + 0.5), squeeze=False)
    for axis in axes.flat[len(envs) :]:
        axis.remove()
    for env, axis in zip(envs, axes.flat, strict=False):
        for name in experiment.names:
            runs = experiment.runs(name, env)
            if runs and (unit == 1.0 or all(run in comparable[env] for run in runs)):
                _curve(runs, column, unit, axis, colors)
        axis.set_title(env)
        if column == "timesteps":
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 300k
            _published(experiment, env, axis, colors)
    handles = [plt.Line2D([], [], color=color, label=name) for name, color in colors.items()]
    figure.legend(handles=handles, loc="upper center", ncols=len(handles), bbox_to_anchor=(0.5, 0.03), frameon=False)
    _save(figure, file)
    return True


def _published(experiment: Experiment, env: str, axis: Any, colors: dict[str, Any]) -> None:
    most = max(run["steps"] for run in experiment.results if run["env"] == env)
    for entry in read_published()["published"]:
        if env in entry["returns"] and entry["steps"] <= most and entry["algo"] in colors:
            axis.plot(entry["steps"], entry["returns"][env], "*", ms=11, mec="black", color=colors[entry["algo"]])


def profiles(experiment: Experiment, limits: dict[str, float], file: Path) -> bool:
    """
    Draw the share of runs above each normalized score.

    :param experiment: Experiment
    :param limits: Number of steps after which runs are compared, by task
    :param file: Image
    :return: Whether there was something to draw
    """

    def score(run: Result) -> float:
        return normalized(run, after(limits[run["env"]], "timesteps")(run))

    scores = {name: experiment.scores(name, [*limits], score) for name in experiment.names}
    complete = {name: value for name, value in scores.items() if value is not None and len(value) > 1}
    if not complete:
        return False
    thresholds = np.linspace(0, max(1.0, *(value.max() for value in complete.values())), 81)
    np.random.seed(0)
    shares, intervals = library.create_performance_profile(complete, thresholds, reps=REPS)
    figure, axis = plt.subplots(figsize=(6, 3.6))
    plot_utils.plot_performance_profiles(
        shares,
        thresholds,
        performance_profile_cis=intervals,
        colors=dict(zip(shares, sns.color_palette("colorblind", len(shares)), strict=True)),
        xlabel=r"normalized return at equal steps $\tau$",
        ylabel=r"share of runs above $\tau$",
        ax=axis,
        legend=True,
        legendsize="medium",
        **SMALL,
    )
    _save(figure, file)
    return True


def _save(figure: Any, file: Path) -> None:
    figure.tight_layout()
    # No date, so that the same results make the same file
    figure.savefig(file, dpi=70, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
