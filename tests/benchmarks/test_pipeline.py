"""The matrix through Snakemake: killed, continued, and continued in another folder."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch as th
import yaml
from stable_baselines3.common.save_util import load_from_zip_file

from benchmarks.matrix import read_matrix

pytest.importorskip("snakemake")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MATRIX = {
    "evaluation": {"freq": 50, "episodes": 2},
    "runs": [{"experiment": "tiny", "names": ["sac", "ddpg"], "envs": ["Pendulum-v1"], "seeds": 1, "steps": 1000}],
    # The zoo's DDPG would only begin to learn after 10,000 steps
    "variants": {"ddpg": {"algo": "ddpg", "params": {"learning_starts": 100}}},
}
SAC, DDPG = "tiny/sac_Pendulum-v1_1", "tiny/ddpg_Pendulum-v1_1"


class Folder:
    """Logs and results of one machine"""

    def __init__(self, path):
        self.path, self.logs, self.results = path, path / "logs", path / "results"

    def start(self):
        settings = [f"matrix={self.path.parent / 'matrix.yml'}", f"logs={self.logs}", f"results={self.results}"]
        command = [sys.executable, "-m", "snakemake", "-s", "benchmarks/Snakefile", "--config", *settings]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PATH": path}, start_new_session=True)

    def text(self, run):
        return (self.results / f"{run}.json").read_text()

    def finish(self):
        assert self.start().wait(timeout=600) == 0

    def result(self, run):
        return json.loads(self.text(run))

    def parameters(self, run):
        # The last start of the run has saved the trained model
        model = max((self.logs / run).glob("*/*/Pendulum-v1.zip"), key=lambda path: path.stat().st_mtime)
        return load_from_zip_file(model)[1]["policy"]


def wait_until(process, condition):
    while not condition():
        assert process.poll() is None
        time.sleep(0.05)


def kill_when(process, condition):
    try:
        wait_until(process, condition)
    finally:
        # Snakemake, the shell and the training
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_killed_continued_and_merged(tmp_path):
    (tmp_path / "matrix.yml").write_text(yaml.safe_dump(MATRIX))
    killed, other = Folder(tmp_path / "killed"), Folder(tmp_path / "other")
    checkpoint = killed.logs / DDPG / "checkpoints" / "steps_000000000500"
    kill_when(killed.start(), checkpoint.exists)
    sac = killed.text(SAC)
    assert not (killed.results / f"{DDPG}.json").exists()

    # Another machine, which has the results and not the logs, does what is missing
    shutil.copytree(killed.results, other.results)
    other.finish()
    assert not (other.logs / SAC).exists() and other.result(DDPG)["starts"] == 1

    killed.finish()
    for folder in (killed, other):
        assert folder.text(SAC) == sac
    continued, uninterrupted = killed.result(DDPG), other.result(DDPG)
    assert continued["starts"] == 2 and not checkpoint.exists()
    assert continued["evaluations"]["timesteps"] == list(range(50, 1001, 50))
    assert continued["evaluations"]["mean_return"][:10] == uninterrupted["evaluations"]["mean_return"][:10]
    for name, value in other.parameters(DDPG).items():
        assert th.equal(killed.parameters(DDPG)[name], value), name


def test_results_from_elsewhere_stay(tmp_path):
    """Those that come after a kill, and those that come while another run is made"""
    short = {**MATRIX, "runs": [{**MATRIX["runs"][0], "steps": 50}]}
    (tmp_path / "matrix.yml").write_text(yaml.safe_dump(short))
    folder = Folder(tmp_path / "killed")
    lock = folder.logs / SAC / "lock"
    kill_when(folder.start(), lock.exists)
    for run in (SAC, DDPG):
        (folder.results / f"{run}.json").write_text("from elsewhere")
    folder.finish()
    assert folder.text(SAC) == folder.text(DDPG) == "from elsewhere"
    for file in (lock, *folder.results.glob("*/*.json")):
        file.unlink()
    process = folder.start()
    wait_until(process, lock.exists)
    (folder.results / f"{DDPG}.json").write_text("from elsewhere")
    assert process.wait(timeout=600) == 0
    assert folder.result(SAC)["steps"] == 50 and folder.text(DDPG) == "from elsewhere"


def test_a_run_is_that_of_rl_zoo_alone(tmp_path):
    """Checkpoints and times change nothing: the same returns without the module that writes them."""
    (tmp_path / "matrix.yml").write_text(yaml.safe_dump(MATRIX))
    run = read_matrix(tmp_path / "matrix.yml", names=["sac"])[0]
    words = shlex.split(run.command(str(tmp_path / "with")))
    words[0] = sys.executable
    subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    position = words.index("--gym-packages")
    alone = [word.replace("/with/", "/without/") for word in words[:position] + words[position + 2 :]]
    subprocess.run(alone, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    files = [next((tmp_path / folder).glob("**/evaluations.npz")) for folder in ("with", "without")]
    results = [np.load(file)["results"] for file in files]
    np.testing.assert_array_equal(*results)
    assert results[0].shape == (20, 2) and len(np.unique(results[0])) > 20
