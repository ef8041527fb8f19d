import itertools
import json
from pathlib import Path

import pytest

pytest.importorskip("rliable")

from benchmarks import figures, report, scores
from benchmarks.collect import write_result
from benchmarks.recorder import COLUMNS

ENVS = ("Hopper-v4", "HalfCheetah-v4")
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


def test_page(folder, monkeypatch):
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
        "9 min\\*",
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
        "3 min\\*",
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
    # A cell has no return at equal time if one of its runs was on another processor
    table = report.returns_table(experiment)
    cells = {tuple(line.split(" | ")[:2]): line.split(" | ")[-2] for line in table.splitlines() if "Hopper" in line}
    assert cells == {("| Hopper-v4", "dspg"): "0 [0, 0]", ("| Hopper-v4", "sac"): ""}
    # The other runs are still compared with each other
    comparable = scores.one_clock(of_env["Hopper-v4"])
    assert len(comparable) == 6 and scores.common_end(comparable, "time") == 180
    assert scores.one_clock(experiment.runs("sac", "Hopper-v4")) == []
    # Each task on a processor of its own: neither has the time of the other
    for file in (folder / "results" / "small").glob("*Hopper*"):
        write_result(file, {**json.loads(file.read_text()), "processor": "Q"})
    text = report.improvement_table(scores.read_results(folder / "results")["small"])
    assert "| Hopper-v4 | 3, 4 | 1.00 | 0.12 |" in text and "| all: HalfCheetah-v4, Hopper-v4 | 3, 3 | 1.00 |  |" in text


@pytest.mark.parametrize(("n_seeds", "text"), [(4, "1.00"), (5, "1.00 [1.00, 1.00]")])
def test_few_seeds_give_a_probability_no_interval(n_seeds, text, monkeypatch):
    monkeypatch.setattr(scores, "REPS", 50)
    runs = [result(*each, 1) for seed in range(n_seeds) for each in (("dspg", "A", seed, [9]), ("sac", "A", seed, [0]))]
    for run in runs:
        run["evaluations"] = {key: values[:1] for key, values in run["evaluations"].items()}
    for run in runs:
        scores.add_times(run, None)
    assert f"| dspg | sac | A | {n_seeds}, {n_seeds} | {text} |" in report.improvement_table(scores.Experiment("a", runs))


def test_runs_of_different_length_are_compared_at_equal_steps(folder):
    """sac ends above dspg, with ten times as many steps; after 300 it is below"""
    for file in (folder / "results" / "small").glob("sac*"):
        run = json.loads(file.read_text())
        run["evaluations"]["timesteps"] = [150, 300, 3000]
        run["evaluations"]["mean_return"] = [0, 900, 5000]
        write_result(file, run)
    experiment = scores.read_results(folder / "results")["small"]
    assert "| dspg | sac | Hopper-v4 | 3, 3 | 1.00 |" in report.improvement_table(experiment)


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
    lines = [f"small,{name},{env},{ms},1.0,R" for name, ms in (("dspg", 50), ("sac", 100)) for env in ENVS]
    (folder / "results" / scores.STEP_TIME).write_text("experiment,name,env,ms,ratio,processor\n" + "\n".join(lines))
    experiment = scores.read_results(folder / "results")["small"]
    # 100 of the 300 steps are random
    assert experiment.runs("dspg", "Hopper-v4")[0]["evaluations"]["time"] == [0, 5, 10]
    assert experiment.runs("sac", "Hopper-v4")[0]["evaluations"]["time"] == [0, 10, 20]
    assert scores.common_end(experiment.results, "time") == 10
    assert "min\\*" not in report.returns_table(experiment)
    # A time that was measured in another experiment is not that of this one
    (folder / "results" / scores.STEP_TIME).write_text(
        "experiment,name,env,ms,ratio,processor\n" + "\n".join(lines).replace("small", "large")
    )
    other = scores.read_results(folder / "results")["small"]
    assert other.runs("dspg", "Hopper-v4")[0]["evaluations"]["time"] == [180, 360, 540]
    assert [scores.after(10)(run) for run in experiment.runs("sac", "Hopper-v4")] == [900, 900, 900]


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
