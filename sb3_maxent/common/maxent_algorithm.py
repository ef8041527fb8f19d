"""The order of events that maximum-entropy algorithms share."""

from collections import defaultdict
from itertools import chain, islice
from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, RolloutReturn, Schedule
from stable_baselines3.common.utils import update_learning_rate
from torch import nn

from sb3_maxent.common.checks import check_count, check_flag, check_max_grad_norm, check_precision
from sb3_maxent.common.compilation import CompiledMethod, function_for_run
from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.common.errors import check_finite
from sb3_maxent.common.layers import keep_freed_memory
from sb3_maxent.common.schedules import make_schedule
from sb3_maxent.common.tempered_algorithm import TemperedAlgorithm
from sb3_maxent.common.types import ActionSamples, Losses, ReplayData, UpdateNoise
from sb3_maxent.common.updates import Gradients, ParameterLists, TargetUpdate, clipped_gradients, gradient_step, trainable
from sb3_maxent.functional import td_target


class MaxEntAlgorithm(TemperedAlgorithm):
    """
    Off-policy maximum-entropy algorithm: a soft critic, an actor and an entropy coefficient.

    An algorithm adds four methods: the actions in the next states (``_next_samples``), their soft value (``_next_value``), the
    loss of the actor (``_actor_loss``), and the noise that both need (``_draw_noise``). The remaining arguments are those of
    :class:`~sb3_maxent.common.tempered_algorithm.TemperedAlgorithm` and of SB3's ``OffPolicyAlgorithm``.

    :param target_update_interval: Number of updates between two updates of the target networks, counted over all calls of
        ``train``. (SB3's SAC counts within one call, so its interval has no effect with one gradient step per call)
    :param qf_learning_rate: Learning rate of the critic, ``None`` for the one of the actor. A number, a schedule, or
        an RL Zoo string such as ``"lin_3e-4"``
    :param max_grad_norm: Largest norm of the actor's gradient over all its parameters, ``None`` not to clip
    :param policy_delay: Number of updates of the critic for each update of the actor and of a learned entropy coefficient
    :param compile: Whether to compile the update with ``torch.compile``; ``"auto"`` for long runs on a CPU with a C++ compiler
    """

    policy: Any
    actor: Any
    critic: MultiActionCritic
    critic_target: MultiActionCritic

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str,
        learning_rate: float | str | Schedule,
        *,
        target_update_interval: int,
        qf_learning_rate: float | str | Schedule | None,
        max_grad_norm: float | None,
        policy_delay: int,
        compile: bool | str,
        **kwargs: Any,
    ):
        super().__init__(policy, env, learning_rate, support_multi_env=True, **kwargs)
        self.target_update_interval = target_update_interval
        self.qf_learning_rate = qf_learning_rate
        self.max_grad_norm = max_grad_norm
        self.policy_delay = policy_delay
        self.compile = compile
        # Environment steps of the last rollout, over all environments
        self._rollout_timesteps = 0

    def _setup_model(self) -> None:
        self._check_hyperparameters()
        # None: whatever ``lr_schedule`` is when it is read
        rate = self.qf_learning_rate
        self.qf_lr_schedule = None if rate is None else make_schedule(rate, "qf_learning_rate")
        super()._setup_model()
        if self.batch_size < 2 and self.policy.batch_norm:
            raise ValueError(f"batch_size={self.batch_size}: batch normalisation needs two states, or batch_norm=False")
        self._create_aliases()
        check_precision(self.policy.evaluation_precision, self.device)
        keep_freed_memory()
        method = self._gradients
        self._loss_function = CompiledMethod(method, self.policy) if self.compile == 1 else method

    def _check_hyperparameters(self) -> None:
        """
        Refuse arguments without a meaning, before any network exists and when a model is loaded.

        :raises ValueError: With the name, the value and what is allowed
        """
        super()._check_hyperparameters()
        for name in ("target_update_interval", "policy_delay"):
            check_count(getattr(self, name), name)
        check_max_grad_norm(self.max_grad_norm)
        if self.compile != "auto":
            check_flag(self.compile, "compile", "True, False or 'auto'")

    def _create_aliases(self) -> None:
        self.actor = self.policy.actor
        self.critic, self.critic_target = self.policy.critic, self.policy.critic_target

    def _target_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Networks, and the target networks that follow them"""
        return [] if self.critic_target is self.critic else [(self.critic, self.critic_target)]

    # --- training ------------------------------------------------------------------------------------------------------

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        setup = super()._setup_learn(*args, **kwargs)
        before, run = self._loss_function, (self.compile, self._total_timesteps)
        self._loss_function, decision = function_for_run(self._gradients, before, self.policy, *run)
        if decision and (self.num_timesteps == 0 or self._loss_function is not before):
            self.logger.info(decision)
        return setup

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        self._tell_policy()  # the size of a noise set at this step, which a loaded model knows too
        rollout = super().collect_rollouts(*args, **kwargs)
        self._rollout_timesteps = rollout.episode_timesteps  # for the log
        return rollout

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """
        Sample the replay buffer and update critic, actor, entropy coefficient and targets.

        :param gradient_steps: Number of updates
        :param batch_size: Number of states per update
        :raises NonFiniteError: If a loss or gradient norm is NaN or infinite
        """
        if gradient_steps < 1:
            return
        self.policy.set_training_mode(True)
        n_before = self._n_updates // self.policy_delay  # updates of the actor
        self._update_learning_rates()
        self.temperature.follow_schedule(self._current_progress_remaining)
        target_updates = [TargetUpdate(*pair) for pair in self._target_pairs()]
        metrics: dict[str, list[th.Tensor]] = defaultdict(list)
        for _ in range(gradient_steps):
            # Before the tests: with one gradient step per call a count within the call never delays, see SB3 issue 2158
            self._n_updates += 1
            update_actor = self._n_updates % self.policy_delay == 0
            replay_data = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)  # type: ignore[union-attr]
            noise = self._draw_noise(batch_size, update_actor)
            for name, value in self._update(self._scaled(replay_data), noise, update_actor).items():
                metrics[name].append(value)
            if self._n_updates % self.target_update_interval == 0:
                for update_target in target_updates:
                    update_target(self.tau)
        self._tell_policy()
        self._log(metrics, gradient_steps)
        self.policy.average_actor(n_before, self._n_updates // self.policy_delay)

    def _update(self, replay_data: ReplayData, noise: UpdateNoise, update_actor: bool = True) -> dict[str, th.Tensor]:
        """
        One update of critic, actor and entropy coefficient. Deterministic given its arguments, but for dropout layers.

        :param replay_data: Transitions, with scaled rewards
        :param noise: Everything random in the update
        :param update_actor: Whether to update the actor and the entropy coefficient too
        :return: Metrics without gradient, not yet read back from the device
        """
        ent_coef = self.temperature.value
        networks = [self.critic, self.actor] if update_actor and self.actor.optimizer is not None else [self.critic]
        parameters = [trainable(network.optimizer) for network in networks]
        losses, gradients, norms = self._loss_function(replay_data, noise, ent_coef, update_actor, parameters)
        for network, gradient in zip(networks, gradients, strict=True):
            gradient_step(network.optimizer, gradient)
        self.critic.after_step()
        metrics = {"ent_coef": ent_coef.reshape(()), "critic_loss": losses.critic, "q_mean": losses.q_mean}
        metrics.update(zip(("critic_grad_norm", "actor_grad_norm"), norms, strict=False))
        if losses.actor is not None:
            metrics["actor_loss"] = losses.actor
        if losses.log_prob is not None:
            metrics["log_prob"] = losses.log_prob.mean()
            metrics["entropy"] = -metrics["log_prob"]
            metrics.update(self.temperature.learn(losses.log_prob, float(self.target_entropy)))
        return metrics

    def _gradients(
        self, replay_data: ReplayData, noise: UpdateNoise, ent_coef: th.Tensor, update_actor: bool, networks: ParameterLists
    ) -> tuple[Losses, list[Gradients], list[th.Tensor]]:
        """
        The losses (:meth:`_losses`) and their gradients. This is what ``compile=True`` compiles: it moves no parameter.

        :param networks: Parameters of the critic's optimizer and, to update the actor, of the actor's, but for frozen ones
        :return: Losses without gradient; the gradient of each parameter, the actor's clipped (paper eq. 18); norms before that
        """
        losses = self._losses(replay_data, noise, ent_coef, update_actor)
        # In one pass: no optimizer has parameters of both
        loss = losses.critic if losses.actor is None else losses.critic + losses.actor
        gradients, norms = clipped_gradients(loss, networks, (None, self.max_grad_norm))
        return Losses(*[None if each is None else each.detach() for each in losses]), gradients, norms  # type: ignore[arg-type]

    def _losses(self, replay_data: ReplayData, noise: UpdateNoise, ent_coef: th.Tensor, update_actor: bool = True) -> Losses:
        """
        The losses of critic and actor.

        :param replay_data: Transitions
        :param noise: Everything random in the update
        :param ent_coef: Entropy coefficient
        :param update_actor: Whether to compute the loss of the actor
        :return: Losses, and what is logged
        """
        obs, next_obs = replay_data.observations, replay_data.next_observations
        discounts = self.gamma if replay_data.discounts is None else replay_data.discounts
        with th.no_grad():
            next_samples = self._next_samples(next_obs, noise.next_actions)
        output = self.critic.evaluate(self.critic_target, obs, replay_data.actions, next_obs, next_samples.actions)
        with th.no_grad():
            next_value = self._next_value(output.next_predictions, next_samples, ent_coef)  # (batch, 1)
            target = td_target(replay_data.rewards, replay_data.dones, next_value, discounts)  # (batch, 1)
        loss = self.critic.loss(output.predictions, target)
        actor_loss, log_prob = None, None
        if update_actor:
            # Reuse the critic's embedding of the states for the actor loss
            actor_loss, log_prob = self._actor_loss(obs, output.embedding, noise.actions, ent_coef)
        return Losses(loss, output.predictions[0].detach().mean(), actor_loss, log_prob)

    def _next_samples(self, next_observations: PyTorchObs, noise: Any) -> ActionSamples:
        """
        Actions in the next states, from which their soft value is estimated.

        :param next_observations: Next observations, shape (batch, ...)
        :param noise: ``UpdateNoise.next_actions``
        :return: Actions, and the log density that they were drawn from
        """
        raise NotImplementedError

    def _next_value(self, predictions: th.Tensor, samples: ActionSamples, ent_coef: th.Tensor) -> th.Tensor:
        """
        Soft value of the next states.

        :param predictions: Predictions of the target networks for the actions, shape (networks, batch, samples)
        :param samples: The actions
        :param ent_coef: Entropy coefficient
        :return: Soft value, shape (batch, 1)
        """
        raise NotImplementedError

    def _actor_loss(
        self, observations: PyTorchObs, embedding: list[th.Tensor], noise: Any, ent_coef: th.Tensor
    ) -> tuple[th.Tensor | None, th.Tensor | None]:
        """
        Loss of the actor.

        :param observations: Observations, shape (batch, ...)
        :param embedding: The critic's embedding of the states, without gradient
        :param noise: ``UpdateNoise.actions``, shape (batch, samples, noise)
        :param ent_coef: Entropy coefficient
        :return: Loss, a scalar, ``None`` for an actor without parameters; and the mean log probability of the policy's actions
            without gradient, shape (batch, 1), ``None`` for a policy without a density
        """
        raise NotImplementedError

    def _draw_noise(self, batch_size: int, update_actor: bool = True) -> UpdateNoise:
        """
        Draw everything random in one update.

        :param batch_size: Number of states
        :param update_actor: Whether there is a loss of the actor
        :return: Noise
        """
        raise NotImplementedError

    def _update_learning_rates(self) -> None:
        networks = (self.actor.optimizer, self.temperature.optimizer)
        self._update_learning_rate([optimizer for optimizer in networks if optimizer is not None])
        qf_learning_rate = (self.qf_lr_schedule or self.lr_schedule)(self._current_progress_remaining)
        update_learning_rate(self.critic.optimizer, qf_learning_rate)
        self.logger.record("train/qf_learning_rate", qf_learning_rate)

    def _log(self, metrics: dict[str, list[th.Tensor]], gradient_steps: int) -> None:
        # One read-back per call: reading inside the loop would make a GPU wait for each update
        values = iter(th.stack([*chain(*metrics.values())]).tolist())
        means = {name: sum(islice(values, len(each))) / len(each) for name, each in metrics.items()}
        check_finite(
            {f"train/{name}": value for name, value in means.items()},
            self.num_timesteps,
            "The networks may hold non-finite values now: go on from the last checkpoint, "
            "with a smaller learning rate or max_grad_norm, or normalised rewards",
        )
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if self.norm_reward:
            self.logger.record("train/reward_scale", self.reward_scale.value)
        for name, value in means.items():
            self.logger.record(f"train/{name}", value)
        if self._rollout_timesteps > 0:
            self.logger.record("train/updates_per_step", gradient_steps / self._rollout_timesteps)

    # --- saving ------------------------------------------------------------------------------------------------------------

    def _excluded_save_params(self) -> list[str]:
        networks = ["actor", "critic", "critic_target"]
        return [*super()._excluded_save_params(), *networks, "qf_lr_schedule", "_loss_function"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, variables = super()._get_torch_save_params()
        optimizers = [f"{name}.optimizer" for name in ("critic", "actor") if getattr(self, name).optimizer is not None]
        return ["policy", *optimizers, *state_dicts], variables
