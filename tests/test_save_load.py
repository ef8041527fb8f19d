"""Models, policies and replay buffers on disk, and what of them can be changed, left out or refused."""

import io
import json
import pathlib
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecTransposeImage, is_vecenv_wrapped

from sb3_maxent import DSPG
from tests.envs import RandomEnv
from tests.models import (
    ACTIONS,
    BOX_VARIANTS,
    IMAGE,
    VARIANTS,
    VECTOR,
    actions_of,
    differing,
    make_model,
    make_random_env,
    parameters_of,
    state_of,
)

PAPER = {"policy_kwargs": {"n_critics": 1, "action_layer": 0, "std_head": "sigmoid", "target_actor": True}, "baseline": "none"}
CASES = {
    **{variant: (variant, {}) for variant in VARIANTS},
    "DSPG, fixed temperature": ("DSPG", {"ent_coef": 0.2}),
    "DSPG, paper": ("DSPG", {"ent_coef": 0.2, **PAPER}),
    "DSPG, gSDE": ("DSPG", {"use_sde": True}),
    **{f"{name}, averaged actor": (name, {"policy_kwargs": {"actor_averaging": 100}}) for name in BOX_VARIANTS},
    "DSPG, schedules": ("DSPG", {"qf_learning_rate": "lin_1e-3", "learning_rate": lambda progress: 1e-3}),
    "SoftQLearning, schedules": ("SoftQLearning", {"ent_coef": "lin_1_0.1", "learning_rate": lambda progress: 1e-3}),
    "SoftQLearning, reference": ("SoftQLearning", {"particle_space": "reference", "value_proposal": "uniform"}),
    "DSPG, MultiDiscrete": ("DSPG", {"env": RandomEnv(VECTOR, ACTIONS["MultiDiscrete actions"])}),
    "DSPG, MultiBinary": ("DSPG", {"env": RandomEnv(VECTOR, ACTIONS["MultiBinary actions"]), "target_entropy": "auto_2"}),
    "DSPG, hybrid": ("DSPG", {"env": make_random_env(VECTOR, ACTIONS["hybrid"]), "policy_kwargs": {"std_head": "sigmoid"}}),
    "SoftQLearning, MultiBinary": (
        "SoftQLearning",
        {"env": RandomEnv(VECTOR, ACTIONS["MultiBinary actions"]), "ent_coef": "auto"},
    ),
    **{f"{variant}, n steps": (variant, {"n_steps": 3}) for variant in VARIANTS},
    **{f"{variant}, shared": (variant, {"policy_kwargs": {"share_features_extractor": True}}) for variant in BOX_VARIANTS},
    **{f"{variant}, default net_arch": (variant, {"policy_kwargs": {"net_arch": None}}) for variant in VARIANTS},
}
ARGUMENTS = (
    "ent_coef",
    "target_entropy",
    "max_grad_norm",
    "n_steps",
    "gamma",
    "qf_learning_rate",
    "_n_updates",
    "num_timesteps",
)
OWN_ARGUMENTS = {
    "DSPG": ("n_action_samples", "baseline"),
    "SoftQLearning": ("n_particles", "n_value_samples", "value_proposal", "particle_space", "noise_set_size"),
}


def observations_of(model, n=5):
    return np.random.default_rng(0).normal(size=(n, *model.observation_space.shape)).astype(np.float32)


def load(variant, path, **arguments):
    return VARIANTS[variant].algorithm.load(path, **arguments)


