import pytest
import torch as th
from torch import nn

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common.layers import BatchNorm, make_trunk
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


@pytest.mark.parametrize("action_layer", [0, 1, 2, -1])
@pytest.mark.parametrize("algorithm", [DSPG, SoftQLearning])
def test_what_sees_actions_is_not_normalised(algorithm, action_layer):
    policy_kwargs = {"net_arch": [8, 8, 8], "batch_norm": True, "action_layer": action_layer}
    model = algorithm("MlpPolicy", "Pendulum-v1", policy_kwargs=policy_kwargs, **SMALL)
    for network in model.critic.q_networks:
        # The features, and each layer in front of the one that the action enters
        assert len(norms(network)) == len(norms(network.trunk)) == 1 + action_layer % 3
    n_actor_layers = 3 if algorithm is DSPG else 2
    assert len(norms(model.actor)) == 1 + n_actor_layers


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
        assert target.num_batches_tracked == 0 and th.equal(norm.running_mean, target.running_mean)
        assert not th.equal(norm.running_var, th.ones(norm.num_features))


@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_a_batch_of_one_is_refused(variant):
    with pytest.raises(ValueError, match="batch_size=1: batch normalisation needs at least two states"):
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
