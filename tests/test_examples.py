"""The examples do what they say. Those that train take minutes, so they are marked slow."""

import csv
import io
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch as th
from PIL import Image
from stable_baselines3.common import evaluation
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_maxent import DSPG

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_multi_goal_draws_every_algorithm(tmp_path):
    """Without its training, which takes minutes"""
    example = runpy.run_path(str(EXAMPLES / "2_multi_goal.py"))
    models = {name: model.learn(40) for name, model in example["make_models"]().items()}
    figure = example["draw"](models, n_rollouts=3)
    figure.savefig(tmp_path / "multi_goal.png")
    assert (tmp_path / "multi_goal.png").stat().st_size > 50_000
    titles = [axes.get_title().splitlines()[0] for axes in figure.axes]
    assert titles[:4] == ["SoftQLearning", "DSPG", "SAC", "DDPG"] and len(titles) == 16
    paths, shares = example["rollouts"](models["SAC"], 3)
    assert len(paths) == 3 and shares.shape == (4,) and 0 <= shares.sum() <= 1


def test_temperature_draws_the_best_policies(tmp_path):
    example = runpy.run_path(str(EXAMPLES / "3_temperature.py"))
    for temperature in example["TEMPERATURES"]:
        boltzmann, gaussian = example["boltzmann"](temperature), example["best_gaussian"](temperature)
        # The soft value of the Boltzmann density is the largest: temperature times the logarithm of its normaliser
        largest = temperature * np.log(example["integral"](np.exp(example["q_function"](example["ACTIONS"]) / temperature)))
        assert example["soft_value"](boltzmann, temperature) == pytest.approx(largest)
        # No single peak reaches it, nor does a squashed Gaussian that is not the best one
        others = [example["squashed_gaussian"](mean, log_std) for mean, log_std in ((0.0, 0.0), (-0.5, -1.5), (0.5, -1.5))]
        assert largest > example["soft_value"](gaussian, temperature)
        assert example["soft_value"](gaussian, temperature) >= max(example["soft_value"](each, temperature) for each in others)
    example["draw"]().savefig(tmp_path / "temperature.png")


def test_mixture_multi_goal_measures_modes():
    """Without its training, which takes minutes"""
    example = runpy.run_path(str(EXAMPLES / "5_mixture_multi_goal.py"))
    model = example["make_model"](4, 0, 4.0)
    assert model.actor.n_components == 4 and example["shares_of_goals"](model, 3).shape == (4,)
    # Two near the first best action, one near the second, one between, and one that is beyond them
    actions = np.array([[0.4, -0.4], [0.5, -0.4], [-0.44, 0.44], [0.3, 0.3], [0.9, -0.9]])
    assert example["shares_of_modes"](actions) == {"first": 0.4, "second": 0.2, "between": 0.2}


def test_density_of_the_flow_integrates_to_one_and_is_that_of_its_samples():
    """Without its training, which takes minutes"""
    example = runpy.run_path(str(EXAMPLES / "9_flow.py"))
    actor = example["make_model"]("flow", 0, 4.0).policy.actor
    th.manual_seed(0)
    for parameter in actor.layers.parameters():
        parameter.data += 0.1 * th.randn_like(parameter)
    actor.log_std.bias.data -= 1.5  # away from the bounds, where a grid is too coarse
    distribution = actor.action_distribution(th.tensor([[1.0, 2.0], [-3.0, 0.5]]))
    axis = (th.arange(400) + 0.5) / 200 - 1
    actions = th.cartesian_prod(axis, axis)
    density = distribution.log_prob(th.atanh(actions).expand(2, -1, -1)).exp() * (4 / len(actions))  # (batch, actions)
    assert density.sum(dim=1).tolist() == pytest.approx([1, 1], abs=0.01)
    sampled = distribution.actions(distribution.sample(actor.draw_noise(2, 50_000)))  # (batch, samples, action)
    for moment in (lambda each: each, lambda each: each**2, lambda each: each.prod(dim=-1, keepdim=True)):
        by_density = (density.unsqueeze(-1) * moment(actions)).sum(dim=1)
        assert by_density.flatten().tolist() == pytest.approx(moment(sampled).mean(dim=1).flatten().tolist(), abs=0.02)
    # The layers do something: without them the density is another one
    gaussian = distribution.gaussian.log_prob(th.atanh(actions).expand(2, -1, -1)).exp() * (4 / len(actions))
    assert (gaussian - density).abs().sum() > 0.5


