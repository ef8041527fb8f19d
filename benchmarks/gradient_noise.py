"""
Noise and time of estimators of the actor's gradient, on the critic of a trained DSPG.

    python -m rl_zoo3.train --algo dspg --env HalfCheetah-v4 --n-timesteps 60000 --log-folder logs
    python -m benchmarks.gradient_noise logs/dspg/HalfCheetah-v4_1/HalfCheetah-v4.zip HalfCheetah-v4

The score function with several samples per state is compared with the reparametrised gradient, which SAC follows. States are
those that the policy meets. ``signal`` is the squared norm of the mean gradient; ``noise`` is the trace of the gradient's
covariance for the same states, and ``batch_noise`` for another minibatch each time, as in training.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable
from functools import partial

import gymnasium as gym
import numpy as np
import torch as th

from sb3_maxent import DSPG

BATCH = 256
Estimator = Callable[[th.Tensor, int], th.Tensor]


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


ESTIMATORS = ((score_function_gradient, (2, 4, 8, 16, 64, 256)), (reparametrised_gradient, (1, 2, 4, 8)))


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
        {"env": arguments.env, "steps": model.num_timesteps, "estimator": gradient.__name__}
        | measure(partial(gradient, model), states, n_samples, arguments.repeats)
        for gradient, numbers in ESTIMATORS
        for n_samples in numbers
    ]
    writer = csv.DictWriter(sys.stdout, list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()})


if __name__ == "__main__":
    main()
