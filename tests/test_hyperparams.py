"""The shipped YAML files: every key means something, every environment can be trained."""

import inspect
from pathlib import Path

import gymnasium as gym
import pytest
import yaml

from sb3_maxent import DSPG

FOLDER = Path(__file__).parents[1] / "hyperparams"
ZOO_KEYS = {"n_timesteps", "n_envs", "normalize", "env_wrapper", "frame_stack", "noise_type", "noise_std", "callback"}
ENTRIES = [
    pytest.param(env_id, entry, id=f"{path.stem} {env_id}")
    for path in sorted(FOLDER.glob("dspg*.yml"))
    for env_id, entry in yaml.safe_load(path.read_text()).items()
]
MUJOCO = {f"{name}-{version}" for name in ("Hopper", "Walker2d", "HalfCheetah", "Ant") for version in ("v4", "v5")}


def constructor_arguments(entry):
    arguments = {key: value for key, value in entry.items() if key not in ZOO_KEYS}
    if "policy_kwargs" in arguments:
        arguments["policy_kwargs"] = eval(arguments["policy_kwargs"])
    return {**arguments, "buffer_size": 100}


def test_files_have_the_promised_entries():
    assert set(yaml.safe_load((FOLDER / "dspg.yml").read_text())) == {
        "default",
        "Pendulum-v1",
        "MountainCarContinuous-v0",
        *MUJOCO,
    }
    assert set(yaml.safe_load((FOLDER / "dspg-paper.yml").read_text())) == MUJOCO


@pytest.mark.parametrize(("env_id", "entry"), ENTRIES)
def test_every_key_is_an_argument(env_id, entry):
    known = set(inspect.signature(DSPG).parameters) | ZOO_KEYS
    assert set(entry) <= known
    assert float(entry["n_timesteps"]) > 0


@pytest.mark.parametrize(("env_id", "entry"), ENTRIES)
def test_every_entry_makes_a_model(env_id, entry):
    env = gym.make("Pendulum-v1" if env_id == "default" else env_id)
    model = DSPG(env=env, **constructor_arguments(entry))
    assert model.predict(env.reset(seed=0)[0])[0].shape == env.action_space.shape


def test_paper_settings():
    """Appendix A, with rewards in their own unit: temperature and clip divided by the reward scale of 5"""
    entries = yaml.safe_load((FOLDER / "dspg-paper.yml").read_text())
    for name, clip in (("Ant", 5), ("Walker2d", 5), ("Hopper", 1), ("HalfCheetah", 3)):
        for version in ("v4", "v5"):
            entry = entries[f"{name}-{version}"]
            assert entry["max_grad_norm"] == pytest.approx(clip / 5)
            assert entry["ent_coef"] == pytest.approx(1 / 5)
            expected = {
                **{"learning_rate": 5e-5, "qf_learning_rate": 5e-4, "batch_size": 100, "n_action_samples": 64},
                **{"tau": 0.01, "gamma": 0.99, "gradient_steps": 4, "buffer_size": 3_000_000, "baseline": "none"},
            }
            assert {key: entry[key] for key in expected} == expected
            policy_kwargs = eval(entry["policy_kwargs"])
            assert policy_kwargs["net_arch"] == [512, 512] and policy_kwargs["n_critics"] == 1
            assert (
                policy_kwargs["std_head"] == "sigmoid" and policy_kwargs["target_actor"] and policy_kwargs["action_layer"] == 0
            )
