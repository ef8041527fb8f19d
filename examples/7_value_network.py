"""
Does averaging over many actions replace a value network? SAC's first version beside DSPG.

    python examples/7_value_network.py --env InvertedDoublePendulum-v4 --updates 1 4 16 --steps 8000 --seeds 1 2 > value.csv

``ValueNetworkSAC`` learns V(s) besides Q(s, a), as in equations 7 to 10 of https://arxiv.org/abs/1801.01290v1: V follows the
soft value of one sampled action, and Q follows r + gamma V(s') with a slowly moving copy of V. DSPG has no V: its target is
the mean over sampled actions of s'. All else is the same here, the score-function loss of the actor too.

A row for each evaluation: mean return of five episodes, and seconds of the processor in which the algorithm learned.
"""

import argparse
import time
from itertools import product
from typing import Any

import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import create_mlp
from torch.nn import Sequential

from sb3_maxent import DSPG
from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.common.types import ActionSamples, CriticOutput
from sb3_maxent.dspg.policies import DSPGPolicy
from sb3_maxent.functional import expectation, score_function_loss, soft_value

SHARED = dict(learning_starts=1000, n_action_samples=16, n_target_samples=None, policy_delay=1, ent_coef=0.2)
SHARED |= dict(compile=True, policy_kwargs=dict(net_arch=[128, 128], action_layer=-1, batch_norm=False))


class ValueCritic(MultiActionCritic):
    """Q-networks, and a value network V beside them. The target critic is a copy of all, of which only V is used."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.value_network = Sequential(*create_mlp(kwargs["features_dim"], 1, kwargs["net_arch"], kwargs["activation_fn"]))

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

    def _next_samples(self, next_observations: th.Tensor, noise: th.Tensor) -> ActionSamples:
        return ActionSamples(noise, noise)  # no action of the next state is asked for

    def _next_value(self, predictions: th.Tensor, samples: Any, ent_coef: th.Tensor) -> th.Tensor:
        return predictions  # V(s') of the target network, shape (batch, 1), eq. 10

    def _actor_loss(self, observations: Any, embedding: Any, noise: Any, ent_coef: Any) -> tuple[th.Tensor, th.Tensor]:
        actions, log_prob, weights = self.actor.action_samples(observations, noise)
        some = slice(1) if weights is None else slice(None)  # all where the expectation is an exact sum
        with th.no_grad():
            q_values = self.critic.q_values(embedding, actions)  # (batch, samples)
            target = soft_value(q_values[:, some], log_prob[:, some], ent_coef, weights)  # (batch, 1), eq. 8
        value_loss = 0.5 * (self.critic.state_value(observations) - target).square().mean()  # (), eq. 7
        actor_loss = score_function_loss(log_prob, q_values, ent_coef, self.baseline, weights)  # ()
        # One backward pass computes the gradients of all networks: the two losses have no parameter in common
        return actor_loss + value_loss, expectation(log_prob.detach(), weights)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--env", default="HalfCheetah-v4")
    parser.add_argument("--steps", type=int, default=10_000)
    for name in ("--updates", "--seeds"):
        parser.add_argument(name, type=int, nargs="+", default=[1])
    arguments = parser.parse_args()
    th.set_num_threads(1)
    print("algorithm,env,updates,seed,steps,return,seconds")
    for seed, updates in product(arguments.seeds, arguments.updates):
        for algorithm, policy in ((DSPG, DSPGPolicy), (ValueNetworkSAC, ValueNetworkPolicy)):
            model = algorithm(policy, arguments.env, gradient_steps=updates, seed=seed, **SHARED)
            evaluation, seconds = make_vec_env(arguments.env, seed=seed + 1000), 0.0
            for _ in range(5):
                seconds -= time.process_time()
                model.learn(arguments.steps // 5, reset_num_timesteps=False)
                seconds += time.process_time()
                mean, name = round(evaluate_policy(model, evaluation, 5)[0], 1), algorithm.__name__
                print(name, arguments.env, updates, seed, model.num_timesteps, mean, round(seconds), sep=",", flush=True)


if __name__ == "__main__":
    main()
