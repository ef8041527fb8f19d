import numpy as np
import pytest
import torch as th
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution

from sb3_maxent.common.distributions import Categorical, SquashedGaussian, draw_noise
from sb3_maxent.functional import expectation


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.7, -0.3), (-2.0, 1.0), (1.5, -2.0)])
def test_density_integrates_to_one(mean, log_std):
    distribution = SquashedGaussian(th.tensor([[mean]], dtype=th.float64), th.tensor([[log_std]], dtype=th.float64))
    # Substitution a = tanh(u), because the density in a has no bound at the borders
    u = th.linspace(-40, 40, 400_001, dtype=th.float64)
    log_tanh_derivative = -2 * th.log(th.cosh(u))
    mass = th.trapezoid(th.exp(distribution.log_prob(u[None, :, None])[0] + log_tanh_derivative), u)
    assert mass.item() == pytest.approx(1.0, abs=1e-6)


def test_agrees_with_sb3_where_that_is_accurate():
    th.manual_seed(0)
    mean, log_std = th.randn(5, 3), th.randn(5, 3) * 0.3 - 1
    distribution = SquashedGaussian(mean, log_std)
    samples = distribution.sample(th.randn(5, 1, 3))
    sb3 = SquashedDiagGaussianDistribution(3).proba_distribution(mean, log_std)
    expected = sb3.log_prob(distribution.actions(samples)[:, 0], samples[:, 0])
    assert th.allclose(distribution.log_prob(samples)[:, 0], expected, atol=1e-3)


def test_finite_and_exact_at_saturation():
    """tanh(20) is 1 in float32: the density comes from the value before the squash"""
    distribution = SquashedGaussian(th.full((1, 1), 20.0, requires_grad=True), th.zeros(1, 1, requires_grad=True))
    log_prob = distribution.log_prob(th.tensor([[[20.0], [-20.0]]]))
    log_tanh_derivative = 2 * np.log(2) - 2 * 20
    assert log_prob[0].tolist() == pytest.approx(
        [-0.5 * np.log(2 * np.pi) - log_tanh_derivative, -800 - 0.5 * np.log(2 * np.pi) - log_tanh_derivative]
    )
    gradients = th.autograd.grad(log_prob.sum(), [distribution.mean, distribution.log_std])
    assert all(th.isfinite(gradient).all() for gradient in gradients)


def test_samples_are_the_noise_moved_and_scaled_without_gradient():
    mean, log_std = th.randn(4, 2, requires_grad=True), th.randn(4, 2, requires_grad=True)
    distribution, noise = SquashedGaussian(mean, log_std), th.randn(4, 6, 2)
    samples = distribution.sample(noise)
    assert not samples.requires_grad
    assert not distribution.actions(samples).requires_grad
    assert th.allclose(samples, mean.detach()[:, None] + log_std.detach().exp()[:, None] * noise)
    assert th.equal(distribution.actions(samples), th.tanh(samples))
    assert distribution.log_prob(samples).requires_grad


def test_score_of_detached_samples_is_the_exact_gradient():
    """d/d mean of E[tanh(u)]: 0.6057 exactly, where a reparametrised sample would add its pathwise gradient"""
    th.manual_seed(0)
    mean = th.zeros(1, 1, requires_grad=True)
    distribution = SquashedGaussian(mean, th.zeros(1, 1))
    samples = distribution.sample(th.randn(1, 400_000, 1))
    actions = distribution.actions(samples)[..., 0]
    (gradient,) = th.autograd.grad((actions * distribution.log_prob(samples)).mean(), mean)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    exact = (weights * (1 - np.tanh(nodes) ** 2)).sum() / weights.sum()
    assert exact == pytest.approx(0.6057, abs=1e-4)
    assert gradient.item() == pytest.approx(exact, abs=0.005)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="Expected"):
        SquashedGaussian(th.zeros(4, 2), th.zeros(2))
    distribution = SquashedGaussian(th.zeros(4, 2), th.zeros(4, 2))
    for method in (distribution.sample, distribution.log_prob):
        with pytest.raises(ValueError, match="batch = 4"):
            method(th.zeros(3, 5, 2))


def test_components_of_noise_are_contiguous():
    noise = draw_noise(th.rand, 5, 4, 3, th.device("cpu"))
    assert noise.shape == (5, 4, 3) and noise[:, :, 0].is_contiguous() and noise.unique().numel() == 60


def test_categorical():
    logits = th.tensor([[0.0, 1.0, -2.0], [3.0, 3.0, -40.0]], dtype=th.float64)
    distribution = Categorical(logits + 7)
    probabilities = th.softmax(logits, dim=1)
    # The distribution function is inverted: even noise gives the probabilities to the width of its grid
    noise = ((th.arange(10_000) + 0.5) / 10_000).expand(2, -1).unsqueeze(2)
    samples = distribution.sample(noise)
    frequencies = th.stack([(samples == action).double().mean(dim=1) for action in range(3)], dim=1)
    assert th.allclose(frequencies, probabilities, atol=1e-4)
    assert th.allclose(distribution.log_prob(samples).exp(), probabilities.gather(1, samples))
    assert distribution.mode().tolist() == [1, 0]
    # Its expectation is exact, for any noise
    actions, weights = distribution.weighted_samples(noise[:, :1])
    assert actions.tolist() == [[0, 1, 2]] * 2 and th.allclose(weights, probabilities)
    with pytest.raises(ValueError, match="Expected"):
        distribution.sample(noise[0])


def test_the_largest_noise_is_an_action():
    """Where the sum of probabilities rounds to less than the noise"""
    distribution = Categorical(th.randn(100, 7, generator=th.Generator().manual_seed(0)))
    assert distribution.sample(th.full((100, 1, 1), 1 - 2**-24)).max() == 6


def test_an_action_that_is_ruled_out():
    distribution = Categorical(th.tensor([[0.0, 1.0, -th.inf]], requires_grad=True))
    actions, weights = distribution.weighted_samples(th.zeros(1, 1, 1))
    assert weights[0, 2] == 0 and th.isfinite(expectation(distribution.log_prob(actions), weights)).all()
    assert distribution.sample(th.rand(1, 1000, 1)).max() == 1


def test_noise_of_zero_draws_no_forbidden_choice():
    """A generator of numbers in [0, 1) returns zero, too"""
    assert Categorical(th.tensor([[-th.inf, 0.0, 0.0]])).sample(th.zeros(1, 1, 1)).item() == 1
