"""An exported policy acts like ``predict`` on what the environment returns."""

import io
import sys
import zipfile

import gymnasium as gym
import numpy as np
import onnx
import onnxruntime
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.saving.export import export_onnx
from tests.dspg.test_mixture import MixturePolicy
from tests.envs import QuadraticBandit
from tests.models import ACTIONS, make_random_env
from tests.test_train_eval_mode import NormalisingExtractor

SMALL = {"buffer_size": 200, "learning_starts": 10, "batch_size": 8, "seed": 0, "policy_kwargs": {"net_arch": [16, 16]}}
DSPG_SMALL = {**SMALL, "n_action_samples": 4}
SOFT_Q_SMALL = {**SMALL, "n_particles": 4, "n_value_samples": 4}
# Warnings of PyTorch's exporter, about itself
pytestmark = pytest.mark.filterwarnings("ignore")


def pendulum(n_envs=2):
    return make_vec_env("Pendulum-v1", n_envs=n_envs, seed=0)


def bandit(action_space, observation_space=None):
    env = QuadraticBandit()
    env.action_space = action_space
    if observation_space is not None:
        env.observation_space = observation_space
        observation_space.seed(0)
        env.reset = lambda **kwargs: (observation_space.sample(), {})
        env.step = lambda action: (observation_space.sample(), 1.0, False, False, {})
    return gym.wrappers.TimeLimit(env, 5)


def several_observations():
    env = DummyVecEnv([lambda: SimpleMultiObsEnv(discrete_actions=False)] * 2)
    return VecNormalize(VecTransposeImage(env), norm_obs_keys=["vec"])


LOPSIDED = spaces.Box(np.array([[-3.0, 0.5]]), np.array([[1.0, 0.75]]), dtype=np.float64)
IMAGES = {"features_extractor_kwargs": {"features_dim": 16}}
NORM = {"features_extractor_class": NormalisingExtractor}
CASES = {
    "normalised": (DSPG, {}, {}, lambda: VecMonitor(VecNormalize(pendulum(), clip_obs=1.5))),
    "soft Q, normalised": (SoftQLearning, {}, {}, lambda: VecNormalize(pendulum(), clip_obs=1.5)),
    "rewards normalised": (DSPG, {"compile": True}, {}, lambda: VecNormalize(pendulum(), norm_obs=False)),
    "gSDE": (DSPG, {"use_sde": True}, {}, pendulum),
    "sigmoid": (DSPG, {}, {"std_head": "sigmoid", "share_features_extractor": True}, pendulum),
    "mixture": (DSPG, {}, {"n_components": 3, "batch_norm": True, "std_head": "sigmoid"}, lambda: bandit(LOPSIDED)),
    "batch norm": (DSPG, {}, NORM, pendulum),
    "soft Q, batch norm, bfloat16": (
        SoftQLearning,
        {},
        {**NORM, "action_layer": 0, "evaluation_precision": "bfloat16"},
        pendulum,
    ),
    "normalised networks": (DSPG, {}, {"batch_norm": True, "net_arch": [16, 16], "actor_averaging": 100}, pendulum),
    "soft Q, normalised networks": (
        SoftQLearning,
        {},
        {"batch_norm": True, "net_arch": [16, 16], "actor_averaging": 100},
        pendulum,
    ),
    "boxes": (DSPG, {}, {}, lambda: bandit(LOPSIDED, spaces.Box(-5, 2, (2, 3), np.float64))),
    "integers": (DSPG, {}, {}, lambda: bandit(spaces.Box(-3, 4, (2,), np.int32))),
    "soft Q, boxes": (SoftQLearning, {}, {}, lambda: bandit(LOPSIDED, spaces.Discrete(7))),
    "several observations": (DSPG, {}, {}, lambda: VecCheckNan(several_observations())),
    "soft Q, several observations": (SoftQLearning, {}, {}, several_observations),
    "images": (DSPG, {}, IMAGES, lambda: FakeImageEnv(screen_height=40, screen_width=40, n_channels=3, discrete=False)),
    "actions": (DSPG, {}, {}, lambda: gym.make("CartPole-v1")),
    "factors": (DSPG, {}, {}, lambda: bandit(spaces.MultiDiscrete([3, 2], dtype=np.int32))),
    "bits": (DSPG, {}, {"batch_norm": True}, lambda: bandit(spaces.MultiBinary(7))),
    "hybrid": (DSPG, {}, {}, lambda: make_random_env(spaces.Box(-1, 1, (3,)), ACTIONS["hybrid"])),
    "soft Q, actions": (SoftQLearning, {"ent_coef": 0.05}, {}, lambda: gym.make("CartPole-v1")),
    "soft Q, bits": (SoftQLearning, {}, {}, lambda: bandit(spaces.MultiDiscrete([3, 2]), spaces.MultiBinary(4))),
}
# Like other cases but for one line each
SLOW = (
    "actions",
    "factors",
    "soft Q, normalised networks",
    "soft Q, several observations",
    "soft Q, bits",
    "soft Q, batch norm, bfloat16",
    "rewards normalised",
)
POLICIES = {"several observations": "MultiInputPolicy", "images": "CnnPolicy"}


