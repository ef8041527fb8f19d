import pytest
import torch as th
from torch import nn

from sb3_maxent.common.updates import TargetUpdate


@pytest.mark.parametrize("tau", [0.0, 0.25, 1.0])
def test_parameters_move_and_statistics_are_copied(tau):
    source, target = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    source(th.randn(8, 2))  # moves the running statistics
    before = [parameter.detach().clone() for parameter in target.parameters()]
    TargetUpdate(source, target)(tau)
    for old, new, goal in zip(before, target.parameters(), source.parameters(), strict=True):
        assert th.allclose(new, (1 - tau) * old + tau * goal)
    assert th.equal(target[1].running_mean, source[1].running_mean) and source[1].running_mean.abs().sum() > 0
    assert th.equal(target[1].running_var, source[1].running_var)
