import csv

import pytest

from benchmarks.acting import CompareActing, CompareSampling
from sb3_maxent import DSPG, SoftQLearning
from tests.models import differing, parameters_of

ACTORS = ("", " / average of 200", " / average of 2000")
DSPG_WAYS = ["mode", "sample", "best of 4", "best of 16", "average of 200", "average of 2000"]
WAYS = ("sample", "zero noise", "largest Q", "largest target Q", "densest", "largest Q of the denser half")
SOFT_Q_WAYS = [way + actor for actor in ACTORS for way in WAYS]


@pytest.mark.parametrize(
    "algorithm, comparison, ways", [(DSPG, CompareActing, DSPG_WAYS), (SoftQLearning, CompareSampling, SOFT_Q_WAYS)]
)
def test_every_way_is_compared_and_training_is_the_same(tmp_path, algorithm, comparison, ways):
    models = []
    for callback in (None, comparison(freq=20, n_episodes=1, file=tmp_path / "acting.csv")):
        arguments = {"learning_starts": 10, "batch_size": 8, "policy_kwargs": {"net_arch": [8]}, "seed": 3}
        models.append(algorithm("MlpPolicy", "Pendulum-v1", **arguments).learn(40, callback))
    assert differing(*(parameters_of(model.policy) for model in models)) == set()
    with (tmp_path / "acting.csv").open() as file:
        rows = list(csv.reader(file))
    assert [row[:4] for row in rows] == [["Pendulum-v1", "3", steps, way] for steps in ("20", "40") for way in ways]
    # The control: other networks act otherwise
    assert len({row[4] for row in rows}) > len(ways)