def make_model(case):
    algorithm, kwargs, policy_kwargs, make_env = CASES[case]
    small = DSPG_SMALL if algorithm is DSPG else SOFT_Q_SMALL
    policy = POLICIES.get(case.removeprefix("soft Q, "), "MlpPolicy")
    kwargs = {**small, **kwargs, "policy_kwargs": {**SMALL["policy_kwargs"], **policy_kwargs}}
    return algorithm(policy, make_env(), gradient_steps=-1, **kwargs).learn(20)


def observations_of(model, n):
    """As the environment returns them, and as the model sees them"""
    model.observation_space.seed(1)
    samples = [model.observation_space.sample() for _ in range(n)]
    if isinstance(model.observation_space, spaces.Dict):
        raw = {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
    else:
        raw = np.stack(samples)
    vec_normalize = model.get_vec_normalize_env()
    return raw, raw if vec_normalize is None else vec_normalize.normalize_obs(raw)


def with_types_of(observations, values):
    if isinstance(values, dict):
        return {key: value.astype(observations[key].dtype) for key, value in values.items()}
    return values.astype(observations.dtype)


def run(path, observations, **inputs):
    onnx.checker.check_model(onnx.load(path))
    session = onnxruntime.InferenceSession(path)
    named = observations if isinstance(observations, dict) else {"observation": observations}
    (actions,) = session.run(["action"], {**named, **inputs})
    return actions


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in CASES])
def test_acts_like_predict(tmp_path, case, monkeypatch):
    # Compiling anything switches it off, in the whole process: what looks at values cannot be exported
    monkeypatch.setattr(th.distributions.Distribution, "_validate_args", True)
    model = make_model(case)
    for q_network in model.critic.q_networks:
        # The file has no other precision: in bfloat16 another of two nearly equal candidates can be the best
        q_network.evaluation_dtype = th.float32
    for n in (1, 50):
        raw, seen = observations_of(model, n)
        for deterministic in (True, False):
            path = tmp_path / f"{deterministic}.onnx"
            if n == 1:
                export_onnx(model, path, deterministic=deterministic)
            th.manual_seed(3)
            if model.use_sde and not deterministic:
                # ``predict`` has one noise matrix, the file the distribution over all of them
                expected = model.sample_actions(seen, 1)[:, 0]
            else:
                expected, _ = model.predict(seen, deterministic=deterministic)
            th.manual_seed(3)
            noise = {} if deterministic else {"noise": model.actor.draw_noise(n, 1)[:, 0].numpy()}
            actions = run(path, raw, **noise)
            assert actions.shape == expected.shape and actions.dtype == expected.dtype
            assert np.allclose(actions, expected, rtol=0, atol=1e-5)
    assert n == 1 or not np.allclose(actions, np.roll(actions, 1, axis=0), rtol=0, atol=1e-5)
    if model.get_vec_normalize_env() is not None and model.get_vec_normalize_env().norm_obs:
        # The control: without the normalisation it is another policy
        assert not np.allclose(actions, run(path, with_types_of(raw, seen), **noise), atol=1e-5)


