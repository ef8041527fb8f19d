"""The shipped YAML files: every key means something, every environment can be trained."""

import inspect
from pathlib import Path

import gymnasium as gym
import pytest
import yaml

from sb3_maxent.zoo import ALGORITHMS

FOLDER = Path(__file__).parents[1] / "hyperparams"
ZOO_KEYS = {"n_timesteps", "n_envs", "normalize", "env_wrapper", "frame_stack", "noise_type", "noise_std", "callback"}
FILES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}
ENTRIES = [
    pytest.param(ALGORITHMS[name.removesuffix("-paper")], env_id, entry, id=f"{name} {env_id}")
    for name, entries in FILES.items()
    for env_id, entry in entries.items()
]
CONTROL = {"CartPole-v1", "Acrobot-v1", "LunarLander-v3", "MountainCar-v0"}
DISCRETE = {*CONTROL, "DockingMultiDiscrete-v0", "DockingMultiBinary-v0"}
MUJOCO = {f"{name}-{version}" for name in ("Hopper", "Walker2d", "HalfCheetah", "Ant") for version in ("v4", "v5")}
HUMANOID = {"Humanoid-v4", "Humanoid-v5"}


def constructor_arguments(entry):
    arguments = {key: value for key, value in entry.items() if key not in ZOO_KEYS}
    if "policy_kwargs" in arguments:
        arguments["policy_kwargs"] = eval(arguments["policy_kwargs"])
    if str(arguments.get("learning_rate")).startswith("lin_"):
        # RL Zoo makes it a schedule
        initial = float(arguments["learning_rate"].removeprefix("lin_"))
        arguments["learning_rate"] = lambda progress: initial * progress
    return {**arguments, "buffer_size": 100}


def test_files_have_the_promised_entries():
    assert set(FILES) == {"dspg", "dspg-paper", "softqlearning", "softqlearning-paper"}
    assert set(FILES["dspg"]) == {"default", "Pendulum-v1", "MountainCarContinuous-v0", *DISCRETE, *MUJOCO, *HUMANOID}
    assert set(FILES["dspg-paper"]) == MUJOCO
    assert set(FILES["softqlearning"]) == {"default", "MultiGoal-v0", "CartPole-v1", "Pendulum-v1", *MUJOCO}
    assert set(FILES["softqlearning-paper"]) == {"MultiGoal-v0", *MUJOCO}


@pytest.mark.parametrize(("algorithm", "env_id", "entry"), ENTRIES)
def test_every_key_is_an_argument(algorithm, env_id, entry):
    known = set(inspect.signature(algorithm).parameters) | ZOO_KEYS
    assert set(entry) <= known
    assert float(entry["n_timesteps"]) > 0


@pytest.mark.parametrize(("algorithm", "env_id", "entry"), ENTRIES)
def test_every_entry_makes_a_model(algorithm, env_id, entry):
    # Without Box2D, which must be compiled where there is no wheel, an environment of its spaces
    stand_ins = {"default": "Pendulum-v1", "LunarLander-v3": "CartPole-v1"}
    env = gym.make(stand_ins.get(env_id, env_id))
    model = algorithm(env=env, **constructor_arguments(entry))
    assert model.predict(env.reset(seed=0)[0])[0].shape == env.action_space.shape


def test_dspg_paper_settings():
    """Appendix A, with rewards in their own unit: temperature and clip divided by the reward scale of 5"""
    for name, clip in (("Ant", 5), ("Walker2d", 5), ("Hopper", 1), ("HalfCheetah", 3)):
        for version in ("v4", "v5"):
            entry = FILES["dspg-paper"][f"{name}-{version}"]
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


@pytest.mark.parametrize("file", ["softqlearning", "softqlearning-paper"])
def test_temperatures_are_inverse_reward_scales(file):
    # With normalised networks Hopper learns faster at three times the published temperature
    scales = {"Hopper": 10 if file == "softqlearning" else 30, "HalfCheetah": 30, "Walker2d": 10, "Ant": 300}
    for name, scale in scales.items():
        for version in ("v4", "v5"):
            assert FILES[file][f"{name}-{version}"]["ent_coef"] == pytest.approx(1 / scale, rel=2e-3)
    assert FILES[file]["MultiGoal-v0"]["ent_coef"] == 10


def test_softqlearning_paper_settings():
    for env_id, entry in FILES["softqlearning-paper"].items():
        batch, particles = (64, 32) if env_id == "MultiGoal-v0" else (128, 16)
        expected = {
            **{"learning_rate": 3e-4, "batch_size": batch, "n_particles": particles, "n_value_samples": 16, "tau": 1.0},
            **{"target_update_interval": 1000, "value_proposal": "uniform", "particle_space": "reference", "gamma": 0.99},
        }
        assert {key: entry[key] for key in expected} == expected
        assert eval(entry["policy_kwargs"]) == {"net_arch": [128, 128], "n_critics": 1, "action_layer": 0, "noise_layer": 0}
