"""Normalised critics, which evaluate (s, a) and (s', a') in one batch"""

import copy

import pytest
import torch as th
from gymnasium import spaces

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common import layers
from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.common.layers import BatchNorm, follow_each_batch
from sb3_maxent.common.observations import join_batches
from sb3_maxent.common.q_network import QNetwork
from tests.models import BOX_VARIANTS, VARIANTS, make_model

JOINT = {"net_arch": [8, 8], "batch_norm": True, "target_critic": False}


def make_critic(action_space=None, **kwargs) -> MultiActionCritic:
    obs_space = spaces.Box(-1, 1, (3,))
    extractor = th.nn.Flatten()
    action_space = action_space or spaces.Box(-1, 1, (2,))
    arguments = {"share_features_extractor": False, "batch_norm": True, **kwargs}
    return MultiActionCritic(obs_space, action_space, [8, 8], extractor, 3, **arguments)


def normalised(hidden: th.Tensor) -> th.Tensor:
    return (hidden - hidden.mean(dim=0)) / (hidden.var(dim=0, unbiased=False) + 1e-3).sqrt()


def written_out(network: QNetwork, states: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """The layers one by one, each normalised over the rows given"""
    hidden = normalised(states)
    if len(network.trunk) > 1:
        hidden = th.relu(normalised(hidden @ network.trunk[1].weight.t()))
    hidden = th.relu(normalised(th.cat([hidden, actions], dim=1) @ network.join.weight.t()))
    if len(network.trunk) == 1:
        hidden = th.relu(normalised(hidden @ network.head[1].weight.t()))
    return hidden @ network.head[-1].weight[0] + network.head[-1].bias


@pytest.mark.parametrize("action_layer", [0, -1])
def test_both_pairs_have_one_normalisation(action_layer):
    critic = make_critic(action_layer=action_layer)
    obs, next_obs = th.randn(5, 3), th.randn(5, 3) * 3 + 1
    actions, next_actions = th.rand(5, 2), -th.rand(5, 1, 2)
    output = critic.evaluate(critic, obs, actions, next_obs, next_actions)
    for i, network in enumerate(critic.q_networks):
        values = written_out(network, th.cat([obs, next_obs]), th.cat([actions, next_actions[:, 0]]))
        assert th.allclose(output.predictions[i, :, 0], values[:5], atol=1e-5)
        assert th.allclose(output.next_predictions[i, :, 0], values[5:], atol=1e-5)
        # The control: each pair by itself
        assert not th.allclose(values[:5], written_out(network, obs, actions), atol=1e-2)
        assert {norm.num_batches_tracked.item() for norm in network.modules() if hasattr(norm, "running_mean")} == {1}
    assert output.predictions.requires_grad and not output.next_predictions.requires_grad
    assert not any(part.requires_grad for part in output.embedding)
    assert_embeds(critic, output, obs, next_obs)


def assert_embeds(critic, output, obs, next_obs):
    """The embedding for the actor loss is the critic's, of the states and not of the next ones"""
    for part, both in zip(output.embedding, critic.embed(th.cat([obs, next_obs])), strict=True):
        assert th.allclose(part, both[:5], atol=1e-6) and not th.allclose(part, both[5:], atol=1e-2)


@pytest.mark.parametrize("action_layer", [0, -1])
def test_target_networks_see_the_same_batch(action_layer, monkeypatch):
    # They must not see it in parts, which fit a cache
    monkeypatch.setattr(layers, "CHUNK_FLOATS", 1)
    critic, target = make_critic(action_layer=action_layer), make_critic(action_layer=action_layer)
    target.set_training_mode(False)
    obs, next_obs = th.randn(5, 3), th.randn(5, 3) * 3 + 1
    actions, next_actions = th.rand(5, 2), -th.rand(5, 1, 2)
    separate = target.predictions(target.embed(next_obs), next_actions)
    output = critic.evaluate(target, obs, actions, next_obs, next_actions)
    pairs = th.cat([obs, next_obs]), th.cat([actions, next_actions[:, 0]])
    for i in range(2):
        expected = written_out(critic.q_networks[i], *pairs), written_out(target.q_networks[i], *pairs)
        assert th.allclose(output.predictions[i, :, 0], expected[0][:5], atol=1e-5)
        assert th.allclose(output.next_predictions[i, :, 0], expected[1][5:], atol=1e-5)
    assert_embeds(critic, output, obs, next_obs)
    # The control: by themselves, with the running statistics
    assert not th.allclose(output.next_predictions, separate, atol=1e-2)
    assert not target.training and not target.q_networks.training and not output.next_predictions.requires_grad


def test_further_next_actions_by_the_running_statistics():
    """They move no statistics: those are of as many actions of the policy as of the replay buffer"""
    critic, states = make_critic(), th.randn(6, 3)
    actions, next_actions = th.rand(6, 2), th.rand(6, 4, 2)
    output = critic.evaluate(critic, states, actions, states, next_actions)
    norms = [module for module in critic.modules() if hasattr(module, "running_mean")]
    assert output.next_predictions.shape == (2, 6, 4) and all(norm.training for norm in norms)
    assert not output.next_predictions.requires_grad
    assert {norm.num_batches_tracked.item() for norm in norms} == {1}
    # In evaluation mode the last layer is the only one that sees actions
    embedding = critic.embed(th.cat([states, states]))
    critic.eval()
    expected = critic.predictions([part[6:] for part in embedding], next_actions)
    assert th.allclose(output.next_predictions, expected, atol=1e-5)


@pytest.mark.parametrize("follows", [True, False])
@pytest.mark.parametrize("action_layer", [0, -1])
def test_further_next_actions_by_the_statistics_of_the_batch(action_layer, follows):
    """An action that is in the batch has the same value among further ones. The control has the running statistics"""
    target = make_critic(action_layer=action_layer)
    target.set_training_mode(False)
    if follows:
        follow_each_batch(target.q_networks)
    n_states = 100  # the statistics of evaluation mode have the unbiased variance, which differs by 1 / 199
    obs, next_obs = th.randn(n_states, 3), th.randn(n_states, 3) * 3 + 1
    actions, next_actions = th.rand(n_states, 2), -th.rand(n_states, 4, 2)
    output = make_critic(action_layer=action_layer).evaluate(target, obs, actions, next_obs, next_actions)
    assert not output.next_predictions.requires_grad
    states = th.arange(n_states)
    pairs = th.cat([obs, next_obs]), th.cat([actions, next_actions[states, states % 4]])
    for network, predictions in zip(target.q_networks, output.next_predictions, strict=True):
        expected, learned = written_out(network, *pairs)[n_states:], predictions[states, states % 4]
        assert th.allclose(learned, expected, atol=0.02) == follows


@pytest.mark.parametrize("again", ["as it is", "loaded", "copied"])
def test_target_networks_follow_each_batch(again, tmp_path):
    model = DSPG("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8]})
    if again == "loaded":
        model.save(tmp_path / "model")
        model = DSPG.load(tmp_path / "model")
    elif again == "copied":
        model = copy.deepcopy(model)
    momenta = [
        {layer.momentum for layer in critic.modules() if isinstance(layer, BatchNorm)}
        for critic in (model.critic, model.critic_target)
    ]
    assert momenta == [{0.01}, {1.0}]


def test_every_action_of_a_discrete_space_counts_in_the_statistics():
    critic = make_critic(spaces.Discrete(3), action_layer=0)
    seen = []
    critic.q_networks[0].join_norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    states = th.zeros(6, 3)
    critic.evaluate(critic, states, th.zeros(6, 1, dtype=th.long), states, critic.all_actions(6))
    hidden = seen[0].view(12, 8)
    # Six times the first action of the replay buffer, then each of the three of the policy twice
    assert len(hidden[:6].unique(dim=0)) == 1 and len(hidden[6:].unique(dim=0)) == 3


def test_without_normalisation_it_is_two_passes():
    critic = make_critic(batch_norm=False)
    twin = make_critic(batch_norm=False)
    twin.load_state_dict(critic.state_dict())
    batch = [th.randn(5, 3), th.rand(5, 2), th.randn(5, 3), th.rand(5, 4, 2)]
    joint, apart = (critic.evaluate(target, *batch) for target in (critic, twin))
    assert th.allclose(joint.predictions, apart.predictions, atol=1e-5)
    assert th.allclose(joint.next_predictions, apart.next_predictions, atol=1e-5)
    # The values of the target are those of its own networks
    target = make_critic(batch_norm=False)
    expected = target.predictions(target.embed(batch[2]), batch[3])
    assert th.allclose(critic.evaluate(target, *batch).next_predictions, expected)
    assert not th.allclose(joint.next_predictions, expected, atol=1e-2)


def test_join_batches_of_a_dictionary():
    first, second = {"a": th.zeros(2, 1), "b": th.ones(2, 3)}, {"b": th.zeros(1, 3), "a": th.ones(1, 1)}
    joined = join_batches(first, second)
    assert joined["a"].flatten().tolist() == [0, 0, 1] and joined["b"].shape == (3, 3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_there_are_no_targets(variant):
    model = make_model(variant, policy_kwargs=JOINT).learn(40)
    assert model.critic_target is model.critic and model.policy.critic_target is model.critic
    assert model._target_pairs() == []


@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_save_load(variant, tmp_path):
    model = make_model(variant, policy_kwargs=JOINT).learn(40)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=model.get_env())
    assert loaded.critic_target is loaded.critic
    model.policy.save(tmp_path / "policy")
    policy = type(model.policy).load(tmp_path / "policy")
    assert policy.critic_target is policy.critic
    for first, second in zip(model.critic.state_dict().values(), policy.critic.state_dict().values(), strict=True):
        assert th.equal(first, second)
    loaded.learn(20, reset_num_timesteps=False)


@pytest.mark.parametrize("algorithm", [DSPG, SoftQLearning])
def test_target_critic_is_a_flag(algorithm):
    with pytest.raises(ValueError, match="target_critic='no': give True or False"):
        algorithm("MlpPolicy", "Pendulum-v1", policy_kwargs={"target_critic": "no"})


def test_number_of_target_samples():
    model = make_model("DSPG", n_action_samples=6, n_target_samples=2)
    noise = model._draw_noise(5)
    assert noise.next_actions.shape[1] == 2 and noise.actions.shape[1] == 6
    with pytest.raises(ValueError, match="n_target_samples=0"):
        make_model("DSPG", n_target_samples=0)
