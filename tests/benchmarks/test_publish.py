"""Agents that are ready for others: what a run becomes, and those in trained_agents."""

import json
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.publish import lightened, publish
from sb3_maxent import DSPG
from sb3_maxent.zoo import ALGORITHMS
from tests.models import make_model

AGENTS = Path(__file__).parents[2] / "trained_agents"
CARDS = sorted(AGENTS.glob("*/*/README.md"))
RESULT = {
    "algo": "dspg",
    "env": "Pendulum-v1",
    "seed": 3,
    "steps": 40,
    "command": "python -m rl_zoo3.train --algo dspg",
    "hyperparameters": {"n_timesteps": 20000.0, "learning_rate": 0.001},
    "processor": "AMD EPYC",
    "versions": {"torch": "2.13.0"},
    "wall_clock": 120.0,
    "evaluations": {"timesteps": [20, 40, 60], "mean_return": [-1200.0, -1000.0, -1100.0]},
}


def read_card(file):
    _, fields, text = file.read_text().split("---\n", 2)
    return yaml.safe_load(fields), text


def reported(fields):
    [metric] = fields["model-index"][0]["results"][0]["metrics"]
    mean, std = metric["value"].split(" +/- ")
    return float(mean), float(std)


def test_a_lightened_model_has_no_moments():
    model = make_model("DSPG").learn(40)
    assert model.critic.optimizer.state_dict()["state"]
    before = model.predict(np.zeros(model.observation_space.shape, np.float32), deterministic=True)[0]
    lightened(model)
    optimizers = [state for name, state in model.get_parameters().items() if name.endswith("optimizer")]
    assert len(optimizers) > 1 and all(state["state"] == {} and state["param_groups"] for state in optimizers)
    assert np.array_equal(model.predict(np.zeros(model.observation_space.shape, np.float32), deterministic=True)[0], before)
    # It can be trained further
    model.learn(20, reset_num_timesteps=False)


def test_a_file_without_the_schedule_of_rl_zoo(tmp_path):
    """Which cannot be imported where RL Zoo is not installed"""
    code = """
        import sys
        from rl_zoo3.utils import linear_schedule
        from sb3_maxent import DSPG
        from benchmarks.publish import lightened
        model = DSPG("MlpPolicy", "Pendulum-v1", learning_rate=linear_schedule(0.002), buffer_size=1)
        lightened(model).save(sys.argv[1])
    """
    path = tmp_path / "model.zip"
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), path], check=True)
    model = DSPG.load(path)
    assert model.learning_rate == "lin_0.002" and model.lr_schedule(0.5) == 0.001
    assert b"rl_zoo3" not in zipfile.ZipFile(path).read("data")


@pytest.mark.parametrize("file", sorted(AGENTS.glob("*/*/*.zip")), ids=lambda file: file.stem)
def test_agents_need_no_rl_zoo(file):
    assert b"rl_zoo3" not in zipfile.ZipFile(file).read("data")


def test_publish(tmp_path):
    model = DSPG("MlpPolicy", "Pendulum-v1", learning_starts=10, seed=0, policy_kwargs={"net_arch": [8, 8]}).learn(40)
    run = tmp_path / "run" / "dspg" / "Pendulum-v1_1"
    (run / "Pendulum-v1").mkdir(parents=True)
    model.save(run / "best_model")
    np.savez(run / "evaluations.npz", timesteps=[40], results=[[-1000.0]])
    (run / "Pendulum-v1" / "config.yml").write_text("learning_rate: 0.001\n")
    (run / "Pendulum-v1" / "args.yml").write_text("env_kwargs: null\n")
    result = tmp_path / "result.json"
    result.write_text(json.dumps(RESULT))
    folder = publish(tmp_path / "run", result, tmp_path / "agents")
    assert folder == tmp_path / "agents" / "dspg" / "Pendulum-v1_1"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"Pendulum-v1.zip", "Pendulum-v1/config.yml", "Pendulum-v1/args.yml", "evaluations.npz", "README.md"}
    assert (folder / "Pendulum-v1.zip").stat().st_size < 0.8 * (run / "best_model.zip").stat().st_size
    observation = np.array([1.0, 0.0, 0.0], np.float32)
    published = DSPG.load(folder / "Pendulum-v1.zip")
    assert np.array_equal(
        published.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )
    fields, text = read_card(folder / "README.md")
    assert fields["tags"][0] == "Pendulum-v1" and -2000 < reported(fields)[0] < 0
    result.write_text(json.dumps({**RESULT, "evaluations": {"timesteps": [20, 40], "mean_return": [-1000.0, -500.0]}}))
    with pytest.raises(ValueError, match=r"is not the run of .*: after 40 steps it has -1000\.0, not -500\.0"):
        publish(tmp_path / "run", result, tmp_path / "agents")
    result.write_text(json.dumps({**RESULT, "hyperparameters": {"normalize": "dict(norm_obs=True)"}}))
    with pytest.raises(ValueError, match=r"has \['normalize'\]: only agents of the environment as it is"):
        publish(tmp_path / "run", result, tmp_path / "agents")
    assert "best evaluation of the run, after 40 steps" in text
    assert "in 2 minutes" in text and "| `learning_rate` | `0.001` |" in text and "n_timesteps" not in text


