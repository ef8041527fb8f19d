"""The order of events that maximum-entropy algorithms share."""

import warnings
from collections import defaultdict
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import (
    DictReplayBufferSamples,
    GymEnv,
    PyTorchObs,
    ReplayBufferSamples,
    Schedule,
)
from stable_baselines3.common.utils import update_learning_rate

from sb3_maxent.common.arguments import (
    LOG_ENT_COEF_BOUNDS,
    check_count,
    check_flag,
    check_max_grad_norm,
    make_schedule,
    parse_ent_coef,
    parse_target_entropy,
)
from sb3_maxent.common.checked_algorithm import CheckedOffPolicyAlgorithm
from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.common.errors import check_finite
from sb3_maxent.common.layers import keep_freed_memory
from sb3_maxent.common.targets import TargetUpdate
from sb3_maxent.common.updates import Losses, UpdateNoise, check_disjoint, optimized, step
from sb3_maxent.functional import critic_loss, ent_coef_loss, td_target


class MaxEntAlgorithm(CheckedOffPolicyAlgorithm):
    """
    Off-policy maximum-entropy algorithm: a soft critic, an actor and an entropy coefficient.

    An algorithm adds three methods: the soft value of the next states, the loss of the actor, and the noise of both.
    The remaining arguments are those of SB3's ``OffPolicyAlgorithm``.

    :param ent_coef: Entropy coefficient (the temperature, the inverse of a reward scale): a number or a schedule, or
        ``"auto"`` to learn it, or ``"auto_0.1"`` to learn it from 0.1 on, between 2.1e-9 and 2.2e4
    :param target_entropy: Target entropy in nats when learning ``ent_coef``; ``"auto"`` is minus the action dimension
    :param target_update_interval: Number of updates between two updates of the target networks, counted over all calls of
        ``train`` (SB3's SAC counts within a call, so that with one gradient step its interval has no effect)
    :param qf_learning_rate: Learning rate of the critic, ``None`` for the one of the actor. A number, a schedule, or
        an RL Zoo string such as ``"lin_3e-4"``
    :param max_grad_norm: Largest norm of the actor's gradient over all its parameters, ``None`` not to clip
    :param compile: Whether to compile the update with ``torch.compile``: faster, after a start of up to half a minute
    """

    policy: Any
    # None where the policy is a function of the critic
    actor: Any
    critic: MultiActionCritic
    critic_target: MultiActionCritic

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule,
        *,
        ent_coef: str | float | Schedule,
        target_entropy: str | float,
        target_update_interval: int,
        qf_learning_rate: float | str | Schedule | None,
        max_grad_norm: float | None,
        compile: bool,
        **kwargs: Any,
    ):
        super().__init__(policy, env, learning_rate, support_multi_env=True, **kwargs)
        self.ent_coef = ent_coef
        self.target_entropy = target_entropy
        self.target_update_interval = target_update_interval
        self.qf_learning_rate = qf_learning_rate
        self.max_grad_norm = max_grad_norm
        self.compile = compile
        self.log_ent_coef: th.Tensor | None = None
        self.ent_coef_optimizer: th.optim.Adam | None = None

    # --- set-up --------------------------------------------------------------------------------------------------------

    def _setup_model(self) -> None:
        self._check_hyperparameters()
        super()._setup_model()
        self._create_aliases()
        self._setup_ent_coef()
        keep_freed_memory()
        if self.compile:
            # Here, because the compiler takes a second to import
            from sb3_maxent.common.compilation import CompiledMethod

            self.__dict__.pop("_losses", None)
            self._losses = CompiledMethod(self._losses, self._stay_eager)  # type: ignore[assignment, method-assign]

    def _check_hyperparameters(self) -> None:
        """
        Read the arguments and refuse those without a meaning, before any network exists and when a model is loaded.

        :raises ValueError: With the name, the value and what is allowed
        """
        super()._check_hyperparameters()
        check_count(self.target_update_interval, "target_update_interval")
        check_max_grad_norm(self.max_grad_norm)
        check_flag(self.compile, "compile")
        # None: whatever ``lr_schedule`` is when it is read
        learning_rate = self.qf_learning_rate
        self.qf_lr_schedule = None if learning_rate is None else make_schedule(learning_rate, "qf_learning_rate")
        self._learn_ent_coef, self.ent_coef_schedule = parse_ent_coef(self.ent_coef)
        self.target_entropy = parse_target_entropy(self.target_entropy, self.action_space)

    def _setup_ent_coef(self) -> None:
        initial = self.ent_coef_schedule(1.0)
        if self._learn_ent_coef:
            # The logarithm is learned, as in SB3: see https://github.com/rail-berkeley/softlearning/issues/37
            self.log_ent_coef = th.log(th.ones(1, device=self.device) * initial).requires_grad_(True)
            self.ent_coef_optimizer = th.optim.Adam([self.log_ent_coef], lr=self.lr_schedule(1), fused=True)
        else:
            self.ent_coef_tensor = th.tensor(initial, device=self.device)

    def _stay_eager(self, error: Exception) -> None:
        warnings.warn(f"compile=True has no effect, the update could not be compiled: {error}")
        self.__dict__.pop("_losses", None)

    def _create_aliases(self) -> None:
        self.actor = self.policy.actor
        self.critic = self.policy.critic
        self.critic_target = self.policy.critic_target
        self._target_updates = [TargetUpdate(self.critic, self.critic_target)]
        networks = [self.critic] if self.actor is None else [self.critic, self.actor]
        check_disjoint(*(optimized(network.optimizer) for network in networks), self.critic_target.parameters())

    # --- training ------------------------------------------------------------------------------------------------------

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """
        Sample the replay buffer and update critic, actor, entropy coefficient and targets.

        :param gradient_steps: Number of updates
        :param batch_size: Number of states per update
        :raises NonFiniteError: If a loss or gradient norm is NaN or infinite
        """
        self.policy.set_training_mode(True)
        self._update_learning_rates()
        if self.log_ent_coef is None:
            self.ent_coef_tensor.fill_(self.ent_coef_schedule(self._current_progress_remaining))
        metrics: dict[str, list[th.Tensor]] = defaultdict(list)
        for _ in range(gradient_steps):
            replay_data = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)  # type: ignore[union-attr]
            for name, value in self._update(replay_data, self._draw_noise(batch_size)).items():
                metrics[name].append(value)
            # Before the test: with one gradient step per call a count within the call never delays, see SB3 issue 2158
            self._n_updates += 1
            if self._n_updates % self.target_update_interval == 0:
                for update_target in self._target_updates:
                    update_target(self.tau)
        self._log(metrics, gradient_steps)

    def _update(self, replay_data: ReplayBufferSamples | DictReplayBufferSamples, noise: UpdateNoise) -> dict[str, th.Tensor]:
        """
        One update of critic, actor and entropy coefficient. Deterministic given its arguments, but for dropout layers.

        :param replay_data: Transitions
        :param noise: Everything random in the update
        :return: Metrics without gradient, not yet read back from the device
        """
        ent_coef = self._current_ent_coef()
        losses = self._losses(replay_data, noise, ent_coef)
        metrics = {"ent_coef": ent_coef.reshape(()), "critic_loss": losses.critic.detach(), "q_mean": losses.q_mean}
        metrics.update(self._update_networks(losses))
        if losses.log_prob is not None:
            metrics["log_prob"] = losses.log_prob.mean()
            metrics["entropy"] = -metrics["log_prob"]
            metrics.update(self._update_ent_coef(losses.log_prob))
        return metrics

    def _losses(
        self, replay_data: ReplayBufferSamples | DictReplayBufferSamples, noise: UpdateNoise, ent_coef: th.Tensor
    ) -> Losses:
        """
        The losses of critic and actor. This is what ``compile=True`` compiles: it moves no parameter.

        :param replay_data: Transitions
        :param noise: Everything random in the update
        :param ent_coef: Entropy coefficient
        :return: Losses, and what is logged
        """
        target = self._target(replay_data, noise.next_actions, ent_coef)  # (batch, 1)
        state_parts = self.critic.state_parts(replay_data.observations)  # (batch, 1, join) each
        q_values = self.critic.forward_state_parts(state_parts, replay_data.actions)  # (batch, 1) each
        # What the critic makes of the states for its own loss serves that of the actor
        state_parts = [part.detach() for part in state_parts]
        actor_loss, log_prob = self._actor_loss(replay_data.observations, state_parts, noise.actions, ent_coef)
        return Losses(critic_loss(q_values, target), q_values[0].detach().mean(), actor_loss, log_prob)  # eq. 16

    def _target(
        self, replay_data: ReplayBufferSamples | DictReplayBufferSamples, noise: Any, ent_coef: th.Tensor
    ) -> th.Tensor:
        discounts = self.gamma if replay_data.discounts is None else replay_data.discounts
        with th.no_grad():
            next_value = self._next_value(replay_data.next_observations, noise, ent_coef)  # (batch, 1)
            return td_target(replay_data.rewards, replay_data.dones, next_value, discounts)  # (batch, 1)

    def _q_values(self, state_parts: list[th.Tensor], actions: th.Tensor) -> th.Tensor:
        with th.no_grad():
            return self.critic.q_values_of_state_parts(state_parts, actions)  # (batch, samples)

    def _update_networks(self, losses: Losses) -> dict[str, th.Tensor]:
        self.critic.optimizer.zero_grad()
        if losses.actor is None:
            losses.critic.backward()
            return {"critic_grad_norm": step(self.critic.optimizer)}
        self.actor.optimizer.zero_grad()
        # At once: no optimizer has parameters of both
        (losses.critic + losses.actor).backward()
        return {
            "critic_grad_norm": step(self.critic.optimizer),
            "actor_loss": losses.actor.detach(),
            "actor_grad_norm": step(self.actor.optimizer, self.max_grad_norm),  # global norm, paper eq. 18
        }

    def _update_ent_coef(self, log_prob: th.Tensor) -> dict[str, th.Tensor]:
        if self.ent_coef_optimizer is None or self.log_ent_coef is None:
            return {}
        loss = ent_coef_loss(self.log_ent_coef, log_prob, float(self.target_entropy))
        self.ent_coef_optimizer.zero_grad()
        loss.backward()
        self.ent_coef_optimizer.step()
        with th.no_grad():
            self.log_ent_coef.clamp_(*LOG_ENT_COEF_BOUNDS)
        return {"ent_coef_loss": loss.detach()}

    def _next_value(self, next_observations: PyTorchObs, noise: Any, ent_coef: th.Tensor) -> th.Tensor:
        """
        Soft value of the next states.

        :param next_observations: Next observations, shape (batch, ...)
        :param noise: ``UpdateNoise.next_actions``
        :param ent_coef: Entropy coefficient
        :return: Soft value, shape (batch, 1)
        """
        raise NotImplementedError

    def _actor_loss(
        self, observations: PyTorchObs, state_parts: list[th.Tensor], noise: Any, ent_coef: th.Tensor
    ) -> tuple[th.Tensor | None, th.Tensor | None]:
        """
        Loss of the actor.

        :param observations: Observations, shape (batch, ...)
        :param state_parts: What the critic makes of them before an action joins, shape (batch, 1, join) each
        :param noise: ``UpdateNoise.actions``, shape (batch, samples, noise)
        :param ent_coef: Entropy coefficient
        :return: Loss, a scalar, ``None`` without an actor; and the log probabilities of the policy's actions without gradient,
            shape (batch, samples), or their means, shape (batch, 1), ``None`` for a policy without a density
        """
        raise NotImplementedError

    def _draw_noise(self, batch_size: int) -> UpdateNoise:
        """
        Draw everything random in one update.

        :param batch_size: Number of states
        :return: Noise
        """
        raise NotImplementedError

    def _current_ent_coef(self) -> th.Tensor:
        """
        The entropy coefficient without gradient.

        :return: A scalar or a tensor of shape (1,)
        """
        return self.ent_coef_tensor if self.log_ent_coef is None else self.log_ent_coef.detach().exp()

    def _update_learning_rates(self) -> None:
        optimizers = [] if self.actor is None else [self.actor.optimizer]
        if self.ent_coef_optimizer is not None:
            optimizers.append(self.ent_coef_optimizer)
        self._update_learning_rate(optimizers)
        qf_learning_rate = (self.qf_lr_schedule or self.lr_schedule)(self._current_progress_remaining)
        update_learning_rate(self.critic.optimizer, qf_learning_rate)
        self.logger.record("train/qf_learning_rate", qf_learning_rate)

    def _log(self, metrics: dict[str, list[th.Tensor]], gradient_steps: int) -> None:
        # One read-back per call: reading inside the loop would make a GPU wait for each update
        values = th.stack([th.stack(values).mean() for values in metrics.values()]).tolist()
        means = dict(zip(metrics, values, strict=True))
        check_finite(
            {f"train/{name}": value for name, value in means.items()},
            self.num_timesteps,
            "The networks may hold non-finite values now: go on from the last checkpoint, "
            "with a smaller learning rate or max_grad_norm, or normalised rewards",
        )
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, value in means.items():
            self.logger.record(f"train/{name}", value)
        if self._rollout_timesteps > 0:
            self.logger.record("train/updates_per_step", gradient_steps / self._rollout_timesteps)

    # --- acting and saving -------------------------------------------------------------------------------------------------

    def sample_actions(self, observation: np.ndarray | dict[str, np.ndarray], n_samples: int) -> np.ndarray:
        """
        Draw several actions per state from the policy, for instance to look at its modes.

        :param observation: One observation or a batch, as for ``predict``
        :param n_samples: Number of actions per state
        :return: Actions in the units of the environment, shape (samples, *action shape), or (batch, samples, *action shape)
        :raises ValueError: If ``n_samples`` is not a positive integer
        """
        check_count(n_samples, "n_samples")
        self.policy.set_training_mode(False)
        obs, vectorized = self.policy.obs_to_tensor(observation)
        with th.no_grad():
            actions = self.policy.sample_actions(obs, n_samples).cpu().numpy()  # (batch, samples, action)
        actions = actions.reshape(*actions.shape[:2], *self.action_space.shape)  # type: ignore[misc]
        if isinstance(self.action_space, spaces.Box):
            actions = self.policy.unscale_action(actions)
        return actions if vectorized else actions[0]

    def _excluded_save_params(self) -> list[str]:
        return [
            *super()._excluded_save_params(),
            "actor",
            "critic",
            "critic_target",
            "_target_updates",
            "qf_lr_schedule",
            "ent_coef_schedule",
            "_losses",
        ]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts = ["policy", "critic.optimizer", *([] if self.actor is None else ["actor.optimizer"])]
        if self.ent_coef_optimizer is None:
            return state_dicts, ["ent_coef_tensor"]
        return [*state_dicts, "ent_coef_optimizer"], ["log_ent_coef"]
