"""
Figure 1 of the Soft Q-learning paper: four goals, all equally good. Minutes of training for each of four algorithms.

    python examples/2_multi_goal.py

draws ``multi_goal.png``. First row: rollouts over the contours of the distance to the nearest goal. The other rows: level
curves of the learned Q-function over the actions in three states, with 100 sampled actions. It needs the extra ``plots``.
"""

import gymnasium as gym
import numpy as np
import torch as th
from matplotlib.figure import Figure
from stable_baselines3 import DDPG, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.utils import LinearSchedule

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.envs import MultiGoalEnv

N_STEPS = 25_000
STATES = [(-2.5, 0.0), (0.0, 0.0), (2.5, 2.5)]
# hyperparams/softqlearning.yml explains them
SHARED = {
    **{"learning_rate": LinearSchedule(2e-3, 0.0, 1.0), "learning_starts": 10_000, "batch_size": 128, "tau": 0.01},
    **{"seed": 0, "device": "cpu"},
}
NETWORK = {"net_arch": [128, 128], "n_critics": 1}
TEMPERATURE = 10.0


def make_models() -> dict[str, BaseAlgorithm]:
    """The four algorithms, with the same networks, exploration and temperature where they have one."""
    joint = {**NETWORK, "action_layer": 0}
    networks = {**joint, "batch_norm": False, "actor_averaging": None}
    plain = {"gradient_steps": 1, "policy_delay": 1, "n_action_samples": 64, "n_target_samples": 64}
    noise = NormalActionNoise(np.zeros(2), 0.3 * np.ones(2))
    return {
        "SoftQLearning": SoftQLearning("MlpPolicy", "MultiGoal-v0", ent_coef=TEMPERATURE, policy_kwargs=dict(joint), **SHARED),
        "DSPG": DSPG("MlpPolicy", "MultiGoal-v0", ent_coef=TEMPERATURE, policy_kwargs=networks, **plain, **SHARED),
        "SAC": SAC("MlpPolicy", "MultiGoal-v0", ent_coef=TEMPERATURE, policy_kwargs=dict(NETWORK), **SHARED),
        "DDPG": DDPG("MlpPolicy", "MultiGoal-v0", action_noise=noise, policy_kwargs=dict(NETWORK), **SHARED),
    }


def rollouts(model: BaseAlgorithm, n_rollouts: int) -> tuple[list[np.ndarray], np.ndarray]:
    """
    Act with the stochastic policy (DDPG's has no randomness).

    :param model: The model
    :param n_rollouts: Number of episodes
    :return: Their paths, shape (steps, 2) each, and the share of episodes that end in each goal, shape (4,)
    """
    env = gym.make("MultiGoal-v0")
    paths, goals = [], []
    for seed in range(n_rollouts):
        observation, _ = env.reset(seed=seed)
        done = False
        while not done:
            action, _ = model.predict(observation)
            observation, _, terminated, truncated, info = env.step(action)
            done = terminated or truncated
        paths.append(np.array(env.unwrapped.path))
        goals.append(info["goal"])
    return paths, np.bincount(np.array(goals) + 1, minlength=5)[1:] / n_rollouts


def q_values(model: BaseAlgorithm, state: tuple[float, float], actions: np.ndarray) -> np.ndarray:
    """
    The learned Q-function.

    :param model: The model
    :param state: Position
    :param actions: Actions, shape (n, 2)
    :return: Q-values, the smallest over the critics, shape (n,)
    """
    with th.no_grad():
        states = th.tensor([state], dtype=th.float32).expand(len(actions), -1)
        values = model.critic(states, th.as_tensor(actions, dtype=th.float32))
    return th.cat(values, dim=1).amin(dim=1).numpy()


def draw(models: dict[str, BaseAlgorithm], n_rollouts: int = 100) -> Figure:
    """
    One column for each model.

    :param models: Trained models by name
    :param n_rollouts: Number of paths
    :return: The figure
    """
    figure = Figure(figsize=(3 * len(models), 12), layout="constrained")
    panels = figure.subplots(1 + len(STATES), len(models))
    plane = np.stack(np.meshgrid(*[np.linspace(-7, 7, 100)] * 2), axis=-1)  # (100, 100, 2)
    cost = ((plane[:, :, None] - MultiGoalEnv.goals) ** 2).sum(axis=-1).min(axis=-1)  # (100, 100)
    box = np.stack(np.meshgrid(*[np.linspace(-1, 1, 50)] * 2), axis=-1)  # (50, 50, 2)
    for column, (name, model) in zip(panels.T, models.items(), strict=True):
        paths, shares = rollouts(model, n_rollouts)
        column[0].contour(plane[..., 0], plane[..., 1], cost, 20, colors="lightgray", linewidths=0.8)
        column[0].plot(*MultiGoalEnv.goals.T, "ro", markersize=10)
        for path in paths:
            column[0].plot(*path.T, "b-", linewidth=0.5, alpha=0.5)
        column[0].set(title=f"{name}\n{int((shares > 0.05).sum())} of 4 goals", xlim=(-7, 7), ylim=(-7, 7), aspect="equal")
        for panel, state in zip(column[1:], STATES, strict=True):
            panel.contour(box[..., 0], box[..., 1], q_values(model, state, box.reshape(-1, 2)).reshape(50, 50), 20)
            actions, _ = model.predict(np.repeat(np.array([state], np.float32), 100, axis=0))
            panel.plot(*actions.T, "b*", markersize=4)
            panel.set(title=f"actions in {state}", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
    return figure


if __name__ == "__main__":
    th.set_num_threads(1)
    models = make_models()
    for name, model in models.items():
        model.learn(N_STEPS)
        _, shares = rollouts(model, 400)
        print(
            f"{name}: share of 400 rollouts that end in each goal {shares.round(2)}, in none {1 - shares.sum():.2f}",
            flush=True,
        )
    draw(models).savefig("multi_goal.png", dpi=100)
