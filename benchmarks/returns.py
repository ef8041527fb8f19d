"""
Returns of RL Zoo runs as one CSV table: one row per algorithm, environment, run and evaluation.

    python benchmarks/returns.py logs > returns.csv

Reads the ``evaluations.npz`` that ``python -m rl_zoo3.train`` writes. For curves and aggregates use
``python -m rl_zoo3.plots.all_plots`` and ``plot_from_file`` (rliable) on the same folder.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import yaml


def evaluations(folder: Path) -> list[list[object]]:
    """
    Read all runs below a log folder of RL Zoo.

    :param folder: Log folder, with ``<algorithm>/<environment>_<run>/evaluations.npz`` below
    :return: Rows of algorithm, environment, seed, time step, mean and standard deviation of the episode returns, episodes
    """
    rows: list[list[object]] = []
    for file in sorted(folder.glob("**/evaluations.npz")):
        env = file.parent.name.rsplit("_", 1)[0]
        seed = yaml.unsafe_load((file.parent / env / "args.yml").read_text())["seed"]
        with np.load(file) as data:
            for timestep, returns in zip(data["timesteps"], data["results"], strict=True):
                row = [file.parents[1].name, env, seed, int(timestep), round(float(returns.mean()), 1)]
                rows.append([*row, round(float(returns.std()), 1), len(returns)])
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["algo", "env", "seed", "timesteps", "mean_return", "std_return", "episodes"])
    writer.writerows(evaluations(parser.parse_args().folder))
