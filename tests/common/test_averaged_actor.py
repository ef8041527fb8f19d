"""The moving average of the actor that deterministic actions come from."""

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.torch_layers import FlattenExtractor

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common.errors import NonFiniteError
from sb3_maxent.softqlearning.composition import compose
from tests.models import make_model

ALGORITHMS = ["DSPG", "SoftQLearning"]


def copy_of(network: th.nn.Module) -> dict[str, th.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def change(network: th.nn.Module) -> None:
    with th.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.5)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_by_hand(algorithm, batch_norm):
    """A moving average over a tenth of all updates, at most three, running statistics included"""
    policy_kwargs = {"actor_averaging": 3, "batch_norm": batch_norm}
    model = make_model(algorithm, policy_kwargs=policy_kwargs, policy_delay=2, learning_starts=10).learn(10)
    averaged = model.policy.averaged_actor
    expected: dict[str, th.Tensor] = {}
    for n in range(1, 33):
        before = copy_of(averaged)
        model.train(gradient_steps=1, batch_size=8)  # of the critic alone
        assert all(th.equal(value, before[name]) for name, value in averaged.state_dict().items())
        model.train(gradient_steps=1, batch_size=8)
        for name, value in model.actor.state_dict().items():
            window = 1 if n < 10 else 2 if n < 20 else 3
            expected[name] = value.clone() if n == 1 else expected[name] + (value - expected[name]) / window
    assert any("running" in name for name in expected) == batch_norm
    for name, value in averaged.state_dict().items():
        assert not value.is_floating_point() or th.allclose(value, expected[name], atol=1e-6), name
    newest, average = next(iter(model.actor.parameters())), next(iter(averaged.parameters()))
    assert not th.allclose(average, newest, atol=1e-6)
    # Two updates of the actor in one call weigh twice as much
    first = average.clone()
    model.train(gradient_steps=4, batch_size=8)
    assert th.allclose(average, first + (newest - first) * 2 / 3, atol=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_only_deterministic_actions_are_of_it(algorithm):
    model = make_model(algorithm, policy_kwargs={"actor_averaging": 5}, learning_starts=10).learn(30)
    assert make_model(algorithm, policy_kwargs={"actor_averaging": None}).policy.averaged_actor is None
    observation = model.observation_space.sample()

    def actions(deterministic: bool) -> np.ndarray:
        th.manual_seed(0)
        return model.predict(observation, deterministic=deterministic)[0]

    before = {deterministic: actions(deterministic) for deterministic in (False, True)}
    change(model.actor)
    assert not np.allclose(actions(False), before[False]) and np.array_equal(actions(True), before[True])
    change(model.policy.averaged_actor)
    assert not np.allclose(actions(True), before[True])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_stays_finite(algorithm):
    model = make_model(algorithm, policy_kwargs={"actor_averaging": 5}, learning_starts=10).learn(20)
    for network in (model.critic, model.actor):
        for parameter in network.parameters():
            parameter.data.fill_(np.nan)
    with pytest.raises(NonFiniteError):
        model.train(gradient_steps=1, batch_size=8)
    assert all(th.isfinite(value).all() for value in model.policy.averaged_actor.state_dict().values())


@pytest.mark.parametrize("lengths", [(None, 5), (5, None), (5, 7)])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_start_from_a_model_with_another_average(algorithm, lengths):
    source, model = (
        make_model(algorithm, policy_kwargs={"actor_averaging": length}, seed=i) for i, length in enumerate(lengths)
    )
    source.learn(30)
    model.start_from(source)
    assert all(th.equal(value, copy_of(source.actor)[name]) for name, value in copy_of(model.actor).items())
    if model.policy.averaged_actor is not None:
        expected = copy_of(source.policy.acting_actor(deterministic=True))
        assert all(th.equal(value, expected[name]) for name, value in copy_of(model.policy.averaged_actor).items())
    model.learn(20)


def test_a_composed_policy_acts_by_it():
    models = [make_model("SoftQLearning", policy_kwargs={"actor_averaging": 5}, seed=seed).learn(30) for seed in (0, 1)]
    observation = th.ones(1, 3)
    with th.no_grad():
        candidates = compose(models).policy.actor.candidates(observation)
        parts = [model.policy.averaged_actor.fixed_actions(observation) for model in models]
        newest = models[0].actor.fixed_actions(observation)
    assert th.equal(candidates[:, :64], th.cat(parts, dim=1)) and not th.allclose(parts[0], newest)


@pytest.mark.parametrize("value", [0, -1, 0.5, "10"])
def test_its_length_is_a_count(value):
    with pytest.raises(ValueError, match=f"actor_averaging={value!r}"):
        DSPG("MlpPolicy", "Pendulum-v1", policy_kwargs={"actor_averaging": value})


def test_a_softmax_of_q_values_has_none():
    with pytest.raises(ValueError, match="actor_averaging=10 has no effect"):
        SoftQLearning("MlpPolicy", "CartPole-v1", policy_kwargs={"actor_averaging": 10})


class Counting(FlattenExtractor):
    """Its buffer has the name of a running statistic, and is an integer, which has no moving average"""

    def __init__(self, observation_space):
        super().__init__(observation_space)
        self.register_buffer("running_count", th.zeros((), dtype=th.int64))

    def forward(self, observations):
        self.running_count += 1
        return super().forward(observations)


def test_an_integer_buffer_is_copied():
    policy_kwargs = {"actor_averaging": 3, "features_extractor_class": Counting}
    model = make_model("DSPG", policy_kwargs=policy_kwargs).learn(30)
    counts = [actor.features_extractor.running_count.item() for actor in (model.actor, model.policy.averaged_actor)]
    assert counts[0] - 2 <= counts[1] <= counts[0] and counts[1] > 10
