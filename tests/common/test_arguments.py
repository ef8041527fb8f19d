import pytest
from gymnasium import spaces
from stable_baselines3.common.utils import LinearSchedule

from sb3_maxent.common.arguments import make_schedule, parse_ent_coef, parse_target_entropy


@pytest.mark.parametrize(
    ("value", "start", "half"),
    [
        (3e-4, 3e-4, 3e-4),
        (0, 0.0, 0.0),
        ("3e-4", 3e-4, 3e-4),
        ("lin_3e-4", 3e-4, 1.5e-4),
        ("lin_1_0.1", 1.0, 0.55),
        ("lin_0.2_1", 0.2, 0.6),
        (lambda progress: progress**2, 1.0, 0.25),
        (LinearSchedule(1.0, 0.5, 1.0), 1.0, 0.75),
    ],
)
def test_schedules(value, start, half):
    schedule = make_schedule(value, "qf_learning_rate")
    assert (schedule(1.0), schedule(0.5)) == pytest.approx((start, half))


@pytest.mark.parametrize(
    "value",
    [
        "linear_3e-4",
        "lin_",
        "lin_-1",
        "lin_1_",
        "lin_1_-1",
        "lin_1_2_3",
        "1_2",
        "cos_1e-3",
        "",
        -1e-3,
        float("nan"),
        float("inf"),
        None,
        [1],
    ],
)
def test_not_a_schedule(value):
    with pytest.raises(ValueError, match=r"qf_learning_rate=.* is not a schedule"):
        make_schedule(value, "qf_learning_rate")


@pytest.mark.parametrize(
    ("ent_coef", "expected"),
    [
        *[("auto", (True, 1.0, 1.0)), ("auto_0.1", (True, 0.1, 0.1)), (0.2, (False, 0.2, 0.2)), ("0.2", (False, 0.2, 0.2))],
        *[(0, (False, 0.0, 0.0)), ("lin_0.2", (False, 0.2, 0.1)), (lambda progress: progress**2, (False, 1.0, 0.25))],
    ],
)
def test_ent_coef(ent_coef, expected):
    learned, schedule = parse_ent_coef(ent_coef)
    assert (learned, schedule(1.0), schedule(0.5)) == expected


@pytest.mark.parametrize(
    "ent_coef",
    [
        "atuo",
        "auto_",
        "auto_0",
        "auto_-1",
        "auto-0.1",
        "autox",
        "auto_lin_1",
        "auto_lin_1_0.5",
        "lin_x",
        -0.1,
        float("nan"),
        float("inf"),
        None,
    ],
)
def test_malformed_ent_coef(ent_coef):
    with pytest.raises(ValueError, match=r"ent_coef=.*: give a number >= 0, a schedule, 'auto', or 'auto_x'"):
        parse_ent_coef(ent_coef)


def test_target_entropy():
    action_space = spaces.Box(-1, 1, (2, 3))
    assert parse_target_entropy("auto", action_space) == -6.0
    assert parse_target_entropy("-1.5", action_space) == -1.5
    for value in ("low", None, float("nan"), "inf"):
        with pytest.raises(ValueError, match=r"target_entropy=.*: give a finite number of nats, or 'auto'"):
            parse_target_entropy(value, action_space)
