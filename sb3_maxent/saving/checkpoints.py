"""
Checkpoints from which training continues as if it had never stopped.

SB3's ``CheckpointCallback`` saves what a user needs to act. To continue exactly, training needs everything else that it
reads: the replay buffer, the states of all random generators, and the environments in the middle of their episodes.
"""

import io
import pickle
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.her import HerReplayBuffer

from sb3_maxent.common.checks import check_count
from sb3_maxent.common.errors import check_parameters
from sb3_maxent.saving.checkpoint_folder import (
    checkpoint_path,
    clean_folder,
    complete_or_absent,
    latest_checkpoint,
    lock_folder,
    steps_of,
    unlock_folder,
)
from sb3_maxent.saving.environment_state import EnvironmentState, environment_state, restore_environment

Algorithm = TypeVar("Algorithm", bound=OffPolicyAlgorithm)

MODEL, REPLAY_BUFFER, STATE = "model.zip", "replay_buffer.pkl", "state.pkl"
DELETE_IT = "delete its folder to go on from an earlier checkpoint"
# Modules of classes in older checkpoints
MOVED = {"sb3_maxent.common.environment_state": "sb3_maxent.saving.environment_state"}


def save_checkpoint(model: OffPolicyAlgorithm, folder: str | Path) -> Path:
    """
    Write a checkpoint that is complete or absent, whenever the process is killed.

    Call it between an update and the next environment step, as :class:`ExactCheckpointCallback` does: during a step the
    environment is ahead of the model.

    :param model: Model in training
    :param folder: Folder of all checkpoints of this run
    :return: Folder of this checkpoint
    :raises ValueError: If there is a checkpoint of as many steps already, another process or thread writes to the folder, or
        it cannot be written to
    :raises NonFiniteError: If a parameter is NaN or infinite: an earlier checkpoint is worth more
    :raises OSError: If the disk is full, for instance. The folder is as it was before, without unfinished files
    """
    folder = Path(folder)
    checkpoint = checkpoint_path(folder, model.num_timesteps)
    if checkpoint.exists():
        raise ValueError(f"{checkpoint} exists: go on from it with load_checkpoint, or choose another folder")
    check_parameters(model)
    with lock_folder(folder):
        # A process that was killed on a full disk has left no space
        clean_folder(folder)
        with complete_or_absent(checkpoint) as unfinished:
            model.save(unfinished / MODEL)
            model.save_replay_buffer(unfinished / REPLAY_BUFFER)
            # A tuple, so that no class of ours needs to stay where it is
            environment = tuple(environment_state(model.env))
            state = {"environment": environment, "random": _random_states(model), "last_obs": model._last_obs}
            (unfinished / STATE).write_bytes(pickle.dumps(state, protocol=pickle.HIGHEST_PROTOCOL))
    return checkpoint


def load_checkpoint(algorithm: type[Algorithm], folder: str | Path, env: GymEnv, **kwargs: Any) -> Algorithm:
    """
    Load the latest checkpoint and put the environments and all random generators back to where they were.

    Continue with ``model.learn(total - model.num_timesteps, reset_num_timesteps=False)``, where ``total`` is the number of
    steps of the first call. Then schedules continue too.

    .. warning::
        Replay buffer and state are pickles, which can run any code: load only what you wrote.

    :param algorithm: Class of the model
    :param folder: Folder of all checkpoints of a run, to which a training may write meanwhile
    :param env: Environment that is made like the first one, with the same wrappers
    :param kwargs: Arguments of ``load``
    :return: The model
    :raises ValueError: If there is no checkpoint, a file of it is missing or damaged, or the environment is wrapped in another
        way
    """
    while True:
        checkpoint = latest_checkpoint(folder)
        if checkpoint is None:
            raise ValueError(f"no checkpoint in {folder}: give the folder that ExactCheckpointCallback writes to")
        try:
            return _load(algorithm, checkpoint, env, **kwargs)
        except Exception:
            # A writer that deletes a checkpoint has written a newer one
            if checkpoint.exists():
                raise


