"""A file that is no model, or not the right one, says so; one that is loads in every way that SB3 offers."""

import base64
import io
import json
import pickle
import re
import shutil
import zipfile

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import DQN, PPO, SAC, TD3

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.saving.checkpoints import load_checkpoint, save_checkpoint
from tests.envs import RandomEnv
from tests.models import VARIANTS, differing, make_model, state_of

EXPECTED = r"expected a file that DSPG\.save wrote"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """By variant: the file, and what training had moved"""
    found = {}
    for variant in VARIANTS:
        path = tmp_path_factory.mktemp("models") / "model.zip"
        model = make_model(variant).learn(30)
        model.save(path)
        found[variant] = path, state_of(model)
    return found


def rewrite(path, to, drop=(), **parts):
    """Copy a zip file without some of its parts, or with other ones"""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            if name not in drop:
                new.writestr(name, parts.pop(name, old.read(name)))
    return to


def change_data(path, to, **entries):
    """Copy a model with other entries of its JSON, ``None`` for none"""
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    data = {name: entry for name, entry in {**data, **entries}.items() if entry is not None}
    return rewrite(path, to, data=json.dumps(data))


def serialized(value):
    pickled = value if isinstance(value, bytes) else cloudpickle.dumps(value)
    return {":type:": "", ":serialized:": base64.b64encode(pickled).decode()}


# --- what loads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("way", ["str", "str without zip", "path", "path without zip", "bytes", "file"])
def test_every_way_to_load(saved, variant, way):
    path, state = saved[variant]
    bare = path.with_suffix("")
    ways = {"str": str(path), "str without zip": str(bare), "path": path, "path without zip": bare}
    source = io.BytesIO(path.read_bytes()) if way == "bytes" else path.open("rb") if way == "file" else ways[way]
    assert not differing(state, state_of(VARIANTS[variant].algorithm.load(source)))
    if way in ("bytes", "file"):
        # SB3 leaves the file open too, and it can be read again
        assert not differing(state, state_of(VARIANTS[variant].algorithm.load(source)))
        source.close()


def test_arguments_of_load(saved, capsys):
    path, _ = saved["DSPG"]
    env = gym.make("Pendulum-v1")
    model = DSPG.load(path, env, "cpu", {"gamma": 0.5}, print_system_info=True, batch_size=7)
    assert (model.gamma, model.batch_size, model._last_obs) == (0.5, 7, None)
    assert model.get_env().envs[0].unwrapped is env.unwrapped
    assert "SAVED MODEL SYSTEM INFO" in capsys.readouterr().out
    assert DSPG.load(path, env, force_reset=False)._last_obs is not None
    assert model.learn(30, reset_num_timesteps=False).num_timesteps == 60


# --- what does not ---------------------------------------------------------------------------------------------------------


def test_a_missing_file(tmp_path):
    for path in (tmp_path / "nothing", str(tmp_path / "nothing.zip")):
        with pytest.raises(FileNotFoundError, match=r"nothing\.zip"):
            DSPG.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a zip file"),
        (b"weights", "not a zip file"),
        (b"PK\5\6" + 18 * b"\0", "There is no item named"),
    ],
)
def test_not_a_model(tmp_path, content, message):
    path = tmp_path / "model.zip"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\.zip is not a zip file.*{EXPECTED}.*{message}"):
        DSPG.load(path)
    with pytest.raises(ValueError, match=rf"BytesIO.* is not a zip file.*{EXPECTED}.*{message}"):
        DSPG.load(io.BytesIO(content))


def test_a_folder(tmp_path):
    (tmp_path / "model.zip").mkdir()
    with pytest.raises(IsADirectoryError, match=r"model\.zip"):
        DSPG.load(tmp_path / "model")


@pytest.mark.parametrize("other", [SAC, TD3, PPO, DQN])
@pytest.mark.parametrize("algorithm", [DSPG, SoftQLearning])
def test_models_of_sb3(tmp_path, algorithm, other):
    env = "CartPole-v1" if other is DQN else "Pendulum-v1"
    other("MlpPolicy", env, policy_kwargs={"net_arch": [4]}).save(tmp_path / "other")
    with pytest.raises(
        ValueError,
        match=rf"other does not load as a {algorithm.__name__} model.*policy=<class .*stable_baselines3.*>: give one of "
        rf"MlpPolicy, .*, or a subclass of {algorithm.__name__}Policy\. Load a model with the algorithm that saved it",
    ):
        algorithm.load(tmp_path / "other")


