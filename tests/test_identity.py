"""The reward is to repeat the observation, which is learned in a moment."""

import pytest
from stable_baselines3.common.envs import IdentityEnv, IdentityEnvBox
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.models import BOX_VARIANTS, make_model

FAST = {"gamma": 0.0, "learning_rate": 0.01, "learning_starts": 50, "batch_size": 64, "policy_kwargs": {"net_arch": [32]}}
SAMPLES = {"DSPG": {"n_action_samples": 16}, "SoftQLearning": {"n_particles": 16, "n_value_samples": 8}}


def reward_of(model):
    """Of an episode of 100 steps"""
    return evaluate_policy(model, model.get_env(), n_eval_episodes=5, warn=False)[0]


@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_continuous(variant):
    env = DummyVecEnv([lambda: IdentityEnvBox(eps=0.2)])
    model = make_model(variant, env, ent_coef=0.05, **SAMPLES[variant], **FAST)
    assert reward_of(model) < 90
    assert reward_of(model.learn(200)) > 90


def test_discrete():
    env = DummyVecEnv([lambda: IdentityEnv(6)])
    model = make_model("Discrete SoftQLearning", env, ent_coef=0.2, **FAST)
    assert reward_of(model) < 90
    assert reward_of(model.learn(250)) > 99
