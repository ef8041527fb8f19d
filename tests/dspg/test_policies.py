import math

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN

from sb3_maxent.common.errors import NonFiniteError
from sb3_maxent.common.hybrid_space import HybridBox
from sb3_maxent.dspg.actors import log_std_of
from sb3_maxent.dspg.policies import CnnPolicy, DSPGPolicy, MlpPolicy, MultiInputPolicy
from tests.envs import RandomEnv
from tests.models import PLAIN_NETWORKS, make_model

OBSERVATIONS, ACTIONS = spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,))


def make_policy(**kwargs) -> DSPGPolicy:
    return MlpPolicy(OBSERVATIONS, ACTIONS, lambda progress: 1e-3, net_arch=[16, 16], **{**PLAIN_NETWORKS, **kwargs})


def test_sigmoid_head():
    """std = sigmoid(.) + 1e-4 before the squash, for sampling and for the density alike"""
    policy, observations = make_policy(std_head="sigmoid"), th.randn(5, 3)
    latent = policy.actor.latent_pi(observations)
    expected = 1 / (1 + th.exp(-policy.actor.log_std(latent))) + 1e-4
    distribution = policy.actor.action_distribution(observations)
    assert th.allclose(distribution.log_std.exp(), expected, atol=1e-6)
    # The bound: no weights make it wider than 1
    policy.actor.log_std.bias.data.fill_(100.0)
    assert policy.actor.action_distribution(observations).log_std.max().item() == pytest.approx(math.log(1.0001), abs=1e-6)
    th.manual_seed(0)
    actions = th.atanh(policy.actor(observations[:1].expand(20_000, 3)).double().clamp(-1 + 1e-7, 1 - 1e-7))
    mean = policy.actor.action_distribution(observations[:1]).mean
    assert (actions - mean).std(dim=0).tolist() == pytest.approx([1.0, 1.0], abs=0.03)


def test_log_std_head_is_sb3s():
    policy, observations = make_policy(), th.randn(5, 3)
    mean, log_std, _ = policy.actor.get_action_dist_params(observations)
    distribution = policy.actor.action_distribution(observations)
    assert th.equal(distribution.mean, mean) and th.equal(distribution.log_std, log_std)
    policy.actor.log_std.bias.data.fill_(100.0)
    assert policy.actor.action_distribution(observations).log_std.max().item() == 2.0


