"""Batch normalisation and dropout: in training mode during updates, in evaluation mode otherwise."""

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from tests.models import VARIANTS, make_model, parameters_of

CASES = {
    **{variant: (variant, {}) for variant in VARIANTS},
    "DSPG, target actor": ("DSPG", {"target_actor": True}),
    "DSPG, normalised": ("DSPG", {"batch_norm": True}),
    "DSPG, shared": ("DSPG", {"share_features_extractor": True}),
    "SoftQLearning, shared": ("SoftQLearning", {"share_features_extractor": True}),
}


class NormalisingExtractor(BaseFeaturesExtractor):
    def __init__(self, observation_space):
        super().__init__(observation_space, 8)
        self.linear = nn.Linear(get_flattened_obs_dim(observation_space), 8)
        self.norm, self.dropout = nn.BatchNorm1d(8), nn.Dropout(0.5)

    def forward(self, observations):
        return self.dropout(self.norm(self.linear(observations)))


class InterruptAfterTraining(BaseCallback):
    def _on_step(self):
        return True

    def _on_rollout_start(self):
        if self.model._n_updates > 2:
            raise KeyboardInterrupt


def make_normalising(case, **arguments):
    variant, policy_kwargs = CASES[case]
    policy_kwargs = {"features_extractor_class": NormalisingExtractor, **policy_kwargs}
    return make_model(variant, policy_kwargs=policy_kwargs, **{"learning_starts": 0, "seed": 1, **arguments})


def networks(model):
    """The trained networks, and their targets"""
    names = ("actor", "critic", "actor_target", "critic_target")
    return {name: getattr(model, name) for name in names if isinstance(getattr(model, name, None), th.nn.Module)}


def statistics(network):
    norm = network.features_extractor.norm
    return th.cat([norm.running_mean, norm.running_var]).clone()


@pytest.mark.parametrize("case", CASES)
def test_statistics_move_with_updates_and_reach_the_targets(case):
    """Copied even with tau = 0, which leaves the parameters beside them alone"""
    model = make_normalising(case, tau=0.0)
    before = {name: (statistics(network), parameters_of(network)) for name, network in networks(model).items()}
    model.learn(20)
    for name, network in networks(model).items():
        assert not th.equal(statistics(network), before[name][0]), name
        moved = [key for key, value in parameters_of(network).items() if not th.equal(value, before[name][1][key])]
        assert len(moved) == (0 if name.endswith("_target") else len(before[name][1])), name
        if name.endswith("_target"):
            assert th.equal(statistics(network), statistics(getattr(model, name.removesuffix("_target"))))
            # By copying alone, its own batches leave no trace
            assert network.features_extractor.norm.num_batches_tracked == 0


@pytest.mark.parametrize("case", CASES)
def test_collecting_moves_no_statistics(case):
    """Neither random actions at the start nor those of the policy after it"""
    model = make_normalising(case, learning_starts=10, gradient_steps=0)
    before = {name: statistics(network) for name, network in networks(model).items()}
    model.learn(30)
    assert all(th.equal(statistics(network), before[name]) for name, network in networks(model).items())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_predictions_are_those_of_evaluation_mode(case, training):
    """Whatever the mode was before; noise aside, they are always the same and leave no trace"""
    model = make_normalising(case).learn(10)
    model.policy.set_training_mode(training)
    before = {name: statistics(network) for name, network in networks(model).items()}
    observation = np.random.default_rng(0).normal(size=(50, *model.observation_space.shape)).astype(np.float32)
    first, second = (model.predict(observation, deterministic=True)[0] for _ in range(2))
    assert np.array_equal(first, second)
    assert not any(module.training for network in networks(model).values() for module in network.modules())
    samples = []
    for _ in range(2):
        model.policy.set_training_mode(training)
        th.manual_seed(0)
        samples.append(model.sample_actions(observation, 3))
    assert np.array_equal(*samples)
    assert all(th.equal(statistics(network), before[name]) for name, network in networks(model).items())
    # The control: in training mode dropout makes the features random
    obs, _ = model.policy.obs_to_tensor(observation)
    for mode in (False, True):
        model.policy.set_training_mode(mode)
        first, second = (model.critic.extract_features(obs, model.critic.features_extractor) for _ in range(2))
        assert th.equal(first, second) != mode


@pytest.mark.parametrize("case", CASES)
def test_updates_run_in_training_mode(case):
    """The networks that learn, and not their targets"""
    model, modes = make_normalising(case).learn(10), {}

    def remember(name):
        return lambda module, inputs, output: modes.setdefault(name, set()).add(module.training)

    for name, network in networks(model).items():
        network.features_extractor.dropout.register_forward_hook(remember(name))
    model.policy.set_training_mode(False)
    model.train(2, 8)
    trained = {name: modes.pop(name) for name in ("actor", "critic") if name in modes}
    assert set(trained) == {"actor", "critic"} & set(networks(model)) and all(mode == {True} for mode in trained.values())
    assert modes and all(mode == {False} for mode in modes.values())


@pytest.mark.parametrize("mode", [True, False])
def test_modes_of_pytorch(mode):
    """``policy.train()`` reaches all networks, but those that follow others stay in evaluation mode, also when one acts"""
    model = make_normalising("DSPG, target actor").learn(30)
    followers = [model.critic_target, model.actor_target, model.policy.averaged_actor]
    assert None not in followers and model.policy.train(mode) is model.policy
    assert model.actor.training == model.critic.features_extractor.norm.training == mode
    assert not any(module.training for network in followers for module in network.modules())
    observation = model.get_env().reset()
    expected = model.predict(observation, deterministic=True)[0]
    both = model.predict(np.concatenate([observation, observation + 1]), deterministic=True)[0]
    assert both[:1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("variant", ["DSPG", "SoftQLearning"])
def test_evaluation_mode_outside_of_updates(variant, tmp_path):
    """A state alone has an action and Q-values, and looking at them moves no statistics"""
    model = make_model(variant, policy_kwargs={"batch_norm": True})

    def look(model):
        before = {name: buffer.clone() for name, buffer in model.policy.named_buffers()}
        observation, action = th.ones(1, 3), th.zeros(1, 1)
        values = [*model.critic(observation, action), model.policy(observation, deterministic=True)]
        assert not any(module.training for module in model.policy.modules())
        assert all(th.equal(buffer, before[name]) for name, buffer in model.policy.named_buffers())
        return th.cat(values)

    look(model)
    with pytest.raises(KeyboardInterrupt):
        model.learn(30, callback=InterruptAfterTraining())
    look(model)
    model.learn(30).save(tmp_path / "model")
    assert th.equal(look(type(model).load(tmp_path / "model")), look(model))
