"""Every combination that SB3's own test of the same name runs for SAC, with a check of what it should do."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv, FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize

from sb3_maxent import DSPG
from tests.envs import QuadraticBandit

TINY = {"n_action_samples": 4, "buffer_size": 2000, "learning_starts": 20, "batch_size": 16, "seed": 0}


def tiny(net_arch=(16,), **policy_kwargs):
    return {**TINY, "policy_kwargs": {"net_arch": list(net_arch), **policy_kwargs}}


def check_learning(model, steps=60):
    """Learn, and check that every trained network moved, stayed finite and acts inside the box"""
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(steps)
    assert model._n_updates > 0
    after = model.policy.state_dict()
    assert all(th.isfinite(value).all() for value in after.values())
    assert not [name for name, value in after.items() if th.equal(value, before[name])]
    observation = model.get_env().reset()
    for deterministic in (False, True):
        actions, _ = model.predict(observation, deterministic=deterministic)
        assert all(model.action_space.contains(action) for action in actions)
    return model


@pytest.mark.parametrize("ent_coef", ["auto", 0.01, "auto_0.01"])
@pytest.mark.parametrize("baseline", ["none", "loo"])
def test_dspg(ent_coef, baseline):
    check_learning(DSPG("MlpPolicy", "Pendulum-v1", ent_coef=ent_coef, baseline=baseline, **tiny()))


@pytest.mark.parametrize("n_critics", [1, 3])
@pytest.mark.parametrize("action_layer", [0, -1])
def test_n_critics(n_critics, action_layer):
    model = DSPG("MlpPolicy", "Pendulum-v1", **tiny(n_critics=n_critics, action_layer=action_layer))
    assert len(check_learning(model).critic.q_networks) == n_critics


def test_paper_networks():
    check_learning(
        DSPG("MlpPolicy", "Pendulum-v1", **tiny(std_head="sigmoid", target_actor=True, n_critics=1, action_layer=0))
    )


@pytest.mark.parametrize("net_arch", [[], [8], [12, 8, 8]])
def test_net_arch(net_arch):
    check_learning(DSPG("MlpPolicy", "Pendulum-v1", **tiny(net_arch)))


def test_separate_net_arch():
    model = DSPG("MlpPolicy", "Pendulum-v1", **{**TINY, "policy_kwargs": {"net_arch": {"pi": [8], "qf": [24, 16]}}})
    assert model.critic.q_networks[0].join.out_features == 16
    assert model.actor.mu.in_features == 8
    check_learning(model)


@pytest.mark.parametrize("sde_sample_freq", [-1, 8])
def test_gsde(sde_sample_freq):
    model = check_learning(DSPG("MlpPolicy", "Pendulum-v1", use_sde=True, sde_sample_freq=sde_sample_freq, **tiny()))
    model.policy.reset_noise()
    assert model.actor.get_std().shape == (16, 1)


def test_n_step():
    model = check_learning(DSPG("MlpPolicy", "Pendulum-v1", n_steps=3, **tiny()))
    assert isinstance(model.replay_buffer, NStepReplayBuffer)
    assert model.replay_buffer.sample(4).discounts is not None


def test_images():
    env = FakeImageEnv(screen_height=40, screen_width=40, n_channels=1, discrete=False)
    kwargs = tiny(features_extractor_kwargs={"features_dim": 16})
    check_learning(DSPG("CnnPolicy", env, **{**kwargs, "buffer_size": 100}), steps=30)


def test_dict_observations():
    check_learning(DSPG("MultiInputPolicy", SimpleMultiObsEnv(discrete_actions=False), **{**tiny(), "buffer_size": 100}))


def test_her():
    env = BitFlippingEnv(n_bits=4, continuous=True)
    model = DSPG("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, **tiny())
    check_learning(model)


@pytest.mark.parametrize("vec_normalize", [False, True])
def test_several_environments(vec_normalize):
    env = make_vec_env("Pendulum-v1", n_envs=3, seed=0)
    env = VecNormalize(env) if vec_normalize else env
    model = check_learning(DSPG("MlpPolicy", env, gradient_steps=-1, **tiny()), steps=90)
    # As many updates as environment steps after the start
    assert model.logger.name_to_value["train/updates_per_step"] == 1.0
    assert model._n_updates == pytest.approx(90 - 20, abs=3)


def test_episodic_training():
    model = check_learning(DSPG("MlpPolicy", "Pendulum-v1", train_freq=(1, "episode"), gradient_steps=5, **tiny()), steps=400)
    assert model._n_updates == 10


def test_action_noise():
    check_learning(DSPG("MlpPolicy", "Pendulum-v1", action_noise=NormalActionNoise(np.zeros(1), 0.1 * np.ones(1)), **tiny()))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(np.array([-3.0, 0.5]), np.array([1.0, 0.75]), dtype=np.float64),
        spaces.Box(-2, 5, (2, 3), np.float32),
    ],
)
def test_action_boxes(space):
    env = QuadraticBandit()
    env.action_space = space
    model = check_learning(DSPG("MlpPolicy", TimeLimit(env, 10), **tiny()))
    assert model.target_entropy == -np.prod(space.shape)


@pytest.mark.parametrize("share_features_extractor", [False, True])
def test_shared_features_extractor(share_features_extractor):
    model = DSPG("MlpPolicy", "Pendulum-v1", **tiny(share_features_extractor=share_features_extractor))
    assert (model.actor.features_extractor is model.critic.features_extractor) == share_features_extractor
    check_learning(model)


def test_same_seed_same_weights():
    first, second, other = (
        DSPG("MlpPolicy", "Pendulum-v1", **{**tiny(), "seed": seed}).learn(60).policy.state_dict() for seed in (1, 1, 2)
    )
    assert all(th.equal(first[key], second[key]) for key in first)
    assert not all(th.equal(first[key], other[key]) for key in first)
