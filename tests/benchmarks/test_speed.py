import csv

import pytest

pytest.importorskip("sb3_contrib")
pytest.importorskip("matplotlib")

from benchmarks.speed import merged


def test_rows_that_are_measured_again(tmp_path):
    """A slower day: ratios stay, and times follow them, so that both columns are of the same day as the table's SAC"""
    columns = ("name", "samples", "width", "ms", "ratio")
    table = [("SAC", "", 256, 10.0, 1.0), ("SAC, compiled networks", "", 256, 9.0, 0.9), ("DSPG", 64, 256, 20.0, 2.0)]
    table += [("SAC", "", 512, 30.0, 1.0), ("DSPG", 64, 512, 24.0, 0.8)]
    with (tmp_path / "speed.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *table])
    again = [("SAC", None, 256, 20.0, 1.0), ("SAC, compiled networks", None, 256, 17.0, 0.85), ("DSPG", 64, 256, 36.0, 1.8)]
    again += [("SAC", None, 512, 60.0, 1.0), ("DSPG", 64, 512, 42.0, 0.7)]
    rows = merged([dict(zip(columns, row, strict=True)) for row in again], tmp_path / "speed.csv")
    assert [tuple(row.values()) for row in rows] == [
        ("SAC", "", 256, 10.0, 1.0),
        ("SAC, compiled networks", None, 256, 8.5, 0.85),
        ("DSPG", 64, 256, 18.0, 1.8),
        ("SAC", "", 512, 30.0, 1.0),
        ("DSPG", 64, 512, 21.0, 0.7),
    ]
