import numpy as np
import pytest

from benchmarks.multi_goal_density import SIZE, STEP, best_mixture, q_values, soft_values


@pytest.mark.slow
def test_soft_values_are_those_of_another_iteration():
    """Which had another grid, at reward scale 0.1 and temperature 1"""
    values = soft_values(10.0)
    at = [values[round((x + SIZE) / STEP), round((y + SIZE) / STEP)] for x, y in ((0, 0), (2.5, 2.5), (-2.5, 0), (4, 0))]
    assert np.array(at) / 10 == pytest.approx([-12.23, -5.70, -2.90, 0.47], abs=0.06)
    # But for points at a distance of 1 from a goal, which rounding puts inside or outside
    assert values == pytest.approx(values.T, abs=0.5) and values == pytest.approx(values[::-1], abs=0.5)
    # Both best actions between two goals are alike, and better than to stand still
    first, second, still = q_values(values, np.array([[0.44, -0.44], [-0.44, 0.44], [0.0, 0.0]]))
    assert first == pytest.approx(second, abs=0.5) and first > still + 5


def test_a_gaussian_is_fitted_exactly_where_the_density_is_one():
    """The logarithm of a squashed Gaussian as the Q-function, and one of two modes as the control"""
    centres = (np.arange(60) + 0.5) / 30 - 1
    actions = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2)
    before = np.arctanh(actions)

    def log_density(mean):
        return (-((before - mean) ** 2) / (2 * 0.4**2) - np.log(1 - actions**2)).sum(axis=1)

    def distance(q):
        density = np.exp(q) / np.exp(q).sum()
        return np.abs(best_mixture(actions, 3 * q, 3.0, [[0.1, -0.1]]) - density).sum() / 2

    assert distance(log_density(0.3)) < 0.01
    assert distance(np.logaddexp(log_density(0.6), log_density(-0.6))) > 0.2
