import numpy as np
import pytest
import torch as th

from sb3_maxent.functional import ent_coef_loss, score_function_loss, score_function_weights
from tests.functional.closed_forms import SoftLQR


def gradient_samples(weights_fn, n_states=40_000, n_samples=4, mean=0.3, std=0.5, alpha=0.0, offset=0.0, h=3.0, b=-0.2):
    """
    Independent gradient estimates in (mean, log std) of a 1-D Gaussian on the quadratic c - h/2 (a - b)^2.

    :return: Shape (states, 2), one estimate from n_samples actions per row
    """
    generator = th.Generator().manual_seed(0)
    actions = mean + std * th.randn(n_states, n_samples, generator=generator, dtype=th.float64)
    means = th.full((n_states, 1), mean, dtype=th.float64, requires_grad=True)
    log_stds = th.full((n_states, 1), float(np.log(std)), dtype=th.float64, requires_grad=True)
    log_prob = th.distributions.Normal(means, log_stds.exp()).log_prob(actions)
    q_values = offset - 0.5 * h * (actions - b) ** 2
    weights = weights_fn(q_values, log_prob.detach(), alpha)
    gradients = th.autograd.grad((weights * log_prob).mean(dim=1).sum(), [means, log_stds])
    return th.cat(gradients, dim=1).detach().numpy()


def mean_baseline(q_values, log_prob, alpha):
    """What one would write at first: biased, because each sample is in its own baseline"""
    values = q_values - alpha * log_prob
    return values - values.mean(dim=1, keepdim=True)


ESTIMATORS = {
    "none": lambda q, log_prob, alpha: score_function_weights(q, log_prob, alpha, "none"),
    "loo": lambda q, log_prob, alpha: score_function_weights(q, log_prob, alpha, "loo"),
    "mean": mean_baseline,
}


def deviations(estimates, exact):
    """Distance of the mean from the exact value, in standard errors"""
    return np.abs(estimates.mean(axis=0) - exact) / (estimates.std(axis=0) / np.sqrt(len(estimates)))


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_unbiased_on_a_quadratic(alpha):
    h, delta, std = 3.0, 0.5, 0.5
    exact = np.array([-h * delta, -h * std**2 + alpha])
    for name in ("none", "loo"):
        assert (deviations(gradient_samples(ESTIMATORS[name], alpha=alpha), exact) < 4).all(), name
    # The mean over all samples is found out, and is off by exactly 1 - 1/M
    biased = gradient_samples(ESTIMATORS["mean"], alpha=alpha)
    assert (deviations(biased, exact) > 4).all()
    assert (deviations(biased, exact * (1 - 1 / 4)) < 4).all()


def test_variance_is_that_of_the_formula():
    h, delta, std, offset = 3.0, 0.5, 0.5, 20.0
    f0 = offset - 0.5 * h * delta**2
    raw_mean = (f0**2 - 3 * f0 * h * std**2 + 15 / 4 * h**2 * std**4) / std**2 + 2 * h**2 * delta**2
    raw_log_std = 2 * f0**2 + 10 * h**2 * delta**2 * std**2 + 19.5 * h**2 * std**4 - 10 * f0 * h * std**2 - h**2 * std**4
    estimates = gradient_samples(ESTIMATORS["none"], n_states=400_000, n_samples=1, offset=offset)
    assert estimates.var(axis=0) == pytest.approx([raw_mean, raw_log_std], rel=0.02)


def test_leave_one_out_does_not_see_an_offset():
    small = gradient_samples(ESTIMATORS["loo"], n_states=4_000, n_samples=64)
    large = gradient_samples(ESTIMATORS["loo"], n_states=4_000, n_samples=64, offset=2500.0)
    assert np.allclose(small, large, atol=1e-6)
    # With the mean as the baseline of 64 samples the single-sample variance of the formula is 2.5 h^2 s^2 + 2 h^2 d^2
    expected = (2.5 * 9 * 0.25 + 2 * 9 * 0.25) / 64
    assert large.var(axis=0)[0] == pytest.approx(expected, rel=0.1)
    none = gradient_samples(ESTIMATORS["none"], n_states=4_000, n_samples=64, offset=2500.0)
    assert none.var(axis=0)[0] > 1e4 * large.var(axis=0)[0]


