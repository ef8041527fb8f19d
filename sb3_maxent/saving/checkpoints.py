"""
Checkpoints from which training continues exactly, as if it had never stopped.

SB3's ``CheckpointCallback`` saves what the agent needs to act. To continue exactly, training also needs the replay buffer, the
states of all random generators, and the environments in the middle of their episodes.
"""

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
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv

from sb3_maxent.common.checks import check_count
from sb3_maxent.common.episodes import start_new_episodes
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
from sb3_maxent.saving.environment_state import EnvironmentState, check_layers, environment_state, restore_environment

Algorithm = TypeVar("Algorithm", bound=OffPolicyAlgorithm)

MODEL, REPLAY_BUFFER, STATE = "model.zip", "replay_buffer.pkl", "state.pkl"
DELETE_IT = "delete its folder to continue from an earlier checkpoint"


def save_checkpoint(model: OffPolicyAlgorithm, folder: str | Path) -> Path:
    """
    Write a checkpoint that is complete or absent, even if the process is killed.

    Call it between an update and the next environment step, as :class:`ExactCheckpointCallback` does. During a step the
    environment is one step ahead of the model.

    :param model: Model in training
    :param folder: Folder of all checkpoints of this run
    :return: Folder of this checkpoint
    :raises ValueError: If there already is a checkpoint with this number of steps, another process or thread writes to the
        folder, or the folder cannot be written to
    :raises NonFiniteError: If a parameter is NaN or infinite. An earlier checkpoint is more useful then
    :raises OSError: If, for instance, the disk is full. The folder is as it was before, without unfinished files
    """
    folder = Path(folder)
    checkpoint = checkpoint_path(folder, model.num_timesteps)
    if checkpoint.exists():
        raise ValueError(f"{checkpoint} exists: go on from it with load_checkpoint, or choose another folder")
    check_parameters(model)
    with lock_folder(folder):
        # Unfinished folders of a killed process may have filled the disk
        clean_folder(folder)
        with complete_or_absent(checkpoint) as unfinished:
            model.save(unfinished / MODEL)
            model.save_replay_buffer(unfinished / REPLAY_BUFFER)
            # A tuple, so the pickle does not depend on the module of our class
            environment = tuple(environment_state(model.env))
            state = {"environment": environment, "random": _random_states(model), "last_obs": model._last_obs}
            (unfinished / STATE).write_bytes(pickle.dumps(state, protocol=pickle.HIGHEST_PROTOCOL))
    return checkpoint


def load_checkpoint(algorithm: type[Algorithm], folder: str | Path, env: GymEnv, **kwargs: Any) -> Algorithm:
    """
    Load the latest checkpoint, and restore the states of the environments and of all random generators.

    Continue with ``model.learn(total - model.num_timesteps, reset_num_timesteps=False)``, where ``total`` is the number of
    steps of the first call. Then schedules continue too.

    .. warning::
        Replay buffer and state are pickles, which can run any code. Load only files that you wrote.

    :param algorithm: Class of the model
    :param folder: Folder of all checkpoints of a run. Another process may write to it at the same time
    :param env: Environment that is made like the first one, with the same wrappers
    :param kwargs: Arguments of ``load``
    :return: The model
    :raises ValueError: If there is no checkpoint, one of its files is missing or damaged, or the environment has other
        wrappers
    """
    while True:
        checkpoint = latest_checkpoint(folder)
        if checkpoint is None:
            raise ValueError(f"no checkpoint in {folder}: give the folder that ExactCheckpointCallback writes to")
        try:
            return _load(algorithm, checkpoint, env, **kwargs)
        except Exception:
            # If another process has deleted this checkpoint, it has written a newer one: try again
            if checkpoint.exists():
                raise