@pytest.mark.parametrize("kwargs", [{"log_std_init": -1.0}, {"log_std_init": 0.3, "use_expln": True}])
def test_gsde_marginal(kwargs):
    """Actions of freshly drawn noise matrices have the density that the marginal claims"""
    policy, observations = make_policy(use_sde=True, **kwargs), 0.3 * th.randn(1, 3)
    th.manual_seed(0)
    policy.reset_noise(batch_size=20_000)
    actions = th.atanh(policy.actor(observations.expand(20_000, 3)).double().clamp(-1 + 1e-7, 1 - 1e-7))
    distribution = policy.actor.action_distribution(observations)
    assert actions.std(dim=0).tolist() == pytest.approx(distribution.log_std.exp()[0].tolist(), rel=0.03)
    # With one noise matrix all samples of a state would be alike; those of the marginal are not
    samples = distribution.sample(th.randn(1, 1000, 2))
    assert samples.std(dim=1)[0].tolist() == pytest.approx(distribution.log_std.exp()[0].tolist(), rel=0.1)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"std_head": "softplus"}, "std_head='softplus' is not one of"),
        ({"std_head": "sigmoid", "use_sde": True}, "std_head='sigmoid' has no effect with use_sde=True"),
        ({"n_components": 2, "use_sde": True}, "n_components=2 has no meaning with use_sde=True: gSDE's noise is that of one"),
        ({"n_components": 0}, "n_components=0: give an integer >= 1"),
        ({"n_components": 2.0}, "n_components=2.0: give an integer >= 1"),
        ({"action_layer": 2}, "action_layer=2 is not a hidden layer"),
        ({"n_critics": 0}, "n_critics=0"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_policy(**kwargs)


@pytest.mark.parametrize(("name", "value"), [("std_head", "sigmoid"), ("n_components", 2)])
def test_a_head_without_a_box(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r} has no effect on Discrete actions"):
        MlpPolicy(OBSERVATIONS, spaces.Discrete(2), lambda progress: 1e-3, **{name: value})


def test_one_component_is_todays_actor():
    th.manual_seed(0)
    policy, observations = make_policy(n_components=1), th.randn(5, 3)
    th.manual_seed(0)
    plain = make_policy()
    assert policy.actor.noise_dim == 2 and not hasattr(policy.actor, "logits")
    assert all(th.equal(a, b) for a, b in zip(policy.state_dict().values(), plain.state_dict().values(), strict=True))
    assert type(policy.actor.action_distribution(observations)).__name__ == "SquashedGaussian"


def test_components_start_far_apart_and_narrow():
    actor = make_policy(n_components=4).actor
    assert th.pdist(actor.mu.bias.reshape(4, 2)).min() > 0.5
    assert th.allclose(actor.log_std.bias, th.tensor(math.log(0.5)))


def test_the_width_of_gsde_depends_on_the_features():
    actor = make_policy(use_sde=True).actor
    actor.action_distribution(th.randn(5, 3)).log_std.sum().backward()
    assert actor.latent_pi[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_precision_reaches_all_critics(precision):
    policy = make_policy(evaluation_precision=precision)
    networks = [*policy.critic.q_networks, *policy.critic_target.q_networks]
    assert {network.evaluation_dtype for network in networks} == {getattr(th, precision)}


@pytest.mark.parametrize("std_head", ["log_std", "sigmoid"])
def test_a_mixture_has_the_parameters_of_its_heads(std_head):
    policy, observations = make_policy(n_components=3, std_head=std_head), th.randn(5, 3)
    actor, latent = policy.actor, policy.actor.latent_pi(observations)
    distribution = actor.action_distribution(observations)
    assert actor.noise_dim == 3 and distribution.means.shape == (5, 3, 2)
    assert th.equal(distribution.means.flatten(1), actor.mu(latent))
    assert th.allclose(distribution.log_weights, th.log_softmax(actor.logits(latent), dim=1))
    actor.log_std.bias.data.fill_(100.0)
    widest = actor.action_distribution(observations).log_stds.max().item()
    assert widest == pytest.approx(2.0 if std_head == "log_std" else math.log(1.0001), abs=1e-6)


def test_the_deterministic_action_is_the_best_mean():
    """By the smallest critic; it is the most probable one only now and then"""
    th.manual_seed(0)
    policy = make_policy(n_components=4)
    observations = (3 * np.random.default_rng(0).normal(size=(200, 3))).astype(np.float32)
    policy.actor.mu.bias.data.mul_(3)
    actions = policy.predict(observations, deterministic=True)[0]
    with th.no_grad():
        states = th.as_tensor(observations)
        distribution = policy.actor.action_distribution(states)
        q_values = th.stack(
            [th.cat(policy.critic(states, mode), dim=1).amin(dim=1) for mode in distribution.modes().unbind(1)]
        )
        best = distribution.modes()[th.arange(200), q_values.argmax(dim=0)].numpy()
    assert np.allclose(actions, best, atol=1e-6) and len(np.unique(q_values.argmax(dim=0))) > 1
    assert not np.allclose(actions, policy.actor(states, deterministic=True).detach().numpy(), atol=0.1)
    policy.actor.logits.bias.data[0] = th.nan
    for deterministic in (False, True):
        with pytest.raises(NonFiniteError, match="action is not finite"):
            policy.predict(observations, deterministic=deterministic)


def test_targets_start_equal_and_in_evaluation_mode():
    policy = make_policy(target_actor=True, actor_averaging=10)
    followers = (policy.actor_target, policy.averaged_actor, policy.critic_target)
    for source, target in zip((policy.actor, policy.actor, policy.critic), followers, strict=True):
        assert all(th.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))
        assert not target.training
    policy.set_training_mode(True)
    assert policy.actor.training and policy.critic.training
    assert not any(target.training for target in followers)
    assert make_policy().actor_target is None


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"n_components": 3},
        {"std_head": "sigmoid", "action_layer": 0, "target_actor": True, "n_critics": 1},
        {"actor_averaging": 100},
        {"share_features_extractor": True},
    ],
)
def test_saves_and_loads_by_itself(tmp_path, kwargs):
    policy = make_policy(**kwargs)
    policy.save(tmp_path / "policy.pth")
    loaded = DSPGPolicy.load(tmp_path / "policy.pth")
    assert loaded.share_features_extractor == policy.share_features_extractor
    assert all(th.equal(a, b) for a, b in zip(policy.state_dict().values(), loaded.state_dict().values(), strict=True))
    observation = np.ones(3, np.float32)
    assert np.array_equal(
        policy.predict(observation, deterministic=True)[0], loaded.predict(observation, deterministic=True)[0]
    )


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.MultiDiscrete([3, 2]), spaces.MultiBinary(4)], ids=str)
def test_discrete_actors_save_and_load_by_themselves(tmp_path, space):
    policy = MlpPolicy(OBSERVATIONS, space, lambda progress: 1e-3, net_arch=[16], target_actor=True)
    for part in (policy, policy.actor):
        part.save(tmp_path / "part.pth")
        loaded = type(part).load(tmp_path / "part.pth")
        assert all(th.equal(a, b) for a, b in zip(part.state_dict().values(), loaded.state_dict().values(), strict=True))
        for deterministic in (False, True):
            actions = []
            for each in (part, loaded):
                th.manual_seed(0)
                actions.append(each.predict(np.ones((9, 3), np.float32), deterministic=deterministic)[0])
            assert np.array_equal(*actions)


