"""
Time of an update of the variants whose returns the experiment "ablation" of ``matrix.yml`` compares.

    python -m benchmarks.ablation > benchmarks/results/ablation_time.csv

One thread, interleaved in one process, beside SB3's SAC.
"""

import argparse
import csv
import sys

import torch as th
from stable_baselines3 import SAC

from benchmarks.matrix import read_matrix
from benchmarks.speed import interleaved, make, updates
from sb3_maxent import DSPG


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    th.set_num_threads(1)
    variants = {run.name: run.params for run in read_matrix(experiments=["ablation"])}
    models = {("SAC", None): make(SAC, 256), **{(name, None): make(DSPG, 256, **params) for name, params in variants.items()}}
    timed = interleaved({key: updates(model) for key, model in models.items()}, rounds)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["variant", "ms", "ratio to SAC"])
    writer.writerows([name, round(1000 * seconds, 2), round(ratio, 2)] for (name, _), (seconds, ratio) in timed.items())


if __name__ == "__main__":
    main()
