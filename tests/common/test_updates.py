import pytest
import torch as th
from torch import nn

from sb3_maxent.common.updates import TargetUpdate, clip, gradient_step, gradients_of, trainable


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


def test_other_buffers_are_copied():
    """Of an extractor that normalises in its own way, for instance"""
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    for average_statistics in (False, True):
        for network in (source, target):
            network.register_buffer("mean", th.randn(3))
        TargetUpdate(source, target, average_statistics)(0.25)
        assert th.equal(source.mean, target.mean)


def test_statistics_are_averaged():
    source, target = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    source(3 + th.randn(8, 2))
    before = {name: value.clone() for name, value in target.state_dict().items()}
    TargetUpdate(source, target, average_statistics=True)(0.25)
    for name, goal in source.state_dict().items():
        if goal.is_floating_point():
            assert th.allclose(target.state_dict()[name], 0.75 * before[name] + 0.25 * goal), name
    assert not th.allclose(before["1.running_mean"], source[1].running_mean, atol=1e-3)


def test_gradients_of_used_unused_and_frozen_parameters():
    used, unused, frozen = (nn.Parameter(th.randn(2, 3)) for _ in range(3))
    frozen.requires_grad_(False)
    parameters = trainable(th.optim.SGD([frozen, used, unused], lr=1.0))
    assert [id(parameter) for parameter in parameters] == [id(used), id(unused)]
    gradients = gradients_of((used.square() * frozen).sum(), parameters)
    assert th.allclose(gradients[0], 2 * used * frozen) and gradients[1] is None


def test_a_gradient_has_the_layout_of_its_parameter():
    """The fused Adam of PyTorch does not look at strides"""
    parameters = [nn.Parameter(th.arange(6.0).reshape(3, 2).t()), nn.Parameter(th.arange(6.0).reshape(2, 3))]
    weights = th.randn(3, 2).t()
    gradients = gradients_of(sum((parameter * weights).sum() for parameter in parameters), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert gradient.stride() == parameter.stride() and th.equal(gradient, weights)


@pytest.mark.parametrize("max_norm", [None, 1.0, 100.0])
def test_clip(max_norm):
    gradients, norm = clip([th.tensor([[3.0]]), None, th.tensor([0.0, -4.0])], max_norm)
    scale = 1.0 if max_norm is None else min(1.0, max_norm / 5)
    assert norm.item() == 5.0 and gradients[1] is None
    assert gradients[0].item() == pytest.approx(3 * scale, abs=1e-5)
    assert gradients[2].tolist() == pytest.approx([0.0, -4 * scale], abs=1e-5)
    # All parameters are frozen, or the loss depends on none
    assert clip([None], max_norm) == ([None], th.tensor(0.0)) and clip([], max_norm) == ([], th.tensor(0.0))
    assert clip([], max_norm, th.device("meta"))[1].is_meta


def test_gradient_step():
    parameters = [nn.Parameter(th.zeros(1)) for _ in range(4)]
    optimizer = th.optim.SGD(parameters, lr=1.0)
    for parameter in parameters:
        parameter.grad = th.ones(1)  # of an earlier step
    parameters[1].requires_grad_(False)
    gradient_step(optimizer, [th.tensor([3.0]), th.tensor([-4.0]), None])
    assert th.cat(parameters).tolist() == [-3.0, 0.0, 4.0, 0.0]