def test_adam_is_fused_unless_told_otherwise():
    assert make_policy().actor.optimizer.defaults["fused"]
    assert not make_policy(optimizer_kwargs={"fused": False}).critic.optimizer.defaults["fused"]
    assert make_policy(optimizer_kwargs={"eps": 1e-5}).critic.optimizer.defaults["eps"] == 1e-5
    assert isinstance(make_policy(optimizer_class=th.optim.SGD).actor.optimizer, th.optim.SGD)


def test_default_features_extractors():
    image = spaces.Box(0, 255, (3, 36, 36), np.uint8)
    assert type(CnnPolicy(image, ACTIONS, lambda progress: 1e-3).actor.features_extractor).__name__ == "NatureCNN"
    dict_space = spaces.Dict({"a": OBSERVATIONS, "b": image})
    assert (
        type(MultiInputPolicy(dict_space, ACTIONS, lambda progress: 1e-3).actor.features_extractor).__name__
        == "CombinedExtractor"
    )


def test_the_log_standard_deviation_is_clamped_on_both_sides():
    assert log_std_of(th.tensor([-100.0, 100.0]), "log_std").tolist() == [LOG_STD_MIN, LOG_STD_MAX]


def test_gsde_where_no_hidden_unit_is_active():
    actor = make_policy(use_sde=True).actor
    actor.latent_pi[-2].bias.data.fill_(-100.0)
    assert actor.action_distribution(th.randn(5, 3)).log_std.isfinite().all()


def test_a_mixture_chooses_among_the_modes_of_the_averaged_actor():
    policy = make_policy(n_components=3, actor_averaging=10)
    policy.averaged_actor.mu.bias.data.add_(0.5)
    action = policy.predict(np.ones(3, np.float32), deterministic=True)[0]
    modes = policy.averaged_actor.candidates(th.ones(1, 3))[0].detach().numpy()
    assert np.abs(modes - action).max(axis=1).min() < 1e-6


def check_loads_by_itself(actor, file):
    """The loaded actor samples the same actions"""
    actor.save(file)
    loaded, observations = type(actor).load(file), np.ones((9, 3), np.float32)
    actions = [(th.manual_seed(0), each.predict(observations)[0])[1] for each in (actor, loaded)]
    assert np.array_equal(*actions)


@pytest.mark.parametrize("kwargs", [{"n_components": 3}, {"batch_norm": True, "unit_norm": False}, {"std_head": "sigmoid"}])
def test_an_actor_is_loaded_with_its_arguments(kwargs, tmp_path):
    check_loads_by_itself(make_policy(**kwargs).actor, tmp_path / "actor")


def test_a_hybrid_actor_is_loaded_with_its_arguments(tmp_path):
    env = RandomEnv(OBSERVATIONS, HybridBox(spaces.Box(-1, 1, (2,)), (3,)))
    check_loads_by_itself(make_model("DSPG", env, policy_kwargs={"std_head": "sigmoid"}).actor, tmp_path / "actor")


def test_a_policy_is_loaded_with_its_arguments(tmp_path):
    make_policy(batch_norm=True, unit_norm=False, evaluation_precision="bfloat16").save(tmp_path / "policy")
    critic = MlpPolicy.load(tmp_path / "policy").critic
    assert not critic.unit_norm and critic.q_networks[0].evaluation_dtype is th.bfloat16
