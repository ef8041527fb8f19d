import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from torch import nn

from sb3_maxent.common import layers
from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.common.q_network import QNetwork

VECTOR = spaces.Box(-1, 1, (5,))
IMAGE = spaces.Box(0, 255, (3, 36, 36), np.uint8)
ACTIONS = spaces.Box(-1, 1, (2,))
EXTRACTORS = {
    "vector": (VECTOR, FlattenExtractor),
    "image": (IMAGE, NatureCNN),
    "dict": (spaces.Dict({"vector": VECTOR, "image": IMAGE}), CombinedExtractor),
}


def make_critic(observation_space: gym.Space = VECTOR, extractor_class=FlattenExtractor, **kwargs) -> MultiActionCritic:
    extractor = extractor_class(observation_space)
    kwargs = {"net_arch": [16, 12], "share_features_extractor": False, **kwargs}
    return MultiActionCritic(
        observation_space, ACTIONS, features_extractor=extractor, features_dim=extractor.features_dim, **kwargs
    )


def q_values_of(critic, observations, actions):
    return critic.q_values(critic.embed(observations), actions)


def sample_observations(space: gym.Space, batch_size: int):
    space.seed(0)
    samples = [space.sample() for _ in range(batch_size)]
    if isinstance(space, spaces.Dict):
        return {key: th.as_tensor(np.stack([sample[key] for sample in samples])) for key in space.spaces}
    return th.as_tensor(np.stack(samples))


@pytest.mark.parametrize("n_critics", [1, 3])
@pytest.mark.parametrize("action_layer", [0, 1, -1])
@pytest.mark.parametrize("kind", EXTRACTORS)
def test_many_actions_equal_a_loop_over_single_ones(kind, action_layer, n_critics):
    observation_space, extractor_class = EXTRACTORS[kind]
    critic = make_critic(observation_space, extractor_class, action_layer=action_layer, n_critics=n_critics)
    observations, actions = sample_observations(observation_space, 6), th.rand(6, 7, 2) * 2 - 1
    loop = [th.cat(critic(observations, actions[:, i]), dim=1).amin(dim=1) for i in range(7)]
    assert len(critic(observations, actions[:, 0])) == n_critics
    with_gradient = q_values_of(critic, observations, actions)
    assert with_gradient.requires_grad
    assert th.allclose(with_gradient, th.stack(loop, dim=1), atol=1e-6)
    with th.no_grad():
        assert th.allclose(q_values_of(critic, observations, actions), with_gradient, atol=1e-6)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_mean_over_the_networks(batch_norm):
    critic = make_critic(n_critics=3, batch_norm=batch_norm)
    observations, actions = sample_observations(VECTOR, 6), th.rand(6, 4, 2) * 2 - 1
    critic.set_training_mode(False)
    loop = [th.cat(critic(observations, actions[:, i]), dim=1) for i in range(4)]
    values = critic.mean_q_values(critic.embed(observations), actions)
    assert th.allclose(values, th.stack(loop, dim=1).mean(dim=2), atol=1e-6)
    assert (values - q_values_of(critic, observations, actions) > 1e-3).all()


def test_an_embedding_serves_several_evaluations():
    critic = make_critic()
    observations, actions = sample_observations(VECTOR, 6), th.rand(6, 7, 2) * 2 - 1
    embedding = [part.detach() for part in critic.embed(observations)]
    kept = [part.clone() for part in embedding]
    for _ in range(2):
        assert th.equal(critic.q_values(embedding, actions), q_values_of(critic, observations, actions))
    predictions = critic.predictions(embedding, actions)
    assert predictions.shape == (2, 6, 7) and th.equal(critic.value(predictions), th.minimum(*predictions))
    # No evaluation writes to it
    assert all(th.equal(*pair) for pair in zip(embedding, kept, strict=True))


def test_sb3s_q1_forward():
    critic, actions = make_critic(), th.rand(6, 2) * 2 - 1
    observations = sample_observations(VECTOR, 6)
    assert th.equal(critic.q1_forward(observations, actions), critic(observations, actions)[0])


@pytest.mark.parametrize("net_arch", [[], [16], [16, 12, 8]])
def test_joining_at_the_input_is_sb3s_critic(net_arch):
    critic = make_critic(net_arch=net_arch, n_critics=1, action_layer=0)
    sb3 = ContinuousCritic(VECTOR, ACTIONS, net_arch, FlattenExtractor(VECTOR), 5, n_critics=1, share_features_extractor=False)
    # Same layers in the same order
    sb3.load_state_dict(dict(zip(sb3.state_dict(), critic.state_dict().values(), strict=True)))
    observations, actions = sample_observations(VECTOR, 6), th.rand(6, 2) * 2 - 1
    assert th.allclose(critic(observations, actions)[0], sb3(observations, actions)[0], atol=1e-6)


def test_the_action_enters_where_it_is_told():
    for action_layer, fan_in in ((0, 5 + 2), (1, 16 + 2), (2, 12 + 2), (-1, 12 + 2), (-3, 5 + 2)):
        network = QNetwork(5, 2, [16, 12, 8], nn.ReLU, action_layer)
        assert network.join.in_features == fan_in
        assert sum(isinstance(module, nn.Linear) for module in network.modules()) == 4
    for action_layer in (3, -4):
        with pytest.raises(ValueError, match=f"action_layer={action_layer} is not a hidden layer"):
            QNetwork(5, 2, [16, 12, 8], nn.ReLU, action_layer)


