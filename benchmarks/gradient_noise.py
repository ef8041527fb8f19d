"""
Noise and time of estimators of the actor's gradient, on the critic of a trained DSPG.

    python -m rl_zoo3.train --algo dspg --env HalfCheetah-v4 --n-timesteps 60000 --log-folder logs
    python -m benchmarks.gradient_noise logs/dspg/HalfCheetah-v4_1/HalfCheetah-v4.zip HalfCheetah-v4

The score function with several samples per state is compared with the reparametrised gradient, which SAC follows, and with
samples of a state that depend on each other so that they fill the distribution more evenly. States are those that the policy
meets. ``signal`` is the squared norm of the mean gradient; ``noise`` is the trace of the gradient's covariance for the same
states, and ``batch_noise`` for another minibatch each time, as in training. ``draw_milliseconds`` is the part of the time
that the noise takes.
"""

import argparse
import csv
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import gymnasium as gym
import numpy as np
import torch as th

from sb3_maxent import DSPG

BATCH = 256
Estimator = Callable[[th.Tensor, int], th.Tensor]
# From numbers of states, samples and components: noise of shape (batch, groups, samples of a group, components). Groups are
# independent, and each sample alone is standard normal
Draw = Callable[[int, int, int], th.Tensor]


def antithetic(batch_size: int, n_samples: int, n_components: int) -> th.Tensor:
    """
    Pairs of noise and its opposite. For the parameters see :data:`Draw`.

    :return: Noise, shape (batch, samples / 2, 2, components)
    """
    noise = th.randn(batch_size, n_samples // 2, 1, n_components)
    return th.cat([noise, -noise], dim=2)


def normal_quantiles(uniform: th.Tensor) -> th.Tensor:
    """
    Inverse distribution function of the standard normal.

    :param uniform: Numbers in [0, 1]
    :return: Finite quantiles, of the same shape
    """
    half = 2.0**-25  # half of what float32 resolves near one
    return math.sqrt(2) * th.erfinv((2 * uniform - 1).clamp(-1 + 4 * half, 1 - 4 * half))


@cache
def sobol_points(n_points: int, n_components: int) -> th.Tensor:
    """
    The first points of the Sobol sequence.

    :param n_points: Number of points
    :param n_components: Number of components
    :return: Points in the unit cube, shape (points, components)
    """
    return th.quasirandom.SobolEngine(n_components).draw(n_points)


def shifted_sobol(batch_size: int, n_samples: int, n_components: int, shared: bool = False) -> th.Tensor:
    """
    Randomised quasi-Monte-Carlo: two independent random shifts, modulo one, of Sobol points (Cranley & Patterson 1976).

    :param shared: Whether all states have the same two shifts. For the other parameters see :data:`Draw`
    :return: Noise, shape (batch, 2, samples / 2, components)
    """
    shifts = th.rand(1 if shared else batch_size, 2, 1, n_components)
    noise = normal_quantiles((sobol_points(n_samples // 2, n_components) + shifts).remainder(1.0))
    return noise.expand(batch_size, -1, -1, -1)  # (batch, 2, samples / 2, components)


def scrambled_sobol(batch_size: int, n_samples: int, n_components: int) -> th.Tensor:
    """
    Randomised quasi-Monte-Carlo: two independent scrambles of Sobol points (Owen 1998), the same for all states.

    :return: Noise, shape (batch, 2, samples / 2, components)
    """
    engines = [th.quasirandom.SobolEngine(n_components, scramble=True, seed=int(th.randint(2**31, ()))) for _ in range(2)]
    noise = normal_quantiles(th.stack([engine.draw(n_samples // 2) for engine in engines]))  # (2, samples / 2, components)
    return noise.expand(batch_size, -1, -1, -1)  # (batch, 2, samples / 2, components)


def latin_hypercube(batch_size: int, n_samples: int, n_components: int) -> th.Tensor:
    """
    Two independent Latin hypercubes: within one, each component has one sample in each of equally probable intervals.

    :return: Noise, shape (batch, 2, samples / 2, components)
    """
    intervals = th.rand(batch_size, 2, n_samples // 2, n_components).argsort(dim=2)
    return normal_quantiles((intervals + th.rand(intervals.shape)) / intervals.shape[2])


def grouped_gradient(model: DSPG, draw: Draw, obs: th.Tensor, n_samples: int, leave_group_out: bool = True) -> th.Tensor:
    r"""
    The score function for a squashed Gaussian, with samples that depend on each other within a group.

    The baseline of a sample is the mean over the *other groups*. It does not depend on the sample, so that
    :math:`E[b \nabla \log \pi(a)] = 0`, and as each sample alone follows the policy, the gradient has no bias. Leaving only
    the sample itself out has one: the others of its group know where it is.

    :param model: Model
    :param draw: What draws the noise
    :param obs: Observations, shape (batch, ...)
    :param n_samples: Actions per state
    :param leave_group_out: Whether to leave the group out of the baseline, or only the sample
    :return: Gradient in all parameters of the actor, shape (parameters,)
    """
    noise = draw(len(obs), n_samples, model.actor.noise_dim)  # (batch, groups, samples of a group, action)
    size = noise.shape[2] if leave_group_out else 1
    distribution = model.actor.action_distribution(obs)
    samples = distribution.sample(noise.flatten(1, 2))  # (batch, samples, action)
    log_prob = distribution.log_prob(samples)  # (batch, samples)
    with th.no_grad():
        q_values = model.critic.q_values(model.critic.embed(obs), distribution.actions(samples))  # (batch, samples)
        groups = (q_values - model.temperature.value * log_prob).unflatten(1, (-1, size))  # (batch, groups, samples of one)
        others = (groups.sum(dim=(1, 2), keepdim=True) - groups.sum(dim=2, keepdim=True)) / (n_samples - size)
        multipliers = (groups - others).flatten(1)  # (batch, samples)
    return flat_gradient(model, -(multipliers * log_prob).mean())


def score_function_gradient(model: DSPG, obs: th.Tensor, n_samples: int) -> th.Tensor:
    """
    Gradient of the loss that DSPG trains with.

    :param model: Model
    :param obs: Observations, shape (batch, ...)
    :param n_samples: Actions per state
    :return: Gradient in all parameters of the actor, shape (parameters,)
    """
    with th.no_grad():
        embedding = model.critic.embed(obs)
    loss, _ = model._actor_loss(obs, embedding, model.actor.draw_noise(len(obs), n_samples), model.temperature.value)
    return flat_gradient(model, loss)


def reparametrised_gradient(model: DSPG, obs: th.Tensor, n_samples: int) -> th.Tensor:
    """
    Gradient of SAC's loss of the actor, of a squashed Gaussian, for the same critics.

    :param model: Model
    :param obs: Observations, shape (batch, ...)
    :param n_samples: Actions per state
    :return: Gradient in all parameters of the actor, shape (parameters,)
    """
    distribution = model.actor.action_distribution(obs)
    noise = model.actor.draw_noise(len(obs), n_samples)
    pre_tanh = distribution.mean.unsqueeze(1) + distribution.log_std.exp().unsqueeze(1) * noise  # (batch, samples, action)
    q_values = model.critic.value(model.critic.predictions(model.critic.embed(obs), th.tanh(pre_tanh)))  # (batch, samples)
    return flat_gradient(model, (model.temperature.value * distribution.log_prob(pre_tanh) - q_values).mean())


def flat_gradient(model: DSPG, loss: th.Tensor) -> th.Tensor:
    """
    :param model: Model
    :param loss: Loss of its actor
    :return: Gradient, shape (parameters,)
    """
    return th.cat([gradient.flatten() for gradient in th.autograd.grad(loss, [*model.actor.parameters()])])


def visited_states(model: DSPG, env: gym.Env, n_steps: int) -> th.Tensor:
    """
    :param model: Model
    :param env: Environment
    :param n_steps: Number of steps
    :return: Observations that the policy meets, shape (steps, observation)
    """
    obs, observations = env.reset(seed=0)[0], []
    for _ in range(n_steps):
        observations.append(obs)
        obs, _, terminated, truncated, _ = env.step(model.predict(obs)[0])
        if terminated or truncated:
            obs, _ = env.reset()
    return th.as_tensor(np.array(observations), dtype=th.float32)


def noise_of(gradients: list[th.Tensor]) -> tuple[float, float]:
    """
    Squared norm of the mean of gradients, and the trace of their covariance.

    :param gradients: Gradients with independent noise
    :return: Both, unbiased
    """
    stacked = th.stack(gradients)  # (gradients, parameters)
    noise = stacked.var(dim=0).sum().item()
    return stacked.mean(dim=0).square().sum().item() - noise / len(gradients), noise


def measure(estimator: Estimator, states: th.Tensor, n_samples: int, n_repeats: int) -> dict[str, float]:
    """
    Measure one estimator.

    :param estimator: Function from observations and number of samples to a gradient
    :param states: States to draw from, shape (states, observation)
    :param n_samples: Actions per state
    :param n_repeats: Number of gradients
    :return: A row of the table
    """
    fixed = states[th.randperm(len(states))[:BATCH]]
    start = time.process_time()
    signal, noise = noise_of([estimator(fixed, n_samples) for _ in range(n_repeats)])
    milliseconds = (time.process_time() - start) / n_repeats * 1000
    batches = [states[th.randperm(len(states))[:BATCH]] for _ in range(n_repeats)]
    _, batch_noise = noise_of([estimator(batch, n_samples) for batch in batches])
    return {"samples": n_samples, "signal": signal, "noise": noise, "batch_noise": batch_noise, "milliseconds": milliseconds}


DRAWS: dict[str, Draw] = {
    "antithetic": antithetic,
    "shifted_sobol": shifted_sobol,
    "shifted_sobol_shared": partial(shifted_sobol, shared=True),
    "scrambled_sobol_shared": scrambled_sobol,
    "latin_hypercube": latin_hypercube,
}


def estimators(model: DSPG) -> Iterator[tuple[str, Estimator, Sequence[int]]]:
    """
    What is compared.

    :param model: Model
    :return: Names, estimators, and their numbers of samples
    """
    yield "score_function_gradient", partial(score_function_gradient, model), (2, 4, 8, 16, 64, 256)
    for name, draw in DRAWS.items():
        yield name, partial(grouped_gradient, model, draw), (4, 8, 16, 64)
    yield "reparametrised_gradient", partial(reparametrised_gradient, model), (1, 2, 4, 8)


def draw_milliseconds(model: DSPG, name: str, n_samples: int, n_repeats: int) -> float:
    """
    Time that the noise takes.

    :param model: Model
    :param name: Name of the estimator
    :param n_samples: Actions per state
    :param n_repeats: Number of repetitions
    :return: Milliseconds
    """
    start = time.process_time()
    for _ in range(n_repeats):
        if name in DRAWS:
            DRAWS[name](BATCH, n_samples, model.actor.noise_dim).contiguous()
        else:
            model.actor.draw_noise(BATCH, n_samples)
    return (time.process_time() - start) / n_repeats * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("env")
    parser.add_argument("--states", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=60)
    arguments = parser.parse_args()
    th.set_num_threads(1)
    th.manual_seed(0)
    env = gym.make(arguments.env)
    model = DSPG.load(arguments.model, env=env, compile=False, buffer_size=1)
    states = visited_states(model, env, arguments.states)
    rows = [
        {"env": arguments.env, "steps": model.num_timesteps, "estimator": name}
        | measure(estimator, states, n_samples, arguments.repeats)
        | {"draw_milliseconds": draw_milliseconds(model, name, n_samples, arguments.repeats)}
        for name, estimator, numbers in estimators(model)
        for n_samples in numbers
    ]
    writer = csv.DictWriter(sys.stdout, list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()})


if __name__ == "__main__":
    main()