def test_leave_one_out_has_no_variance_at_the_optimum():
    """Q - alpha log pi is constant there, so the sampled entropy cancels what the Q-value adds"""
    alpha, h = 0.75, 3.0
    at_optimum = {"mean": -0.2, "std": np.sqrt(alpha / h), "alpha": alpha}
    assert np.abs(gradient_samples(ESTIMATORS["loo"], n_states=100, **at_optimum)).max() < 1e-12
    assert gradient_samples(ESTIMATORS["none"], n_states=100, **at_optimum).var(axis=0).min() > 0.01


@pytest.mark.parametrize("baseline", ["none", "loo"])
def test_unbiased_against_the_soft_policy_gradient_of_the_lqr(baseline):
    """Exact soft Q-function in, exact gradient in all four gains and both standard deviations out"""
    lqr, rng = SoftLQR(), np.random.default_rng(1)
    n_states, n_samples, n_repeats = 50, 8, 2_000
    states = rng.normal(size=(n_states, 2))
    exact = np.concatenate([lqr.gain_gradient(states).ravel(), lqr.log_std_gradient()])
    repeated = th.as_tensor(np.tile(states, (n_repeats, 1)))  # (repeats * states, 2)
    gains = th.as_tensor(lqr.K).expand(n_repeats, 2, 2).clone().requires_grad_()
    log_stds = th.as_tensor(0.5 * np.log(np.diag(lqr.Sigma))).expand(n_repeats, 2).clone().requires_grad_()

    def policy(gains, log_stds):
        means = -th.einsum("rij,rnj->rni", gains, repeated.reshape(n_repeats, n_states, 2)).reshape(-1, 1, 2)
        stds = log_stds.exp()[:, None].expand(n_repeats, n_states, 2).reshape(-1, 1, 2)
        return th.distributions.Normal(means, stds)

    with th.no_grad():
        th.manual_seed(0)
        actions = policy(gains, log_stds).sample((n_samples,))[:, :, 0].transpose(0, 1)  # (repeats * states, samples, 2)
        q_values = th.as_tensor(lqr.q_value(repeated.numpy(), actions.numpy()))

    def estimates(loss_of):
        log_prob = policy(gains, log_stds).log_prob(actions).sum(-1)
        # The loss averages over repeats too: undo that, to have one estimate per repeat
        grads = th.autograd.grad(loss_of(log_prob) * n_repeats, [gains, log_stds])
        return -th.cat([grads[0].flatten(1), grads[1]], dim=1).numpy()

    unbiased = estimates(lambda log_prob: score_function_loss(log_prob, q_values, lqr.alpha, baseline))
    assert (deviations(unbiased, exact) < 4).all()
    biased = estimates(lambda log_prob: -(mean_baseline(q_values, log_prob.detach(), lqr.alpha) * log_prob).mean())
    assert (deviations(biased, exact) > 4).any()


def test_weights_by_hand():
    q_values, log_prob = th.tensor([[1.0, 2.0, 6.0]]), th.tensor([[0.0, -1.0, 1.0]])
    # f = Q - 2 log pi
    assert th.equal(score_function_weights(q_values, log_prob, 2.0, "none"), th.tensor([[-1.0, 2.0, 2.0]]))
    assert th.allclose(score_function_weights(q_values, log_prob, 2.0, "loo"), th.tensor([[-3.0, 1.5, 1.5]]))
    # Two samples are each other's baseline, which is the default
    assert th.equal(score_function_weights(q_values[:, :2], log_prob[:, :2], 2.0), th.tensor([[-3.0, 3.0]]))
    # -(-3 * 0 + 3 * -1) / 2, and for the published estimator -(-1 * 0 + 2 * -1) / 2
    assert score_function_loss(log_prob[:, :2], q_values[:, :2], 2.0).item() == 1.5
    assert score_function_loss(log_prob[:, :2], q_values[:, :2], 2.0, "none").item() == 1.0


def test_weights_of_strata_by_hand():
    values = th.tensor([[1.0, 3.0, 4.0, 8.0]])
    strata = th.tensor([[[0.125, 0.125, 0.0, 0.0], [0.0, 0.0, 0.375, 0.375]]])
    # The expectation is 0.25 * 2 + 0.75 * 6 = 5, and without the first sample 0.25 * 3 + 0.75 * 6 = 5.25
    multipliers = score_function_weights(values, th.zeros(1, 4), 0.0, "loo", strata)
    assert multipliers.tolist() == [[1 - 5.25, 3 - 4.75, 4 - 6.5, 8 - 3.5]]
    # One stratum is the plain mean
    multipliers = score_function_weights(values, th.zeros(1, 4), 0.0, "loo", th.full((1, 1, 4), 0.25))
    assert th.allclose(multipliers, score_function_weights(values, th.zeros(1, 4), 0.0, "loo"))