def test_a_late_action_starts_with_a_range_of_its_own():
    """Otherwise the critic is nearly linear in the action at first, and stays so for thousands of updates"""
    weight = QNetwork(5, 3, [256, 256], nn.ReLU, -1).join.weight
    assert weight[:, -3:].abs().max().item() == pytest.approx(3**-0.5, rel=0.05)
    assert weight[:, :-3].abs().max().item() == pytest.approx((256 + 3) ** -0.5, rel=0.05)
    # At the first layer it is PyTorch's, as in SB3
    weight = QNetwork(5, 3, [256, 256], nn.ReLU, 0).join.weight
    assert weight[:, -3:].abs().max().item() == pytest.approx((5 + 3) ** -0.5, rel=0.05)


@pytest.mark.parametrize("activation_fn", [nn.ReLU, nn.Tanh])
@pytest.mark.parametrize(("net_arch", "action_layer"), [([], 0), ([16], 0), ([16, 12], 0), ([16, 12], -1)])
def test_chunks_change_nothing(monkeypatch, activation_fn, net_arch, action_layer):
    critic = make_critic(activation_fn=activation_fn, net_arch=net_arch, action_layer=action_layer)
    observations, actions = sample_observations(VECTOR, 10), th.rand(10, 7, 2) * 2 - 1
    with th.no_grad():
        whole = q_values_of(critic, observations, actions)
        for chunk in (1, 3, 10):
            monkeypatch.setattr(layers, "CHUNK_FLOATS", chunk * 7 * critic.q_networks[0].join.out_features)
            assert th.allclose(q_values_of(critic, observations, actions), whole, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 10])
def test_bfloat16_is_close_and_only_without_gradient(monkeypatch, batch_size):
    th.manual_seed(0)
    critic = make_critic(net_arch=[256, 256], evaluation_precision="bfloat16")
    for q_network in critic.q_networks:
        q_network.head[-1].bias.data.fill_(300.0)  # where bfloat16 has steps of 2
    observations, actions = sample_observations(VECTOR, batch_size), th.rand(batch_size, 50, 2) * 2 - 1
    exact = q_values_of(critic, observations, actions)
    monkeypatch.setattr(layers, "CHUNK_FLOATS", 3 * 50 * 256)
    with th.no_grad():
        reduced = q_values_of(critic, observations, actions)
    assert reduced.dtype == exact.dtype == th.float32
    error = (reduced - exact).detach()
    assert 0 < error.std() < 0.02 * exact.std(dim=1).mean()
    with pytest.raises(ValueError, match="evaluation_precision='float16' is not one of"):
        make_critic(evaluation_precision="float16")


@pytest.mark.parametrize("batch_size", [1, 10])
def test_bfloat16_changes_nothing_at_the_last_hidden_layer(batch_size):
    critic = make_critic(net_arch=[256, 256], action_layer=-1, evaluation_precision="bfloat16")
    observations, actions = sample_observations(VECTOR, batch_size), th.rand(batch_size, 50, 2) * 2 - 1
    with th.no_grad():
        reduced = q_values_of(critic, observations, actions)
    assert th.allclose(reduced, q_values_of(critic, observations, actions), atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_bfloat16_leaves_the_joining_layer_as_it_is(training):
    """In training mode, too, in which target networks evaluate the target"""
    critic = make_critic(net_arch=[256, 256], action_layer=-1, batch_norm=True, evaluation_precision="bfloat16")
    critic.set_training_mode(training)
    observations, actions = sample_observations(VECTOR, 32), th.rand(32, 1, 2) * 2 - 1
    exact = critic.predictions(critic.embed(observations), actions)
    with th.no_grad():
        reduced = critic.predictions(critic.embed(observations), actions)
    assert th.allclose(reduced, exact, atol=1e-5)


def test_features_are_extracted_once_per_state():
    critic, calls = make_critic(), []
    critic.features_extractor.register_forward_hook(lambda module, inputs, output: calls.append(output.shape))
    q_values_of(critic, sample_observations(VECTOR, 4), th.zeros(4, 9, 2))
    assert calls == [(4, 5)]


def test_gradients_reach_every_parameter():
    for action_layer in (0, -1):
        critic = make_critic(action_layer=action_layer)
        sum(q_values.sum() for q_values in critic(sample_observations(VECTOR, 32), th.rand(32, 2) * 2 - 1)).backward()
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in critic.parameters())


@pytest.mark.parametrize("share", [True, False])
def test_a_shared_extractor_is_not_moved_by_the_critic(share):
    critic = make_critic(IMAGE, NatureCNN, share_features_extractor=share)
    sum(q_values.sum() for q_values in critic(sample_observations(IMAGE, 2), th.zeros(2, 2))).backward()
    moved = [parameter.grad is not None for parameter in critic.features_extractor.parameters()]
    assert moved == [not share] * len(moved)


def test_no_critic_is_refused():
    with pytest.raises(ValueError, match="n_critics=0"):
        make_critic(n_critics=0)