def _load(algorithm: type[Algorithm], checkpoint: Path, env: GymEnv, **kwargs: Any) -> Algorithm:
    missing = [name for name in (MODEL, REPLAY_BUFFER, STATE) if not (checkpoint / name).is_file()]
    if missing:
        raise ValueError(f"{checkpoint} is incomplete, {' and '.join(missing)} is missing: {DELETE_IT}")
    model = algorithm.load(checkpoint / MODEL, env=maybe_make_env(env, verbose=0), **kwargs)
    with _reading(checkpoint / STATE):
        state = pickle.loads((checkpoint / STATE).read_bytes())
        environment, last_obs, random_states = EnvironmentState(*state["environment"]), state["last_obs"], state["random"]
    check_layers(model.env, environment)
    with _reading(checkpoint / STATE):
        same_episodes = restore_environment(model.env, environment) and last_obs is not None
    with _reading(checkpoint / REPLAY_BUFFER):
        model.load_replay_buffer(checkpoint / REPLAY_BUFFER, truncate_last_traj=False)
    assert model.env is not None
    if same_episodes:
        model._last_obs = last_obs
    else:
        start_new_episodes(model)
        if model.seed is not None:
            # SB3 has seeded the environments as for a new run, so they would start with its first episodes again
            model.env.seed(model.seed + model.num_timesteps)
    # As before it is the space of the environment, which may draw from it, too
    model.action_space = model.env.action_space
    _restore_random_states(model, random_states)
    return model


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a damaged pickle can raise any exception
        raise ValueError(f"{path} is damaged, {DELETE_IT}: {type(error).__name__}: {error}") from error


class ExactCheckpointCallback(BaseCallback):
    """
    Callback that writes a checkpoint every ``save_freq`` steps and at the end of training, and deletes older ones.

    If another callback ends the training, the environment has made a step whose transition is not stored. Then the
    environments start new episodes, both in the next call of ``learn`` and after loading the checkpoint.

    :param save_freq: Number of steps between two checkpoints, over all environments. A checkpoint is written at the end of the
        current rollout
    :param folder: Folder of all checkpoints of this run
    :param keep: Number of checkpoints to keep
    :param verbose: Verbosity level: 0 for no output, 2 for a message with each checkpoint
    :raises ValueError: If a number is invalid. At the start of training: if the folder has a checkpoint with more steps,
        another process or thread writes to it, or it cannot be written to
    """

    def __init__(self, save_freq: int, folder: str | Path, keep: int = 2, verbose: int = 0):
        super().__init__(verbose)
        check_count(save_freq, "save_freq")
        check_count(keep, "keep")
        self.save_freq, self.folder, self.keep = save_freq, Path(folder), keep
        self.in_rollout, self.warned, self.saved_at = False, False, 0

    def _on_training_start(self) -> None:
        lock_folder(self.folder)
        latest = latest_checkpoint(self.folder)
        self.saved_at, self.in_rollout = steps_of(latest), False
        if latest is not None and self.saved_at > self.model.num_timesteps:
            unlock_folder(self.folder)
            raise ValueError(
                f"{self.folder} has a checkpoint of more steps than the model, {latest.name}: continue from it with "
                "load_checkpoint and reset_num_timesteps=False, or choose another folder"
            )

    def _on_rollout_start(self) -> None:
        if self.num_timesteps - self.saved_at >= self.save_freq:
            self._save()
            if getattr(self.model, "use_sde", False):
                # SB3 has drawn the noise matrix of this rollout before the checkpoint. A loaded model draws it after the
                # checkpoint, so draw it again here
                self.model.actor.reset_noise(self.model.n_envs)  # type: ignore[attr-defined]
        self.in_rollout = True

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.in_rollout = False

    def _on_training_end(self) -> None:
        if self.in_rollout:
            # Another callback has ended the rollout, and SB3 does not store the transition of the last step. The algorithms of
            # this package know that, those of SB3 do not
            start_new_episodes(self.model)  # type: ignore[arg-type]
        try:
            if self.num_timesteps > self.saved_at and (self.in_rollout or not self._is_in_an_update()):
                self._save()
        finally:
            unlock_folder(self.folder)

    def _is_in_an_update(self) -> bool:
        # RL Zoo calls ``on_training_end`` of its first callback after an error or an interrupt, too. The algorithms of SB3 do
        # not say so: before the last step it must be one
        is_early = self.num_timesteps < self.model._total_timesteps
        return getattr(self.model, "was_interrupted", is_early)

    def _save(self) -> None:
        path = save_checkpoint(self.model, self.folder)  # type: ignore[arg-type]
        self.saved_at = self.num_timesteps
        if self.verbose >= 2:
            print(f"Saving checkpoint to {path}")
        errors = clean_folder(self.folder, self.keep)
        if errors and not self.warned:
            self.warned = True
            warnings.warn(f"old checkpoints could not be deleted, and they use disk space: {errors[0]}")


def _random_states(model: OffPolicyAlgorithm) -> dict[str, Any]:
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": th.get_rng_state()}
    # The generator of random actions before ``learning_starts``
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
