"""Choices and real numbers together against quadrature: density, entropy, gradient; each with something that fails."""

import math
import pickle

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_maxent.common.discrete import MultiCategorical, choices_of
from sb3_maxent.common.distributions import SquashedGaussian, log_tanh_derivative
from sb3_maxent.common.hybrid import HybridDistribution, choices_from_box, choices_to_box
from sb3_maxent.common.hybrid_space import HybridBox
from sb3_maxent.functional import score_function_loss
from tests.envs import RandomEnv
from tests.models import VECTOR, make_model

ALPHA = 0.3
CHOICES = (3, 2)
SPACE = HybridBox(spaces.Box(-3, 1, (2,)), CHOICES)


def parameters(choices=CHOICES, n_box=1, seed=0):
    """Logits, means and logarithms of standard deviations of one state"""
    generator, rows = th.Generator().manual_seed(seed), sum(choices)
    logits, means, log_stds = (
        th.randn(*shape, generator=generator, dtype=th.float64) for shape in ((1, rows), (1, rows, n_box), (1, rows, n_box))
    )
    return logits, means, 0.3 * log_stds - 0.7


def distribution_of(logits, means, log_stds, choices=CHOICES):
    return HybridDistribution(MultiCategorical(logits, choices), means, log_stds)


def grid(choices=CHOICES, n=2001):
    """Every combination of choices with every value before the squash, shape (1, points, 1 + factors), and a value's width"""
    axis = th.linspace(-8, 8, n, dtype=th.float64)
    joint = th.cartesian_prod(*[th.arange(n, dtype=th.float64) for n in choices]).reshape(-1, len(choices))
    points = th.cat([axis.repeat(len(joint)).unsqueeze(1), joint.repeat_interleave(n, dim=0)], dim=1)
    return points.unsqueeze(0), (axis[1] - axis[0]).item()


def mass(distribution, points, width):
    """Of each point, from the density before the squash, shape (points,)"""
    return th.exp(distribution.log_prob(points)[0] + log_tanh_derivative(points[0, :, 0])) * width


def q_function(samples):
    """The best real number depends on the first choice"""
    return -0.5 * (samples[..., 0] - 0.6 * samples[..., 1] + 0.5).square() + 0.4 * samples[..., -1] + 5


def test_density_integrates_to_one():
    leaves = parameters()
    points, width = grid()
    shares = mass(distribution_of(*leaves), points, width)
    assert shares.sum().item() == pytest.approx(1, abs=1e-9)
    # The choices alone have the product of the softmaxes, of which no factor is even
    first, second = (th.softmax(part, dim=1)[0] for part in leaves[0].split(CHOICES, dim=1))
    assert th.allclose(shares.reshape(6, -1).sum(dim=1), (first.unsqueeze(1) * second).flatten())
    # Control: without the logarithm of the slope it is no density of actions
    assert abs(th.exp(distribution_of(*leaves).log_prob(points)[0]).sum().item() * width - 1) > 0.1


def test_the_log_density_is_the_sum_of_both():
    logits, means, log_stds = parameters(n_box=2)
    distribution = distribution_of(logits, means, log_stds)
    samples = distribution.sample(th.randn(1, 50, 4, dtype=th.float64, generator=th.Generator().manual_seed(0)))
    for sample in samples[0]:
        i, j = sample[2:].long().tolist()
        # The Gaussian of the choices 1 and 0, for instance, has the mean of rows 1 and 3
        gaussian = SquashedGaussian(*((part[:, i] + part[:, 3 + j]) / 2 for part in (means, log_stds)))
        choice = MultiCategorical(logits, CHOICES).log_prob(sample[2:].long().reshape(1, 1, 2))
        expected = gaussian.log_prob(sample[:2].reshape(1, 1, 2)) + choice
        assert distribution.log_prob(sample.reshape(1, 1, 4)).item() == pytest.approx(expected.item())
    # Of the choices, it has the modes, and of their Gaussian the mean
    mode = distribution.mode()[0]
    best = [part.argmax().item() for part in logits.split(CHOICES, dim=1)]
    assert choices_from_box(mode[2:], CHOICES).tolist() == best
    assert th.allclose(mode[:2], th.tanh((means[0, best[0]] + means[0, 3 + best[1]]) / 2))


