"""
Time of a training step of each algorithm, for the report's comparison in equal time. Run it when the machine is quiet.

    python -m benchmarks.step_time --experiment mujoco-300k --names sac dspg ddpg

One thread. All models of a task are made by RL Zoo as in the matrix and take turns in one process, so that what else the
machine does meets all. A step is one of ``learn()`` after the random ones: environment, update, what RL Zoo wraps around.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import torch as th
from rl_zoo3.exp_manager import ExperimentManager

from benchmarks.collect import processor
from benchmarks.matrix import Run, read_matrix
from benchmarks.scores import STEP_TIME
from benchmarks.speed import interleaved, processor_time
from sb3_maxent.common.compilation import AUTO_TIMESTEPS
from sb3_maxent.zoo import ALGORITHMS

N_STEPS, N_RANDOM = 200, 100
HEADER = ("experiment", "name", "env", "ms", "ratio", "processor")
RESULTS = Path(__file__).parent / "results"


def steps_of(run: Run, folder: str) -> Callable[[], float]:
    """
    Make the model of a run and train it a little.

    :param run: Run
    :param folder: Folder for RL Zoo's files
    :return: Function that trains for some steps and returns the processor time of one (seconds)
    """
    arguments = argparse.Namespace(algo=run.algo, env=run.env, seed=run.seed)
    # ``compile="auto"`` decides by the length of the run, and the steps that are timed are few
    compiled = {"compile": True} if run.algo in ALGORITHMS and run.steps >= AUTO_TIMESTEPS else {}
    manager = ExperimentManager(
        arguments,
        run.algo,
        run.env,
        folder,
        n_timesteps=run.steps,
        eval_freq=-1,
        hyperparams={**compiled, **run.params, "learning_starts": N_RANDOM, "buffer_size": 10_000},
        config=run.conf,
        seed=run.seed,
        verbose=0,
        device="cpu",
    )
    model, _ = manager.setup_experiment()  # type: ignore[misc]
    # The first updates compile
    model.learn(N_RANDOM + N_STEPS, log_interval=None)
    return lambda: processor_time(lambda: model.learn(N_STEPS, log_interval=None, reset_num_timesteps=False)) / N_STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="mujoco-300k")
    parser.add_argument("--names", nargs="+", default=["sac", "dspg", "ddpg"], help="off-policy; ratios are to the first")
    parser.add_argument("--envs", nargs="+", help="only these tasks of the experiment")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--file", type=Path, default=RESULTS / STEP_TIME, help="its rows of other experiments and tasks stay")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    runs = [run for run in read_matrix(names=arguments.names, experiments=[arguments.experiment]) if run.seed == 1]
    rows: dict[tuple[str, ...], list[object]] = {}
    if arguments.file.is_file():
        with arguments.file.open(newline="") as file:
            rows = {tuple(row[:3]): [*row] for row in csv.reader(file)}
    rows.setdefault(HEADER[:3], [*HEADER])
    for env in arguments.envs or dict.fromkeys(run.env for run in runs):
        of_env = sorted((run for run in runs if run.env == env), key=lambda run: arguments.names.index(run.name))
        with redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
            timed = interleaved({run.name: steps_of(run, folder) for run in of_env}, arguments.rounds, of_env[0].name)
        for name, (time, ratio) in timed.items():
            row = [arguments.experiment, name, env, round(1000 * time, 2), round(ratio, 3), processor()]
            rows[arguments.experiment, name, env] = row
            print(*row)
        with arguments.file.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows.values())


if __name__ == "__main__":
    main()
