"""What users of SB3 do to a model besides calling its methods."""

import copy
import pickle

import cloudpickle
import numpy as np
import pytest
import torch as th
from torch import nn

from sb3_maxent import SoftQLearning
from sb3_maxent.common.q_network import QNetwork
from sb3_maxent.softqlearning.actors import Actor
from tests.models import BOX_VARIANTS, VARIANTS, differing, make_model, parameters_of, state_of


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_target_follows_a_replaced_module(variant):
    model = make_model(variant, tau=1.0).learn(30)
    for critic in (model.critic, model.critic_target):
        for q_network in critic.q_networks:
            q_network.head = copy.deepcopy(q_network.head)
    with th.no_grad():
        model.critic.q_networks[0].head[-1].weight.add_(1.0)
    model.train(1, 16)
    assert differing(parameters_of(model.critic), parameters_of(model.critic_target)) == set()


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("module", [pickle, cloudpickle])
@pytest.mark.parametrize("variant", ["DSPG", "Discrete SoftQLearning"])
def test_models_pickle(variant, module, compile):
    """As SAC's do, for instance to send them to another process"""
    model = make_model(variant, compile=compile).learn(30)
    twin = module.loads(module.dumps(model))
    for each in (model, twin):
        each.set_random_seed(1)
        each.train(3, 16)
    assert differing(state_of(model), state_of(twin)) == set()
    # It updates itself and not the original
    before = state_of(model)
    twin.train(1, 16)
    assert differing(before, state_of(model)) == set() != differing(before, state_of(twin))


class Halved(nn.ReLU):
    """Not what its base class is"""

    def forward(self, input):
        return 0.5 * super().forward(input) + 0.1 * input


def test_a_subclass_of_relu_is_called_as_it_is():
    """In place its first half would overwrite the input of its second"""
    th.manual_seed(0)
    network = QNetwork(3, 2, [16, 16], Halved, action_layer=-1)
    features, actions = th.randn(5, 3), th.rand(5, 4, 2)
    joined = network.embed(features) + actions @ network.join.weight[:, -2:].t()
    hidden = 0.5 * joined.relu() + 0.1 * joined
    expected = (hidden @ network.head[-1].weight[0] + network.head[-1].bias).detach()
    assert th.allclose(network(network.embed(features), actions), expected, atol=1e-6)
    with th.no_grad():
        assert th.allclose(network(network.embed(features), actions), expected, atol=1e-6)
    model = make_model("SoftQLearning", policy_kwargs={"activation_fn": Halved})
    assert isinstance(model.actor, Actor) and not any(getattr(module, "inplace", False) for module in model.actor.modules())


@pytest.mark.parametrize("variant", ["SoftQLearning", "Discrete SoftQLearning"])
def test_an_actor_without_q_values_says_what_to_call(variant):
    model = make_model(variant)
    obs, _ = model.policy.obs_to_tensor(model.get_env().reset())
    assert len(model.actor(obs)) == 1
    with pytest.raises(ValueError, match=r"call model\.predict\(observation, deterministic=True\)"):
        model.actor(obs, deterministic=True)
    action = model.policy(obs, deterministic=True).numpy(force=True)
    expected, _ = model.policy.predict(obs.numpy(force=True), deterministic=True)
    assert np.array_equal(model.policy.unscale_action(action), expected)


@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_sb3s_q1_forward(variant):
    model = make_model(variant)
    obs, _ = model.policy.obs_to_tensor(model.get_env().reset())
    actions = model.actor.sample_actions(obs, 1)[:, 0]
    assert th.equal(model.critic.q1_forward(obs, actions), model.critic(obs, actions)[0])


def test_softmax_actor_follows_a_replaced_critic():
    model = make_model("Discrete SoftQLearning", ent_coef=0.01)
    obs, _ = model.policy.obs_to_tensor(model.get_env().reset())
    model.policy.critic = copy.deepcopy(model.policy.critic)
    for q_network in model.policy.critic.q_networks:
        nn.init.zeros_(q_network.head[-1].weight), nn.init.zeros_(q_network.head[-1].bias)
    assert isinstance(model, SoftQLearning)
    actions = model.actor.sample_actions(obs, 2000)
    assert actions.float().mean().item() == pytest.approx(0.5, abs=0.05)
