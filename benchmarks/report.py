"""
Makes the page and the figures of all results.

    python -m benchmarks.report

writes ``benchmarks/report/README.md`` and its figures. Files given as ``--into`` get the tables too, between the lines
``<!-- table NAME -->`` and ``<!-- end of table -->``, where NAME is an experiment and a table of it: ``mujoco-300k returns``.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import figures
from benchmarks.scores import (
    MEASURED,
    Experiment,
    Result,
    after,
    average,
    best,
    common_end,
    estimate,
    final,
    improvement,
    iqm,
    normalized,
    one_clock,
    read_published,
    read_results,
)

FOLDER = Path(__file__).parent
INTRODUCTION = """# Benchmark report

Made by `python -m benchmarks.report` from the files in `benchmarks/results`; no number is typed. Each file has the command,
the commit, the versions and the processor of its run.

- Brackets: 95 % interval of rliable's stratified bootstrap over seeds. One seed has none. With two or three it is little more
  than their range.
- final: interquartile mean (IQM) over seeds of the last evaluation. Max of mean: largest mean over seeds of any evaluation.
  Mean of max: mean over seeds of each one's largest. Average: mean of all evaluations. **Compare like with like.**
- Probability of improvement: how often a run of one algorithm ends above a run of another, averaged over tasks; 0.5 is a tie.
  With fewer than five seeds of each it has no interval.
- Equal steps and equal time: the last evaluation until the shortest of the runs has ended. Times are those of one processor.
- Time: that of a training step, measured for all algorithms in turn (`results/step_time.csv`), times the number of steps
  after the random ones, so without evaluations and compilation. A star: the processor time of the runs, beside others, where
  steps were not measured.
