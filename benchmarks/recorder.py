"""Writes the evaluations of a run with their times."""

import csv
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback

# In the log folder of a run
CHECKPOINTS, EVALUATIONS = "checkpoints", "evaluations.csv"
COLUMNS = ("timesteps", "mean_return", "std_return", "episodes", "wall_clock", "processor_time")


def _now() -> np.ndarray:
    """Wall-clock, and time of the processor in this process and those it waited for (seconds)"""
    times = os.times()
    return np.array([time.time(), times.user + times.system + times.children_user + times.children_system])


# RL Zoo was imported before, and the interpreter was started: a few seconds
STARTED = _now()


class Recorder(BaseCallback):
    """
    Writes the returns and the times of each evaluation. Times are those of the steps that count: what was lost in a kill
    is not in them.

    :param evaluation: Callback that evaluates; it comes earlier in the list of callbacks
    :param file: CSV file, read first: lines beyond the steps of the model belong to what was lost
    """

    def __init__(self, evaluation: EvalCallback, file: Path):
        super().__init__()
        self.evaluation, self.file = evaluation, file
        self.rows: list[dict[str, Any]] = []

    def _on_training_start(self) -> None:
        if self.file.is_file():
            with self.file.open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["timesteps"]) <= self.model.num_timesteps]
        if self.rows:
            self.evaluation.best_mean_reward = max(float(row["mean_return"]) for row in self.rows)
        last = self.rows[-1] if self.rows else dict.fromkeys(COLUMNS, 0.0)
        self.earlier = np.array([float(last["wall_clock"]), float(last["processor_time"])])
        self._write()

    def _on_step(self) -> bool:
        steps = self.evaluation.evaluations_timesteps
        if steps and steps[-1] == self.num_timesteps:
            returns = np.array(self.evaluation.evaluations_results[-1])
            wall_clock, processor = self.earlier + _now() - STARTED
            values = (steps[-1], returns.mean().round(2), returns.std().round(2), len(returns))
            self.rows.append(dict(zip(COLUMNS, (*values, round(wall_clock, 1), round(processor, 1)), strict=True)))
            self._write()
        return True

    def _write(self) -> None:
        unfinished = self.file.with_suffix(".writing")
        with unfinished.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        unfinished.replace(self.file)
