"""
Checkpoints from which training goes on as if it had never stopped.

SB3's ``CheckpointCallback`` saves what a user needs to act. To go on exactly, everything else that training reads is needed:
the replay buffer, the states of all random generators, and the environments in the middle of their episodes.
"""

import os
import pickle
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv

from sb3_maxent.common.arguments import check_count
from sb3_maxent.common.environment_state import environment_state, restore_environment
from sb3_maxent.common.errors import check_parameters

Algorithm = TypeVar("Algorithm", bound=OffPolicyAlgorithm)

MODEL, REPLAY_BUFFER, STATE = "model.zip", "replay_buffer.pkl", "state.pkl"
DELETE_IT = "delete its folder to go on from an earlier checkpoint"
# A folder with another name is being written or deleted, or not ours
PREFIX, PATTERN = "steps_", "steps_" + 12 * "[0-9]"


def save_checkpoint(model: OffPolicyAlgorithm, folder: str | Path) -> Path:
    """
    Write a checkpoint that is complete or not there at all, whenever the process is killed.

    Call it between an update and the next environment step, as :class:`ExactCheckpointCallback` does: during a step the
    environment is ahead of the model.

    :param model: Model in training
    :param folder: Folder of all checkpoints of this run
    :return: Folder of this checkpoint
    :raises ValueError: If there is a checkpoint of as many steps already
    :raises NonFiniteError: If a parameter is NaN or infinite: an earlier checkpoint is worth more
    """
    folder = Path(folder)
    checkpoint = folder / f"{PREFIX}{model.num_timesteps:012d}"
    if checkpoint.exists():
        raise ValueError(f"{checkpoint} exists: go on from it with load_checkpoint, or choose another folder")
    check_parameters(model)
    unfinished = folder / f".writing_{checkpoint.name}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    model.save(unfinished / MODEL)
    model.save_replay_buffer(unfinished / REPLAY_BUFFER)
    state = {"environment": environment_state(model.env), "random": _random_states(model), "last_obs": model._last_obs}
    (unfinished / STATE).write_bytes(pickle.dumps(state, protocol=pickle.HIGHEST_PROTOCOL))
    for path in (*unfinished.iterdir(), unfinished):
        _flush(path)
    # The only moment that counts: a rename within a file system happens or does not
    unfinished.rename(checkpoint)
    _flush(folder)
    return checkpoint


def latest_checkpoint(folder: str | Path) -> Path | None:
    """
    Find the checkpoint with the most steps.

    :param folder: Folder of all checkpoints of a run
    :return: Its folder, ``None`` if there is none
    """
    return max(Path(folder).glob(PATTERN), default=None)


def _steps_of(checkpoint: Path | None) -> int:
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix(PREFIX))


def load_checkpoint(algorithm: type[Algorithm], folder: str | Path, env: GymEnv, **kwargs: Any) -> Algorithm:
    """
    Load the latest checkpoint and put the environments and all random generators back to where they were.

    Go on with ``model.learn(total - model.num_timesteps, reset_num_timesteps=False)``, where ``total`` is what the first call
    was to reach, so that schedules go on too.

    .. warning::
        Replay buffer and state are pickles, which can run any code: load only what you wrote.

    :param algorithm: Class of the model
    :param folder: Folder of all checkpoints of a run
    :param env: Environment made as the first one was, with the same wrappers
    :param kwargs: Arguments of ``load``
    :return: The model
    :raises ValueError: If there is no checkpoint, a file of it is missing or damaged, or the environment is wrapped in another
        way
    """
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        raise ValueError(f"no checkpoint in {folder}: give the folder that ExactCheckpointCallback writes to")
    missing = [name for name in (MODEL, REPLAY_BUFFER, STATE) if not (checkpoint / name).is_file()]
    if missing:
        raise ValueError(f"{checkpoint} is incomplete, {' and '.join(missing)} is missing: {DELETE_IT}")
    model = algorithm.load(checkpoint / MODEL, env=maybe_make_env(env, verbose=0), **kwargs)
    with _reading(checkpoint / STATE):
        state = pickle.loads((checkpoint / STATE).read_bytes())
        environment, last_obs, random_states = state["environment"], state["last_obs"], state["random"]
    same_episodes = restore_environment(model.env, environment)
    if same_episodes:
        # Otherwise ``learn`` starts new ones
        model._last_obs = last_obs
    with _reading(checkpoint / REPLAY_BUFFER):
        model.load_replay_buffer(checkpoint / REPLAY_BUFFER, truncate_last_traj=not same_episodes)
    _restore_random_states(model, random_states)
    return model


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        raise ValueError(f"{path} is damaged, {DELETE_IT}: {type(error).__name__}: {error}") from error


