"""The temperature of maximum-entropy reinforcement learning, which SB3 calls the entropy coefficient."""

import math

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule

from sb3_maxent.common.checks import SMALLEST
from sb3_maxent.common.discrete import choices_of
from sb3_maxent.common.schedules import make_schedule
from sb3_maxent.functional import ent_coef_loss

# Bounds of the logarithm of a learned coefficient. A target entropy out of reach would drive it on until the Q-values overflow
LOG_BOUNDS = (-20.0, 10.0)
# The default target of discrete actions is the entropy of a policy with this share of random actions, with which DQN ends
RANDOM_SHARE = 0.05


class Temperature:
    """
    Entropy coefficient that is a number, follows a schedule, or is learned towards a target entropy.

    :param ent_coef: A number or a schedule, ``"auto"`` to learn it, or ``"auto_0.1"`` to learn it from 0.1 on
    :param device: Device
    :raises ValueError: If ``ent_coef`` is none of these
    """

    def __init__(self, ent_coef: float | str | Schedule, device: th.device):
        learned, self.schedule = parse_ent_coef(ent_coef)
        self.log_value: th.Tensor | None = None
        self.optimizer: th.optim.Adam | None = None
        self.fixed_value = th.tensor(self.schedule(1.0), device=device)  # ()
        if learned:
            # The logarithm is learned, as in SB3: see https://github.com/rail-berkeley/softlearning/issues/37
            self.log_value = self.fixed_value.log().reshape(1).requires_grad_(True)  # (1,)
            self.optimizer = th.optim.Adam([self.log_value], fused=True)

    @property
    def value(self) -> th.Tensor:
        """The coefficient without gradient, shape () or, if it is learned, (1,)"""
        return self.fixed_value if self.log_value is None else self.log_value.detach().exp()

    def assign(self, value: th.Tensor | float) -> None:
        """
        Fix the coefficient at another value from now on.

        :param value: The value, a scalar
        :raises ValueError: If the coefficient is learned, or the value is not a finite number >= 0
        """
        if self.log_value is not None:
            raise ValueError(f"ent_coef_tensor={value!r}: the coefficient is learned, its logarithm is log_ent_coef")
        self.schedule = make_schedule(float(value), "ent_coef_tensor")
        self.fixed_value.fill_(float(value))

    def restart(self, progress_remaining: float) -> None:
        """
        Set the value of the number or schedule that was given, or the initial value of a learned coefficient.

        :param progress_remaining: Remaining progress of training, from 1 to 0
        """
        self.fixed_value.fill_(self.schedule(progress_remaining))
        if self.log_value is not None:
            self.log_value.data.copy_(self.fixed_value.log())

    def follow_schedule(self, progress_remaining: float) -> None:
        """
        Set the value of a schedule. A number stays as it is, also where a user has changed its tensor.

        :param progress_remaining: Remaining progress of training, from 1 to 0
        """
        if not isinstance(self.schedule.value_schedule, ConstantSchedule):
            self.restart(progress_remaining)

    def learn(self, log_prob: th.Tensor, target_entropy: float) -> dict[str, th.Tensor]:
        """
        Take one gradient step towards the target entropy, if the coefficient is learned.

        :param log_prob: Log probabilities of the policy's actions, or their means, without gradient, shape (batch, samples)
        :param target_entropy: Target entropy in nats
        :return: The loss, by the name that is logged
        """
        if self.log_value is None or self.optimizer is None:
            return {}
        with th.no_grad():
            # The loss is linear in the logarithm: its gradient is its value at one
            gradient = ent_coef_loss(th.ones_like(self.log_value), log_prob, target_entropy)  # ()
            loss = (self.log_value * gradient).sum()  # ()
            self.log_value.grad = gradient.reshape(1)
            self.optimizer.step()
            self.log_value.clamp_(*LOG_BOUNDS)
        return {"ent_coef_loss": loss}


