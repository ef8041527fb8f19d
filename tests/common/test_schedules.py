import pytest
from stable_baselines3.common.utils import LinearSchedule

from sb3_maxent.common.schedules import make_schedule


@pytest.mark.parametrize(
    ("value", "start", "half"),
    [
        (3e-4, 3e-4, 3e-4),
        (0, 0.0, 0.0),
        ("3e-4", 3e-4, 3e-4),
        ("lin_3e-4", 3e-4, 1.5e-4),
        (lambda progress: progress**2, 1.0, 0.25),
        (LinearSchedule(1.0, 0.5, 1.0), 1.0, 0.75),
    ],
)
def test_accepts(value, start, half):
    schedule = make_schedule(value, "qf_learning_rate")
    assert (schedule(1.0), schedule(0.5)) == pytest.approx((start, half))


@pytest.mark.parametrize(
    "value", ["linear_3e-4", "lin_", "lin_-1", "cos_1e-3", "", -1e-3, float("nan"), float("inf"), None, [1]]
)
def test_refuses(value):
    with pytest.raises(ValueError, match=r"qf_learning_rate=.* is not a schedule"):
        make_schedule(value, "qf_learning_rate")