def test_samples_are_distributed_as_they_should():
    leaves = parameters(n_box=1)
    distribution, n = distribution_of(*leaves), 200_000
    samples = distribution.sample(th.randn(1, n, 3, dtype=th.float64, generator=th.Generator().manual_seed(0)))
    assert not samples.requires_grad
    for factor, logits in enumerate(leaves[0].split(CHOICES, dim=1)):
        frequencies = th.bincount(samples[0, :, 1 + factor].long()) / n
        assert th.allclose(frequencies.double(), th.softmax(logits, dim=1)[0], atol=0.005)
    points, width = grid()
    exact = (mass(distribution, points, width) * q_function(points)[0]).sum().item()
    assert q_function(samples).mean().item() == pytest.approx(exact, abs=0.01)
    # Control: real numbers that do not belong to the choices
    shuffled = th.cat([samples[..., :1].flip(1), samples[..., 1:]], dim=2)
    assert abs(q_function(shuffled).mean().item() - exact) > 0.05
    # The largest noise rounds to a uniform number of one
    last = distribution_of(*(part.float() for part in leaves)).sample(th.full((1, 1, 3), 9.0))
    assert last[0, 0, 1:].tolist() == [2, 1]


def quadrature_gradient(leaves, alpha=ALPHA):
    """Of the soft value E[Q - alpha log pi]"""
    leaves = [part.clone().requires_grad_() for part in leaves]
    points, width = grid()
    distribution = distribution_of(*leaves)
    value = (mass(distribution, points, width) * (q_function(points)[0] - alpha * distribution.log_prob(points)[0])).sum()
    return th.cat([part.flatten() for part in th.autograd.grad(value, leaves)])


def sampled_gradient(leaves, loss_of, n_states=40_000, n_samples=4):
    """Mean over states with noise of their own, and its standard error"""
    leaves = [part.expand(n_states, *part.shape[1:]).clone().requires_grad_() for part in leaves]
    distribution = distribution_of(*leaves)
    noise = th.randn(n_states, n_samples, 3, dtype=th.float64, generator=th.Generator().manual_seed(0))
    samples, weights = distribution.weighted_samples(noise)
    loss = loss_of(distribution.log_prob(samples), q_function(samples), weights)
    gradients = th.cat([-part.flatten(1) for part in th.autograd.grad(loss * n_states, leaves)], dim=1)
    return gradients.mean(dim=0), gradients.std(dim=0) / math.sqrt(n_states)


def test_the_gradient_is_that_of_the_soft_value():
    leaves = parameters()
    exact = quadrature_gradient(leaves)
    assert (exact.abs() > 0.01).sum() > 10
    gradient, error = sampled_gradient(
        leaves, lambda log_prob, q, weights: score_function_loss(log_prob, q, ALPHA, "loo", weights)
    )
    assert error.max() < 0.01 and ((gradient - exact).abs() < 4.5 * error + 1e-6).all()
    # Controls: without the entropy, and with no sample left out
    assert ((quadrature_gradient(leaves, alpha=0.0) - exact).abs() > 4.5 * error).sum() > 5

    def included(log_prob, q_values, weights):
        values = (q_values - ALPHA * log_prob).detach()
        return -((values - values.mean(dim=1, keepdim=True)) * log_prob).mean()

    biased, _ = sampled_gradient(leaves, included)
    assert ((biased - exact).abs() > 4.5 * error).sum() > 5


