import pytest
import torch as th
from torch import nn

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common.layers import BatchNorm, make_trunk
from sb3_maxent.common.q_network import QNetwork
from tests.models import BOX_VARIANTS, SMALL, make_model

NORMALISED = {"net_arch": [8, 8], "batch_norm": True}


def norms(network: nn.Module) -> list[BatchNorm]:
    return [module for module in network.modules() if isinstance(module, BatchNorm)]


def test_normalised_trunk():
    """Features and hidden units have mean 0 and deviation 1 over a batch; later by the statistics of the batches before"""
    trunk = make_trunk(3, [3], nn.Identity, batch_norm=True).double()
    nn.init.eye_(trunk[1].weight)
    features = th.randn(1000, 3, dtype=th.float64) * 10 + 50
    hidden = trunk(features)
    assert th.allclose(hidden.mean(dim=0), th.zeros(3, dtype=th.float64))
    assert th.allclose(hidden.var(dim=0, unbiased=False), th.ones(3, dtype=th.float64), atol=0.01)
    assert th.allclose(trunk[0].running_mean, 0.01 * features.mean(dim=0))
    trunk.eval()
    expected = (features - trunk[0].running_mean) / (trunk[0].running_var + 1e-3).sqrt() @ trunk[1].weight.t()
    expected = (expected - trunk[2].running_mean) / (trunk[2].running_var + 1e-3).sqrt()
    assert th.allclose(trunk(features), expected)


@pytest.mark.parametrize("action_layer", [0, 1, -1])
@pytest.mark.parametrize("algorithm", [DSPG, SoftQLearning])
def test_every_hidden_layer_is_normalised(algorithm, action_layer):
    policy_kwargs = {"net_arch": [8, 8, 8], "batch_norm": True, "action_layer": action_layer}
    model = algorithm("MlpPolicy", "Pendulum-v1", policy_kwargs=policy_kwargs, **SMALL)
    for network in model.critic.q_networks:
        # The features, and each hidden layer; a bias in front of a normalisation has no effect
        assert len(norms(network)) == 4 and all(weight.shape[0] == 8 for weight in network.hidden_weights())
        assert all(layer.bias is None for layer in (*network.trunk, network.join) if isinstance(layer, nn.Linear))
    # Behind the layer that the noise enters the sampling network is as it was
    assert len(norms(model.actor)) == (4 if algorithm is DSPG else 3)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("net_arch", [[], [8], [8, 8, 8]])
@pytest.mark.parametrize("action_layer", [0, -1])
def test_normalised_network_is_its_layers(net_arch, action_layer, training):
    """As if each layer were called for each sample, in evaluation mode too, where a normalisation is part of other weights"""
    network = QNetwork(3, 2, net_arch, nn.ReLU, action_layer, batch_norm=True).double().train(training)
    for norm in norms(network):
        nn.init.normal_(norm.running_mean), nn.init.uniform_(norm.running_var, 0.5, 2)
        if norm.affine:
            nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    features, actions = th.randn(5, 3, dtype=th.float64), th.rand(5, 7, 2, dtype=th.float64) * 2 - 1
    hidden = network.trunk(features).unsqueeze(1).expand(-1, 7, -1)
    rows = network.join(th.cat([hidden, actions], dim=2).flatten(0, 1))
    # Without hidden layers it is the Q-value
    assert (network.join_norm is None) == (net_arch == [])
    rows = rows if network.join_norm is None else network.join_norm(rows)
    expected = network.head(rows).view(5, 7)
    with th.set_grad_enabled(training):
        assert th.allclose(network(network.embed(features), actions), expected)


@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_unit_norm(variant):
    model = make_model(variant, policy_kwargs={**NORMALISED, "unit_norm": True}).learn(40)
    for critic in (model.critic, model.critic_target):
        norms_of = [weight.norm(dim=1) for network in critic.q_networks for weight in network.hidden_weights()]
        deviation = max((norm - 1).abs().max().item() for norm in norms_of)
        # The target is a mean of such weights
        assert deviation < (1e-5 if critic is model.critic else 0.1)
    # The control: without it they grow
    free = make_model(variant, policy_kwargs={**NORMALISED, "unit_norm": False}, learning_rate=1e-2).learn(40)
    assert max((weight.norm(dim=1) - 1).abs().max().item() for weight in free.critic.q_networks[0].hidden_weights()) > 0.01


def test_unit_norm_leaves_frozen_weights_and_units_without_weights():
    model = make_model("DSPG", policy_kwargs={**NORMALISED, "unit_norm": True})
    frozen, pruned = (network.hidden_weights()[0] for network in model.critic.q_networks)
    frozen.requires_grad_(False).fill_(2.0)
    pruned.data[0] = 0.0
    pruned.data[1:] *= 3
    model.critic.after_step()
    assert (frozen == 2).all() and (pruned[0] == 0).all()
    assert th.allclose(pruned[1:].norm(dim=1), th.ones(len(pruned) - 1))


def test_unit_norm_changes_no_value():
    """Behind a normalisation the scale of weights has no effect but through its epsilon"""
    network = QNetwork(3, 2, [64, 64], nn.ReLU, -1, batch_norm=True)
    features, actions = th.randn(500, 3), th.rand(500, 1, 2)
    before = network(network.embed(features), actions)
    for weight in network.hidden_weights():
        weight.data.mul_(th.rand(len(weight), 1) + 5)
    assert th.allclose(network(network.embed(features), actions), before, atol=0.02)


def test_unit_norm_needs_batch_norm():
    with pytest.raises(ValueError, match="unit_norm=True: without batch_norm=True the scale of the weights has a meaning"):
        make_model("DSPG", policy_kwargs={"batch_norm": False, "unit_norm": True})


@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_statistics_move_with_updates_alone(variant):
    model = make_model(variant, policy_kwargs=NORMALISED, tau=0.0, gradient_steps=0).learn(40)
    networks = (model.actor, model.critic, model.critic_target)
    assert all(norm.num_batches_tracked == 0 for network in networks for norm in norms(network))
    model.train(3, 8)
    # In the actor of DSPG those of the next states too
    assert {norm.num_batches_tracked.item() for norm in norms(model.critic)} == {3}
    assert all(norm.num_batches_tracked >= 3 for norm in norms(model.actor))
    for norm, target in zip(norms(model.critic), norms(model.critic_target), strict=True):
        assert th.equal(norm.running_mean, target.running_mean)
        assert not th.equal(norm.running_var, th.ones(norm.num_features))


@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_a_batch_of_one_is_refused(variant):
    with pytest.raises(ValueError, match="batch_size=1: batch normalisation needs two states, or batch_norm=False"):
        make_model(variant, policy_kwargs=NORMALISED, batch_size=1)


def test_batch_norm_is_a_flag():
    with pytest.raises(ValueError, match="batch_norm='False': give True or False"):
        make_model("DSPG", policy_kwargs={"batch_norm": "False"})


@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_a_policy_loads_by_itself(variant, tmp_path):
    model = make_model(variant, policy_kwargs=NORMALISED).learn(40)
    model.policy.save(tmp_path / "policy")
    policy = type(model.policy).load(tmp_path / "policy")
    observation = model.observation_space.sample()
    actions = [each.predict(observation, deterministic=True)[0] for each in (model.policy, policy)]
    assert actions[0] == actions[1] and len(norms(policy)) == len(norms(model.policy))
