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
        "9 min",
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
        "3 min",
    ] in rows
    over = {row[2]: row[3:] for row in rows if row[:2] == ["dspg", "sac"]}
    assert over["Hopper-v4"] == ["3, 3", "1.00 [1.00, 1.00]", "0.00 [0.00, 0.00]"]
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
    assert scores.equal_time([run for run in experiment.results if run["env"] == "Hopper-v4"]) is None
    assert scores.equal_time([run for run in experiment.results if run["env"] == "HalfCheetah-v4"]) == 180


def test_a_run_without_an_evaluation_until_then_has_no_return_at_equal_time(folder):
    slow = result("dspg", "Hopper-v4", 4, [0, 0, 0], 4)
    write_result(folder / "results" / "small" / "dspg_Hopper-v4_4.json", slow)
    experiment = scores.read_results(folder / "results")["small"]
    assert scores.equal_time(experiment.results) is None  # its first one is after 240 s, and sac ends after 180
    assert scores.equal_time(experiment.runs("sac", "Hopper-v4")) == 180


def test_aggregates_are_over_the_tasks_of_the_first_entry():
    runs = [{**result("dspg", env, 1, [0, 0, 0], 1), "experiment": "mujoco-300k"} for env in ("Hopper-v4", "Humanoid-v4")]
    experiment = scores.Experiment("mujoco-300k", runs)
    assert experiment.envs == ["Hopper-v4", "Humanoid-v4"] and experiment.common_envs == ["Hopper-v4"]


def test_the_measured_time_of_a_step_replaces_the_time_of_the_runs(folder):
    lines = [f"{name},{env},{ms},1.0,R" for name, ms in (("dspg", 50), ("sac", 100)) for env in ENVS]
    (folder / "results" / scores.STEP_TIME).write_text("name,env,ms,ratio,processor\n" + "\n".join(lines))
    experiment = scores.read_results(folder / "results")["small"]
    # 100 of the 300 steps are random
    assert experiment.runs("dspg", "Hopper-v4")[0]["evaluations"]["time"] == [0, 5, 10]
    assert experiment.runs("sac", "Hopper-v4")[0]["evaluations"]["time"] == [0, 10, 20]
    assert scores.equal_time(experiment.results) == 10
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