- Curves: IQM over seeds, bootstrap intervals; stars: published returns at that step, from other code (last section)."""


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
        comparable = one_clock([run for run in experiment.results if run["env"] == env])
        limit = common_end(comparable, "time")
        for name in experiment.names:
            if runs := experiment.runs(name, env):
                rows.append(_returns(experiment, env, name, runs, limit if all(run in comparable for run in runs) else None))
    return table(header, rows)


def _returns(experiment: Experiment, env: str, name: str, runs: Sequence[Result], limit: float | None) -> list[object]:
    digits, n_seeds = digits_of(experiment, env), len(runs)

    def interval(score: Callable[[Result], float]) -> str:
        scores = experiment.scores(name, [env], score)
        return number(*estimate(scores, iqm), n_seeds, digits)

    n_common = min(len(run["evaluations"]["mean_return"]) for run in runs)
    of_mean = np.max(np.mean([run["evaluations"]["mean_return"][:n_common] for run in runs], axis=0))
    of_max = np.mean([best(run) for run in runs])
    times = [run["evaluations"]["time"][-1] for run in runs]
    star = "" if runs[0]["clock"].startswith(MEASURED) else "\\*"
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
        clocks = {run["clock"] for each in runs.values() for run in each} if column == "time" else set()
        if None in limits.values() or len(clocks) > 1:
            cells.append("")
            continue
        score = _until({env: limit or 0.0 for env, limit in limits.items()}, column)
        cells.append(number(*improvement(experiment, x, y, envs, score), n_seeds, 2))
    return [f"{counts[0]}, {counts[1]}", *cells]


def _until(limits: dict[str, float], column: str) -> Callable[[Result], float]:
    return lambda run: after(limits[run["env"]], column)(run)


def aggregate_table(experiment: Experiment, envs: Sequence[str]) -> str:
    """
    Table of the interquartile mean over tasks.

    :param experiment: Experiment
    :param envs: Tasks
    :return: Markdown
    """
    rows = []
    for name in experiment.names:
        final_scores = experiment.scores(name, envs, lambda run: normalized(run, final(run)))
        average_scores = experiment.scores(name, envs, lambda run: normalized(run, average(run)))
        if final_scores is not None and average_scores is not None:
            cells = [number(*estimate(scores, iqm), len(scores), 3) for scores in (final_scores, average_scores)]
            rows.append([name, len(final_scores), *cells])
    return table(["algorithm", "seeds", "final", "average"], rows)


def missing_text(experiment: Experiment) -> str:
    """
    Name what the matrix has and was not run.

    :param experiment: Experiment
    :return: Markdown
    """
    seeds: dict[tuple[str, str], list[str]] = {}
    for run in experiment.missing:
        seeds.setdefault((run.name, run.env), []).append(str(run.seed))
    items = [f"{name} on {env} (seed {', '.join(numbers)})" for (name, env), numbers in seeds.items()]
    return f"**Not run** ({len(experiment.missing)} runs): {'; '.join(items)}." if items else ""


def provenance_text(experiment: Experiment) -> str:
    """
    Name processors, versions and commits.

    :param experiment: Experiment
    :return: Markdown
    """
    results = experiment.results
    processors = sorted({run["processor"] for run in results})
    commits = sorted({run["commit"] for run in results})
    versions = sorted({f"{name} {version}" for run in results for name, version in run["versions"].items()})
    text = f"{len(results)} runs. Processor: {', '.join(processors)}. Commit: {', '.join(commits)}. {', '.join(versions)}."
    continued = sum(run["starts"] > 1 for run in results)
    return f"{text} {continued} of the runs went on after a kill." if continued else text


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


def section(experiment: Experiment, folder: Path) -> tuple[str, dict[str, str]]:
    """
    Section of an experiment, and its figures.

    :param experiment: Experiment
    :param folder: Folder of the figures
    :return: Markdown, and its tables by name
    """
    name = experiment.name
    if not experiment.results:
        return f"## {name}\n\n{missing_text(experiment)}", {}
    tables = {"returns": returns_table(experiment), "improvement": improvement_table(experiment)}
    parts = [f"## {name}", provenance_text(experiment), missing_text(experiment), tables["returns"]]
    for column in ("timesteps", "time"):
        if figures.curves(experiment, column, folder / f"{name}_{column}.png"):
            parts.append(f"![Returns against {column.replace('_', ' ')}]({name}_{column}.png)")
    parts.append(tables["improvement"])
    envs = [env for env in experiment.common_envs if env in read_published()["normalization"]]
    if len(envs) > 1:
        tables["aggregate"] = aggregate_table(experiment, envs)
        title = f"Interquartile mean over {', '.join(envs)}: 0 is a random policy, 1 published TD3 after 1M steps."
        parts += [title, tables["aggregate"]] if tables["aggregate"] else []
        if figures.profiles(experiment, envs, folder / f"{name}_profiles.png"):
            parts.append(f"![Performance profiles]({name}_profiles.png)")
    return "\n\n".join(filter(None, parts)), {f"{name} {key}": text for key, text in tables.items()}


def insert(file: Path, tables: dict[str, str]) -> None:
    """
    Put tables into a page.

    :param file: Page with the lines ``<!-- table NAME -->`` and ``<!-- end of table -->``
    :param tables: Tables by name
    :raises ValueError: If there is no table of a name
    """

    def replace(match: re.Match[str]) -> str:
        if match[1] not in tables:
            raise ValueError(f"{file} asks for the table {match[1]!r}, there are {', '.join(map(repr, tables))}")
        return f"<!-- table {match[1]} -->\n{tables[match[1]]}\n<!-- end of table -->"

    file.write_text(re.sub(r"<!-- table (.+?) -->\n.*?<!-- end of table -->", replace, file.read_text(), flags=re.DOTALL))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=FOLDER / "results")
    parser.add_argument("--output", type=Path, default=FOLDER / "report")
    parser.add_argument("--into", type=Path, nargs="*", default=[], help="pages that get the tables too")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    parts, tables = [INTRODUCTION], {}
    for experiment in read_results(arguments.results).values():
        text, found = section(experiment, arguments.output)
        parts.append(text)
        tables.update(found)
    mujoco = ["Hopper-v4", "HalfCheetah-v4", "Walker2d-v4", "Ant-v4", "Humanoid-v4"]
    classic = ["Pendulum-v1", "MountainCarContinuous-v0", "LunarLanderContinuous-v3"]
    parts += [
        "## Published returns",
        "Of other code, and of other versions of the tasks where it says so.",
        published_table(mujoco),
    ]
    parts.append(published_table(classic))
    (arguments.output / "README.md").write_text("\n\n".join(parts) + "\n")
    for file in arguments.into:
        insert(file, tables)


if __name__ == "__main__":
    main()
