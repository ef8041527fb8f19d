"""The runs of ``matrix.yml`` and the command of each."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MATRIX = Path(__file__).parent / "matrix.yml"


@dataclass(frozen=True)
class Run:
    """
    One run: an algorithm with its hyperparameters on one task with one seed.

    :param experiment: Runs of one experiment are compared with each other
    :param name: What it is called in the report, unique in its experiment
    :param env: Environment ID
    :param seed: Seed
    :param steps: Number of environment steps
    :param algo: Key of RL Zoo
    :param conf: Hyperparameter file in place of the one of the algorithm
    :param params: Hyperparameters in place of those of the file
    :param eval_freq: Steps between two evaluations
    :param eval_episodes: Episodes of an evaluation
    :param entry: Number of its entry in the matrix
    """

    experiment: str
    name: str
    env: str
    seed: int
    steps: int
    algo: str
    conf: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    eval_freq: int = 10_000
    eval_episodes: int = 10
    entry: int = 0

    @property
    def path(self) -> str:
        """Where it is in a folder of results or logs"""
        return f"{self.experiment}/{self.name}_{self.env}_{self.seed}"

    def command(self, logs: str) -> str:
        """
        Command that makes the run, or goes on with it after it was killed.

        :param logs: Folder of the logs of all runs
        :return: Command for a shell in the root of the repository
        """
        words = ["python", "-m", "rl_zoo3.train", "--algo", self.algo, "--env", self.env, "--n-timesteps", self.steps]
        words += ["--eval-freq", self.eval_freq, "--eval-episodes", self.eval_episodes, "--n-eval-envs", 1]
        words += ["--seed", self.seed, "--num-threads", 1, "--device", "cpu", "--log-folder", f"{logs}/{self.path}"]
        # Checkpoints and times; RL Zoo imports these modules before it makes the model
        words += ["--gym-packages", "benchmarks.resume"]
        if self.conf:
            words += ["--conf-file", self.conf]
        if self.params:
            words += ["--hyperparams", *(f"{key}:{value!r}" for key, value in self.params.items())]
        return shlex.join(map(str, words))


def read_matrix(file: str | Path = MATRIX, names: Iterable[str] = (), experiments: Iterable[str] = ()) -> list[Run]:
    """
    Read a matrix.

    :param file: YAML file
    :param names: Only these algorithms and variants, all if empty
    :param experiments: Only these experiments, all if empty
    :return: The runs in their order
    :raises ValueError: If the matrix has none of a name or an experiment, or has the same run twice
    """
    matrix = yaml.safe_load(Path(file).read_text())
    runs: list[Run] = []
    for number, entry in enumerate(matrix["runs"]):
        for seed in range(1, entry["seeds"] + 1):
            runs += [_run(matrix, number, name, env, seed) for env in entry["envs"] for name in entry["names"]]
    paths = [run.path for run in runs]
    if len(set(paths)) < len(paths):
        raise ValueError(f"{file} has {max(paths, key=paths.count)} twice")
    for chosen, known in ((names, {run.name for run in runs}), (experiments, {run.experiment for run in runs})):
        if unknown := set(chosen) - known:
            raise ValueError(f"{file} has no {', '.join(sorted(unknown))}, only {', '.join(sorted(known))}")
    runs = [run for run in runs if not names or run.name in names]
    return [run for run in runs if not experiments or run.experiment in experiments]


def _run(matrix: dict[str, Any], number: int, name: str, env: str, seed: int) -> Run:
    entry = matrix["runs"][number]
    variant = matrix.get("variants", {}).get(name, {})
    evaluation = entry.get("evaluation", matrix["evaluation"])
    return Run(
        experiment=entry["experiment"],
        name=name,
        env=env,
        seed=seed,
        steps=entry["steps"],
        algo=variant.get("algo", name),
        conf=variant.get("conf"),
        params={**variant.get("params", {}), **entry.get("params", {})},
        eval_freq=evaluation["freq"],
        eval_episodes=evaluation["episodes"],
        entry=number,
    )