@pytest.mark.parametrize("variant", VARIANTS)
def test_models_of_each_other(saved, variant):
    other = SoftQLearning if variant == "DSPG" else DSPG
    with pytest.raises(ValueError, match=rf"does not load as a {other.__name__} model.*policy=<class 'sb3_maxent\..*Policy'>"):
        other.load(saved[variant][0])


@pytest.mark.parametrize(
    "part",
    [
        *("data", "policy.pth", "pytorch_variables.pth"),
        *("critic.optimizer.pth", "actor.optimizer.pth", "ent_coef_optimizer.pth"),
    ],
)
def test_a_missing_part(saved, tmp_path, part):
    path = rewrite(saved["DSPG"][0], tmp_path / "model.zip", drop=[part])
    with pytest.raises(ValueError, match=rf"model\.zip .*{re.escape(part.removesuffix('.pth'))}"):
        DSPG.load(path)


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("data", b"{"),
        ("data", b"\xff"),
        ("data", b"[]"),
        ("policy.pth", b""),
        ("policy.pth", b"weights"),
        ("policy.pth", pickle.dumps([1])),
        ("critic.optimizer.pth", pickle.dumps({})),
    ],
)
def test_a_part_of_something_else(saved, tmp_path, part, content):
    path = rewrite(saved["DSPG"][0], tmp_path / "model.zip", **{part: content})
    with pytest.raises(ValueError, match=r"model\.zip .*(expected a file|does not load as a DSPG model)"):
        DSPG.load(path)


@pytest.mark.parametrize("entry", ["policy_class", "policy_kwargs", "observation_space", "action_space"])
def test_a_missing_entry(saved, tmp_path, entry):
    path = change_data(saved["DSPG"][0], tmp_path / "model.zip", **{entry: None})
    with pytest.raises(
        ValueError, match=rf"(?s)model\.zip does not load as a DSPG model.*({entry}|size mismatch|Missing key)"
    ):
        DSPG.load(path)


class Gone:
    """Pickled as a name of this module"""


@pytest.mark.parametrize("name", [b"GONE", b"tests_gone"])
@pytest.mark.parametrize("entry", ["policy_class", "observation_space", "learning_rate"])
def test_an_entry_that_cannot_be_unpickled(saved, tmp_path, entry, name):
    """SB3 warns where a class is not in its module, which loses the entry, and fails where there is no such module"""
    path, state = saved["DSPG"]
    value = getattr(DSPG.load(path), entry)
    # By its name in the module, or the name of the module, in the same number of bytes
    gone = pickle.dumps(Gone, protocol=0)
    gone = (
        gone.replace(b"Gone", name) if name == b"GONE" else gone.replace(b"tests.test_load_errors", b"tests.test_load_is_gone")
    )
    path = change_data(path, tmp_path / "model.zip", **{entry: serialized(gone)})
    if entry == "learning_rate" and name == b"GONE":
        with pytest.warns(UserWarning, match="Could not deserialize object learning_rate"):
            assert not differing(state, state_of(DSPG.load(path)))
    else:
        message = "No module named 'tests.test_load_is_gone'" if name == b"tests_gone" else entry
        with pytest.raises(ValueError, match=rf"model\.zip does not load as a DSPG model.*{message}.*custom_objects replaces"):
            DSPG.load(path)
    assert not differing(state, state_of(DSPG.load(path, custom_objects={entry: value})))


def test_other_spaces(saved):
    path, _ = saved["DSPG"]
    model = DSPG.load(path)
    model.n_envs = 1
    for env, message in [
        (RandomEnv(spaces.Box(-1, 1, (4,)), model.action_space), r"Observation spaces do not match: Box\(.*\) != Box\(.*\)"),
        (RandomEnv(model.observation_space, spaces.Box(-1, 1, (2,))), r"Action spaces do not match: Box\(.*\) != Box\(.*\)"),
        (RandomEnv(spaces.Tuple([spaces.Discrete(2)]), model.action_space), r"observation_space=Tuple.*: give a Box"),
        (RandomEnv(spaces.Text(3), model.action_space), r"observation_space=Text.*: give a Box"),
    ]:
        with pytest.raises(ValueError, match=message):
            DSPG.load(path, env)
        with pytest.raises(ValueError, match=message):
            model.set_env(env)
    model.set_env(RandomEnv(model.observation_space, model.action_space))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"custom_objects": {"policy_kwargs": {"net_arch": [7]}}}, "(?s)does not load as a DSPG model.*size mismatch"),
        (
            {"custom_objects": {"observation_space": spaces.Box(-1, 1, (5,))}},
            "(?s)does not load as a DSPG model.*size mismatch",
        ),
        ({"custom_objects": {"policy_class": SAC.policy_aliases["MlpPolicy"]}}, "SACPolicy'>: give one of"),
        ({"custom_objects": [1]}, "custom_objects argument must be a dict or None"),
        ({"policy_kwargs": {"net_arch": [7]}}, "The specified policy kwargs do not equal"),
        ({"ent_coef": 0.1}, "parameters of ent_coef_optimizer, which this model does not have: is ent_coef the same"),
        ({"device": "gpu"}, "Expected one of cpu, cuda, .* at start of device string: gpu"),
        ({"gamma": 2.0}, "gamma=2.0: give a finite number from 0 to 1"),
        ({"n_action_sample": 8}, "DSPG has no argument n_action_sample, did you mean n_action_samples or "),
        ({"foo": 8}, "DSPG has no argument foo$"),
    ],
)
def test_arguments_that_do_not_fit(saved, arguments, message):
    with pytest.raises(ValueError, match=message):
        DSPG.load(saved["DSPG"][0], **arguments)


