"""Train DSPG on Pendulum for 10,000 steps (a few minutes on one core), save, load, evaluate."""

import torch as th
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_maxent import DSPG

if __name__ == "__main__":
    # Small networks are faster with one thread
    th.set_num_threads(1)
    model = DSPG("MlpPolicy", "Pendulum-v1", learning_rate=1e-3, norm_reward=False, seed=0, verbose=1)
    model.learn(1e4)
    model.save("dspg_pendulum")

    model = DSPG.load("dspg_pendulum", env=model.get_env())
    mean, std = evaluate_policy(model, model.get_env(), n_eval_episodes=20)
    # A random policy has about -1200, a good one about -150
    print(f"Return {mean:.0f} +- {std:.0f}")
