"""Batch normalisation and dropout: in training mode during updates, in evaluation mode otherwise."""

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_maxent import DSPG, SoftQLearning


class NormalisingExtractor(BaseFeaturesExtractor):
    def __init__(self, observation_space, dropout=0.5):
        super().__init__(observation_space, 8)
        self.linear = nn.Linear(get_flattened_obs_dim(observation_space), 8)
        self.norm, self.dropout = nn.BatchNorm1d(8), nn.Dropout(dropout)

    def forward(self, observations):
        return self.dropout(self.norm(self.linear(observations)))


def make_model(**kwargs):
    policy_kwargs = {"net_arch": [16], "features_extractor_class": NormalisingExtractor, "target_actor": True}
    arguments = {"n_action_samples": 4, "learning_starts": 0, "buffer_size": 1000, "seed": 1, **kwargs}
    return DSPG("MlpPolicy", "Pendulum-v1", policy_kwargs=policy_kwargs, **arguments)


def test_softqlearning_trains_with_both():
    """Its gradient of the Q-values is one of a function, which must not write statistics"""
    policy_kwargs = {"net_arch": [16], "features_extractor_class": NormalisingExtractor}
    arguments = {"n_particles": 4, "n_value_samples": 4, "learning_starts": 0, "buffer_size": 1000, "seed": 1}
    model = SoftQLearning("MlpPolicy", "Pendulum-v1", policy_kwargs=policy_kwargs, **arguments)
    before = {name: statistics(getattr(model, name)) for name in ("actor", "critic")}
    model.learn(20)
    assert not any(th.equal(statistics(getattr(model, name)), before[name]) for name in before)


def statistics(network):
    norm = network.features_extractor.norm
    return th.cat([norm.running_mean, norm.running_var]).clone()


def test_statistics_move_with_updates_and_reach_the_targets():
    model = make_model(tau=0.0)
    names = ("actor", "critic", "actor_target", "critic_target")
    before = {name: statistics(getattr(model, name)) for name in names}
    model.learn(20)
    after = {name: statistics(getattr(model, name)) for name in names}
    for name in names:
        assert not th.equal(before[name], after[name]), name
    # Copied even with tau = 0
    assert th.equal(after["actor"], after["actor_target"]) and th.equal(after["critic"], after["critic_target"])


def test_collecting_moves_no_statistics():
    model = make_model(learning_starts=10, gradient_steps=0)
    before = statistics(model.actor)
    model.learn(30)
    assert th.equal(before, statistics(model.actor))


@pytest.mark.parametrize("training", [False, True])
def test_predictions_are_those_of_evaluation_mode(training):
    model = make_model().learn(10)
    model.policy.set_training_mode(training)
    observation = np.ones((4, 3), np.float32)
    first, second = (model.predict(observation, deterministic=True)[0] for _ in range(2))
    assert np.array_equal(first, second)
    assert not model.policy.actor.training


def test_updates_run_in_training_mode():
    model, modes = make_model().learn(10), []
    model.actor.features_extractor.dropout.register_forward_hook(lambda module, inputs, output: modes.append(module.training))
    model.policy.set_training_mode(False)
    model.train(1, 8)
    assert modes and all(modes)
