"""
What the temperature does to a policy: the figure of docs/temperature.md. Seconds, no training.

    python examples/3_temperature.py

draws ``temperature.png``: a Q-function of one action, its Boltzmann densities at three temperatures, and at one of them the
squashed Gaussian with the largest soft value, which is what SAC and DSPG aim at. It needs the extra ``plots``.
"""

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize

ACTIONS = np.linspace(-1, 1, 1001)[1:-1]
TEMPERATURES = (0.05, 0.3, 2.0)


def q_function(actions: np.ndarray) -> np.ndarray:
    """
    Two peaks, the right one a little higher.

    :param actions: Actions, of any shape
    :return: Q-values, of the same shape
    """
    return np.exp(-(((actions + 0.5) / 0.2) ** 2)) + 1.1 * np.exp(-(((actions - 0.5) / 0.2) ** 2))


def integral(values: np.ndarray) -> float:
    """
    Integrate over the actions.

    :param values: Values at ``ACTIONS``
    :return: Integral
    """
    return float(np.trapezoid(values, ACTIONS))


def boltzmann(temperature: float) -> np.ndarray:
    """
    Density of the best of all policies.

    :param temperature: Temperature
    :return: Density at ``ACTIONS``
    """
    weights = np.exp(q_function(ACTIONS) / temperature)
    return weights / integral(weights)


def squashed_gaussian(mean: float, log_std: float) -> np.ndarray:
    """
    Density of tanh of a Gaussian.

    :param mean: Mean before the squash
    :param log_std: Logarithm of the standard deviation before the squash
    :return: Density at ``ACTIONS``
    """
    standardised = (np.arctanh(ACTIONS) - mean) / np.exp(log_std)
    density = np.exp(-0.5 * standardised**2 - log_std) / np.sqrt(2 * np.pi) / (1 - ACTIONS**2)
    return density / integral(density)


def soft_value(density: np.ndarray, temperature: float) -> float:
    """
    Expected Q-value of a policy, and temperature times its entropy.

    :param density: Density at ``ACTIONS``
    :param temperature: Temperature
    :return: Soft value
    """
    return integral(density * (q_function(ACTIONS) - temperature * np.log(density + 1e-300)))


def best_gaussian(temperature: float) -> np.ndarray:
    """
    Density of the squashed Gaussian of largest soft value, from several starts.

    :param temperature: Temperature
    :return: Density at ``ACTIONS``
    """
    starts = [(mean, log_std) for mean in (-0.5, 0.0, 0.5) for log_std in (-1.5, -0.5, 0.0)]
    results = [
        minimize(lambda x: -soft_value(squashed_gaussian(*x), temperature), start, method="Nelder-Mead") for start in starts
    ]
    return squashed_gaussian(*min(results, key=lambda result: result.fun).x)


def draw() -> Figure:
    """
    Draw the three panels.

    :return: The figure
    """
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.plot(ACTIONS, q_function(ACTIONS), color="black")
    left.set(title="Q-function")
    for temperature in TEMPERATURES:
        middle.plot(ACTIONS, boltzmann(temperature), label=f"temperature {temperature:g}")
    middle.set(title="Boltzmann densities", ylim=(0, None))
    temperature = TEMPERATURES[1]
    right.plot(ACTIONS, boltzmann(temperature), color="C1", label="Boltzmann density")
    right.plot(ACTIONS, best_gaussian(temperature), color="C3", linestyle="--", label="best squashed Gaussian")
    right.set(title=f"temperature {temperature:g}", ylim=(0, None))
    for panel in (left, middle, right):
        panel.set(xlabel="action", xlim=(-1, 1))
    for panel in (middle, right):
        panel.legend(fontsize="x-small")
    return figure


if __name__ == "__main__":
    draw().savefig("temperature.png", dpi=120)
