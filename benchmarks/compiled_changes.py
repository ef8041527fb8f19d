"""
What parts of the compiled update save on this processor: the same models with each part left out, in turn with SB3's SAC.

    python -m benchmarks.compiled_changes > benchmarks/results/compiled_changes.csv

Times are processor times of one thread, two layers of 256 units; a ratio is the median over the rounds of the ratios to SAC.
"""

import csv
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch as th

from benchmarks import speed
from benchmarks.collect import processor
from sb3_maxent.common import operators

WIDTH, N_ROUNDS = 256, 15
Key = tuple[str, str, int | None]
MODELS = [
    ("DSPG compiled", 64),
    ("DSPG, defaults, compiled", None),
    ("SoftQLearning compiled", None),
    ("SoftQLearning normalised compiled", None),
]


class PassWithoutRoots(operators.OperatorPass):
    """Leaves the scales of batch normalisation to each row."""

    @staticmethod
    def _store_root(graph: th.fx.Graph, node: th.fx.Node) -> None:
        pass

    def uuid(self) -> tuple[object, str]:
        # Otherwise the compiler's cache would have the graph with them
        return super().uuid(), "without roots"


# Which library multiplies, whether roots are stored, and whether products and sums are contracted
VERSIONS = {
    "oneDNN": (True, False, False),
    "MKL": (False, False, False),
    "MKL, roots stored": (False, True, False),
    "oneDNN, roots stored, contracted": (True, True, True),
    "MKL, roots stored, contracted": (False, True, True),
}


@contextmanager
def version(onednn: bool, stored: bool, contracted: bool) -> Iterator[None]:
    """
    Compile another version of the update.

    :param onednn: Whether oneDNN computes large matrix products
    :param stored: Whether the scales of batch normalisation are stored
    :param contracted: Whether products and sums are contracted
    :return: Context in which models are made and compiled
    """
    names = ("PREFER_ONEDNN", "OperatorPass", "CONTRACTION")
    before = {name: getattr(operators, name) for name in names}
    flags = before["CONTRACTION"] if contracted else dict.fromkeys(before["CONTRACTION"], "off")
    changed = (onednn, operators.OperatorPass if stored else PassWithoutRoots, flags)
    try:
        for name, value in zip(names, changed, strict=True):
            setattr(operators, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(operators, name, value)


def main() -> None:
    th.set_num_threads(1)
    makers = speed.contenders(WIDTH)
    reference: Key = ("", "SAC", None)
    measured: dict[Key, Callable[[], float]] = {reference: speed.updates(makers["SAC", None]())}
    for change, flags in VERSIONS.items():
        with version(*flags):
            for name, samples in MODELS:
                measured[change, name, samples] = speed.updates(makers[name, samples]())
    writer = csv.writer(sys.stdout)
    writer.writerow(["processor", "version", "name", "samples", "ms", "ratio"])
    for (change, name, samples), (seconds, ratio) in speed.interleaved(measured, N_ROUNDS, reference).items():
        writer.writerow([processor(), change, name, samples, round(1000 * seconds, 2), round(ratio, 3)])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