@pytest.mark.parametrize("choices", [(1,), (2,), (3, 7), (1000, 2, 100_000)], ids=str)
def test_choices_in_a_box(choices):
    generator = th.Generator().manual_seed(0)
    numbers = th.stack([th.randint(n, (500,), generator=generator) for n in choices], dim=1)
    box = choices_to_box(numbers, choices)
    assert box.dtype == th.float32 and (box.abs() < 1).all() and th.equal(choices_from_box(box, choices), numbers)
    ends = [[-1.0] * len(choices), [1.0] * len(choices)]
    assert choices_from_box(th.tensor(ends), choices).tolist() == [[0] * len(choices), [n - 1 for n in choices]]
    # What the environment makes of it, after SB3's scaling
    space = HybridBox(spaces.Box(-1, 1, (1,)), choices)
    policy = make_model("DSPG", RandomEnv(VECTOR, space)).policy if sum(choices) < 100 else None
    if policy is not None:
        actions = policy.unscale_action(np.concatenate([np.zeros((500, 1), np.float32), box.numpy()], axis=1))
        assert np.array_equal(actions[:, 1:], numbers.numpy())


def test_the_critic_sees_one_hot_choices():
    critic = make_model("DSPG", RandomEnv(VECTOR, SPACE)).critic
    actions = th.tensor([[[0.5, -0.25, -2 / 3, 0.5], [0.5, -0.25, 0.99, -0.01]]])
    assert critic.encode(actions).tolist() == [[[0.5, -0.25, 1, 0, 0, 0, 1], [0.5, -0.25, 0, 0, 1, 1, 0]]]
    assert critic.action_dim == 7 and critic.q1_forward(th.zeros(1, 3), actions[:, 0]).shape == (1, 1)


def test_the_space():
    assert choices_of(SPACE) == CHOICES and SPACE.shape == (4,) and "choices=(3, 2)" in str(SPACE)
    copy = pickle.loads(pickle.dumps(SPACE))
    assert copy == SPACE and copy.choices == CHOICES
    box = spaces.Box(SPACE.low, SPACE.high)
    other = HybridBox(spaces.Box(np.array([-3, -3, -0.5], np.float32), np.array([1, 1, 2.5], np.float32)), (2,))
    for different in (box, other):
        assert np.array_equal(different.low, SPACE.low) and SPACE != different and different != SPACE
    SPACE.seed(0)
    actions = np.stack([SPACE.sample() for _ in range(3000)])
    assert all(SPACE.contains(action) for action in actions)
    for factor, n in enumerate(CHOICES):
        assert np.bincount(actions[:, 2 + factor].astype(int)) / 3000 == pytest.approx(np.full(n, 1 / n), abs=0.03)
    assert actions[:, :2].min(axis=0) == pytest.approx([-3, -3], abs=0.01)
    assert actions[:, 0].mean() == pytest.approx(-1, abs=0.1)
    allowed = np.array([SPACE.sample(mask=np.array([1, 0, 1, 0, 1])) for _ in range(50)])
    assert set(allowed[:, 2]) == {0, 2} and set(allowed[:, 3]) == {1}


@pytest.mark.parametrize(
    ("box", "choices", "message"),
    [
        (spaces.Box(-1, 1, (2, 2)), (2,), "give a one-dimensional box of floats"),
        (spaces.Box(-1, 1, (2,), np.int64), (2,), "give a one-dimensional box of floats"),
        (spaces.Box(-1, 1, (2,)), (), r"choices=\(\): give one number >= 1 per factor"),
        (spaces.Box(-1, 1, (2,)), (2, 0), r"choices=\(2, 0\): give one number >= 1 per factor"),
    ],
)
def test_spaces_without_a_meaning(box, choices, message):
    with pytest.raises(ValueError, match=message):
        HybridBox(box, choices)


def test_wrong_shapes_are_refused():
    logits, means, log_stds = parameters()
    with pytest.raises(ValueError, match="Expected"):
        distribution_of(logits, means[:, 1:], log_stds)
    with pytest.raises(ValueError, match="Expected"):
        distribution_of(*parameters()).sample(th.zeros(1, 5, 2, dtype=th.float64))
