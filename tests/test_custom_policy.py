"""Networks and optimizers of one's own."""

import functools

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from tests.models import BOX_VARIANTS, VARIANTS, check_learning, make_model


class OwnExtractor(BaseFeaturesExtractor):
    """A features extractor with parameters"""

    def __init__(self, observation_space, features_dim=5):
        super().__init__(observation_space, features_dim)
        self.network = nn.Sequential(nn.Linear(observation_space.shape[0], features_dim), nn.Tanh())

    def forward(self, observations):
        return self.network(observations)


def modules(*networks):
    """Without the actor of discrete actions, which has no parameters"""
    return [network for network in networks if isinstance(network, nn.Module)]


def widths(network):
    """Outputs of the linear layers, in order"""
    return [module.out_features for module in network.modules() if isinstance(module, nn.Linear)]


@pytest.mark.parametrize(
    ("net_arch", "actor", "critic"),
    [
        ([8], [8], [8]),
        ([12, 8, 4], [12, 8, 4], [12, 8, 4]),
        ({"pi": [8], "qf": [24, 16]}, [8], [24, 16]),
        ({"pi": [12, 6], "qf": [5]}, [12, 6], [5]),
        ({"pi": [7, 7], "qf": []}, [7, 7], []),
        ({"pi": (8, 4), "qf": (6, 5)}, [8, 4], [6, 5]),
        ([], [], []),
    ],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_custom_offpolicy(variant, net_arch, actor, critic):
    if variant == "SoftQLearning" and not actor:
        with pytest.raises(ValueError, match="needs at least one hidden layer"):
            make_model(variant, policy_kwargs={"net_arch": net_arch})
        return
    model = make_model(variant, policy_kwargs={"net_arch": net_arch})
    assert all(widths(q_network) == [*critic, 1] for q_network in model.critic.q_networks)
    if variant == "DSPG":
        assert widths(model.actor) == [*actor, 1, 1]
    elif variant == "SoftQLearning":
        # The noise has a layer of its own
        assert sorted(widths(model.actor)) == sorted([*actor, actor[-1], 1])
    check_learning(model)


@pytest.mark.parametrize("variant", VARIANTS)
def test_activation_fn(variant):
    model = check_learning(make_model(variant, policy_kwargs={"net_arch": [8, 8], "activation_fn": nn.ELU}))
    kinds = {type(module) for module in model.policy.modules()}
    assert nn.ELU in kinds and nn.ReLU not in kinds


@pytest.mark.parametrize(
    ("optimizer_class", "optimizer_kwargs", "expected"),
    [
        (th.optim.Adam, None, {"fused": True}),
        (th.optim.Adam, {"eps": 1e-3}, {"eps": 1e-3, "fused": True}),
        (th.optim.AdamW, None, {"weight_decay": 1e-2}),
        (th.optim.AdamW, {"weight_decay": 0.0}, {"weight_decay": 0.0}),
        (th.optim.SGD, {"momentum": 0.5}, {"momentum": 0.5}),
        (RMSpropTFLike, {"eps": 1e-3, "alpha": 0.9}, {"eps": 1e-3, "alpha": 0.9}),
    ],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_custom_optimizer(variant, optimizer_class, optimizer_kwargs, expected, tmp_path):
    policy_kwargs = {"optimizer_class": optimizer_class, "optimizer_kwargs": optimizer_kwargs}
    model = make_model(variant, policy_kwargs=policy_kwargs, learning_rate=0.01)
    model = check_learning(model)
    model.save(tmp_path / "model")
    loaded = VARIANTS[variant].algorithm.load(tmp_path / "model")
    for each in (model, loaded):
        for network in modules(each.actor, each.critic):
            assert type(network.optimizer) is optimizer_class and network.optimizer.param_groups[0]["lr"] == 0.01
            assert {name: network.optimizer.defaults[name] for name in expected} == expected


@pytest.mark.parametrize("share_features_extractor", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_features_extractor(variant, share_features_extractor):
    policy_kwargs = {"features_extractor_class": OwnExtractor, "features_extractor_kwargs": {"features_dim": 7}}
    if share_features_extractor and variant in BOX_VARIANTS:
        policy_kwargs["share_features_extractor"] = True
    model = check_learning(make_model(variant, policy_kwargs=policy_kwargs))
    networks = modules(model.actor, model.critic, model.critic_target)
    assert all(isinstance(network.features_extractor, OwnExtractor) for network in networks)
    assert all(network.features_extractor.features_dim == 7 for network in networks)


@pytest.mark.parametrize("variant", VARIANTS)
def test_policy_classes(variant, tmp_path):
    """A class in place of its name is the same, and one of one's own is kept when it is saved"""
    policy_class = VARIANTS[variant].algorithm.policy_aliases["MlpPolicy"]
    first, second = (
        make_model(variant, policy=policy).learn(30).policy.state_dict() for policy in ("MlpPolicy", policy_class)
    )
    assert all(th.equal(first[name], second[name]) for name in first)
    own = type("OwnPolicy", (policy_class,), {})
    model = check_learning(make_model(variant, policy=own))
    model.save(tmp_path / "model")
    assert type(VARIANTS[variant].algorithm.load(tmp_path / "model").policy).__name__ == "OwnPolicy"
    with pytest.raises(ValueError, match="policy='LstmPolicy': give one of MlpPolicy, CnnPolicy"):
        make_model(variant, policy="LstmPolicy")


@pytest.mark.parametrize("variant", VARIANTS)
def test_partial_classes(variant):
    """As SB3's algorithms take them"""
    policy_kwargs = {
        "optimizer_class": functools.partial(th.optim.AdamW, weight_decay=0.5),
        "features_extractor_class": functools.partial(OwnExtractor, features_dim=4),
        "activation_fn": functools.partial(nn.LeakyReLU, 0.1),
    }
    model = check_learning(make_model(variant, policy_kwargs=policy_kwargs))
    assert model.critic.optimizer.param_groups[0]["weight_decay"] == 0.5


@pytest.mark.parametrize("activation_fn", [lambda: nn.PReLU(8), functools.partial(nn.LayerNorm, 8), lambda: nn.Tanh()])
@pytest.mark.parametrize("variant", VARIANTS)
def test_factories(variant, activation_fn, tmp_path):
    """Functions in place of classes, and activations of a fixed width, as SB3's algorithms take them"""
    policy_kwargs = {
        "net_arch": [8, 8],
        "optimizer_class": lambda parameters, lr: th.optim.SGD(parameters, lr=lr, momentum=0.5),
        "features_extractor_class": lambda observation_space: OwnExtractor(observation_space, features_dim=4),
        "activation_fn": activation_fn,
    }
    model = check_learning(make_model(variant, policy_kwargs=policy_kwargs, learning_rate=0.01))
    assert model.critic.optimizer.param_groups[0]["momentum"] == 0.5 and model.critic.features_extractor.features_dim == 4
    model.save(tmp_path / "model")
    loaded = VARIANTS[variant].algorithm.load(tmp_path / "model")
    assert all(th.equal(value, loaded.policy.state_dict()[name]) for name, value in model.policy.state_dict().items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_policies_of_another_name(variant, tmp_path):
    algorithm = VARIANTS[variant].algorithm
    policy_class = algorithm.policy_aliases["MlpPolicy"]
    subclass = type("Subclass", (algorithm,), {"policy_aliases": {"Mine": policy_class}})
    for policy in ("Mine", policy_class):
        # A seed as NumPy draws them, too
        subclass(policy, VARIANTS[variant].env, seed=np.int64(3)).save(tmp_path / "model")
        assert type(subclass.load(tmp_path / "model").policy) is policy_class
    with pytest.raises(ValueError, match="MlpPolicy"):
        subclass("MlpPolicy", VARIANTS[variant].env)
