"""
Does averaging over many actions replace a value network? SAC's first version beside DSPG.

    python examples/7_value_network.py --updates 1 4 16 --seeds 1 2 > value_network.csv

``ValueNetworkSAC`` learns V(s) besides Q(s, a), as equations 7 to 10 of https://arxiv.org/abs/1801.01290v1 do (5 to 9 in later
versions): V follows the soft value of one sampled action, and Q follows r + gamma V(s') with a slowly moving copy of V. DSPG has
no V: its target is the mean over sampled actions of s'. All else is the same here, the score-function loss of the actor too.

A row for each evaluation: mean return of five episodes, and seconds since the start.
"""

import argparse
import time
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import create_mlp
from torch import nn
from torch.nn import functional as F

from sb3_maxent import DSPG
from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.common.types import ActionSamples, CriticOutput
from sb3_maxent.dspg.policies import DSPGPolicy
from sb3_maxent.functional import score_function_loss, soft_value


SHARED: dict[str, Any] = {"learning_starts": 1000, "batch_size": 128, "n_action_samples": 16, "ent_coef": 0.2, "compile": True}
SHARED |= {"policy_kwargs": {"net_arch": [128, 128]}, "device": "cpu"}


class ValueCritic(MultiActionCritic):
    """Q-networks, and a value network V beside them. The target critic is a copy of all, of which only V is used."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.value_network = nn.Sequential(*create_mlp(kwargs["features_dim"], 1, kwargs["net_arch"], kwargs["activation_fn"]))

    def state_value(self, obs: th.Tensor) -> th.Tensor:
        return self.value_network(self.extract_features(obs, self.features_extractor))  # (batch, 1)

    def evaluate(self, target: Any, obs: Any, actions: Any, next_obs: Any, next_actions: Any) -> CriticOutput:
        embedding = self.embed(obs)
        predictions = self.predictions(embedding, self.one_sample(actions))  # (networks, batch, 1)
        with th.no_grad():
            next_value = target.state_value(next_obs)  # (batch, 1)
        return CriticOutput(predictions, [part.detach() for part in embedding], next_value)


class ValueNetworkPolicy(DSPGPolicy):
    critic_class = ValueCritic


class ValueNetworkSAC(DSPG):
    """SAC with a value network, and DSPG's gradient of the actor. Its critic learns in every update: no ``policy_delay``."""

    # The first of all discrete actions, of which DSPG takes the exact sum, would be no sample
    supported_action_spaces: ClassVar = (spaces.Box,)

    def _next_samples(self, next_observations: th.Tensor, noise: th.Tensor) -> ActionSamples:
        return ActionSamples(noise, noise)  # no action of the next state is asked for

    def _next_value(self, predictions: th.Tensor, samples: ActionSamples, ent_coef: th.Tensor) -> th.Tensor:
        return predictions  # V(s') of the target network, shape (batch, 1), eq. 10

    def _actor_loss(self, observations: Any, embedding: Any, noise: Any, ent_coef: Any) -> tuple[th.Tensor, th.Tensor]:
        actions, log_prob, _ = self.actor.action_samples(observations, noise)
        with th.no_grad():
            q_values = self.critic.q_values(embedding, actions)  # (batch, samples)
            target = soft_value(q_values[:, :1], log_prob[:, :1], ent_coef)  # (batch, 1), of one action, eq. 8
        value_loss = 0.5 * F.mse_loss(self.critic.state_value(observations), target)  # (), eq. 7
        actor_loss = score_function_loss(log_prob, q_values, ent_coef, self.baseline)  # ()
        # One backward pass computes the gradients of all networks: the two losses have no parameter in common
        return actor_loss + value_loss, log_prob.detach().mean(dim=1, keepdim=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="HalfCheetah-v4")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--updates", type=int, nargs="+", default=[1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    arguments = parser.parse_args()
    th.set_num_threads(1)
    print("algorithm,env,updates,seed,steps,return,seconds")
    for seed, updates in ((seed, updates) for seed in arguments.seeds for updates in arguments.updates):
        for algorithm, policy in ((DSPG, DSPGPolicy), (ValueNetworkSAC, ValueNetworkPolicy)):
            model = algorithm(policy, arguments.env, seed=seed, gradient_steps=updates, **SHARED)
            evaluation, start = make_vec_env(arguments.env, seed=seed + 1000), time.perf_counter()
            for _ in range(5):
                model.learn(arguments.steps // 5, reset_num_timesteps=False)
                mean, _ = evaluate_policy(model, evaluation, 5)
                row = (algorithm.__name__, arguments.env, updates, seed, model.num_timesteps, round(mean, 1))
                print(*row, round(time.perf_counter() - start), sep=",", flush=True)


if __name__ == "__main__":
    main()
