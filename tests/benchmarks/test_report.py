import itertools
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rliable")

from benchmarks import figures, report, scores, tables
from benchmarks.collect import write_result
from benchmarks.recorder import COLUMNS

ENVS = ("Hopper-v4", "HalfCheetah-v4")
# The median time is of other rounds than the median ratio
STEPS = (("sac", 600, 1.0), ("dspg", 1700, 3.0))
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def result(name, env, seed, returns, minutes, processor="P"):
    evaluations = {
        "timesteps": [100, 200, 300],
        "mean_return": returns,
        "std_return": [0, 0, 0],
        "episodes": [1, 1, 1],
        "wall_clock": [60 * minutes * part for part in (1, 2, 3)],
        "processor_time": [60 * minutes * part for part in (1, 2, 3)],
    }
    labels = {"experiment": "small", "name": name, "algo": name, "env": env, "seed": seed, "steps": 300}
    source = {"command": "", "starts": 1, "hyperparameters": {}, "commit": "c", "processor": processor, "versions": {}}
    times = {"wall_clock": 180 * minutes, "processor_time": 180 * minutes}
    return {**labels, **source, **times, "evaluations": evaluations}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """dspg returns more in the end, and is slower: at the time at which sac ends it returns less"""
    monkeypatch.setattr(scores, "REPS", 50)
    monkeypatch.setattr(figures, "REPS", 50)
    for env, seed in itertools.product(ENVS, (1, 2, 3)):
        runs = [result("dspg", env, seed, [0, 5, 1000 + seed], 3), result("sac", env, seed, [100, 900, 700 + seed], 1)]
        for run in runs:
            write_result(tmp_path / "results" / "small" / f"{run['name']}_{env}_{seed}.json", run)
    return tmp_path


def measure_steps(folder, other_processor=""):
    """A step of sac takes 600 ms, one of dspg three times as long; 100 of the 300 steps are random"""
    lines = ["experiment,name,env,ms,ratio,processor"]
    for env, (name, ms, ratio) in itertools.product(ENVS, STEPS):
        lines.append(f"small,{name},{env},{ms},{ratio},{'Q' if other_processor in (name, env) else 'P'}")
    (folder / "results" / scores.STEP_TIME).write_text("\n".join(lines))
    return scores.read_results(folder / "results")["small"]


@pytest.fixture
def axes(monkeypatch):
    """Of the figures that are drawn, in place of files"""
    drawn = []
    monkeypatch.setattr(figures, "_save", lambda figure, _: drawn.extend(figure.axes))
    return drawn


def at_equal_time(experiment):
    """The column of the table of returns, dspg and sac on each task"""
    return [line.split(" | ")[-2] for line in tables.returns_table(experiment).splitlines()[2:]]