def test_another_distribution(tmp_path):
    """What docs/extending.md says to plug in is exported too, with its own noise"""
    model = DSPG(MixturePolicy, "Pendulum-v1", **DSPG_SMALL)
    export_onnx(model, tmp_path / "policy.onnx", deterministic=False)
    observations, noise = np.ones((9, 3), np.float32), np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    with th.no_grad():
        expected = model.actor.actions_from_noise(th.as_tensor(observations), th.as_tensor(noise).unsqueeze(1))[:, 0]
    assert np.allclose(run(tmp_path / "policy.onnx", observations, noise=noise), 2 * expected.numpy(), atol=1e-5)


def test_training_goes_on_as_without_it(tmp_path):
    def weights(export):
        model = make_model("soft Q, batch norm, bfloat16")
        if export:
            export_onnx(model, tmp_path / "policy.onnx")
        return model.learn(20, reset_num_timesteps=False).policy.state_dict()

    without, after = weights(False), weights(True)
    assert all(th.equal(without[name], after[name]) for name in without)


def test_statistics_of_a_model_without_environment(tmp_path):
    model = make_model("normalised")
    vec_normalize = model.get_vec_normalize_env()
    raw, seen = observations_of(model, 20)
    expected, _ = model.predict(seen, deterministic=True)
    model.save(tmp_path / "model")
    export_onnx(DSPG.load(tmp_path / "model"), tmp_path / "policy.onnx", vec_normalize=vec_normalize)
    assert np.allclose(run(tmp_path / "policy.onnx", raw), expected, atol=1e-5)


def test_observations_changed_after_their_normalisation_are_refused(tmp_path):
    model = DSPG("MlpPolicy", VecFrameStack(VecNormalize(pendulum()), 2), gradient_steps=-1, **DSPG_SMALL)
    with pytest.raises(ValueError, match="VecFrameStack around VecNormalize may change what the policy sees"):
        export_onnx(model, tmp_path / "policy.onnx")
    with pytest.raises(ValueError, match=r"statistics of 'observation' of shape \(3,\), the policy sees Box"):
        export_onnx(model, tmp_path / "policy.onnx", vec_normalize=model.get_vec_normalize_env())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["noise", "action"])
def test_names_of_the_file_are_taken(tmp_path, name):
    env = bandit(LOPSIDED, spaces.Dict({name: spaces.Box(-1, 1, (2,))}))
    with pytest.raises(ValueError, match=f"observation_space=Dict.*{name}.* are names of the file's own"):
        export_onnx(DSPG("MultiInputPolicy", env, **DSPG_SMALL), tmp_path / "policy.onnx")


def test_a_set_of_noise_is_not_exported(tmp_path):
    model = SoftQLearning("MlpPolicy", "Pendulum-v1", noise_set_size=3, **SOFT_Q_SMALL)
    export_onnx(model, tmp_path / "policy.onnx")
    with pytest.raises(ValueError, match="deterministic=False: the policy acts with 3 fixed noise vectors"):
        export_onnx(model, tmp_path / "random.onnx", deterministic=False)
    assert [path.name for path in tmp_path.iterdir()] == ["policy.onnx"]


def test_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install 'onnx>=1.17' 'onnxscript>=0.6.2'"):
        export_onnx(make_model("gSDE"), tmp_path / "policy.onnx")


def test_weights_alone(tmp_path):
    """As docs/saving.md takes them from a file of somebody else: without a pickle"""
    theirs, ours = make_model("batch norm"), make_model("batch norm")
    theirs.learn(20, reset_num_timesteps=False).save(tmp_path / "theirs")
    with zipfile.ZipFile(tmp_path / "theirs.zip") as archive:
        ours.policy.load_state_dict(th.load(io.BytesIO(archive.read("policy.pth")), weights_only=True))
    observations, _ = observations_of(theirs, 5)
    assert np.array_equal(*(model.predict(observations, deterministic=True)[0] for model in (ours, theirs)))
