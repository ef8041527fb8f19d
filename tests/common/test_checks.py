"""What is refused by name, and what SB3 takes and we take too."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.sac.policies import SACPolicy

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common.schedules import make_schedule
from tests.envs import RandomEnv
from tests.models import BOX_VARIANTS, VARIANTS, VECTOR, actions_of, check_learning, make_model


@pytest.mark.parametrize(
    ("value", "start", "half"),
    [
        (3e-4, 3e-4, 3e-4),
        (0, 0.0, 0.0),
        ("3e-4", 3e-4, 3e-4),
        ("lin_3e-4", 3e-4, 1.5e-4),
        ("lin_1_0.1", 1.0, 0.55),
        ("lin_0.2_1", 0.2, 0.6),
        ("lin_32_1_0.5", 32.0, 1.0),
        ("log_0.1_0.001", 0.1, 0.01),
        ("log_1_4", 1.0, 2.0),
        ("log_1_1e-4_0.8", 1.0, 10**-2.5),
        ("log_1_1e-4_0.2", 1.0, 1e-4),
        (lambda progress: progress**2, 1.0, 0.25),
        (LinearSchedule(1.0, 0.5, 1.0), 1.0, 0.75),
    ],
)
def test_schedules(value, start, half):
    schedule = make_schedule(value, "qf_learning_rate")
    assert (schedule(1.0), schedule(0.5)) == pytest.approx((start, half))


@pytest.mark.parametrize(
    "value",
    [
        "linear_3e-4",
        "lin_",
        "lin_-1",
        "lin_1_",
        "lin_1_-1",
        "lin_1_2_3",
        "lin_1_2_0",
        "lin_1_2_0.5_1",
        "log_1",
        "log_",
        "log_1_0",
        "log_-1_1",
        "log_1_2_1.5",
        "1_2",
        "cos_1e-3",
        "",
        -1e-3,
        float("nan"),
        float("inf"),
        None,
        [1],
    ],
)
def test_not_a_schedule(value):
    with pytest.raises(ValueError, match=r"qf_learning_rate=.* is not a schedule"):
        make_schedule(value, "qf_learning_rate")


# --- what the model is made with -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["MlpPolcy", "", None, 1, SACPolicy, th.nn.Module])
def test_policies_that_there_are(policy):
    expected = r"^policy=.*: give one of MlpPolicy, CnnPolicy, MultiInputPolicy, or a subclass of SoftQLearningPolicy$"
    with pytest.raises(ValueError, match=expected):
        SoftQLearning(policy, "Pendulum-v1")


def test_action_spaces_that_an_algorithm_learns():
    space = spaces.Tuple([spaces.Discrete(2)])
    expected = r"^action_space=Tuple.*: DSPG learns Box, Discrete, MultiDiscrete, MultiBinary or HybridBox actions. sb3_max"
    with pytest.raises(ValueError, match=expected):
        make_model("DSPG", RandomEnv(VECTOR, space))
    # A subclass may learn others
    for supported, names in (((spaces.Box,), "Box"), ((spaces.Box, spaces.MultiBinary), "Box or MultiBinary")):
        fewer = type("Fewer", (DSPG,), {"supported_action_spaces": supported})
        with pytest.raises(ValueError, match=rf"^action_space=Discrete\(2\): Fewer learns {names} actions"):
            fewer("MlpPolicy", "CartPole-v1")


def test_no_environment():
    with pytest.raises(ValueError, match="env=None: give an environment, or its name"):
        DSPG("MlpPolicy", None)


@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_that_a_buffer_ignores(variant):
    """One-step returns in silence, or by a warning that is read too late"""
    for buffer, kwargs in [(ReplayBuffer, {}), (HerReplayBuffer, {}), (NStepReplayBuffer, {"n_steps": 2, "gamma": 0.99})]:
        with pytest.raises(ValueError, match=rf"^n_steps=3 has no effect on replay_buffer_class=.*{buffer.__name__}'>: leave"):
            make_model(variant, n_steps=3, replay_buffer_class=buffer, replay_buffer_kwargs=kwargs)
    kwargs = {"n_steps": 3, "gamma": 0.99}
    make_model(variant, n_steps=3, replay_buffer_class=NStepReplayBuffer, replay_buffer_kwargs=kwargs)
    # SB3 writes its own choice into both
    model = make_model(variant, n_steps=3)
    assert type(model.replay_buffer) is NStepReplayBuffer and model.replay_buffer_kwargs == {}


@pytest.mark.parametrize("noise", [NormalActionNoise, OrnsteinUhlenbeckActionNoise])
@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_action_noise_of_another_shape(variant, noise):
    env = RandomEnv(VECTOR, actions_of(variant))
    for shape in [(3,), (1, 2), (2, 2)]:
        with pytest.raises(ValueError, match=rf"(?s)^action_noise=.*has shape \({shape[0]},.*give it that of actions, \(2,\)"):
            make_model(variant, env, action_noise=noise(np.zeros(shape), np.ones(shape)))
    for shape in [(2,), (1,)]:
        check_learning(make_model(variant, env, action_noise=noise(np.zeros(shape), np.ones(shape))))


class ConstantNoise(ActionNoise):
    """None of SB3's two: it has no ``_mu``"""

    def __call__(self):
        return np.full(2, 0.5)