def test_loss_gradient_equals_that_of_the_log_variance():
    """Half the sample variance of alpha log pi - Q, divided by alpha, has the same gradient"""
    alpha = 0.3
    log_prob = th.randn(5, 7, dtype=th.float64, requires_grad=True)
    q_values = th.randn(5, 7, dtype=th.float64)
    (gradient,) = th.autograd.grad(score_function_loss(log_prob, q_values, alpha, "loo"), log_prob)
    log_variance = (alpha * log_prob - q_values).var(dim=1).mean() / (2 * alpha)
    (expected,) = th.autograd.grad(log_variance, log_prob)
    assert th.allclose(gradient, expected)


def test_weights_carry_no_gradient():
    q_values, log_prob = th.randn(2, 3, requires_grad=True), th.randn(2, 3, requires_grad=True)
    for baseline in ("none", "loo"):
        assert not score_function_weights(q_values, log_prob, 0.1, baseline).requires_grad
        score_function_loss(log_prob, q_values, 0.1, baseline).backward()
        assert q_values.grad is None


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"^The leave-one-out baseline needs at least two action samples per state, got 1$"):
        score_function_weights(th.zeros(3, 1), th.zeros(3, 1), 0.1, "loo")
    with pytest.raises(ValueError, match="Unknown baseline 'mean'"):
        score_function_weights(th.zeros(3, 2), th.zeros(3, 2), 0.1, "mean")


@pytest.mark.parametrize("baseline", ["none", "loo"])
def test_an_exact_sum_has_the_exact_gradient(baseline):
    """Of the soft value of a softmax policy in its logits, with an offset of Q that hides nothing"""
    th.manual_seed(0)
    logits = th.randn(3, 5, dtype=th.float64, requires_grad=True)
    q_values, alpha = 1000 + th.randn(3, 5, dtype=th.float64), 0.3
    log_prob = th.log_softmax(logits, dim=1)
    value = (log_prob.exp() * (q_values - alpha * log_prob)).sum(dim=1).mean()
    (exact,) = th.autograd.grad(-value, logits, retain_graph=True)
    loss = score_function_loss(log_prob, q_values, alpha, baseline, log_prob.detach().exp())
    assert th.allclose(th.autograd.grad(loss, logits, retain_graph=True)[0], exact, atol=1e-9)
    # All actions as if the policy had drawn them
    (wrong,) = th.autograd.grad(score_function_loss(log_prob, q_values, alpha, "loo"), logits)
    assert not th.allclose(wrong, exact, atol=1e-2)
    # Here the baseline leaves no action out, so one action is enough
    single = score_function_weights(q_values[:, :1], log_prob[:, :1], alpha, "loo", th.ones(3, 1, dtype=th.float64))
    assert th.equal(single, th.zeros_like(single))


def test_ent_coef_loss_gradient():
    """The gradient in log alpha is (entropy - target): below the target the coefficient rises"""
    log_ent_coef = th.tensor([0.7], requires_grad=True)
    log_prob = th.tensor([[1.0, 3.0], [0.0, 0.0]], requires_grad=True)  # entropy -1
    loss = ent_coef_loss(log_ent_coef, log_prob, target_entropy=2.0)
    assert loss.item() == pytest.approx(-0.7 * 3.0)
    loss.backward()
    assert log_ent_coef.grad.item() == pytest.approx(-3.0)
    assert log_prob.grad is None


def test_leave_one_out_in_strata_of_different_sizes():
    """Two and three samples: each is compared with the mean of the others of its stratum, and with the other stratum"""
    values = th.tensor([[1.0, 3.0, 8.0, 4.0, 6.0]])
    strata = th.tensor([[[0.125, 0.125, 0.0, 0.0, 0.0], [0.0, 0.0, 0.25, 0.25, 0.25]]])
    weights = score_function_weights(values, th.zeros(1, 5), 0.0, "loo", strata)
    assert weights.tolist() == [pytest.approx([1 - 5.25, 3 - 4.75, 8 - 4.25, 4 - 5.75, 6 - 5.0])]
