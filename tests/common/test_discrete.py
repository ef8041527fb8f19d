"""Discrete factors: how they are counted, encoded and distributed, against sums over all joint actions."""

import itertools
import math

import pytest
import torch as th
from gymnasium import spaces

from sb3_maxent.common import discrete
from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.common.discrete import MultiCategorical, choices_of, joint_actions, make_distribution
from sb3_maxent.functional import expectation
from tests.envs import RandomEnv
from tests.models import VECTOR, make_model

CHOICES = (3, 1, 2)
LOGITS = th.randn(4, sum(CHOICES), generator=th.Generator().manual_seed(0), dtype=th.float64)


def joint_probabilities(logits, choices):
    """By loops over states and joint actions"""
    rows = []
    for row in logits:
        factors = [th.softmax(part, dim=0) for part in row.split(choices)]
        joint = itertools.product(*(range(n) for n in choices))
        rows.append([math.prod(factor[i].item() for factor, i in zip(factors, action, strict=True)) for action in joint])
    return th.tensor(rows, dtype=logits.dtype)


def test_choices():
    assert choices_of(spaces.Discrete(5)) == (5,) and choices_of(spaces.Box(-1, 1, (2,))) == ()
    assert choices_of(spaces.MultiDiscrete([3, 2])) == (3, 2) and choices_of(spaces.MultiBinary(3)) == (2, 2, 2)
    numbers = th.arange(6).expand(2, -1)
    assert joint_actions(numbers, CHOICES)[1].tolist() == [[*action] for action in itertools.product([0, 1, 2], [0], [0, 1])]


def test_the_expectation_is_the_sum_over_all_joint_actions():
    distribution = MultiCategorical(LOGITS, CHOICES)
    actions, weights = distribution.weighted_samples(th.zeros(4, 1, 3))
    exact = joint_probabilities(LOGITS, CHOICES)
    assert actions.shape == (4, 6, 3) and th.allclose(weights, exact, atol=1e-12)
    assert th.allclose(distribution.log_prob(actions), exact.log())
    assert weights.sum(dim=1).tolist() == pytest.approx([1.0] * 4)
    entropy = -expectation(distribution.log_prob(actions), weights)
    assert th.allclose(entropy[:, 0], -(exact * exact.log()).sum(dim=1))
    assert distribution.mode()[0].tolist() == actions[0, exact[0].argmax()].tolist()


def test_samples_are_distributed_as_they_should():
    """Even noise gives each factor its probabilities, and a factor with one choice has no other"""
    distribution, n = MultiCategorical(LOGITS, CHOICES), 10_000
    samples = distribution.sample(((th.arange(n) + 0.5) / n)[None, :, None].expand(4, n, 3))
    for factor, logits in enumerate(LOGITS.split(CHOICES, dim=1)):
        frequencies = [(samples[:, :, factor] == i).double().mean(dim=1) for i in range(CHOICES[factor])]
        assert th.allclose(th.stack(frequencies, dim=1), th.softmax(logits, dim=1), atol=1e-4)
    # The largest noise, where the sum of probabilities rounds to less
    many = MultiCategorical(th.randn(200, 9, generator=th.Generator().manual_seed(0)), (7, 2))
    assert many.sample(th.full((200, 1, 2), 1 - 2**-24)).amax(dim=(0, 1)).tolist() == [6, 1]


def test_the_limit_of_exact_sums(monkeypatch):
    distribution, noise = MultiCategorical(LOGITS, CHOICES), th.rand(4, 5, 3)
    for limit, n_actions in ((6, 6), (5, 5)):
        monkeypatch.setattr(discrete, "MAX_SUMMED_ACTIONS", limit)
        actions, weights = distribution.weighted_samples(noise)
        assert actions.shape == (4, n_actions, 3) and (weights is None) == (limit < 6)


@pytest.mark.parametrize(("n_bits", "is_sum"), [(6, True), (7, False)])
def test_up_to_64_joint_actions_are_summed(n_bits, is_sum):
    distribution = MultiCategorical(th.zeros(1, 2 * n_bits), (2,) * n_bits)
    assert (distribution.weighted_samples(th.rand(1, 2, n_bits))[1] is not None) == is_sum


def test_a_choice_that_is_ruled_out():
    logits = LOGITS.float()
    logits[:, 1] = logits[:, 4] = -th.inf
    distribution = MultiCategorical(logits.requires_grad_(), CHOICES)
    actions, weights = distribution.weighted_samples(th.zeros(4, 1, 3))
    entropy = -expectation(distribution.log_prob(actions), weights)
    assert th.isfinite(entropy).all() and ((weights > 0).sum(dim=1) == 2).all()
    (gradient,) = th.autograd.grad(entropy.sum(), logits)
    assert th.isfinite(gradient).all()


@pytest.mark.parametrize(("space", "dim"), [(spaces.MultiDiscrete([3, 2]), 5), (spaces.MultiBinary(3), 3)])
def test_bits_have_one_logit_each(space, dim):
    logits = th.randn(2, dim, dtype=th.float64)
    distribution = make_distribution(logits, space, choices_of(space))
    actions, weights = distribution.weighted_samples(th.zeros(2, 1, len(space.shape)))
    if isinstance(space, spaces.MultiBinary):
        odds = (th.sigmoid(logits).unsqueeze(1) * actions + th.sigmoid(-logits).unsqueeze(1) * (1 - actions)).prod(dim=2)
        assert th.allclose(weights, odds)
    else:
        assert th.allclose(weights, joint_probabilities(logits, (3, 2)))
    for shape in ((2, dim + 1), (dim,)):
        with pytest.raises(ValueError, match="Expected"):
            MultiCategorical(th.zeros(shape), choices_of(spaces.MultiDiscrete([3, 2])))


@pytest.mark.parametrize(
    ("space", "action", "expected"),
    [
        (spaces.Discrete(3), [[1, 2]], [[[0, 1, 0], [0, 0, 1]]]),
        (spaces.MultiDiscrete([3, 2]), [[[0, 1], [2, 0]]], [[[1, 0, 0, 0, 1], [0, 0, 1, 1, 0]]]),
        (spaces.MultiBinary(3), [[[0, 1, 1]]], [[[-1, 1, 1]]]),
        (spaces.Box(-1, 1, (2,)), [[[0.5, -0.5]]], [[[0.5, -0.5]]]),
    ],
)
def test_inputs_of_the_critic(space, action, expected):
    critic = make_model("DSPG", RandomEnv(VECTOR, space)).critic
    assert critic.encode(th.tensor(action)).tolist() == expected
    if not isinstance(space, spaces.Box):
        # Each joint action once, and its Q-value is that of ``forward``
        everything = critic.all_actions(2)
        assert len(set(map(str, everything[0].tolist()))) == everything.shape[1] == math.prod(choices_of(space))
        observations = th.randn(2, 3)
        q_values = critic.predictions(critic.embed(observations), everything)[0]
        one = everything[:, -1:] if everything.dim() == 2 else everything[:, -1]
        assert th.allclose(critic.q1_forward(observations, one)[:, 0], q_values[:, -1])


def test_inputs_grow_with_the_sum_of_choices():
    """Not with their product, which has no float here"""
    critic = make_model("DSPG", RandomEnv(VECTOR, spaces.MultiDiscrete([10] * 400))).critic
    assert isinstance(critic, MultiActionCritic) and critic.action_dim == 4000


def test_noise_of_zero_draws_no_forbidden_choice():
    assert MultiCategorical(th.tensor([[-th.inf, 0.0, 0.0]]), (3,)).sample(th.zeros(1, 1, 1)).item() == 1