class ExactCheckpointCallback(BaseCallback):
    """
    Writes a checkpoint every ``save_freq`` steps and at the end of training, and deletes older ones.

    :param save_freq: Number of steps between two checkpoints, over all environments; a checkpoint waits for the end of the
        rollout at hand
    :param folder: Folder of all checkpoints of this run
    :param keep: Number of checkpoints to keep
    :param verbose: Verbosity level: 0 for no output, 2 to say when a checkpoint is written
    :raises ValueError: If a number has no meaning, or, when training starts, if the folder has a checkpoint of more steps
    """

    def __init__(self, save_freq: int, folder: str | Path, keep: int = 2, verbose: int = 0):
        super().__init__(verbose)
        check_count(save_freq, "save_freq")
        check_count(keep, "keep")
        self.save_freq, self.folder, self.keep = save_freq, Path(folder), keep

    def _on_training_start(self) -> None:
        latest = latest_checkpoint(self.folder)
        self.saved_at = _steps_of(latest)
        if latest is not None and self.saved_at > self.model.num_timesteps:
            raise ValueError(
                f"{self.folder} has a checkpoint of more steps than the model, {latest.name}: go on from it with "
                "load_checkpoint and reset_num_timesteps=False, or choose another folder"
            )

    def _on_rollout_start(self) -> None:
        if self.num_timesteps - self.saved_at >= self.save_freq:
            self._save()
            if getattr(self.model, "use_sde", False):
                # SB3 has drawn the noise matrix of this rollout: draw it anew, as the loaded model will
                self.model.actor.reset_noise(self.model.n_envs)  # type: ignore[attr-defined]

    def _on_training_end(self) -> None:
        # An error inside a rollout does not come here
        if self.num_timesteps > self.saved_at:
            self._save()

    def _on_step(self) -> bool:
        return True

    def _save(self) -> None:
        path = save_checkpoint(self.model, self.folder)  # type: ignore[arg-type]
        self.saved_at = self.num_timesteps
        if self.verbose >= 2:
            print(f"Saving checkpoint to {path}")
        for old in sorted(self.folder.glob(PATTERN))[: -self.keep]:
            # Half of a checkpoint must not look like one
            old.rename(old.with_name(f".deleting_{old.name}"))
        for leftover in (*self.folder.glob(".deleting_*"), *self.folder.glob(".writing_*")):
            shutil.rmtree(leftover)


def _flush(path: Path) -> None:
    # Otherwise a crash of the system could keep the rename and lose the contents. Windows flushes no folders
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _random_states(model: OffPolicyAlgorithm) -> dict[str, Any]:
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": th.get_rng_state()}
    # Random actions before learning starts
    states["action_space"] = model.action_space.np_random.bit_generator.state
    if th.cuda.is_available():
        states["cuda"] = th.cuda.get_rng_state_all()
    return states


def _restore_random_states(model: OffPolicyAlgorithm, states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    th.set_rng_state(states["torch"])
    model.action_space.np_random.bit_generator.state = states["action_space"]
    if "cuda" in states and th.cuda.is_available():
        th.cuda.set_rng_state_all(states["cuda"])
