"""
An actor that follows the mean of the critics instead of the smallest one. The target keeps the smallest one.

    python -m rl_zoo3.train --algo dspg --env Ant-v4 --seed 1 -n 100000 --hyperparams policy:"'benchmarks.mean_of_critics.MeanPolicy'"

Paper: https://arxiv.org/abs/2101.05982
"""

import torch as th

from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.dspg.policies import DSPGPolicy


class MeanCritic(MultiActionCritic):
    """Critic whose Q-values for the actor are means of the networks"""

    def q_values(self, embedding: list[th.Tensor], actions: th.Tensor) -> th.Tensor:
        return self._predictions_in_evaluation_mode(embedding, actions).mean(dim=0)  # (batch, samples)


class MeanPolicy(DSPGPolicy):
    """Policy with such a critic"""

    critic_class = MeanCritic
