"""The examples do what they say. Those that train take minutes, so they are marked slow."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.slow
def test_train_dspg(tmp_path):
    command = [sys.executable, str(EXAMPLES / "1_train_dspg.py")]
    output = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    # A random policy has about -1200
    assert float(re.search(r"Return (\S+) \+-", output).group(1)) > -300
    assert (tmp_path / "dspg_pendulum.zip").is_file()
