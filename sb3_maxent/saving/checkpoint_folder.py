"""
A folder of checkpoints. It has one writer at a time, and every checkpoint in it is complete.

The folder contains one folder per checkpoint and the file ``.lock``. Folders with a name that starts with a dot are
unfinished.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryFile

from filelock import FileLock, Timeout

PREFIX, PATTERN = "steps_", "steps_" + 12 * "[0-9]"
WRITING, DELETING = ".writing_", ".deleting_"
# Errors of file systems without locks, for instance some network file systems
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)
# Locks by folder. A training that ends with an error keeps its lock, and a later training in the same thread can use it
_LOCKS: dict[Path, FileLock] = {}


def checkpoint_path(folder: Path, num_timesteps: int) -> Path:
    """
    :param folder: Folder of all checkpoints of a run
    :param num_timesteps: Number of environment steps of the checkpoint
    :return: Folder of the checkpoint
    """
    return folder / f"{PREFIX}{num_timesteps:012d}"


def latest_checkpoint(folder: str | Path) -> Path | None:
    """
    Find the checkpoint with the most steps.

    :param folder: Folder of all checkpoints of a run
    :return: Its folder, ``None`` if there is none
    """
    return max(Path(folder).glob(PATTERN), default=None)


def steps_of(checkpoint: Path | None) -> int:
    """
    :param checkpoint: Folder of a checkpoint
    :return: Its number of environment steps, 0 for ``None``
    """
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix(PREFIX))


def lock_folder(folder: Path) -> AbstractContextManager:
    """
    Make a folder, check that it can be written to, and lock it for this thread.

    The operating system releases the lock when the process ends, even if it is killed. A thread can lock a folder several
    times.

    :param folder: Folder of all checkpoints of a run
    :return: Context manager that releases the lock at its end
    :raises ValueError: If another process or thread has the lock, or the folder cannot be written to
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # This raises an error if the folder cannot be written to. The file has no name, so a killed process leaves nothing
        with TemporaryFile(dir=folder):
            pass
        path = folder.resolve()
        return _LOCKS.setdefault(path, FileLock(path / ".lock")).acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"{folder}: another process or thread writes checkpoints to this folder. Stop it, or choose another folder"
        ) from error
    except OSError as error:
        if error.errno in NO_LOCKS:
            return nullcontext()
        raise ValueError(f"{folder}: cannot write checkpoints to this folder, choose another one: {error}") from error


def unlock_folder(folder: Path) -> None:
    """
    Release the lock of this thread, even if the thread has taken it several times.

    :param folder: Folder of all checkpoints of a run
    """
    if lock := _LOCKS.get(folder.resolve()):
        lock.release(force=True)


@contextmanager
def complete_or_absent(checkpoint: Path) -> Iterator[Path]:
    """
    Write a folder so that it is complete or absent, even if the process is killed. The caller must hold the lock.

    :param checkpoint: Folder to make
    :return: Context manager with the folder to write to. This folder is renamed at the end, or deleted after an error
    """
    unfinished = checkpoint.with_name(f"{WRITING}{checkpoint.name}")
    unfinished.mkdir()
    try:
        yield unfinished
        for path in (*unfinished.iterdir(), unfinished):
            _flush(path)
        # A rename within a file system is atomic
        unfinished.rename(checkpoint)
    except BaseException:
        # Without this, an unfinished folder could keep the disk full, so that the next checkpoint would fail too
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    _flush(checkpoint.parent)


def clean_folder(folder: Path, keep: int | None = None) -> list[OSError]:
    """
    Delete old checkpoints, and the unfinished folders of a killed process.

    The caller must hold the lock of the folder.

    :param folder: Folder of all checkpoints of a run
    :param keep: Number of checkpoints to keep, ``None`` for all
    :return: Errors of the folders that could not be deleted
    """
    old = [] if keep is None else sorted(folder.glob(PATTERN))[:-keep]
    errors = []
    for path in (*old, *folder.glob(f"{DELETING}*"), *folder.glob(f"{WRITING}*")):
        try:
            # Rename first: a partly deleted checkpoint must not have the name of a checkpoint
            shutil.rmtree(path.rename(path.with_name(f"{DELETING}{path.name}")) if path in old else path)
        except OSError as error:
            errors.append(error)
    return errors


def _flush(path: Path) -> None:
    # Without a flush, a crash of the system could keep the rename and lose the contents. Windows cannot flush folders
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
