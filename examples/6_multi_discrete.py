"""
Several discrete actions at a time: DSPG docks a ship that has thrusters on each axis, and is compared with the optimum.

    python examples/6_multi_discrete.py --axes 2
    python examples/6_multi_discrete.py --axes 2 --actions MultiBinary
    python examples/6_multi_discrete.py --axes 6

Two axes have 9 joint actions, over which the expectation in target and actor loss is summed. Six have 729, which are sampled.
Their networks have one input or output for each choice of each axis, 18 in all, not one for each joint action.
"""

import argparse

import numpy as np
import torch as th
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.utils import LinearSchedule

from sb3_maxent import DSPG
from sb3_maxent.envs import DockingEnv
from sb3_maxent.envs.docking import ACTIONS


def make_model(env: DockingEnv, n_steps: int, seed: int = 0) -> DSPG:
    """
    The settings of ``hyperparams/dspg.yml``.

    :param env: The task
    :param n_steps: Number of steps that it will be trained for
    :param seed: Seed
    :return: A model to train
    """
    return DSPG(
        "MlpPolicy",
        TimeLimit(env, 50),
        learning_rate=LinearSchedule(1e-3, 0.0, 1.0),
        learning_starts=min(1000, n_steps // 2),
        batch_size=128,
        tau=0.01,
        train_freq=8,
        gradient_steps=8,
        policy_delay=1,
        target_entropy="auto",
        n_action_samples=64,
        n_target_samples=64,
        norm_reward=False,
        compile=False,
        policy_kwargs={
            "net_arch": [128, 128],
            "n_critics": 1,
            "action_layer": -1,
            "batch_norm": False,
            "actor_averaging": None,
        },
        seed=seed,
        device="cpu",
    )


def returns(model: DSPG, env: DockingEnv, n_episodes: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """
    Act deterministically.

    :param model: Model
    :param env: The task
    :param n_episodes: Number of episodes
    :return: Return of each episode, and the largest one from its start, shape (episodes,) each
    """
    limited, totals, best = TimeLimit(env, 50), [], []
    for seed in range(n_episodes):
        observation, _ = limited.reset(seed=seed)
        best.append(env.best_return())
        totals.append(0.0)
        done = False
        while not done:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = limited.step(action)
            totals[-1] += float(reward)
            done = terminated or truncated
    return np.array(totals), np.array(best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", type=int, default=2)
    parser.add_argument("--actions", choices=ACTIONS, default=ACTIONS[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    th.set_num_threads(1)
    env = DockingEnv(arguments.actions, arguments.axes)
    model = make_model(env, arguments.steps, arguments.seed).learn(arguments.steps)
    totals, best = returns(model, DockingEnv(arguments.actions, arguments.axes))
    optimal = np.isclose(totals, best).mean()
    print(f"Return {totals.mean():.2f}, the best one {best.mean():.2f}; {optimal:.0%} of 200 episodes are optimal")


if __name__ == "__main__":
    main()