# --- damage ----------------------------------------------------------------------------------------------------------------


def test_truncated_anywhere(saved):
    content = saved["DSPG"][0].read_bytes()
    for end in {*range(0, len(content), 97), *range(len(content) - 200, len(content))}:
        with pytest.raises(ValueError, match=EXPECTED):
            DSPG.load(io.BytesIO(content[:end]))


@pytest.mark.filterwarnings("ignore")
@given(
    st.sampled_from([*VARIANTS]),
    st.lists(
        # Of the whole file, of the list of its parts at the end, or of the heads of the parts
        st.tuples(st.sampled_from(["all", "end", "heads"]), st.integers(0, 2**32), st.integers(1, 255)),
        min_size=1,
        max_size=4,
    ),
)
def test_flipped_bits(saved, variant, flips):
    """They are found, or were where nothing is written"""
    path, state = saved[variant]
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        heads = [info.header_offset + i for info in archive.infolist() for i in range(30 + len(info.filename))]
        offsets = {"all": range(len(content)), "end": range(archive.start_dir, len(content)), "heads": heads}
    for place, number, mask in flips:
        content[offsets[place][number % len(offsets[place])]] ^= mask
    try:
        model = VARIANTS[variant].algorithm.load(io.BytesIO(content))
    except ValueError as error:
        assert re.search("expected a file that|does not load as a", str(error)), error
    else:
        assert not differing(state, state_of(model))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return save_checkpoint(make_model("DSPG", buffer_size=50).learn(30), folder)


@pytest.mark.parametrize("part", ["model.zip", "replay_buffer.pkl", "state.pkl"])
@pytest.mark.parametrize("fraction", [None, 0.0, 0.3, 0.99])
def test_a_damaged_checkpoint(checkpoint, tmp_path, part, fraction):
    copied = shutil.copytree(checkpoint, tmp_path / checkpoint.name) / part
    content = copied.read_bytes()
    if fraction is None:
        copied.unlink()
    else:
        copied.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(
        ValueError,
        match=rf"{checkpoint.name}.*{re.escape(part)} (is missing|is damaged|is not a zip file|.* its end is missing)",
    ):
        load_checkpoint(DSPG, tmp_path, "Pendulum-v1")
    copied.write_bytes(content)
    assert load_checkpoint(DSPG, tmp_path, "Pendulum-v1").num_timesteps == 30


def test_a_damaged_environment_in_a_checkpoint(checkpoint, tmp_path):
    """Its state is a pickle of its own"""
    file = shutil.copytree(checkpoint, tmp_path / checkpoint.name) / "state.pkl"
    state = pickle.loads(file.read_bytes())
    names, pickled, complete = state["environment"]
    file.write_bytes(pickle.dumps({**state, "environment": (names, pickled[: len(pickled) // 2], complete)}))
    with pytest.raises(ValueError, match=rf"{checkpoint.name}.*state\.pkl is damaged, delete its folder"):
        load_checkpoint(DSPG, tmp_path, "Pendulum-v1")


def test_a_policy_alone(saved, tmp_path):
    """SB3's own loading, which unpickles: what is no policy is an error of pickle or of the class, not a policy"""
    policy = DSPG.load(saved["DSPG"][0]).policy
    policy.save(tmp_path / "policy.pt")
    observation = np.ones(3, np.float32)
    loaded = type(policy).load(tmp_path / "policy.pt")
    assert not differing(dict(policy.state_dict()), dict(loaded.state_dict()))
    assert th.equal(*(th.as_tensor(each.predict(observation, deterministic=True)[0]) for each in (policy, loaded)))