def test_the_best_agent_may_be_of_a_start_that_was_killed(tmp_path):
    """The same folder has evaluations that the kill lost, and that came out otherwise when the run went on"""
    model = DSPG("MlpPolicy", "Pendulum-v1", learning_starts=10, seed=0, policy_kwargs={"net_arch": [8, 8]}).learn(40)
    starts = [tmp_path / "run" / "dspg" / f"Pendulum-v1_{number}" for number in (1, 2)]
    for start, steps, results in zip(
        starts, ([20, 40, 60], [60]), ([[-1200.0], [-1000.0], [-1300.0]], [[-1100.0]]), strict=True
    ):
        (start / "Pendulum-v1").mkdir(parents=True)
        np.savez(start / "evaluations.npz", timesteps=steps, results=results)
    model.save(starts[0] / "best_model")
    result = tmp_path / "result.json"
    result.write_text(json.dumps(RESULT))
    folder = publish(tmp_path / "run", result, tmp_path / "agents")
    assert "best evaluation of the run, after 40 steps" in (folder / "README.md").read_text()
    # Another run has no evaluation after as many steps
    result.write_text(json.dumps({**RESULT, "evaluations": {"timesteps": [20, 60], "mean_return": [-1200.0, -1100.0]}}))
    with pytest.raises(ValueError, match=r"after 40 steps it has -1000\.0, not None"):
        publish(tmp_path / "run", result, tmp_path / "agents")


def test_there_is_an_agent_of_each_algorithm_on_two_tasks():
    assert {name: len(list(AGENTS.glob(f"{name}/*/README.md"))) for name in ALGORITHMS} == dict.fromkeys(ALGORITHMS, 2)


def test_the_page_has_the_returns_of_the_cards():
    page = (AGENTS.parent / "docs" / "zoo.md").read_text()
    for card in CARDS:
        fields, text = read_card(card)
        title, env_id = fields["model-index"][0]["name"], fields["tags"][0]
        steps = int(text.split(" environment steps")[0].split()[-1])
        agent_steps = ALGORITHMS[title.lower()].load(next(card.parent.glob("*.zip"))).num_timesteps
        assert f"of the run, after {agent_steps} steps" in text
        assert f"| {title} on {env_id} | {agent_steps:,} | {steps:,} | {reported(fields)[0]:.0f} |" in page


@pytest.mark.parametrize("card", CARDS, ids=lambda card: "-".join(card.parts[-3:-1]))
def test_agents_reach_what_their_cards_say(card):
    """By the command of the card, and in a process of its own: RL Zoo changes all environments of a process"""
    fields, _ = read_card(card)
    env_id = fields["tags"][0]
    if env_id.startswith("LunarLander"):
        pytest.importorskip("Box2D")
    arguments = f"--algo {card.parts[-3]} --env {env_id} --no-render -n 1000 --seed 7 --device cpu --num-threads 1"
    command = [sys.executable, "-m", "rl_zoo3.enjoy", *arguments.split(), "-f", str(AGENTS)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    mean = float(re.search(r"Mean reward: (\S+)", output)[1])
    assert abs(mean - reported(fields)[0]) < 3 * reported(fields)[1]
