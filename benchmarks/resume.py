"""
Lets a run of RL Zoo go on after it was killed, and keeps the time of each evaluation.

    python -m rl_zoo3.train --algo sac --env Hopper-v4 --log-folder FOLDER --gym-packages benchmarks.resume

RL Zoo imports the module before it makes an ``ExperimentManager``; importing it changes two methods of that class. Every
fifth evaluation an exact checkpoint is written to ``FOLDER/checkpoints``, of which the last two are kept. The same command,
given again, goes on from the last one. On-policy algorithms have none: they start again. Every evaluation is a line of
``FOLDER/evaluations.csv``.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from benchmarks.collect import STARTS, commit
from benchmarks.recorder import CHECKPOINTS, EVALUATIONS, Recorder
from sb3_maxent.saving.checkpoints import ExactCheckpointCallback, latest_checkpoint, load_checkpoint

EVALUATIONS_PER_CHECKPOINT = 5


def learn(manager: ExperimentManager, model: BaseAlgorithm) -> None:
    """
    Train, from where ``setup_experiment`` left the model.

    :param manager: Manager that made the model
    :param model: The model
    """
    folder = Path(manager.log_folder)
    evaluation = next(callback for callback in manager.callbacks if isinstance(callback, EvalCallback))
    callbacks = [*manager.callbacks, Recorder(evaluation, folder / EVALUATIONS)]
    if isinstance(model, OffPolicyAlgorithm):
        save_freq = EVALUATIONS_PER_CHECKPOINT * manager.eval_freq * model.n_envs
        callbacks.append(ExactCheckpointCallback(save_freq, folder / CHECKPOINTS))
    for callback in callbacks:
        callback.n_calls = model.num_timesteps // model.n_envs
    model.learn(manager.n_timesteps - model.num_timesteps, callback=callbacks, reset_num_timesteps=False)
    assert model.env is not None
    model.env.close()


def setup_experiment(manager: ExperimentManager) -> tuple[BaseAlgorithm, dict[str, Any]] | None:
    """
    Make the model, or load the last checkpoint.

    :param manager: Manager with the arguments of the command
    :return: Model and hyperparameters, ``None`` when hyperparameters are searched
    """
    results = original_setup_experiment(manager)
    checkpoints = Path(manager.log_folder) / CHECKPOINTS
    if results is None:
        return None
    model, hyperparameters = results
    if latest_checkpoint(checkpoints) is not None:
        assert isinstance(model, OffPolicyAlgorithm) and model.env is not None
        model = load_checkpoint(type(model), checkpoints, env=model.env, device=manager.device)
        print(f"Going on after {model.num_timesteps} steps")
    start = {"step": model.num_timesteps, "commit": commit(), "command": shlex.join(sys.orig_argv)}
    with (Path(manager.log_folder) / STARTS).open("a") as file:
        file.write(json.dumps({**start, "config": manager.params_path}) + "\n")
    return model, hyperparameters


original_setup_experiment = ExperimentManager.setup_experiment
ExperimentManager.setup_experiment = setup_experiment  # type: ignore[method-assign]
ExperimentManager.learn = learn  # type: ignore[method-assign]
