"""
Makes the page and the figures of all results.

    python -m benchmarks.report

writes ``benchmarks/report/README.md`` and its figures. Files given as ``--into`` get the tables too, between the lines
``<!-- table NAME -->`` and ``<!-- end of table -->``, where NAME is an experiment and a table of it: ``mujoco-300k returns``.
"""

import argparse
import re
from pathlib import Path

from benchmarks import figures
from benchmarks.scores import Experiment, equal_steps, read_published, read_results
from benchmarks.tables import aggregate_table, improvement_table, published_table, returns_table

FOLDER = Path(__file__).parent
INTRODUCTION = """# Benchmark report

Made by `python -m benchmarks.report` from the files in `benchmarks/results`; no number is typed. Each file has the command,
the commit, the versions and the processor of its run.

- Brackets: 95 % interval of rliable's stratified bootstrap over seeds. One seed has none. Two or three of one task give
  exactly their range, which is not a 95 % interval.
- Means over seeds, or over seeds and tasks, are interquartile means (IQM) where there are at least four seeds, and plain means
  where there are fewer.
- final: mean over seeds of the last evaluation. Max of mean: largest mean over seeds of any evaluation. Mean of max: mean over
  seeds of each one's largest. Average: mean of all evaluations. **Compare like with like.**
- Probability of improvement: how often a run of one algorithm ends above a run of another, averaged over tasks; 0.5 is a tie.
  With fewer than five seeds of each it has no interval.
- Equal steps and equal time: the last evaluation until the shortest of the runs has ended. Equal time is only where the steps
  of all were measured, on one processor.
- Time: that of a training step, measured for all algorithms in turn (`results/step_time.csv`), times the number of steps
  after the random ones, so without evaluations and compilation. A star, where steps were not measured: the processor time of
  the runs, with evaluations and compilation, which other work beside them makes longer.
- Curves: means over seeds as above, bootstrap intervals; stars: published returns at that step, from other code (last
  section)."""
AGGREGATE = (
    "Mean over {envs} (interquartile mean from four seeds on), each after the number of steps that all of its runs have: 0 is "
    "a random policy, 1 published TD3 after 1M steps."
)


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
    commits = sorted({commit for run in results for commit in run["commit"].split(", ")})
    versions = sorted({f"{name} {version}" for run in results for name, version in run["versions"].items()})
    text = f"{len(results)} runs. Processor: {'; '.join(processors)}. Commit: {', '.join(commits)}. {', '.join(versions)}."
    continued = sum(run["starts"] > 1 for run in results)
    return f"{text} {continued} of the runs went on from a checkpoint." if continued else text


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
    normalized = [env for env in experiment.common_envs if env in read_published()["normalization"]]
    limits = equal_steps(experiment, normalized)
    if len(limits) > 1:
        tables["aggregate"] = aggregate_table(experiment, limits)
        parts += [AGGREGATE.format(envs=", ".join(limits)), tables["aggregate"]] if tables["aggregate"] else []
        if figures.profiles(experiment, limits, folder / f"{name}_profiles.png"):
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