@pytest.mark.parametrize("case", CASES)
def test_save_load(tmp_path, case):
    variant, arguments = CASES[case]
    model = make_model(variant, **arguments).learn(30)
    saved, observations = state_of(model), observations_of(model)
    expected, _ = model.predict(observations, deterministic=True)
    model.save(tmp_path / "model")
    loaded = load(variant, tmp_path / "model", env=model.get_env())
    assert differing(saved, state_of(loaded)) == set()
    assert np.array_equal(loaded.predict(observations, deterministic=True)[0], expected)
    for name in (*ARGUMENTS, *OWN_ARGUMENTS[type(model).__name__]):
        assert getattr(loaded, name) == getattr(model, name), name
    # It goes on learning, every network of it
    loaded.learn(30, reset_num_timesteps=False)
    assert (loaded.num_timesteps, loaded._n_updates) == (60, model._n_updates + 30)
    assert differing(saved, state_of(loaded)) >= {f"policy {name}" for name in parameters_of(model.policy)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_update_after_loading(tmp_path, variant):
    """The optimizers' moments are restored: one update of the copy equals one of the original"""
    model = make_model(variant).learn(60)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    loaded = load(variant, tmp_path / "model", env=model.get_env())
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    before = state_of(model)
    for each in (model, loaded):
        each.set_random_seed(3)
        each.set_logger(model.logger)
        each.train(3, 16)
    assert differing(state_of(model), state_of(loaded)) == set() and differing(before, state_of(model))


# --- parameters ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_set_parameters(tmp_path, variant):
    """From a dictionary or a file, all or a part"""
    model, other = make_model(variant).learn(30), make_model(variant, seed=1).learn(30)
    names = {"policy", "critic.optimizer", *({"actor.optimizer"} if variant in BOX_VARIANTS else ())}
    names |= {"ent_coef_optimizer"} if variant == "DSPG" else set()
    assert set(model.get_parameters()) == names
    expected = {name for name in state_of(model) if name.split(" ")[0] in names}
    other.save(tmp_path / "other")
    for source in (other.get_parameters(), str(tmp_path / "other.zip")):
        model = make_model(variant).learn(30)
        assert differing(state_of(model), state_of(other))
        model.set_parameters(source)
        assert not differing(state_of(model), state_of(other)) & expected
    # A part
    model = make_model(variant).learn(30)
    before, part = state_of(model), {"policy": other.get_parameters()["policy"]}
    model.set_parameters(part, exact_match=False)
    assert {name.split(" ")[0] for name in differing(before, state_of(model))} <= {"policy", "ent_coef_tensor"}
    assert not {name for name in differing(state_of(model), state_of(other)) if name.startswith("policy")}


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_parameters(variant):
    model = make_model(variant).learn(30)
    before, parameters = state_of(model), model.get_parameters()
    with pytest.raises(ValueError, match="Key dummy is an invalid object name"):
        model.set_parameters({**parameters, "dummy": {}}, exact_match=False)
    for missing in parameters:
        with pytest.raises(ValueError, match="Names of parameters do not match agents' parameters"):
            model.set_parameters({name: value for name, value in parameters.items() if name != missing})
    with pytest.raises(ValueError, match="Names of parameters do not match agents' parameters"):
        model.set_parameters({})
    model.set_parameters({}, exact_match=False)
    # Within a network
    policy = dict(parameters["policy"])
    removed = policy.pop(next(iter(policy)))
    with pytest.raises(RuntimeError, match="Missing key"):
        model.set_parameters({**parameters, "policy": policy})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        model.set_parameters({**parameters, "policy": {**parameters["policy"], "dummy": removed}})
    model.set_parameters({**parameters, "policy": {**policy, "dummy": removed}}, exact_match=False)
    assert differing(before, state_of(model)) == set()


def test_parameters_of_another_kind_of_temperature(tmp_path):
    """Of a file as of a dictionary, and before anything changes"""
    make_model("DSPG", ent_coef="auto", seed=1).learn(30).save(tmp_path / "model")
    model = make_model("DSPG", ent_coef=0.1).learn(30)
    before = state_of(model)
    for parameters in (DSPG.load(tmp_path / "model").get_parameters(), str(tmp_path / "model")):
        with pytest.raises(ValueError, match="got parameters of ent_coef_optimizer, which this model does not have"):
            model.set_parameters(parameters)
        assert differing(before, state_of(model)) == set()
    learning = DSPG.load(tmp_path / "model")
    before = state_of(learning)
    with pytest.raises(ValueError, match="Names of parameters do not match agents' parameters: ent_coef_optimizer missing"):
        learning.set_parameters(model.get_parameters())
    assert differing(before, state_of(learning)) == set()


@pytest.mark.parametrize("ent_coef", ["auto", "auto_0.5", 0.3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_save_load_pytorch_var(tmp_path, variant, ent_coef):
    """The temperature, which is learned or not, and goes on being so"""
    if variant == "SoftQLearning" and ent_coef != 0.3:
        with pytest.raises(ValueError, match="Soft Q-learning cannot learn its temperature"):
            make_model(variant, ent_coef=ent_coef)
        return
    model = make_model(variant, ent_coef=ent_coef, learning_rate=0.01).learn(30)
    model.save(tmp_path / "model")
    loaded = load(variant, tmp_path / "model", env=model.get_env())
    name = "ent_coef_tensor" if ent_coef == 0.3 else "log_ent_coef"
    assert th.equal(getattr(loaded, name), getattr(model, name))
    before = loaded.temperature.value.item()
    loaded.learn(30, reset_num_timesteps=False)
    assert (loaded.temperature.value.item() == before) == (ent_coef == 0.3)


# --- environments and arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_set_env(tmp_path, variant):
    """Of the same spaces and number; when loading, of another number, too"""
    env_id = VARIANTS[variant].env
    model = make_model(variant).learn(30)
    for env in (make_vec_env(env_id, 1, seed=1), gym.make(env_id)):
        model.set_env(env, force_reset=False)
        assert model._last_obs is not None
        model.set_env(env)
        # Reset before it goes on
        assert model._last_obs is None
        assert model.learn(30, reset_num_timesteps=False)._last_obs is not None
    assert model.num_timesteps == 90
    with pytest.raises(AssertionError, match="number of environments to be set is different"):
        model.set_env(make_vec_env(env_id, 2))
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        model.set_env(RandomEnv(IMAGE, model.action_space))
    with pytest.raises(ValueError, match="Action spaces do not match"):
        model.set_env(RandomEnv(model.observation_space, ACTIONS["matrix"]))
    model.save(tmp_path / "model")
    loaded = load(variant, tmp_path / "model", env=make_vec_env(env_id, 3, seed=0), gradient_steps=-1)
    assert loaded.n_envs == loaded.replay_buffer.n_envs == 3
    assert loaded.learn(60, reset_num_timesteps=False)._n_updates > model._n_updates


@pytest.mark.parametrize("variant", VARIANTS)
def test_exclude_include_saved_params(tmp_path, variant):
    model = make_model(variant, verbose=2)
    model.save(tmp_path / "model", exclude=["verbose"])
    assert load(variant, tmp_path / "model").verbose != 2
    model.save(tmp_path / "model", exclude=["verbose"], include=["verbose"])
    assert load(variant, tmp_path / "model").verbose == 2
    # Not by default: it is large
    assert "replay_buffer" not in json.loads(zipfile.ZipFile(tmp_path / "model.zip").read("data"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_hyperparameters_can_change_on_load(tmp_path, variant):
    """As RL Zoo does when it resumes; values without a meaning are refused then too"""
    make_model(variant).save(tmp_path / "model")
    samples = OWN_ARGUMENTS[VARIANTS[variant].algorithm.__name__][0]
    arguments = {samples: 8, "max_grad_norm": None, "qf_learning_rate": 1e-2, "verbose": 1}
    loaded = load(variant, tmp_path / "model", env=gym.make(VARIANTS[variant].env), **arguments)
    assert (getattr(loaded, samples), loaded.max_grad_norm, loaded.qf_lr_schedule(1.0), loaded.verbose) == (8, None, 1e-2, 1)
    loaded.learn(30)
    with pytest.raises(ValueError, match=f"{samples}=0"):
        load(variant, tmp_path / "model", **{samples: 0})
    with pytest.raises(ValueError, match="The specified policy kwargs do not equal the stored policy kwargs"):
        load(variant, tmp_path / "model", policy_kwargs={"net_arch": [9]})
    # By custom_objects, what is not in the file stays out
    loaded = load(variant, tmp_path / "model", custom_objects={"learning_rate": 2e-5, "unknown": 1})
    assert loaded.learning_rate == 2e-5 and not hasattr(loaded, "unknown")


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_tensor_or_closure_in_the_json(tmp_path, variant):
    """The JSON part holds plain values: what needs pickle breaks between Python versions"""
    make_model(variant, qf_learning_rate="lin_1e-3").learn(30).save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        data = json.loads(archive.read("data"))
    serialized = {key for key, value in data.items() if isinstance(value, dict) and ":serialized:" in value}
    ours = {"actor", "actor_target", "critic", "critic_target", "qf_lr_schedule", "temperature", "qf_learning_rate"}
    ours |= {"_loss_function", "log_ent_coef", "ent_coef_tensor", "policy", "max_grad_norm", *sum(OWN_ARGUMENTS.values(), ())}
    assert not serialized & ours
    assert data["qf_learning_rate"] == "lin_1e-3"


@pytest.mark.parametrize("variant", VARIANTS)
def test_save_load_env_cnn(tmp_path, variant):
    """An environment of images is wrapped when it comes with the loaded model, too"""
    actions = actions_of(variant)
    kwargs = {"policy_kwargs": {"features_extractor_kwargs": {"features_dim": 8}}, "buffer_size": 100, "learning_starts": 5}
    make_model(variant, RandomEnv(IMAGE, actions), "CnnPolicy", **kwargs).learn(10).save(tmp_path / "model")
    for arguments in ({"env": RandomEnv(IMAGE, actions)}, {}):
        model = load(variant, tmp_path / "model", **arguments)
        if not arguments:
            model.set_env(RandomEnv(IMAGE, actions))
        assert is_vecenv_wrapped(model.get_env(), VecTransposeImage)
        assert model.learn(10)._n_updates == 10


# --- other files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [str, pathlib.Path, None])
@pytest.mark.parametrize("variant", VARIANTS)
def test_save_load_replay_buffer(tmp_path, variant, path, recwarn):
    model = make_model(variant, RandomEnv(VECTOR, actions_of(variant))).learn(40)
    old = model.replay_buffer
    target = io.BytesIO() if path is None else path(tmp_path / "buffer")
    model.save_replay_buffer(target)
    model.replay_buffer = None
    if path is None:
        target.seek(0)
    model.load_replay_buffer(target)
    new = model.replay_buffer
    assert new is not old and (new.pos, new.full) == (40, False) and len(recwarn) == 0
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        assert np.array_equal(getattr(new, name), getattr(old, name)), name
    assert new.dones.sum() == new.timeouts.sum() == 8
    model.learn(40, reset_num_timesteps=False)
    assert new.pos == 80
    # Transitions of other origin
    infos = [[{}] for _ in range(3)]
    new.extend(old.observations[:3], old.observations[:3], old.actions[:3], old.rewards[:3], old.dones[:3], infos)
    assert new.pos == 83 and np.array_equal(new.observations[80:83], old.observations[:3])
    (tmp_path / "other.pkl").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(AssertionError, match="must inherit from ReplayBuffer class"):
        model.load_replay_buffer(tmp_path / "other.pkl")


@pytest.mark.parametrize("optimize_memory_usage", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_warn_buffer(recwarn, variant, optimize_memory_usage):
    """Without next observations a new start ends the episode that was running, which is said"""
    env = RandomEnv(VECTOR, actions_of(variant), episode_length=100)
    memory = {"optimize_memory_usage": optimize_memory_usage, "replay_buffer_kwargs": {"handle_timeout_termination": False}}
    model = make_model(variant, env, **memory).learn(30)
    model.learn(10, reset_num_timesteps=False)
    assert len(recwarn) == 0
    model.learn(10)
    messages = [str(warning.message) for warning in recwarn]
    assert ["The last trajectory in the replay buffer will be truncated" in each for each in messages] == [True] * len(
        messages
    )
    assert len(messages) == model.replay_buffer.dones.sum() == optimize_memory_usage


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy"])
@pytest.mark.parametrize("case", [*VARIANTS, *("DSPG, gSDE", "DSPG, paper", "DSPG, shared", "SoftQLearning, shared")])
def test_save_load_policy(tmp_path, case, policy):
    """The policy and the actor, each by itself"""
    variant, arguments = CASES[case]
    actions = actions_of(variant)
    env = RandomEnv(VECTOR if policy == "MlpPolicy" else IMAGE, actions)
    small = {"features_extractor_kwargs": {"features_dim": 8}} if policy == "CnnPolicy" else {}
    policy_kwargs = {**arguments.get("policy_kwargs", {}), **small}
    model = make_model(variant, env, policy, **{**arguments, "policy_kwargs": policy_kwargs, "buffer_size": 100}).learn(30)
    observation = model.get_env().reset()
    for each, deterministic in ((model.policy, True), (model.actor, variant == "DSPG")):
        if not isinstance(each, th.nn.Module):
            continue
        each.save(tmp_path / "part.pkl")
        loaded = type(each).load(tmp_path / "part.pkl")
        assert differing(each.state_dict(), loaded.state_dict()) == set()
        if each is model.policy and variant in BOX_VARIANTS:
            shared = loaded.actor.features_extractor is loaded.critic.features_extractor
            assert shared == ("shared" in case)
        actions = [
            (th.manual_seed(0), part.predict(observation, deterministic=deterministic)[0])[1] for part in (each, loaded)
        ]
        assert np.array_equal(*actions)


@pytest.mark.parametrize("variant", VARIANTS)
def test_open_file(variant):
    model, file = make_model(variant).learn(30), io.BytesIO()
    model.save(file)
    file.seek(0)
    assert differing(state_of(model), state_of(load(variant, file))) == set()


@pytest.mark.parametrize("variant", VARIANTS)
def test_compiled_policy(tmp_path, variant):
    """A policy that the user compiled is saved as the one that it was"""
    model = make_model(variant).learn(30)
    model.policy = th.compile(model.policy, backend="eager")
    observations = observations_of(model)
    model.save(tmp_path / "model")
    loaded = load(variant, tmp_path / "model")
    assert differing(state_of(model), state_of(loaded)) == set()
    first, second = (each.predict(observations, deterministic=True)[0] for each in (model, loaded))
    assert np.array_equal(first, second)
