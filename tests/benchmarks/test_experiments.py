"""The runs of the exploration experiments, and the figures that are made of them."""

import csv
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env

from benchmarks import directions, experiments
from sb3_maxent import SoftQLearning

EXAMPLE = Path(__file__).parents[2] / "examples" / "4_experiments.py"
TASK = "SwimmerFinishLine-v0"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(experiments, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(experiments, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(
        experiments, "SHARED", {**experiments.SHARED, "learning_starts": 10, "batch_size": 8, "buffer_size": 999}
    )
    monkeypatch.setattr(experiments, "SOFT", {"n_particles": 4, "n_value_samples": 4})
    return tmp_path


def test_a_run_goes_on_where_it_ended(small):
    """As after a kill: the record of the first part is in the checkpoint"""
    experiments.run("softqlearning", TASK, seed=1, steps=20, every=10)
    result = json.loads(experiments.run("softqlearning", TASK, seed=1, steps=40, every=10).read_text())
    assert result["timesteps"] == [10, 20, 30, 40] and result["best"] == sorted(result["best"])
    assert result["env"] == TASK and result["threshold"] == 2.0 and result["name"] == "softqlearning"
    # No episode has ended
    assert result["last"] == 4 * [None]
    final = SoftQLearning.load(small / "logs" / TASK / "softqlearning_1" / "final")
    assert final.num_timesteps == 40 and final.history["best"] == result["best"]


def test_figures(small):
    for name in ("ddpg", "sac"):
        experiments.run(name, TASK, seed=1, steps=20, every=10)
    source = small / "logs" / TASK / "ddpg_1" / "final.zip"
    experiments.run("ddpg", TASK, seed=2, steps=20, every=10, start_from=str(source))
    example = runpy.run_path(str(EXAMPLE))
    results = example["read_results"](TASK, small / "results")
    assert set(results) == {"ddpg", "ddpg-pretrained", "sac"}
    example["draw_curves"](results, "best", "largest forward distance").savefig(small / "best.png")
    with pytest.raises(ValueError, match="no results of other"):
        example["read_results"]("other", small / "results")


def test_the_last_episodes_and_the_threshold(small):
    result = json.loads(experiments.run("ddpg", TASK, seed=1, steps=1020, every=510).read_text())
    assert result["last"][0] <= result["best"][0] and len(result["last"]) == 2
    n_passed = runpy.run_path(str(EXAMPLE))["n_passed"]
    seeds = [{"threshold": 2.0, "last": [5.0, last]} for last in (0.5, 2.5, 1.0)]
    assert n_passed(seeds, "last", larger=True) == 1 and n_passed(seeds, "last", larger=False) == 2
    # Without an end of an episode, a threshold, or the column, which older results do not have
    others = [{"threshold": 2.0, "last": [None]}, {"threshold": None, "last": [3.0]}, {"threshold": 2.0}]
    assert n_passed([*others, *seeds], "last", larger=True) == 1


def test_spread_of_directions():
    example = runpy.run_path(str(EXAMPLE))
    angles = np.linspace(-np.pi, np.pi, 120, endpoint=False) + 0.01
    around = [np.array([[0, 0], [np.cos(angle), np.sin(angle)]]) for angle in angles]
    resultant, entropy = example["spread"](around)
    assert resultant == pytest.approx(0, abs=1e-9) and entropy == pytest.approx(np.log(12))
    assert example["spread"](around[:1] * 5) == pytest.approx((1, 0))
    panels = example["draw_traces"]({"a": around[:3], "b": around}).axes
    assert [axes.get_title().split("\n")[0] for axes in panels] == ["a", "b"]


def test_paths_of_the_trained_policy(small):
    """From the start to the end of an episode, and another one with each draw of the policy"""
    pytest.importorskip("gymnasium_robotics")
    file = experiments.run("softqlearning", "PointArena-v0", seed=1, steps=20, every=10, ent_coef=5.0, n_episodes=3)
    paths = np.array(json.loads(file.read_text())["paths"])  # (episodes, positions, 2)
    assert paths.shape == (3, 21, 2) and not paths[:, 0].any() and len(np.unique(paths[:, -1], axis=0)) == 3
    example = runpy.run_path(str(EXAMPLE))
    results = example["read_results"]("PointArena-v0", small / "results")
    resultant, entropy = example["spread"](list(paths))
    expected = f"mean direction and entropy {resultant:.2f} {entropy:.2f}"
    assert example["summary"]("traces", results["softqlearning-5"], True) == expected
    with pytest.raises(ValueError, match=r"names=\['sac'\]: results of PointArena-v0 are \['ddpg'"):
        example["main"]("traces", "PointArena-v0", "sac")


def test_returns_of_the_seeds():
    seeds = [{"return": [None, 0.0, last]} for last in (2.0, 6.0)]
    text = runpy.run_path(str(EXAMPLE))["summary"]("returns", seeds, True)
    assert text == "2 seeds, mean of the run 2, end 4 (2 to 6)"


def test_another_pretrained_model_acts_at_once(small, monkeypatch):
    monkeypatch.setattr(experiments, "SHARED", {**experiments.SHARED, "learning_starts": 1000})
    env = make_vec_env(TASK, 1, seed=1)
    source = small / "source.zip"
    trained = experiments.make_model("ddpg", env, 1, None)
    trained.save(source)
    for start_from, acts in ((None, False), (str(source), True)):
        model = experiments.make_model("ddpg", env, 2, start_from)
        model.action_noise = None
        model.learn(1)
        observation, action = model.replay_buffer.observations[0], model.replay_buffer.actions[0]
        assert np.allclose(action, trained.predict(observation)[0], atol=1e-6) == acts


def test_a_temperature_is_refused_where_it_has_no_effect(small):
    with pytest.raises(ValueError, match=r"ent_coef=10.0 .* for softqlearning and not for sac"):
        experiments.run("sac", TASK, seed=1, steps=20, ent_coef=10.0)


def test_normalised_networks(small):
    file = experiments.run("softqlearning", TASK, seed=1, steps=20, every=10, batch_norm=True)
    assert file.stem == "softqlearning-norm_1"
    assert SoftQLearning.load(small / "logs" / TASK / "softqlearning-norm_1" / "final").policy.batch_norm


@pytest.mark.parametrize("name", experiments.ALGORITHMS)
def test_another_discount(small, name):
    file = experiments.run(name, TASK, seed=1, steps=20, every=10, gamma=0.5)
    assert file.stem == f"{name}-gamma0.5_1"
    assert experiments.ALGORITHMS[name].load(small / "logs" / TASK / file.stem / "final").gamma == 0.5


def test_a_pretrained_policy_ends_deterministic(small):
    experiments.run("softqlearning", TASK, seed=1, steps=20, every=10)
    source = small / "logs" / TASK / "softqlearning_1" / "final.zip"
    result = experiments.run("softqlearning", TASK, seed=1, steps=40, every=10, start_from=str(source))
    assert result.stem == "softqlearning-pretrained_1"
    model = SoftQLearning.load(small / "logs" / TASK / "softqlearning-pretrained_1" / "final")
    observation = model.observation_space.sample()
    assert len(np.unique(model.sample_actions(observation, 50), axis=0)) == 1
    assert model.temperature.value.item() == pytest.approx(0.001)
    hotter = experiments.run("softqlearning", TASK, seed=1, steps=40, every=10, start_from=str(source), ent_coef=10.0)
    model = SoftQLearning.load(small / "logs" / TASK / f"{hotter.stem}" / "final")
    assert hotter.stem == "softqlearning-pretrained-10_1" and model.temperature.value.item() == pytest.approx(0.1)


def test_directions_of_a_policy(small, capsys, monkeypatch):
    """Entropies of quadrants by hand, and the columns of a small model"""
    pytest.importorskip("gymnasium_robotics")
    corners = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
    assert directions.entropy_of_quadrants(corners, np.ones(4)) == pytest.approx(np.log(4))
    assert directions.entropy_of_quadrants(corners, np.array([3, 0, 0, 1])) == pytest.approx(0.562335)
    experiments.run("softqlearning", "PointArena-v0", seed=1, steps=20, every=10, ent_coef=50.0)
    directions.main([str(small / "logs" / "PointArena-v0" / "softqlearning-50_1" / "final.zip")])
    [row] = csv.DictReader(capsys.readouterr().out.splitlines())
    # Hardly trained, its Q-values are all about 0, so that by them every quadrant has a quarter
    assert (row["model"], row["temperature"], row["entropy by Q"]) == ("softqlearning-50_1", "50.00", "1.39")
    model = SoftQLearning.load(small / "logs" / "PointArena-v0" / "softqlearning-50_1" / "final")
    # A slope in the first component: two quadrants of four by a small temperature
    monkeypatch.setattr(model.critic, "q_values", lambda _, actions: 5000.0 * actions[..., 0])
    monkeypatch.setattr(model, "sample_actions", lambda _, number: np.tile([[0.5, 0.5]], (number, 1)))
    measured = directions.measure(model, np.zeros(4))
    assert measured["difference of Q"] == 10_000 and measured["entropy of actions"] == 0
    assert measured["entropy by Q"] == pytest.approx(np.log(2), abs=1e-3)
    # One of the four diagonals is that of the action; an action along the velocity keeps all of them
    assert (measured["smallest share that keeps"], measured["largest share that keeps"]) == (0, 1)
    monkeypatch.setattr(model, "sample_actions", lambda observation, number: np.tile(observation[2:], (number, 1)))
    assert directions.measure(model, np.zeros(4))["smallest share that keeps"] == 1
