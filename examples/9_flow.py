"""
A policy distribution of your own: an invertible network (flow) beside the mixture of example 5.

    python examples/9_flow.py --seeds 0 1 2 3 4 > flow.csv

trains a Gaussian, a mixture of four and a flow on MultiGoal-v0 with the settings of ``5_mixture_multi_goal.py``. Each has a
row with the columns of that example, and the seconds of the processor in which it learned. The flow is a Gaussian behind four
affine coupling layers (RealNVP, https://arxiv.org/abs/1605.08803). Each layer moves half of the action's components by an
amount that depends on the state and on the other half, so that its inverse, and with it the density of an action, is known.
"""

import argparse
import runpy
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch as th
from torch import nn

from sb3_maxent import DSPG
from sb3_maxent.common.distributions import PolicyDistribution, SquashedGaussian, log_tanh_derivative
from sb3_maxent.dspg.actors import Actor
from sb3_maxent.dspg.policies import DSPGPolicy

EXAMPLE_5 = runpy.run_path(str(Path(__file__).with_name("5_mixture_multi_goal.py")))
N_LAYERS, HIDDEN, LARGEST_LOG_SCALE = 4, 32, 2.0


class Coupling(nn.Module):
    """One layer of the flow. It starts as the identity."""

    moved: th.Tensor

    def __init__(self, latent_dim: int, action_dim: int, number: int):
        super().__init__()
        self.register_buffer("moved", ((th.arange(action_dim) + number) % 2 == 0).float())  # (action,), others are kept
        self.from_state, self.from_action = nn.Linear(latent_dim, HIDDEN), nn.Linear(action_dim, HIDDEN, bias=False)
        self.output = nn.Linear(HIDDEN, 2 * action_dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, latent: th.Tensor, samples: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        kept = samples * (1 - self.moved)  # (batch, samples, action)
        hidden = th.relu(self.from_state(latent).unsqueeze(1) + self.from_action(kept))  # (batch, samples, HIDDEN)
        log_scale, shift = self.output(hidden).chunk(2, dim=-1)  # (batch, samples, action) each
        return LARGEST_LOG_SCALE * th.tanh(log_scale) * self.moved, shift * self.moved


class Flow(PolicyDistribution):
    """A squashed Gaussian whose samples go through coupling layers before the squash."""

    def __init__(self, gaussian: SquashedGaussian, layers: nn.ModuleList, latent: th.Tensor):
        self.gaussian, self.layers, self.latent = gaussian, layers, latent

    @th.no_grad()
    def sample(self, noise: th.Tensor) -> th.Tensor:
        return self.push(self.gaussian.sample(noise))  # (batch, samples, action)

    def push(self, samples: th.Tensor) -> th.Tensor:
        for layer in self.layers:
            log_scale, shift = layer(self.latent, samples)
            samples = samples * th.exp(log_scale) + shift
        return samples

    def actions(self, samples: th.Tensor) -> th.Tensor:
        return th.tanh(samples)

    def log_prob(self, samples: th.Tensor) -> th.Tensor:
        # Density of the Gaussian sample that the action comes from, over the volume that layers and squash stretch it to
        base, log_volume = samples, 0.0
        for layer in reversed(self.layers):
            log_scale, shift = layer(self.latent, base)  # the kept half is that of before the layer
            base, log_volume = (base - shift) * th.exp(-log_scale), log_volume + log_scale.sum(dim=-1)
        # The Gaussian's density is that of its own squash, which is taken back
        squash = (log_tanh_derivative(samples) - log_tanh_derivative(base)).sum(dim=-1)  # (batch, samples)
        return self.gaussian.log_prob(base) - squash - log_volume

    def mode(self) -> th.Tensor:
        # The median sample in place of the mode, which has no closed form
        return th.tanh(self.push(self.gaussian.mean.unsqueeze(1)).squeeze(1))  # (batch, action)


class FlowActor(Actor):
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        latent_dim = [self.features_dim, *self.net_arch][-1]
        self.layers = nn.ModuleList(Coupling(latent_dim, self.noise_dim, number) for number in range(N_LAYERS))

    def action_distribution(self, obs: Any) -> PolicyDistribution:
        latent = self.latent_pi(self.extract_features(obs, self.features_extractor))  # (batch, latent)
        log_std = self.log_std(latent).clamp(-20, 2)  # type: ignore[operator]
        return Flow(SquashedGaussian(self.mu(latent), log_std), self.layers, latent)


class FlowPolicy(DSPGPolicy):
    actor_class = FlowActor


def make_model(head: str, seed: int, temperature: str) -> DSPG:
    """
    The model of example 5, with another policy distribution.

    :param head: ``"gaussian"``, ``"mixture"`` or ``"flow"``
    :param seed: Seed
    :param temperature: Entropy coefficient, a number or a schedule
    :return: A model to train
    """
    return EXAMPLE_5["make_model"](
        4 if head == "mixture" else 1, seed, temperature, FlowPolicy if head == "flow" else "MlpPolicy"
    )


def train_and_measure(head: str, seed: int, temperature: str, steps: int) -> dict[str, Any]:
    """
    Train a model and look at it.

    :param head: As for :func:`make_model`
    :param seed: Seed
    :param temperature: Entropy coefficient, a number or a schedule
    :param steps: Number of steps
    :return: A row of the table
    """
    model, begin = make_model(head, seed, temperature), time.process_time()
    model.learn(steps)
    return {"head": head, "seed": seed, "steps": steps, "seconds": time.process_time() - begin} | EXAMPLE_5["measure"](model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--heads", nargs="+", default=["gaussian", "mixture", "flow"])
    parser.add_argument("--temperature", default="log_45_10_0.85")
    parser.add_argument("--steps", type=int, default=EXAMPLE_5["N_STEPS"])
    arguments = parser.parse_args()
    th.set_num_threads(1)
    runs = product(arguments.seeds, arguments.heads)
    EXAMPLE_5["write_rows"](train_and_measure(head, seed, arguments.temperature, arguments.steps) for seed, head in runs)


if __name__ == "__main__":
    main()
