"""The folder of checkpoints: a full disk, files that cannot be deleted, readers, several writers, no permission to write."""

import errno
import multiprocessing
import os
import shutil
import sys
import threading
import time
import warnings

import pytest
from stable_baselines3.common.callbacks import BaseCallback

from sb3_maxent import DSPG
from sb3_maxent.saving import checkpoints
from sb3_maxent.saving.checkpoints import ExactCheckpointCallback, load_checkpoint, save_checkpoint
from tests.saving.test_checkpoints import DSPG_SMALL, fingerprint, latest_steps, visible

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="Uses POSIX signals, limits or permissions")


def make_model():
    return DSPG("MlpPolicy", "Pendulum-v1", **DSPG_SMALL)


# --- a full disk, undeletable files ------------------------------------------------------------------------------------------


@on_posix
@pytest.mark.parametrize("limit", [0, 20_000, 50_000])
def test_a_full_disk(tmp_path, limit):
    """A limit on the size of files stands for it: writing fails in the same way"""
    import resource

    model = make_model().learn(60)
    save_checkpoint(model, tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            model.learn(40, ExactCheckpointCallback(20, tmp_path), reset_num_timesteps=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert model.num_timesteps == 80
    assert {path.name for path in tmp_path.iterdir()} <= {"steps_000000000060", ".lock"}
    # The last checkpoint is good, and so is the next attempt
    assert load_checkpoint(DSPG, tmp_path, "Pendulum-v1").num_timesteps == 60
    model.learn(20, ExactCheckpointCallback(20, tmp_path), reset_num_timesteps=False)
    assert visible(tmp_path) == ["steps_000000000080", "steps_000000000100"]


def test_unfinished_folders_make_space_before_a_checkpoint(tmp_path, monkeypatch):
    """Those of a process that was killed, perhaps because it had filled the disk"""
    (tmp_path / ".writing_steps_000000000001").mkdir()
    (tmp_path / ".deleting_steps_000000000001").mkdir()
    found, save = [], DSPG.save

    def look_and_save(self, path):
        found.extend(path.name for path in tmp_path.iterdir())
        save(self, path)

    monkeypatch.setattr(DSPG, "save", look_and_save)
    save_checkpoint(make_model().learn(40), tmp_path)
    assert set(found) - {".lock"} == {".writing_steps_000000000040"}


def test_old_checkpoints_that_cannot_be_deleted(tmp_path, monkeypatch):
    def refuse(path, ignore_errors=False):
        if not ignore_errors:
            raise PermissionError(errno.EPERM, "in use by a backup", str(path))

    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patch.setattr(shutil, "rmtree", refuse)
        make_model().learn(100, ExactCheckpointCallback(20, tmp_path))
    messages = [str(each.message) for each in caught if "could not be deleted" in str(each.message)]
    assert len(messages) == 1 and "in use by a backup" in messages[0] and str(tmp_path) in messages[0]
    assert visible(tmp_path) == ["steps_000000000080", "steps_000000000100"]
    load_checkpoint(DSPG, tmp_path, "Pendulum-v1").learn(20, ExactCheckpointCallback(20, tmp_path), reset_num_timesteps=False)
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {"steps_000000000100", "steps_000000000120"}


# --- readers -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["at first", "after the model", "before the replay buffer"])
def test_a_checkpoint_that_is_deleted_while_it_is_read(tmp_path, monkeypatch, moment):
    model = make_model().learn(60)
    save_checkpoint(model, tmp_path / "run")
    newer = save_checkpoint(model.learn(20, reset_num_timesteps=False), tmp_path / "elsewhere")
    expected = fingerprint(model)

    def replace():
        if not (tmp_path / "run" / newer.name).exists():
            shutil.copytree(newer, tmp_path / "run" / newer.name)
            shutil.rmtree(tmp_path / "run" / "steps_000000000060")

    class Interrupted(DSPG):
        @classmethod
        def load(cls, *args, **kwargs):
            if moment == "at first":
                replace()
            model = super().load(*args, **kwargs)
            if moment == "after the model":
                replace()
            return model

    def restore_later(*args):
        replace()
        return restore(*args)

    restore = checkpoints.restore_environment
    monkeypatch.setattr(checkpoints, "restore_environment", restore_later)
    loaded = load_checkpoint(Interrupted, tmp_path / "run", "Pendulum-v1")
    assert loaded.num_timesteps == 80 and fingerprint(loaded) == expected


def test_the_last_checkpoint_is_deleted_while_it_is_read(tmp_path, monkeypatch):
    checkpoint = save_checkpoint(make_model().learn(40), tmp_path)
    monkeypatch.setattr(DSPG, "load", lambda path, **kwargs: shutil.rmtree(checkpoint) or path.read_bytes())
    with pytest.raises(ValueError, match=f"no checkpoint in {tmp_path}"):
        load_checkpoint(DSPG, tmp_path, "Pendulum-v1")


# --- writers -----------------------------------------------------------------------------------------------------------------


class Signal(BaseCallback):
    def __init__(self, event):
        super().__init__()
        self.event = event

    def _on_step(self):
        self.event.set()
        time.sleep(0.01)
        return True


def train_for_long(folder, event):
    make_model().learn(100_000, [ExactCheckpointCallback(20, folder), Signal(event)])


@on_posix
def test_two_processes(tmp_path):
    context = multiprocessing.get_context("fork")
    event = context.Event()
    process = context.Process(target=train_for_long, args=(tmp_path, event), daemon=True)
    process.start()
    try:
        assert event.wait(60)
        model = make_model()
        with pytest.raises(ValueError, match=f"^{tmp_path}: another process or thread writes checkpoints to this folder"):
            model.learn(40, ExactCheckpointCallback(20, tmp_path))
        assert model.num_timesteps == 0
        model.learn(30)
        with pytest.raises(ValueError, match=f"^{tmp_path}: another process or thread"):
            save_checkpoint(model, tmp_path)
        while latest_steps(tmp_path) == 0 and process.is_alive():
            time.sleep(0.01)
    finally:
        process.kill()
        process.join()
    # A killed process leaves no lock
    model = load_checkpoint(DSPG, tmp_path, "Pendulum-v1")
    model.learn(40, ExactCheckpointCallback(20, tmp_path), reset_num_timesteps=False)
    assert latest_steps(tmp_path) == model.num_timesteps


def test_two_threads(tmp_path):
    errors = []

    def train():
        try:
            make_model().learn(40, ExactCheckpointCallback(20, tmp_path))
        except ValueError as error:
            errors.append(str(error))

    class InAThread(BaseCallback):
        def _on_step(self):
            if self.n_calls == 1:
                thread = threading.Thread(target=train)
                thread.start()
                thread.join()
            return True

    make_model().learn(40, [ExactCheckpointCallback(20, tmp_path), InAThread()])
    assert len(errors) == 1 and errors[0].startswith(f"{tmp_path}: another process or thread writes")


def test_a_training_that_is_over(tmp_path):
    """After an error its thread can go on, and after its end any thread"""

    class Fails(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == 50:
                raise RuntimeError("stop")
            return True

    # Somebody holds the callback, as the traceback of the error in a notebook does
    callback = ExactCheckpointCallback(20, tmp_path)
    with pytest.raises(RuntimeError, match="stop"):
        make_model().learn(100, [callback, Fails()])
    model = load_checkpoint(DSPG, tmp_path, "Pendulum-v1")
    model.learn(31, ExactCheckpointCallback(20, tmp_path), reset_num_timesteps=False)
    saved, later = [], make_model().learn(30)
    thread = threading.Thread(target=lambda: saved.append(save_checkpoint(later, tmp_path).name))
    thread.start()
    thread.join()
    assert saved == ["steps_000000000030"]


@on_posix
def test_a_file_system_without_locks(tmp_path, monkeypatch):
    import fcntl

    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    make_model().learn(40, ExactCheckpointCallback(20, tmp_path))
    assert visible(tmp_path) == ["steps_000000000020", "steps_000000000040"]


# --- no permission to write --------------------------------------------------------------------------------------------------


def test_no_folder(tmp_path):
    """A file is where the folder should be made"""
    (tmp_path / "file").write_bytes(b"")
    folder, model = tmp_path / "file" / "checkpoints", make_model()
    with pytest.raises(ValueError, match=f"^{folder}: cannot write checkpoints to this folder, .*Not a directory"):
        model.learn(40, ExactCheckpointCallback(20, folder))
    assert model.num_timesteps == 0


@on_posix
def test_a_read_only_folder(tmp_path):
    model = make_model().learn(40, ExactCheckpointCallback(20, tmp_path))
    tmp_path.chmod(0o555)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("Everything is writable for root")
    try:
        with pytest.raises(ValueError, match=f"^{tmp_path}: cannot write checkpoints to this folder, .*Permission denied"):
            model.learn(40, ExactCheckpointCallback(20, tmp_path), reset_num_timesteps=False)
        assert model.num_timesteps == 40
    finally:
        tmp_path.chmod(0o755)
