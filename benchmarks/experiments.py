"""
Runs of the exploration and pretraining experiments of the Soft Q-learning paper, with SB3's DDPG and SAC beside it.

    python -m benchmarks.experiments softqlearning PointTwoPassages-v0 --seed 1 --steps 100000
    python -m benchmarks.experiments softqlearning PointArena-v0 --seed 1 --ent-coef 10 --episodes 50
    python -m benchmarks.experiments softqlearning AntNarrowHallway-v0 --seed 1 --start-from ant.zip

writes ``benchmarks/results/experiments/ENV/NAME_SEED.json``: the best of what the task measures so far (``max_x`` of the
swimmer, ``min_distance`` of a maze with a goal), its mean over the last ten episodes, and their return. ``--episodes`` adds
the paths of as many episodes of the trained policy. A run that was killed goes on from its last exact checkpoint with the
same command. ``examples/4_experiments.py`` draws the figures.

The networks, learning rates, batch size and discount (``--gamma``) are the same for all algorithms; ``--batch-norm`` adds
batch normalisation to those of Soft Q-learning. Its temperature, unless ``--ent-coef`` gives another one, and the noise of
DDPG are those of the paper. SAC learns its temperature. After ``--start-from`` the temperature falls to a hundredth of its
first value, and the fixed set of noise vectors shrinks to one, both in the first tenth of the run.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import DDPG, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_maxent import SoftQLearning
from sb3_maxent.saving.checkpoint_folder import latest_checkpoint
from sb3_maxent.saving.checkpoints import ExactCheckpointCallback, load_checkpoint

RESULTS, LOGS = Path(__file__).parent / "results" / "experiments", Path("logs/experiments")
ALGORITHMS: dict[str, type[OffPolicyAlgorithm]] = {"softqlearning": SoftQLearning, "ddpg": DDPG, "sac": SAC}
SHARED = {"learning_rate": 3e-4, "batch_size": 128, "buffer_size": 500_000, "learning_starts": 1000, "device": "cpu"}
# What a task measures, and which of two values is better
MEASURES = {"max_x": max, "min_distance": min}
# Of the mean over the last ones
N_EPISODES = 10
SOFT: dict[str, Any] = {"compile": True}
ENT_COEF, GAMMA = 0.1, 0.99
# A path keeps one position in so many steps
PATH_STEPS = 25


class Recorder(BaseCallback):
    """
    Keeps what the figures show in the model, with which it is saved.

    :param every: Steps between two entries
    """

    def __init__(self, every: int):
        super().__init__()
        self.every = every

    def _on_training_start(self) -> None:
        if not hasattr(self.model, "history"):
            self.model.history = {"timesteps": [], "best": [], "last": [], "return": []}  # type: ignore[attr-defined]
            self.model.best, self.model.ends = None, []  # type: ignore[attr-defined]

    def _on_step(self) -> bool:
        model: Any = self.model
        for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True):
            for name, better in MEASURES.items():
                if name in info:
                    model.best = float(info[name]) if model.best is None else float(better(model.best, info[name]))
                    model.ends = [*model.ends, float(info[name])][-N_EPISODES:] if done else model.ends
        if self.num_timesteps % self.every == 0:
            returns = [episode["r"] for episode in model.ep_info_buffer][-N_EPISODES:]
            entry = {
                "timesteps": self.num_timesteps,
                "best": model.best,
                "last": float(np.mean(model.ends)) if model.ends else None,
                "return": float(np.mean(returns)) if returns else None,
            }
            for name, value in entry.items():
                model.history[name].append(value)
        return True


def acting_at_once(kind: type[OffPolicyAlgorithm]) -> type[OffPolicyAlgorithm]:
    """
    Algorithm without uniformly random actions before ``learning_starts``.

    :param kind: Algorithm
    :return: Subclass
    """

    def sample_action(self: Any, learning_starts: int, *arguments: Any) -> Any:
        return kind._sample_action(self, 0, *arguments)

    return type(kind.__name__, (kind,), {"_sample_action": sample_action})


def make_model(
    algorithm: str,
    env: VecEnv,
    seed: int,
    start_from: str | None,
    ent_coef: float | None = None,
    batch_norm: bool = False,
    gamma: float = GAMMA,
) -> OffPolicyAlgorithm:
    """
    A new model.

    :param algorithm: Name of the algorithm
    :param env: Environment
    :param seed: Seed
    :param start_from: File of a pretrained model, ``None`` to start from scratch
    :param ent_coef: Temperature of Soft Q-learning, after a pretrained model at first, ``None`` for that of the paper
    :param batch_norm: Whether the networks of Soft Q-learning have batch normalisation
    :param gamma: Discount
    :return: The model
    :raises ValueError: If another algorithm is given a temperature or batch normalisation
    """
    if algorithm != "softqlearning" and (batch_norm or ent_coef is not None):
        raise ValueError(f"ent_coef={ent_coef} and batch_norm={batch_norm} are for softqlearning and not for {algorithm}")
    arguments: dict[str, Any] = {**SHARED, "seed": seed, "gamma": gamma, "policy_kwargs": {"net_arch": [128, 128]}}
    if algorithm == "softqlearning":
        initial = ENT_COEF if ent_coef is None else ent_coef
        falling = {"ent_coef": f"log_{initial}_{initial / 100}_0.1", "noise_set_size": "lin_32_1_0.1"}
        arguments["policy_kwargs"]["batch_norm"] = batch_norm
        arguments |= SOFT | (falling if start_from else {"ent_coef": initial})
        soft = SoftQLearning("MlpPolicy", env, **arguments)
        return soft.start_from(start_from) if start_from else soft
    if algorithm == "ddpg":
        n_components = env.action_space.shape[0]  # type: ignore[index]
        noise = OrnsteinUhlenbeckActionNoise(np.zeros(n_components), 0.3 * np.ones(n_components), theta=0.15)
        arguments["action_noise"] = noise
    if not start_from:
        return ALGORITHMS[algorithm]("MlpPolicy", env, **arguments)
    # As ``start_from`` of ours: the networks and not the optimizers, and the policy acts before ``learning_starts``, which is
    # before the first checkpoint, so that a run that goes on needs no such class
    model = acting_at_once(ALGORITHMS[algorithm])("MlpPolicy", env, **arguments)
    model.policy.load_state_dict(ALGORITHMS[algorithm].load(start_from, device="cpu").policy.state_dict())
    return model


def record_paths(model: BaseAlgorithm, env_id: str, n_episodes: int) -> list[list[list[float]]]:
    """
    Positions of the trained policy in a maze, with its randomness and without added noise.

    :param model: The model
    :param env_id: Environment ID
    :param n_episodes: Number of episodes
    :return: Positions of each episode: the first, every 25th and the last one
    """
    env, paths = gym.make(env_id), []
    for seed in range(n_episodes):
        observation, _ = env.reset(seed=seed)
        path, done = [observation[:2]], False
        while not done:
            observation, _, terminated, truncated, _ = env.step(model.predict(observation)[0])
            path.append(observation[:2])
            done = terminated or truncated
        kept = path[:-1:PATH_STEPS] + path[-1:]
        paths.append(np.round(kept, 2).tolist())
    return paths


def run(
    algorithm: str,
    env_id: str,
    seed: int,
    steps: int,
    start_from: str | None = None,
    ent_coef: float | None = None,
    every: int = 1000,
    n_episodes: int = 0,
    batch_norm: bool = False,
    gamma: float = GAMMA,
) -> Path:
    """
    Make a run, or go on with it.

    :param algorithm: Name of the algorithm
    :param env_id: Environment ID
    :param seed: Seed
    :param steps: Number of environment steps
    :param start_from: File of a pretrained model, ``None`` to start from scratch
    :param ent_coef: Temperature of Soft Q-learning, ``None`` for that of the paper; with one the result's name has it, too
    :param every: Steps between two entries
    :param n_episodes: Number of episodes of the trained policy whose paths are recorded
    :param batch_norm: Whether the networks have batch normalisation; the result's name has ``-norm`` then
    :param gamma: Discount; the result's name has another one than 0.99, too
    :return: The file with the result
    """
    name = algorithm + ("-pretrained" if start_from else "") + ("" if ent_coef is None else f"-{ent_coef:g}")
    name += ("-norm" if batch_norm else "") + ("" if gamma == GAMMA else f"-gamma{gamma:g}")
    folder, result = LOGS / env_id / f"{name}_{seed}", RESULTS / env_id / f"{name}_{seed}.json"
    env = make_vec_env(env_id, 1, seed=seed)
    if latest_checkpoint(folder) is None:
        model = make_model(algorithm, env, seed, start_from, ent_coef, batch_norm, gamma)
    else:
        model = load_checkpoint(ALGORITHMS[algorithm], folder, env)
    callbacks: list[BaseCallback] = [Recorder(every), ExactCheckpointCallback(10 * every, folder)]
    model.learn(steps - model.num_timesteps, callback=callbacks, reset_num_timesteps=model.num_timesteps == 0)
    model.save(folder / "final")
    task: Any = gym.make(env_id).unwrapped
    threshold = getattr(task, "threshold", getattr(task, "finish_line", None))
    described = {"name": name, "env": env_id, "seed": seed, "steps": steps, "threshold": threshold}
    # One line for each entry
    lines = {**described, **model.history, "paths": record_paths(model, env_id, n_episodes)}  # type: ignore[attr-defined]
    text = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in lines.items())
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text("{" + text + "}\n")
    return result


if __name__ == "__main__":
    th.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("algorithm", choices=list(ALGORITHMS))
    parser.add_argument("env")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--start-from")
    parser.add_argument("--ent-coef", type=float)
    parser.add_argument("--episodes", type=int, default=0)
    parser.add_argument("--batch-norm", action="store_true")
    parser.add_argument("--gamma", type=float, default=GAMMA)
    given = parser.parse_args()
    arguments = (given.algorithm, given.env, given.seed, given.steps, given.start_from, given.ent_coef)
    print(run(*arguments, n_episodes=given.episodes, batch_norm=given.batch_norm, gamma=given.gamma))