def parse_ent_coef(ent_coef: float | str | Schedule) -> tuple[bool, FloatSchedule]:
    """
    Read an entropy coefficient.

    :param ent_coef: A number or a schedule, ``"auto"``, or ``"auto_x"`` with the initial value x
    :return: Whether it is learned, and its schedule, or a constant one of its initial value
    :raises ValueError: If it is none of these, or if the initial value is not one that it may learn
    """
    value, learned = ent_coef, False
    if isinstance(ent_coef, str) and ent_coef.startswith("auto"):
        value, learned = "1" if ent_coef == "auto" else ent_coef.removeprefix("auto_"), True
    try:
        schedule = make_schedule(value, "ent_coef")
    except ValueError:
        schedule = None
    # A learned coefficient cannot follow a schedule
    is_scheduled = str(value).startswith(("lin_", "log_"))
    if schedule is None or (learned and (schedule(1.0) < SMALLEST or is_scheduled)):
        raise ValueError(
            f"ent_coef={ent_coef!r}: give a number >= 0, a schedule, 'auto', or 'auto_x' with an initial value x > 0"
        )
    lowest, highest = (math.exp(bound) for bound in LOG_BOUNDS)
    if learned and not lowest <= schedule(1.0) <= highest:
        raise ValueError(f"ent_coef={ent_coef!r}: a learned one stays between {lowest:.2g} and {highest:.2g}")
    return learned, schedule


def default_target_entropy(action_space: spaces.Space) -> float:
    r"""
    Default target entropy.

    For ``Box`` minus the number of action components, as in SAC. For discrete actions, whose entropy is never negative, that
    of a policy that takes one action, but in 5 % of the steps any of the N (joint) actions:

    .. math:: \bar{H} = -(1 - p) \log (1 - p) - p \log \frac{p}{N - 1}, \quad p = 0.05 \, \frac{N - 1}{N}

    - It can be reached from below and above: :math:`0 < \bar{H} < \log N`.
    - It does not drive the temperature up. The usual :math:`0.98 \log N` does so where some actions end an episode: with the
      temperature grows the entropy that is to be had by staying alive, so that the policy avoids these actions all the same
      and stays below its target. In the worst case, where in each step all actions but one end the episode, no temperature at
      all brings the entropy above :math:`0.22 \log N` for two actions and :math:`0.13 \log N` for eighteen (discount 0.99).
      The default lies below these bounds.
    - It depends on the number of joint actions alone, not on how they are written as factors.

    For choices and real numbers together (``HybridBox``) it is the sum of both. The entropy of such a policy is that of its
    choices plus the mean one of its real numbers given the choices. Each part can reach its own target, so the sum can be
    reached. Where actions that end an episode keep the choices below their part, the real numbers can make up for it: their
    entropy may be as much as :math:`1 + \log 2` per component above their part.

    About the trap: https://arxiv.org/abs/2112.02852

    :param action_space: Action space
    :return: Target entropy in nats
    """
    choices = choices_of(action_space)
    n_real = get_action_dim(action_space) - len(choices) if isinstance(action_space, spaces.Box) else 0
    # Of thousands of factors the number of joint actions is too large for a float
    log_n = sum(math.log(n) for n in choices)
    share = -RANDOM_SHARE * math.expm1(-log_n)
    if share == 0.0:
        return 0.0 - n_real
    log_others = log_n + math.log1p(-math.exp(-log_n))
    return -(1 - share) * math.log1p(-share) - share * (math.log(share) - log_others) - n_real


def parse_target_entropy(target_entropy: float | str, action_space: spaces.Space) -> float:
    """
    Read a target entropy.

    :param target_entropy: A number of nats, or ``"auto"`` for :func:`default_target_entropy`, ``"auto_x"`` for x times that
    :param action_space: Action space
    :return: Target entropy in nats
    :raises ValueError: If it is neither, or not finite
    """
    number, scale = target_entropy, 1.0
    if isinstance(number, str) and (number == "auto" or number.startswith("auto_")):
        number, scale = "1" if number == "auto" else number.removeprefix("auto_"), default_target_entropy(action_space)
    try:
        nats = scale * float(number)
    except (OverflowError, TypeError, ValueError):
        nats = float("nan")
    if not math.isfinite(nats):
        raise ValueError(
            f"target_entropy={target_entropy!r}: give a finite number of nats, or 'auto' for minus the number of action "
            "components (for discrete actions the entropy of a policy with 5 % random ones), 'auto_x' for x times that"
        )
    return nats
