import csv
import json
from types import SimpleNamespace

import pytest
import yaml

from benchmarks.collect import STARTS, result_of
from benchmarks.recorder import COLUMNS, EVALUATIONS, Recorder


def read(file):
    with file.open(newline="") as rows:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(rows)]


def recorder_after(file, steps):
    evaluation = SimpleNamespace(evaluations_timesteps=[], evaluations_results=[], best_mean_reward=float("-inf"))
    recorder = Recorder(evaluation, file)
    recorder.model = SimpleNamespace(num_timesteps=steps)
    recorder._on_training_start()
    return recorder


def evaluate(recorder, steps, returns):
    recorder.num_timesteps = steps
    recorder.evaluation.evaluations_timesteps.append(steps)
    recorder.evaluation.evaluations_results.append(returns)
    recorder._on_step()
    # No evaluation at this step
    recorder.num_timesteps += 1
    recorder._on_step()


def test_evaluations_after_the_checkpoint_are_those_of_the_continued_run(tmp_path):
    file = tmp_path / EVALUATIONS
    first = recorder_after(file, 0)
    for steps, returns in ((100, [1.0, 3.0]), (200, [9.0, 9.0]), (300, [50.0, 50.0])):
        evaluate(first, steps, returns)
    second = recorder_after(file, 200)
    assert second.evaluation.best_mean_reward == 9
    evaluate(second, 300, [4.0, 6.0])
    rows = read(file)
    assert [(row["timesteps"], row["mean_return"], row["std_return"], row["episodes"]) for row in rows] == [
        (100, 2, 1, 2),
        (200, 9, 0, 2),
        (300, 5, 1, 2),
    ]
    assert list(rows[0]) == list(COLUMNS)


def test_times_go_on_from_the_checkpoint(tmp_path):
    file = tmp_path / EVALUATIONS
    evaluate(recorder_after(file, 0), 100, [0.0])
    text = file.read_text().splitlines()
    file.write_text(f"{text[0]}\n100,0.0,0.0,1,1000.0,900.0\n200,0.0,0.0,1,5000.0,4000.0\n")
    evaluate(recorder_after(file, 100), 200, [0.0])
    last = read(file)[-1]
    assert 1000 <= last["wall_clock"] < 4000 and 900 <= last["processor_time"] < 3000


def started(folder, number=1, steps=200, config=""):
    """What RL Zoo writes when a run starts"""
    parameters = folder / "sac" / f"Pendulum-v1_{number}" / "Pendulum-v1"
    parameters.mkdir(parents=True)
    arguments = {"algo": "sac", "env": "Pendulum-v1", "seed": 1, "n_timesteps": steps, "eval_freq": 100}
    (parameters / "args.yml").write_text(yaml.safe_dump(arguments))
    (parameters / "config.yml").write_text(config)
    (parameters / "command.txt").write_text("python -m rl_zoo3.train")
    return parameters


def test_an_unfinished_run_has_no_result(tmp_path):
    started(tmp_path, config="learning_rate: 0.001\n")
    evaluate(recorder_after(tmp_path / EVALUATIONS, 0), 100, [1.0])
    with pytest.raises(ValueError, match="is not finished: 1 of 2 evaluations"):
        result_of(tmp_path)
    evaluate(recorder_after(tmp_path / EVALUATIONS, 100), 200, [2.0])
    result = result_of(tmp_path)
    assert result["evaluations"]["mean_return"] == [1, 2] and result["starts"] == 1
    assert result["hyperparameters"] == {"learning_rate": 0.001} and result["processor"]
    assert result["versions"]["stable_baselines3"]
    # Runs from before the starts were written have no others
    assert result["command"] == "python -m rl_zoo3.train" and result["commit"]


@pytest.mark.parametrize(("steps", "began"), [((0, 50), 1), ((0, 0), 2), ((0, 0, 50), 2)])
def test_a_result_has_the_hyperparameters_with_which_its_run_began(steps, began, tmp_path):
    """A checkpoint keeps them, whatever the file of hyperparameters says by then. Without a checkpoint a run begins anew"""
    starts = []
    for number, step in enumerate(steps, start=1):
        parameters = started(tmp_path, number, 100, f"learning_rate: {number}.0\n")
        names = {"commit": f"c{number}", "command": f"command {number}", "config": str(parameters)}
        starts.append(json.dumps({"step": step, **names}))
    (tmp_path / STARTS).write_text("\n".join(starts))
    evaluate(recorder_after(tmp_path / EVALUATIONS, 0), 100, [1.0])
    result = result_of(tmp_path)
    assert result["hyperparameters"] == {"learning_rate": began}
    # Starts before the last beginning made nothing of the result
    assert result["starts"] == len(steps) + 1 - began
    assert result["command"] == f"command {began}"
    assert result["commit"] == ", ".join(f"c{number}" for number in range(began, len(steps) + 1))


def test_several_environments_are_evaluated_a_little_more_often(tmp_path):
    """RL Zoo counts steps of all 3 environments: 33 * 3 = 99"""
    started(tmp_path, config="n_envs: 3\n")
    for last, steps in ((0, 99), (99, 198)):
        evaluate(recorder_after(tmp_path / EVALUATIONS, last), steps, [1.0])
    assert result_of(tmp_path)["evaluations"]["timesteps"] == [99, 198]
