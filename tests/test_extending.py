"""A critic, a loss and a policy distribution of a user, each without a change of the package."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from sb3_contrib.common.utils import quantile_huber_loss
from torch import nn

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.common.distributions import Categorical, SquashedGaussian
from sb3_maxent.common.q_network import QNetwork
from sb3_maxent.dspg.actors import Actor
from sb3_maxent.dspg.policies import DiscreteActor, DSPGPolicy, HybridActor
from sb3_maxent.envs import FlattenAction
from sb3_maxent.softqlearning.policies import SoftQLearningPolicy
from tests.dspg.test_hybrid import HybridBandit
from tests.envs import QuadraticBandit
from tests.models import PLAIN, PLAIN_NETWORKS, SMALL
from tests.softqlearning.test_softqlearning import REWARDS, DiscreteBandit

# --- batch normalisation in trunk and join -----------------------------------------------------------------------------


class NormalisedNetwork(QNetwork):
    def __init__(self, features_dim, action_dim, net_arch, *args, **kwargs):
        super().__init__(features_dim, action_dim, net_arch, *args, **kwargs)
        self.trunk.insert(0, nn.BatchNorm1d(features_dim))
        for i in reversed([i for i, layer in enumerate(self.trunk) if isinstance(layer, nn.Linear)]):
            self.trunk.insert(i + 1, nn.BatchNorm1d(self.trunk[i].out_features))
        self.head.insert(0, nn.BatchNorm1d(self.join.out_features))


class NormalisedCritic(MultiActionCritic):
    network_class = NormalisedNetwork


class NormalisedDSPG(DSPGPolicy):
    critic_class = NormalisedCritic


class NormalisedSoftQLearning(SoftQLearningPolicy):
    critic_class = NormalisedCritic


# --- quantile regression -----------------------------------------------------------------------------------------------


class QuantileNetwork(QNetwork):
    def __init__(self, features_dim, action_dim, net_arch, *args, **kwargs):
        super().__init__(features_dim, action_dim, net_arch, *args, **kwargs)
        self.head[-1] = nn.Linear(net_arch[-1], 5)


class QuantileCritic(MultiActionCritic):
    network_class = QuantileNetwork

    def value(self, predictions):
        return predictions.mean(dim=3).amin(dim=0)  # (batch, samples)

    def soft_value(self, predictions, samples, ent_coef):
        # The quantiles of all samples and networks together
        values = predictions - ent_coef * samples.log_prob.unsqueeze(2)  # (networks, batch, samples, quantiles)
        return values.permute(1, 0, 2, 3).flatten(1)  # (batch, networks * samples * quantiles)

    def loss(self, predictions, target):
        quantiles = predictions.squeeze(2).transpose(0, 1)  # (batch, networks, quantiles)
        return quantile_huber_loss(quantiles, target.unsqueeze(1).expand(-1, quantiles.shape[1], -1), sum_over_quantiles=False)


class QuantileDSPG(DSPGPolicy):
    critic_class = QuantileCritic


# --- a discrete distribution that never rules an action out ------------------------------------------------------------


class CarefulActor(DiscreteActor):
    def action_distribution(self, obs):
        probabilities = super().action_distribution(obs).log_probs.exp()
        return Categorical(th.log(0.9 * probabilities + 0.1 / probabilities.shape[1]))


class CarefulPolicy(DSPGPolicy):
    discrete_actor_class = CarefulActor


# --- choices and real numbers that do not depend on them ---------------------------------------------------------------


class IndependentActor(HybridActor):
    def action_distribution(self, obs):
        distribution = super().action_distribution(obs)
        for name in ("means", "log_stds"):
            rows = getattr(distribution, name)
            setattr(distribution, name, rows.mean(dim=1, keepdim=True).expand_as(rows))
        return distribution


class IndependentPolicy(DSPGPolicy):
    hybrid_actor_class = IndependentActor


BANDIT = {
    **PLAIN,
    "learning_rate": 3e-3,
    "gamma": 0.5,
    "ent_coef": 0.3,
    "n_action_samples": 16,
    "batch_size": 64,
    "tau": 0.05,
    "seed": 0,
}


class NoisyBandit(QuadraticBandit):
    """With observations that mean nothing: a batch of equal states has no deviation to divide by"""

    observation_space = spaces.Box(-1, 1, (2,))

    def reset(self, *, seed=None, options=None):
        _, info = super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), info

    def step(self, action):
        _, *rest = super().step(action)
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), *rest


def bandit_model(policy, **kwargs):
    env = TimeLimit(NoisyBandit(h=3.0, b=0.4), 10)
    return DSPG(policy, env, policy_kwargs={"net_arch": [32, 32], **PLAIN_NETWORKS}, **{**BANDIT, **kwargs})


def mean_action(model):
    observations = np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(np.float32)
    return model.predict(observations, deterministic=True)[0].mean()


@pytest.mark.parametrize("policy", [NormalisedDSPG, QuantileDSPG])
def test_other_critics_learn(policy):
    """The best action of the bandit is 0.4, and the one of an untrained policy near 0"""
    model = bandit_model(policy)
    assert abs(mean_action(model)) < 0.2
    assert mean_action(model.learn(800)) == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("action_layer", [0, -1])
@pytest.mark.parametrize("net_arch", [[8], [8, 8], [8, 8, 8]])
def test_normalisation_sees_samples_as_samples(net_arch, action_layer):
    """As if each sample of each state were a state, also where there are as many samples as hidden units"""
    network = NormalisedNetwork(3, 2, net_arch, nn.ReLU, action_layer)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.weight), nn.init.normal_(module.bias), nn.init.normal_(module.running_mean)
    features, actions = th.randn(5, 3), th.rand(5, 8, 2) * 2 - 1
    for training in (False, True):
        network.train(training)
        many = network(network.embed(features), actions)
        rows = network.head((network.embed(features) + actions @ network.join.weight[:, -2:].t()).flatten(0, 1))
        assert many.shape == (5, 8) and th.allclose(many.flatten(), rows, atol=1e-5)
    # In training mode statistics are those of all samples, so the two modes differ
    assert not th.allclose(many, network.eval()(network.embed(features), actions), atol=1e-2)


def test_the_policys_samples_move_no_statistics():
    model = bandit_model(NormalisedDSPG).learn(120)
    model.policy.set_training_mode(True)
    norms = [network.head[0] for network in model.critic.q_networks]
    counts = [norm.num_batches_tracked.item() for norm in norms]
    with th.no_grad():
        embedding = model.critic.embed(th.rand(4, 2))
        model.critic.q_values(embedding, th.zeros(4, 3, 1))
        assert [norm.num_batches_tracked.item() for norm in norms] == counts and all(norm.training for norm in norms)
        model.critic.predictions(embedding, th.zeros(4, 1, 1))
    assert [norm.num_batches_tracked.item() for norm in norms] == [count + 1 for count in counts]


@pytest.mark.parametrize(
    ("algorithm", "policy", "arguments"),
    [
        (DSPG, NormalisedDSPG, {"n_action_samples": 4}),
        pytest.param(DSPG, QuantileDSPG, {"n_action_samples": 4}, marks=pytest.mark.slow),
        (SoftQLearning, NormalisedSoftQLearning, {"n_particles": 4, "n_value_samples": 4}),
    ],
)
def test_other_critics_compile(algorithm, policy, arguments):
    """To rounding. Adam would turn the rounding of a gradient near zero into a whole step"""
    states = []
    for learning_rate, compile in ((0.01, False), (0.01, True), (0.0, False)):
        policy_kwargs = {"net_arch": [16, 16], "optimizer_class": th.optim.SGD}
        kwargs = {**SMALL, **arguments, "policy_kwargs": policy_kwargs, "learning_rate": learning_rate, "compile": compile}
        model = algorithm(policy, "Pendulum-v1", **kwargs).learn(25)
        assert not compile or model._loss_function.compiled is not None
        states.append(th.cat([parameter.flatten() for parameter in model.policy.parameters()]))
    eager, compiled, control = states
    assert 100 * (eager - compiled).abs().max() < (eager - control).abs().max()


def test_a_discrete_distribution_of_ones_own():
    """At a low temperature the best of four actions would have probability one"""
    arguments = {**PLAIN, "ent_coef": 1e-3, "learning_rate": 1e-2, "batch_size": 32, "seed": 0, "gradient_steps": 2}
    policy_kwargs = {"net_arch": [32], **PLAIN_NETWORKS}
    model = DSPG(CarefulPolicy, DiscreteBandit(), policy_kwargs=policy_kwargs, **arguments).learn(300)
    actions = model.sample_actions(np.ones(1, np.float32), 100_000)
    assert np.bincount(actions) / len(actions) == pytest.approx([0.025, 0.925, 0.025, 0.025], abs=0.01)
    assert model.predict(np.ones(1, np.float32), deterministic=True)[0] == REWARDS.argmax()


def test_a_hybrid_distribution_of_ones_own():
    """The deterministic force is that of every gear"""
    forces = {}
    for policy in (IndependentPolicy, DSPGPolicy):
        policy_kwargs = {"net_arch": [8], **PLAIN_NETWORKS}
        model = DSPG(policy, FlattenAction(HybridBandit("Dict")), **BANDIT, policy_kwargs=policy_kwargs).learn(130)
        with th.no_grad():
            distribution = model.actor.action_distribution(th.ones(1, 1))
            forces[policy] = distribution.means.std(dim=1).item()
    assert forces[IndependentPolicy] < 1e-6 < 0.01 < forces[DSPGPolicy]


# --- a distribution whose samples carry a gradient -----------------------------------------------------------------------


class Attached(SquashedGaussian):
    """As a user may write it: the samples are not detached"""

    def sample(self, noise):
        return self.mean.unsqueeze(1) + self.log_std.exp().unsqueeze(1) * noise


class AttachedActor(Actor):
    def action_distribution(self, obs):
        return Attached(*self.get_action_dist_params(obs)[:2])


class AttachedPolicy(DSPGPolicy):
    actor_class = AttachedActor


def test_gradient_of_samples_does_not_reach_the_actor():
    gradients, obs = [], th.randn(5, 3)
    for policy in ("MlpPolicy", AttachedPolicy):
        actor = DSPG(policy, "Pendulum-v1", **SMALL).actor
        th.manual_seed(2)
        noise = actor.draw_noise(5, 4)
        actor.action_samples(obs, noise).log_prob.square().sum().backward()
        gradients.append(actor.mu.weight.grad)
    assert th.allclose(*gradients, rtol=1e-3, atol=1e-4) and gradients[0].abs().sum() > 0
    # The control: without the package's help it is another gradient
    distribution = actor.action_distribution(obs)
    actor.zero_grad()
    distribution.log_prob(distribution.sample(noise)).square().sum().backward()
    assert not th.allclose(actor.mu.weight.grad, gradients[0], rtol=0.1)
