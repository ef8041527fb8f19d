"""The temperature of maximum-entropy reinforcement learning, which SB3 calls the entropy coefficient."""

import math

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule

from sb3_maxent.common.checks import SMALLEST, check_number
from sb3_maxent.common.discrete import choices_of
from sb3_maxent.common.schedules import make_schedule
from sb3_maxent.functional import ent_coef_loss

# Bounds of the logarithm of a learned coefficient. Without them, an unreachable target entropy would drive the coefficient
# until the Q-values overflow
LOG_BOUNDS = (-20.0, 10.0)
# The default target for discrete actions is the entropy of a policy with this share of random actions. SB3's DQN has the same
# share at the end of its exploration
RANDOM_SHARE = 0.05


class Temperature:
    """
    Entropy coefficient that is a number, follows a schedule, or is learned towards a target entropy.

    :param ent_coef: A number or a schedule, ``"auto"`` to learn it, or ``"auto_0.1"`` to learn it from 0.1 on
    :param device: Device
    :param initial: Initial value of ``"auto"``
    :param lowest: Smallest value of a coefficient that is not learned
    :raises ValueError: If ``ent_coef`` is none of these
    """

    def __init__(self, ent_coef: float | str | Schedule, device: th.device, initial: float = 1.0, lowest: float = 0.0):
        learned, self.schedule = parse_ent_coef(ent_coef, initial)
        self.lowest = lowest
        self.log_value: th.Tensor | None = None
        self.optimizer: th.optim.Adam | None = None
        self.fixed_value = th.tensor(self.schedule(1.0), device=device)  # ()
        if learned:
            # As in SB3, the logarithm is learned: see https://github.com/rail-berkeley/softlearning/issues/37
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
        :raises ValueError: If the coefficient is learned, or the value is not a finite number, or too small
        """
        if self.log_value is not None:
            raise ValueError(
                f"ent_coef_tensor={value!r}: the coefficient is learned. Change log_ent_coef.data, or give ent_coef a number"
            )
        number = float(value)
        check_number(number, "ent_coef_tensor", self.lowest)
        self.schedule = make_schedule(number, "ent_coef_tensor")
        self.fixed_value.fill_(number)

    def restart(self, progress_remaining: float) -> None:
        """
        Set the value of the number or schedule that was given, or the initial value of a learned coefficient, which forgets
        its gradients then.

        :param progress_remaining: Remaining progress of training, from 1 to 0
        :raises ValueError: If a function that was given returns no finite number, or one that is too small
        """
        value = self.schedule(progress_remaining)
        check_number(value, f"ent_coef({progress_remaining:g})", self.lowest)
        self.fixed_value.fill_(value)
        if self.log_value is not None and self.optimizer is not None:
            self.log_value.data.copy_(self.fixed_value.log())
            self.optimizer.state.clear()  # the gradients of another value

    def follow_schedule(self, progress_remaining: float) -> None:
        """
        Set the current value of a schedule. A number stays as it is, even if a user has changed its tensor.

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


def parse_ent_coef(ent_coef: float | str | Schedule, initial: float = 1.0) -> tuple[bool, FloatSchedule]:
    """
    Read an entropy coefficient.

    :param ent_coef: A number or a schedule, ``"auto"``, or ``"auto_x"`` with the initial value x
    :param initial: Initial value of ``"auto"``
    :return: Whether it is learned, and its schedule; for a learned one a constant schedule with the initial value
    :raises ValueError: If it is none of these, or if the initial value is outside the bounds of a learned coefficient
    """
    value, learned = ent_coef, False
    if isinstance(ent_coef, str) and ent_coef.startswith("auto"):
        value, learned = str(initial) if ent_coef == "auto" else ent_coef.removeprefix("auto_"), True
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
        raise ValueError(f"ent_coef={ent_coef!r}: a learned coefficient must be between {lowest:.2g} and {highest:.2g}")
    return learned, schedule


def default_target_entropy(action_space: spaces.Space) -> float:
    r"""
    Default target entropy.

    For ``Box`` actions it is minus the number of action components, as in SAC. The entropy of discrete actions is never
    negative. For them it is the entropy of a policy that takes one action in 95 % of the steps, and in 5 % a uniformly random
    one of the N (joint) actions:

    .. math:: \bar{H} = -(1 - p) \log (1 - p) - p \log \frac{p}{N - 1}, \quad p = 0.05 \, \frac{N - 1}{N}

    - The policy can reach it from below and from above: :math:`0 < \bar{H} < \log N`.
    - It does not drive the temperature up. The usual target :math:`0.98 \log N` does so if some actions end the episode. A
      higher temperature increases the entropy bonus for staying alive. So the policy still avoids these actions, and its
      entropy stays below the target. In the worst case all actions but one end the episode in every step. Then no temperature
      raises the entropy above :math:`0.22 \log N` for two actions, or above :math:`0.13 \log N` for eighteen (discount 0.99).
      The default target is below these bounds.
    - It depends only on the number of joint actions, not on their factors.

    For hybrid actions (``HybridBox``) it is the sum of both targets. The entropy of such a policy is that of its choices plus
    the mean entropy of its real numbers given the choices. The policy can reach both targets, so it can reach their sum.
    If actions that end an episode keep the entropy of the choices below its target, the real numbers can compensate: their
    entropy can be up to :math:`1 + \log 2` per component above their target.

    A paper about this problem: https://arxiv.org/abs/2112.02852

    :param action_space: Action space
    :return: Target entropy in nats
    """
    choices = choices_of(action_space)
    n_real = get_action_dim(action_space) - len(choices) if isinstance(action_space, spaces.Box) else 0
    # With thousands of factors the number of joint actions would overflow a float
    log_n = sum(math.log(n) for n in choices)
    share = -RANDOM_SHARE * math.expm1(-log_n)
    if share == 0.0:
        return 0.0 - n_real
    log_others = log_n + math.log1p(-math.exp(-log_n))
    return -(1 - share) * math.log1p(-share) - share * (math.log(share) - log_others) - n_real


def parse_target_entropy(target_entropy: float | str, action_space: spaces.Space) -> float:
    """
    Read a target entropy.

    :param target_entropy: A number of nats; ``"auto"`` for :func:`default_target_entropy`; or ``"auto_x"`` for x times the
        default
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
            "components (with discrete actions: the entropy of a policy with 5 % random actions), or 'auto_x' for x times that"
        )
    return nats