def test_action_noise_of_another_class():
    check_learning(make_model("DSPG", RandomEnv(VECTOR, VECTOR.__class__(-1, 1, (2,))), action_noise=ConstantNoise()))


# --- training --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_updates(variant):
    model = make_model(variant).learn(30)
    before = model._n_updates, {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.train(0)
    assert model._n_updates == before[0]
    assert all(th.equal(value, before[1][name]) for name, value in model.policy.state_dict().items())


def test_less_than_nothing_to_learn():
    model = make_model("DSPG")
    with pytest.raises(ValueError, match=r"^total_timesteps=-5: give a finite number from 0 to"):
        model.learn(-5)
    assert model.learn(0).num_timesteps == 0
    # What is left after a rollout that passed the end
    model.learn(30)
    assert model.learn(25 - model.num_timesteps, reset_num_timesteps=False).num_timesteps == 30


@pytest.mark.parametrize(
    ("n_envs", "arguments", "updates_per_step"),
    [
        (4, {}, "0.25"),
        (4, {"train_freq": 2, "gradient_steps": 4}, "0.5"),
        (4, {"train_freq": 64, "gradient_steps": 64}, "0.25"),
        (4, {"gradient_steps": 4}, None),
        (4, {"gradient_steps": -1}, None),
        (4, {"gradient_steps": 0}, None),
        (1, {"train_freq": 8}, None),
        # As (4, 1) with one environment
        (2, {"train_freq": 4, "gradient_steps": 2}, None),
        (1, {"train_freq": (1, "episode")}, None),
    ],
)
def test_few_updates_with_several_environments_are_warned_of(n_envs, arguments, updates_per_step):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_model("DSPG", make_vec_env("Pendulum-v1", n_envs), **arguments).learn(8).learn(8)
    messages = [str(warning.message) for warning in caught if "updates per step" in str(warning.message)]
    assert [message.split(" ")[0] for message in messages] == ([] if updates_per_step is None else [updates_per_step])


def test_a_seed_of_numpy():
    model = make_model("DSPG", seed=np.int64(3))
    assert np.random.randint(1000) == np.random.RandomState(3).randint(1000)
    with pytest.raises(ValueError, match=r"^seed=1\.5: give an integer, or None"):
        model.set_random_seed(1.5)


# --- environments of the old Gym -------------------------------------------------------------------------------------------


class OldSpace:
    """A space that is none of Gymnasium's"""


class OldEnv:
    """An environment with the old interface, which SB3 converts"""

    observation_space, action_space = OldSpace(), OldSpace()


@pytest.mark.parametrize("variant", VARIANTS)
def test_environments_that_sb3_converts(variant, monkeypatch, tmp_path):
    """Given directly, through ``set_env`` and to ``load``. ``_patch_env`` is where SB3 wraps it with shimmy"""

    def patch(env):
        return env if isinstance(env, gym.Env) else RandomEnv(VECTOR, actions_of(variant))

    monkeypatch.setattr("stable_baselines3.common.base_class._patch_env", patch)
    model = check_learning(make_model(variant, OldEnv()))
    model.set_env(OldEnv())
    model.learn(30).save(tmp_path / "model")
    VARIANTS[variant].algorithm.load(tmp_path / "model", env=OldEnv()).learn(30)


@pytest.mark.parametrize(
    ("precision", "capability", "is_slow"),
    [("bfloat16", "AVX2", True), ("bfloat16", "AVX512", False), ("float32", "AVX2", False)],
)
def test_a_precision_that_is_slow_on_a_processor(monkeypatch, precision, capability, is_slow):
    monkeypatch.setattr(th.backends.cpu, "get_cpu_capability", lambda: capability)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        DSPG("MlpPolicy", "Pendulum-v1", policy_kwargs={"evaluation_precision": precision})
    assert any("is slow on this processor" in str(warning.message) for warning in caught) == is_slow
