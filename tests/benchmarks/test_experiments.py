"""The runs of the exploration experiments, and the figures that are made of them."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from benchmarks import experiments
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
    monkeypatch.setattr(experiments, "SOFT", {"ent_coef": 0.1, "n_particles": 4, "n_value_samples": 4})
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


def test_a_temperature_is_refused_where_it_has_no_effect(small):
    with pytest.raises(ValueError, match=r"ent_coef=10.0 .* sac has its own"):
        experiments.run("sac", TASK, seed=1, steps=20, ent_coef=10.0)


def test_a_pretrained_policy_ends_deterministic(small):
    experiments.run("softqlearning", TASK, seed=1, steps=20, every=10)
    source = small / "logs" / TASK / "softqlearning_1" / "final.zip"
    result = experiments.run("softqlearning", TASK, seed=1, steps=40, every=10, start_from=str(source))
    assert result.stem == "softqlearning-pretrained_1"
    model = SoftQLearning.load(small / "logs" / TASK / "softqlearning-pretrained_1" / "final")
    observation = model.observation_space.sample()
    assert len(np.unique(model.sample_actions(observation, 50), axis=0)) == 1
    assert model.temperature.value.item() == pytest.approx(0.001)
