r"""
A critic that learns a histogram of the value, not its mean: "HL-Gauss".

    python -m rl_zoo3.train --algo dspg --env HalfCheetah-v4 --seed 1 -n 50000 --hyperparams \
        policy:"'benchmarks.histogram.HistogramPolicy'"

Paper: https://arxiv.org/abs/2403.03950
"""

from typing import Any

import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.common.q_network import QNetwork
from sb3_maxent.dspg.policies import DSPGPolicy

N_BINS = 101
# In the unit of scaled rewards, as in XQC and FlashSAC
LIMIT = 5.0
# Deviation of the Gaussian of a target, in bins
SMOOTHING = 0.75


class HistogramNetwork(QNetwork):
    """Q-network with one logit per bin"""

    def __init__(self, features_dim: int, action_dim: int, net_arch: list[int], *args: Any, **kwargs: Any):
        super().__init__(features_dim, action_dim, net_arch, *args, **kwargs)
        self.head[-1] = nn.Linear(net_arch[-1], N_BINS)


class HistogramCritic(MultiActionCritic):
    """Critic whose loss is the cross-entropy between its histogram and a Gaussian around the target"""

    network_class = HistogramNetwork
    edges: th.Tensor
    centers: th.Tensor

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        edges = th.linspace(-LIMIT, LIMIT, N_BINS + 1)
        self.register_buffer("edges", edges)
        self.register_buffer("centers", (edges[1:] + edges[:-1]) / 2)

    def value(self, predictions: th.Tensor) -> th.Tensor:
        return (F.softmax(predictions, dim=3) * self.centers).sum(dim=3).amin(dim=0)  # (batch, samples)

    def loss(self, predictions: th.Tensor, target: th.Tensor) -> th.Tensor:
        width = 2 * LIMIT / N_BINS
        target = target.clamp(-LIMIT + width, LIMIT - width)
        cumulative = th.erf((self.edges - target) / (2**0.5 * SMOOTHING * width))  # (batch, bins + 1)
        wanted = (cumulative[:, 1:] - cumulative[:, :-1]) / (cumulative[:, -1:] - cumulative[:, :1])  # (batch, bins)
        log_probs = F.log_softmax(predictions.squeeze(2), dim=2)  # (networks, batch, bins)
        return -(wanted * log_probs).sum(dim=2).mean(dim=1).sum()


class HistogramPolicy(DSPGPolicy):
    """Policy with such a critic"""

    critic_class = HistogramCritic