def _load(algorithm: type[Algorithm], checkpoint: Path, env: GymEnv, **kwargs: Any) -> Algorithm:
    missing = [name for name in (MODEL, REPLAY_BUFFER, STATE) if not (checkpoint / name).is_file()]
    if missing:
        raise ValueError(f"{checkpoint} is incomplete, {' and '.join(missing)} is missing: {DELETE_IT}")
    model = algorithm.load(checkpoint / MODEL, env=maybe_make_env(env, verbose=0), **kwargs)
    with _reading(checkpoint / STATE):
        state = _StateUnpickler(io.BytesIO((checkpoint / STATE).read_bytes())).load()
        environment, last_obs, random_states = EnvironmentState(*state["environment"]), state["last_obs"], state["random"]
    same_episodes = restore_environment(model.env, environment) and last_obs is not None
    with _reading(checkpoint / REPLAY_BUFFER):
        model.load_replay_buffer(checkpoint / REPLAY_BUFFER, truncate_last_traj=False)
    if same_episodes:
        model._last_obs = last_obs
    else:
        start_new_episodes(model)
    _restore_random_states(model, random_states)
    return model


class _StateUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(MOVED.get(module, module), name)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        raise ValueError(f"{path} is damaged, {DELETE_IT}: {type(error).__name__}: {error}") from error


def start_new_episodes(model: OffPolicyAlgorithm) -> None:
    """
    Make the next ``learn`` reset the environments, and end the episodes in the replay buffer at its last transitions.

    Without this end, n-step returns, the goals of HER, and next observations that are not stored by themselves
    (``optimize_memory_usage``) would go from one episode into the next.

    :param model: The model
    """
    model._last_obs = None
    replay_buffer = model.replay_buffer
    assert isinstance(replay_buffer, ReplayBuffer)
    last = replay_buffer.pos - 1
    if replay_buffer.size() == 0:
        return
    if isinstance(replay_buffer, HerReplayBuffer):
        replay_buffer.truncate_last_trajectory()
    elif replay_buffer.optimize_memory_usage:
        # As SB3 does: the next observation will be overwritten, and a value of it must not be learned
        replay_buffer.dones[last] = True
    else:
        replay_buffer.timeouts[last] = np.logical_or(replay_buffer.timeouts[last], np.logical_not(replay_buffer.dones[last]))


class ExactCheckpointCallback(BaseCallback):
    """
    Callback that writes a checkpoint every ``save_freq`` steps and at the end of training, and deletes older ones.

    If another callback ends the training, it does so after a step of the environment and before its transition is stored. Then
    the environments start new episodes, both in the next call of ``learn`` and after loading the checkpoint.

    :param save_freq: Number of steps between two checkpoints, over all environments. A checkpoint is written at the end of the
        current rollout
    :param folder: Folder of all checkpoints of this run
    :param keep: Number of checkpoints to keep
    :param verbose: Verbosity level: 0 for no output, 2 to say when a checkpoint is written
    :raises ValueError: If a number has no meaning, or, when training starts, if the folder has a checkpoint of more steps,
        another process or thread writes to it, or it cannot be written to
    """

    def __init__(self, save_freq: int, folder: str | Path, keep: int = 2, verbose: int = 0):
        super().__init__(verbose)
        check_count(save_freq, "save_freq")
        check_count(keep, "keep")
        self.save_freq, self.folder, self.keep = save_freq, Path(folder), keep
        self.in_rollout, self.warned = False, False

    def _on_training_start(self) -> None:
        lock_folder(self.folder)
        latest = latest_checkpoint(self.folder)
        self.saved_at, self.in_rollout = steps_of(latest), False
        if latest is not None and self.saved_at > self.model.num_timesteps:
            unlock_folder(self.folder)
            raise ValueError(
                f"{self.folder} has a checkpoint of more steps than the model, {latest.name}: go on from it with "
                "load_checkpoint and reset_num_timesteps=False, or choose another folder"
            )

    def _on_rollout_start(self) -> None:
        if self.num_timesteps - self.saved_at >= self.save_freq:
            self._save()
            if getattr(self.model, "use_sde", False):
                # SB3 has drawn the noise matrix of this rollout: draw it again, as the loaded model will
                self.model.actor.reset_noise(self.model.n_envs)  # type: ignore[attr-defined]
        self.in_rollout = True

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.in_rollout = False

    def _on_training_end(self) -> None:
        # An error inside a rollout does not come here
        if self.in_rollout:
            # Another callback has ended it, and SB3 does not store the transition of the last step
            start_new_episodes(self.model)  # type: ignore[arg-type]
        if self.num_timesteps > self.saved_at:
            self._save()
        unlock_folder(self.folder)

    def _save(self) -> None:
        path = save_checkpoint(self.model, self.folder)  # type: ignore[arg-type]
        self.saved_at = self.num_timesteps
        if self.verbose >= 2:
            print(f"Saving checkpoint to {path}")
        errors = clean_folder(self.folder, self.keep)
        if errors and not self.warned:
            self.warned = True
            warnings.warn(f"old checkpoints could not be deleted, and need space: {errors[0]}")


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
