"""A distribution without a reparametrised gradient, as docs/extending.md says to plug one in."""

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from torch import nn

from sb3_maxent import DSPG
from sb3_maxent.common.distributions import PolicyDistribution, SquashedGaussian
from sb3_maxent.dspg.policies import Actor, DSPGPolicy


class TwoGaussians(PolicyDistribution):
    """Mixture of equal parts of two squashed Gaussians; the sign of the last noise component chooses between them"""

    def __init__(self, first: SquashedGaussian, second: SquashedGaussian):
        self.first, self.second = first, second

    def sample(self, noise):
        noise, choice = noise[..., :-1], noise[..., -1:]
        return th.where(choice > 0, self.first.sample(noise), self.second.sample(noise))

    def actions(self, samples):
        return th.tanh(samples)

    def log_prob(self, samples):
        return th.logaddexp(self.first.log_prob(samples), self.second.log_prob(samples)) - np.log(2)

    def mode(self):
        return self.first.mode()


class MixtureActor(Actor):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.noise_dim += 1
        self.gap = nn.Parameter(th.ones(1))

    def action_distribution(self, obs):
        mean, log_std, _ = self.get_action_dist_params(obs)
        return TwoGaussians(SquashedGaussian(mean - self.gap, log_std), SquashedGaussian(mean + self.gap, log_std))


class MixturePolicy(DSPGPolicy):
    actor_class = MixtureActor


class TwoPeaks(gym.Env):
    """One state, one action, best at -0.6 and at 0.6"""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), -20 * float(abs(action[0]) - 0.6) ** 2, True, False, {}


def trained_actions(policy):
    model = DSPG(
        policy,
        TimeLimit(TwoPeaks(), 10),
        learning_rate=3e-3,
        ent_coef=0.5,
        n_action_samples=32,
        batch_size=32,
        seed=0,
        policy_kwargs={"net_arch": [32, 32], "n_critics": 1, "action_layer": 0},
    ).learn(600)
    actions, _ = model.predict(np.ones((2000, 1), np.float32))
    return actions[:, 0]


def test_a_mixture_finds_both_best_actions():
    actions = trained_actions(MixturePolicy)
    assert (np.abs(np.abs(actions) - 0.6) < 0.25).mean() > 0.9
    assert 0.4 < (actions > 0).mean() < 0.6
    # Control: one Gaussian cannot, it takes one of them or what lies between
    actions = trained_actions(DSPGPolicy)
    assert (np.abs(np.abs(actions) - 0.6) < 0.25).mean() < 0.9 or not 0.1 < (actions > 0).mean() < 0.9
