import numpy as np
import pytest
import torch as th

from sb3_maxent.common.errors import NonFiniteError, check_finite


@pytest.mark.parametrize("value", [float("nan"), np.array([1.0, np.inf]), th.tensor([0.0, -float("inf")]), np.float32("nan")])
def test_names_value_step_and_hint(value):
    with pytest.raises(NonFiniteError, match=r"^reward is not finite at environment step 12: .* Look there$") as error:
        check_finite({"fine": 1.0, "reward": value}, 12, "Look there")
    # So that RL Zoo prunes the trial
    assert isinstance(error.value, ValueError)


def test_finite_values_pass():
    values = {"a": 1.0, "b": np.array([255], dtype=np.uint8), "c": np.array([3, 4]), "d": th.zeros(2), "e": np.array([True])}
    assert check_finite(values, 0, "") is None