def test_page(folder, monkeypatch):
    measure_steps(folder)
    page = folder / "page.md"
    page.write_text("before\n<!-- table small returns -->\nold\n<!-- end of table -->\nafter\n")
    arguments = ["report", "--results", str(folder / "results"), "--output", str(folder / "report"), "--into", str(page)]
    monkeypatch.setattr("sys.argv", arguments)
    report.main()
    text = (folder / "report" / "README.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    # Task, algorithm, seeds, steps, final, max of mean, mean of max, average, at equal time, time
    assert [
        "Hopper-v4",
        "dspg",
        "3",
        "300",
        "1002 [1001, 1003]",
        "1002",
        "1002",
        "336 [335, 336]",
        "0 [0, 0]",
        "6 min",
    ] in rows
    assert [
        "Hopper-v4",
        "sac",
        "3",
        "300",
        "702 [701, 703]",
        "900",
        "900",
        "567 [567, 568]",
        "702 [701, 703]",
        "2 min",
    ] in rows
    over = {row[2]: row[3:] for row in rows if row[:2] == ["dspg", "sac"]}
    assert over["Hopper-v4"] == ["3, 3", "1.00", "0.00"]
    assert over["all: HalfCheetah-v4, Hopper-v4"] == over["Hopper-v4"]
    assert page.read_text().startswith("before\n<!-- table small returns -->\n| task |") and "old" not in page.read_text()
    # The matrix's own experiments have no results in this folder
    assert "## mujoco-300k\n\n**Not run** (" in text and "softqlearning on Hopper-v4 (seed 1, 2, 3)" in text
    for image in ("timesteps", "time", "profiles"):
        assert (folder / "report" / f"small_{image}.png").stat().st_size > 5000


def test_times_of_different_processors_are_not_compared(folder):
    slower = result("sac", "Hopper-v4", 4, [0, 0, 0], 1, processor="Q")
    write_result(folder / "results" / "small" / "sac_Hopper-v4_4.json", slower)
    experiment = scores.read_results(folder / "results")["small"]
    of_env = {env: [run for run in experiment.results if run["env"] == env] for env in ENVS}
    assert scores.common_end(of_env["Hopper-v4"], "time") is None
    assert scores.common_end(of_env["HalfCheetah-v4"], "time") == 180
    # The other runs are still compared with each other
    comparable = scores.one_clock(of_env["Hopper-v4"])
    assert len(comparable) == 6 and scores.common_end(comparable, "time") == 180
    assert scores.one_clock(experiment.runs("sac", "Hopper-v4")) == []
    # Steps that were measured on different processors are not compared
    experiment = measure_steps(folder, "sac")
    assert at_equal_time(experiment) == [""] * 4 and "| Hopper-v4 | 3, 4 | 1.00 |  |" in tables.improvement_table(experiment)
    # Each task on a processor of its own: neither has the time of the other
    table = tables.improvement_table(measure_steps(folder, "Hopper-v4"))
    assert "| Hopper-v4 | 3, 4 | 1.00 | 0.12 |" in table and "| all: HalfCheetah-v4, Hopper-v4 | 3, 3 | 1.00 |  |" in table


def test_equal_time_is_that_of_measured_steps(folder, axes):
    """The time of a run is made longer by other work: by the runs' own times dspg would be compared, too"""
    experiment = scores.read_results(folder / "results")["small"]
    assert "min\\*" in tables.returns_table(experiment) and at_equal_time(experiment) == [""] * 4
    assert "| Hopper-v4 | 3, 3 | 1.00 |  |" in tables.improvement_table(experiment)
    assert figures.curves(experiment, "time", folder / "time.png")
    experiment = measure_steps(folder)
    assert figures.curves(experiment, "time", folder / "time.png")
    assert [axis.get_xlabel() for axis in axes] == 2 * ["minutes of one core*"] + 2 * ["minutes of one core"]
    assert at_equal_time(experiment) == 2 * ["0 [0, 0]", "702 [701, 703]"]
    assert "| Hopper-v4 | 3, 3 | 1.00 | 0.00 |" in tables.improvement_table(experiment)
    # Steps are not known of one run: its cell has no return at equal time, the other one has
    file = folder / "results" / "small" / "sac_HalfCheetah-v4_1.json"
    write_result(file, {**json.loads(file.read_text()), "hyperparameters": None})
    experiment = measure_steps(folder)
    assert at_equal_time(experiment) == ["0 [0, 0]", "", "0 [0, 0]", "702 [701, 703]"]
    table = tables.improvement_table(experiment)
    assert "| HalfCheetah-v4 | 3, 3 | 1.00 |  |" in table and "| Hopper-v4 | 3, 3 | 1.00 | 0.00 |" in table
    assert "| all: HalfCheetah-v4, Hopper-v4 | 3, 3 | 1.00 |  |" in table


@pytest.mark.parametrize(("n_seeds", "text"), [(4, "1.00"), (5, "1.00 [1.00, 1.00]")])
def test_few_seeds_give_a_probability_no_interval(n_seeds, text, monkeypatch):
    monkeypatch.setattr(scores, "REPS", 50)
    runs = [result(*each, 1) for seed in range(n_seeds) for each in (("dspg", "A", seed, [9]), ("sac", "A", seed, [0]))]
    for run in runs:
        run["evaluations"] = {key: values[:1] for key, values in run["evaluations"].items()}
    for run in runs:
        scores.add_times(run, None)
    assert f"| dspg | sac | A | {n_seeds}, {n_seeds} | {text} |" in tables.improvement_table(scores.Experiment("a", runs))


def test_runs_of_different_length_are_compared_at_equal_steps(folder, axes):
    """sac ends above dspg, with ten times as many steps; after 300 it is below"""
    for file in (folder / "results" / "small").glob("sac*"):
        run = json.loads(file.read_text())
        run["evaluations"]["timesteps"] = [150, 300, 3000]
        run["evaluations"]["mean_return"] = [0, 900, 5000]
        write_result(file, run)
    experiment = scores.read_results(folder / "results")["small"]
    assert "| dspg | sac | Hopper-v4 | 3, 3 | 1.00 |" in tables.improvement_table(experiment)
    # So are means over tasks: of the scores after 300 steps, and of the evaluations until then
    limits = scores.equal_steps(experiment, ENVS)
    assert limits == dict.fromkeys(ENVS, 300)
    sac = experiment.runs("sac", "Hopper-v4")[0]
    after, until = ([scores.normalized({"env": env}, value) for env in ENVS] for value in (900, 450))
    cells = tables.aggregate_table(experiment, limits).splitlines()[-1].split(" | ")
    assert cells[0] == "| sac" and scores.average(sac, 300) == 450 and scores.average(sac) > 1000
    assert [cell.split(" ")[0] for cell in cells[2:]] == [f"{sum(values) / 2:.3f}" for values in (after, until)]
    assert figures.profiles(experiment, limits, folder / "profiles.png")
    assert max(max(line.get_xdata()) for line in axes[0].lines) == 1  # no score is larger
    # A task is left out where a run has no evaluation until then
    for run in experiment.runs("sac", "Hopper-v4"):
        run["evaluations"]["timesteps"] = [1500, 3000, 4500]
    assert scores.equal_steps(experiment, ENVS) == {"HalfCheetah-v4": 300}


def test_a_run_without_an_evaluation_until_then_has_no_return_at_equal_time(folder):
    slow = result("dspg", "Hopper-v4", 4, [0, 0, 0], 4)
    write_result(folder / "results" / "small" / "dspg_Hopper-v4_4.json", slow)
    experiment = scores.read_results(folder / "results")["small"]
    assert scores.common_end(experiment.results, "time") is None  # its first one is after 240 s, and sac ends after 180
    assert scores.common_end(experiment.runs("sac", "Hopper-v4"), "time") == 180


def test_aggregates_are_over_the_tasks_of_the_first_entry():
    runs = [{**result("dspg", env, 1, [0, 0, 0], 1), "experiment": "mujoco-300k"} for env in ("Hopper-v4", "Humanoid-v4")]
    experiment = scores.Experiment("mujoco-300k", runs)
    assert experiment.envs == ["Hopper-v4", "Humanoid-v4"] and experiment.common_envs == ["Hopper-v4"]


def test_the_measured_time_of_a_step_replaces_the_time_of_the_runs(folder):
    experiment = measure_steps(folder)
    # By the ratio, not by the median time of dspg itself
    assert experiment.runs("dspg", "Hopper-v4")[0]["evaluations"]["time"] == [0, 180, 360]
    assert experiment.runs("sac", "Hopper-v4")[0]["evaluations"]["time"] == [0, 60, 120]
    assert scores.common_end(experiment.results, "time") == 120
    assert [scores.after(60)(run) for run in experiment.runs("sac", "Hopper-v4")] == [900, 900, 900]
    assert "min\\*" not in tables.returns_table(experiment)
    # A time that was measured in another experiment is not that of this one
    file = folder / "results" / scores.STEP_TIME
    file.write_text(file.read_text().replace("small", "large"))
    other = scores.read_results(folder / "results")["small"]
    assert other.runs("dspg", "Hopper-v4")[0]["evaluations"]["time"] == [180, 360, 540]


def test_the_reference_is_the_first_of_equally_fast_ones(tmp_path):
    rows = ["e,sac,A,10.0,1.0,P", "e,dspg,A,11.0,1.0,P", "e,ddpg,A,9.0,0.8,P"]
    (tmp_path / "times.csv").write_text("\n".join(["experiment,name,env,ms,ratio,processor", *rows]))
    times = scores.read_step_times(tmp_path / "times.csv")
    assert times == {("e", "sac", "A"): (10, "P"), ("e", "dspg", "A"): (10, "P"), ("e", "ddpg", "A"): (8, "P")}


@pytest.mark.parametrize("n_seeds", [1, 3, 4, 8])
def test_few_seeds_have_the_mean(n_seeds):
    """One bad task of four stays in it. With more seeds a quarter of the scores is left out at each end"""
    values = np.tile([0.0, 1.0, 1.0, 1.0], (n_seeds, 1))
    assert scores.middle(values) == [0.75 if n_seeds < 4 else 1.0]
    curve = np.stack([values, 2 * values], axis=-1)
    assert scores.middle(curve).tolist() == [scores.middle(values)[0], 2 * scores.middle(values)[0]]


def test_variants_are_not_compared_with_whichever_is_first():
    variants = [{**result(name, "Hopper-v4", 1, [0, 0, 0], 1), "algo": "dspg"} for name in ("one", "two")]
    assert scores.Experiment("small", variants).pairs() == []
    sac = result("sac", "Hopper-v4", 1, [0, 0, 0], 1)
    assert scores.Experiment("small", [sac, *variants]).pairs() == [("one", "sac"), ("two", "sac")]
    assert scores.Experiment("small", [sac]).pairs() == []


def test_each_commit_is_named_once():
    """A run that went on has several, and so has the same run of another seed"""
    runs = [result("sac", "Hopper-v4", seed, [0, 0, 0], 1, f"EPYC, AVX{seed}") for seed in (2, 512)]
    for run, commit in zip(runs, ("b, a", "b, c"), strict=True):
        run.update(commit=commit, starts=2)
    text = report.provenance_text(scores.Experiment("small", runs))
    assert text.startswith("2 runs. Processor: EPYC, AVX2; EPYC, AVX512. Commit: a, b, c.")
    assert text.endswith(" 2 of the runs went on from a checkpoint.")


def test_an_unknown_table_is_named(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- table none -->\n<!-- end of table -->")
    with pytest.raises(ValueError, match="asks for the table 'none', there are 'small returns'"):
        report.insert(page, {"small returns": ""})


def test_runs_of_the_matrix_without_result_are_named():
    sac = result("sac", "Hopper-v4", 1, [0, 0, 0], 1)
    experiment = scores.Experiment("mujoco-300k", [{**sac, "experiment": "mujoco-300k"}])
    text = report.missing_text(experiment)
    assert "dspg on Ant-v4 (seed 1, 2, 3, 4, 5)" in text and "sac on Hopper-v4 (seed 2, 3, 4, 5)" in text


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*/*.json")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_results_have_one_schema(file):
    found = json.loads(file.read_text())
    assert set(found) == set(result("", "", 1, [], 1))
    assert list(found["evaluations"]) == list(COLUMNS)
    assert {len(column) for column in found["evaluations"].values()} == {len(found["evaluations"]["timesteps"])}
    assert file.stem == f"{found['name']}_{found['env']}_{found['seed']}" and file.parent.name == found["experiment"]
    assert (
        found["commit"] and found["processor"] and found["versions"]["torch"] and found["command"].startswith("python -m rl")
    )
