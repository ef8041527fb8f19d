"""Checkpoints of earlier versions of this package."""

import pickle
import sys
import types
from typing import NamedTuple

from sb3_maxent import DSPG
from sb3_maxent.saving.checkpoints import load_checkpoint, save_checkpoint
from tests.saving.test_checkpoints import DSPG_SMALL, fingerprint


class EnvironmentState(NamedTuple):
    """As it was, when its module was in another folder"""

    names: list[str]
    pickled: bytes
    complete: bool


EnvironmentState.__module__ = "sb3_maxent.common.environment_state"


def test_a_class_that_has_moved(tmp_path, monkeypatch):
    model = DSPG("MlpPolicy", "Pendulum-v1", **DSPG_SMALL).learn(40)
    path = save_checkpoint(model, tmp_path) / "state.pkl"
    expected = fingerprint(model)
    state = pickle.loads(path.read_bytes())
    state["environment"] = EnvironmentState(*state["environment"])
    with monkeypatch.context() as patch:
        module = types.ModuleType(EnvironmentState.__module__)
        module.EnvironmentState = EnvironmentState
        patch.setitem(sys.modules, module.__name__, module)
        path.write_bytes(pickle.dumps(state))
    assert b"sb3_maxent.common.environment_state" in path.read_bytes()
    loaded = load_checkpoint(DSPG, tmp_path, "Pendulum-v1")
    assert loaded._last_obs is not None and fingerprint(loaded) == expected


def test_no_class_of_this_package_is_in_the_state(tmp_path):
    """It may move again"""
    model = DSPG("MlpPolicy", "Pendulum-v1", **DSPG_SMALL).learn(40)
    assert b"sb3_maxent" not in (save_checkpoint(model, tmp_path) / "state.pkl").read_bytes()