@pytest.mark.parametrize(("actions", "n_axes"), [("MultiDiscrete", 2), ("MultiBinary", 4)])
def test_multi_discrete_compares_with_the_optimum(actions, n_axes):
    """Without its training, which takes a minute"""
    example = runpy.run_path(str(EXAMPLES / "6_multi_discrete.py"))
    env = example["DockingEnv"](actions, n_axes)
    model = example["make_model"](env, 40).learn(40)
    totals, best = example["returns"](model, env, 3)
    assert model._n_updates > 0 and (totals <= best + 1e-6).all() and (best <= -1).all()


def test_value_network_writes_a_table(monkeypatch, capsys):
    """Without an update: tests/test_value_network.py has these"""
    file = EXAMPLES / "7_value_network.py"
    assert len(file.read_text().splitlines()) < 100
    monkeypatch.setattr(evaluation, "evaluate_policy", lambda model, env, _: evaluate_policy(model, env, 1))
    monkeypatch.setattr(sys, "argv", [file.name, "--env", "MultiGoal-v0", "--steps", "10", "--updates", "4", "--seeds", "3"])
    runpy.run_path(str(file), run_name="__main__")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    expected = [(name, str(steps)) for name in ("DSPG", "ValueNetworkSAC") for steps in (2, 4, 6, 8, 10)]
    assert [(row["algorithm"], row["steps"]) for row in rows] == expected
    assert all((row["env"], row["updates"], row["seed"]) == ("MultiGoal-v0", "4", "3") for row in rows)
    assert all(-4000 < float(row["return"]) < 0 for row in rows)


def test_gif_plays_the_episode_at_its_speed(tmp_path):
    example = runpy.run_path(str(EXAMPLES / "8_gif.py"))
    model = DSPG("MlpPolicy", "MultiGoal-v0", seed=0)
    frames, seconds = example["record"](model, "MultiGoal-v0", 6)
    example["write_gif"](frames, seconds, tmp_path / "agent.gif")
    image = Image.open(tmp_path / "agent.gif")
    # Five frames per second, every second one: the frames after 0, 2, 4 and 6 steps
    assert (image.n_frames, image.size, image.info["duration"]) == (4, (example["SIZE"], example["SIZE"]), 400)
    first, last = (np.asarray(Image.fromarray(frame).resize((50, 50)), float) for frame in (frames[0], frames[-1]))
    assert np.abs(first - last).max() > 50


def test_compose_measures_distances(monkeypatch):
    """Without its training, which takes minutes: a policy that never moves is 2 m away in x and in y"""
    pytest.importorskip("gymnasium_robotics")
    example = runpy.run_path(str(EXAMPLES / "10_compose.py"))
    env = example["Reach"](1)
    env.reset()
    _, reward, _, _, info = env.step(np.array([0.0, 1.0], np.float32))
    assert reward == -abs(info["position"][1] - 2) != -2
    model = example["train"](0, seed=0, n_steps=5)
    monkeypatch.setattr(model, "predict", lambda observation: (np.zeros(2, np.float32), None))
    assert example["distance"](model) == pytest.approx((2, 2, np.sqrt(8)))


@pytest.mark.slow
def test_train_dspg(tmp_path):
    command = [sys.executable, str(EXAMPLES / "1_train_dspg.py")]
    output = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    # A random policy has about -1200
    assert float(re.search(r"Return (\S+) \+-", output).group(1)) > -300
    assert (tmp_path / "dspg_pendulum.zip").is_file()
