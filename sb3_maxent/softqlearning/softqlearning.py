"""Soft Q-learning."""

import math
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, Schedule

from sb3_maxent.common.checks import SMALLEST, check_choice, check_count
from sb3_maxent.common.discrete import choices_of
from sb3_maxent.common.maxent_algorithm import MaxEntAlgorithm
from sb3_maxent.common.schedules import make_schedule
from sb3_maxent.common.types import ActionSamples, UpdateNoise
from sb3_maxent.functional import (
    expectation,
    mixed_space_score,
    pre_tanh_score,
    soft_value_importance,
    stein_variational_gradient,
)
from sb3_maxent.softqlearning.actors import N_NOISE_VECTORS, VALUE_PROPOSALS
from sb3_maxent.softqlearning.noise_set import size_of_noise_set
from sb3_maxent.softqlearning.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SoftQLearningPolicy

PARTICLE_SPACES = ("pre_tanh", "reference")
# Largest number of joint actions of several factors. All of them are evaluated in each state. This is the number for ten bits
MAX_JOINT_ACTIONS = 1024


class SoftQLearning(MaxEntAlgorithm):
    r"""
    Soft Q-learning with amortised Stein variational gradient descent.

    It learns a soft Q-function, and a network that turns noise into samples of the density :math:`\exp(Q(s, a) / \alpha)`.
    This density can have any shape, for instance several modes.

    With ``Discrete``, ``MultiDiscrete`` and ``MultiBinary`` actions the soft value and the policy are exact. The soft value is
    a sum over all actions (at most ``MAX_JOINT_ACTIONS`` joint ones of several factors), and the policy is a softmax. There is
    no sampling network then, and the arguments about particles, value samples and the gradient norm have no effect. Hybrid
    actions (``HybridBox``) are refused: the sampling network makes real numbers only, and a softmax needs a finite number.

    Paper: https://arxiv.org/abs/1702.08165

    .. note::
        Particles, kernel and step are in the space before the squash. The reference implementations mix this space with the
        action space, so they sample :math:`\exp(Q / \alpha) \prod_k (1 - a_k^2)`. ``particle_space="reference"`` does the
        same.

    .. note::
        With ``n_steps > 1`` the target ignores the entropy of the intermediate steps, as in SB3's SAC.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: Learning rate of the sampling network, and of the critic unless ``qf_learning_rate`` is given;
        can be a function of the remaining progress (from 1 to 0)
    :param buffer_size: Size of the replay buffer
    :param learning_starts: Number of steps with random actions before learning starts
    :param batch_size: Number of states per update
    :param tau: Soft update coefficient of the target networks, 1 for a hard update
    :param gamma: Discount factor
    :param train_freq: Update the model every ``train_freq`` steps, or a tuple such as ``(2, "episode")``
    :param gradient_steps: Number of updates after each rollout, -1 for as many as environment steps in the rollout
    :param action_noise: Action noise added during exploration
    :param replay_buffer_class: Replay buffer class (for instance ``HerReplayBuffer``), chosen automatically if ``None``
    :param replay_buffer_kwargs: Keyword arguments of the replay buffer
    :param optimize_memory_usage: Enable a memory efficient variant of the replay buffer
    :param n_steps: When larger than 1, use n-step returns (with the NStepReplayBuffer) for the critic.
        Not supported for Dict observation spaces yet. Refused with a ``replay_buffer_class``, unless its
        ``replay_buffer_kwargs`` has the same ``n_steps``.
    :param ent_coef: Entropy coefficient (the temperature, the inverse of a reward scale): a positive number or a schedule;
        with discrete actions also ``"auto"`` to learn it, or ``"auto_0.1"`` to learn it with the initial value 0.1. With
        ``Box`` actions it cannot be learned, because the density of the sampling network is unknown, and so is its entropy.
    :param target_update_interval: Number of updates between two updates of the target networks, counted over all calls of
        ``train`` (SB3's SAC counts within a call, so that with one gradient step its interval has no effect)
    :param target_entropy: Target entropy in nats for a learned ``ent_coef``. ``"auto"`` is the entropy of a policy with 5 %
        random actions, and ``"auto_0.5"`` is half of that
    :param qf_learning_rate: Learning rate of the critic, ``None`` for ``learning_rate``. A number, a schedule, or
        an RL Zoo string such as ``"lin_3e-4"``
    :param n_particles: Number of particles per state, an even number >= 4. Half of them are fixed and half are updated
    :param n_value_samples: Number of actions per state from which the soft value of the next state is estimated
    :param value_proposal: ``"mixture"`` draws these actions near those of the sampling network. ``"uniform"`` draws them from
        the whole box, as the reference implementations do, and misses narrow peaks in many dimensions
    :param particle_space: ``"pre_tanh"``, or ``"reference"`` for the published form, which samples the wrong density
    :param noise_set_size: Size of a fixed set of noise vectors that the policy acts with, from 1 (a deterministic policy) to
        32. A number or a schedule, such as ``"lin_32_1_0.1"`` to fine-tune. With ``None`` the policy draws fresh noise.
        Updates always do
    :param max_grad_norm: Largest norm of the sampling network's gradient, ``None`` for no clipping
    :param policy_delay: Number of updates of the critic per update of the sampling network, or of a learned temperature
    :param norm_reward: Whether to divide rewards by a running standard deviation of the discounted return, which is saved with
        the model and logged as ``train/reward_scale``. The replay buffer keeps the rewards of the environment.
    :param compile: Whether to compile the update with ``torch.compile``. Updates are faster, but the first ones take 40 to
        80 seconds. ``"auto"`` compiles on a CPU with a C++ compiler in runs of at least 20,000 environment steps.
        With ``True`` there is a warning if it cannot compile.
    :param stats_window_size: Number of episodes to average in the rollout log
    :param tensorboard_log: The log location for tensorboard (if None, no logging)
    :param policy_kwargs: Additional arguments of the policy,
        see :class:`~sb3_maxent.softqlearning.policies.SoftQLearningPolicy`
    :param verbose: Verbosity level: 0 for no output, 1 for info messages, 2 for debug messages
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, ...) on which the code should be run
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises ValueError: If an argument is invalid
    """

    supported_action_spaces: ClassVar[tuple[type[spaces.Space], ...]] = (
        spaces.Box,
        spaces.Discrete,
        spaces.MultiDiscrete,
        spaces.MultiBinary,
    )
    lowest_ent_coef = SMALLEST
    policy_base = SoftQLearningPolicy
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy: SoftQLearningPolicy

    def __init__(
        self,
        policy: str | type[SoftQLearningPolicy],
        env: GymEnv | str,
        learning_rate: float | str | Schedule = 3e-4,
        buffer_size: int = 1_000_000,  # 1e6
        learning_starts: int = 100,
        batch_size: int = 256,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        action_noise: ActionNoise | None = None,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        ent_coef: str | float | Schedule = 1.0,
        target_update_interval: int = 1,
        target_entropy: str | float = "auto",
        qf_learning_rate: float | str | Schedule | None = None,
        n_particles: int = 32,
        n_value_samples: int = 32,
        value_proposal: str = "mixture",
        particle_space: str = "pre_tanh",
        noise_set_size: float | str | Schedule | None = None,
        max_grad_norm: float | None = None,
        policy_delay: int = 1,
        norm_reward: bool = False,
        compile: bool | str = "auto",
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ):
        super().__init__(
            policy,
            env,
            learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            action_noise=action_noise,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            ent_coef=ent_coef,
            target_entropy=target_entropy,
            target_update_interval=target_update_interval,
            qf_learning_rate=qf_learning_rate,
            max_grad_norm=max_grad_norm,
            policy_delay=policy_delay,
            norm_reward=norm_reward,
            compile=compile,
            sde_support=False,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
        )
        self.n_particles = n_particles
        self.n_value_samples = n_value_samples
        self.value_proposal = value_proposal
        self.particle_space = particle_space
        self.noise_set_size = noise_set_size
        if _init_setup_model:
            self._setup_model()

    def _check_hyperparameters(self) -> None:
        super()._check_hyperparameters()
        choices = choices_of(self.action_space)
        if (n_actions := math.prod(choices)) > MAX_JOINT_ACTIONS and len(choices) > 1:
            raise ValueError(
                f"action_space={self.action_space}: SoftQLearning evaluates all {n_actions} joint actions, but it supports no "
                f"more than {MAX_JOINT_ACTIONS}. Use DSPG, which samples them"
            )
        self._check_temperature()
        check_count(self.n_particles, "n_particles")
        if self.n_particles < 4 or self.n_particles % 2 == 1:
            raise ValueError(f"n_particles={self.n_particles}: give an even number >= 4, half of the particles are fixed")
        check_count(self.n_value_samples, "n_value_samples")
        self._current_noise_set_size()
        check_choice(self.value_proposal, "value_proposal", VALUE_PROPOSALS)
        check_choice(self.particle_space, "particle_space", PARTICLE_SPACES)

    def _check_temperature(self) -> None:
        if isinstance(self.ent_coef, str) and self.ent_coef.startswith("auto"):
            if not isinstance(self.action_space, spaces.Box):
                return
            raise ValueError(
                f"ent_coef={self.ent_coef!r}: Soft Q-learning cannot learn its temperature with Box actions, because the "
                "entropy of the sampling network is unknown. Give a positive number or a schedule"
            )
        schedule = make_schedule(self.ent_coef, "ent_coef")
        if not min(schedule(1.0), schedule(0.0)) >= self.lowest_ent_coef:
            raise ValueError(
                f"ent_coef={self.ent_coef!r}: Soft Q-learning needs a temperature that stays positive until the end of "
                "training, for instance 'lin_1_0.1'"
            )

    def _current_noise_set_size(self) -> int | None:
        return size_of_noise_set(self.noise_set_size, self.action_space, self._current_progress_remaining, N_NOISE_VECTORS)

    def _tell_policy(self) -> None:
        self.policy.ent_coef.copy_(self.temperature.value.reshape(()))
        self.policy.actor.noise_set_size = self._current_noise_set_size()

    def _draw_noise(self, batch_size: int, update_actor: bool = True) -> UpdateNoise:
        if self.actor.is_exact:
            return UpdateNoise(None, None)
        noise = self.actor.draw_value_noise(batch_size, self.n_value_samples)
        # Centres of next states and particles are in two losses, so they may share noise. The proposal has its own
        shared = self.n_particles == self.n_value_samples or not update_actor
        return UpdateNoise(noise, noise.centres if shared else self.actor.draw_noise(batch_size, self.n_particles))

    def _next_samples(self, next_observations: PyTorchObs, noise: Any) -> ActionSamples:
        return self.actor.value_samples(next_observations, noise, self.value_proposal)

    def _next_value(self, predictions: th.Tensor, samples: ActionSamples, ent_coef: th.Tensor) -> th.Tensor:
        q_values = self.critic_target.value(predictions)  # (batch, samples)
        return soft_value_importance(q_values, samples.log_prob, ent_coef)  # (batch, 1), eq. 10

    def _actor_loss(
        self, observations: PyTorchObs, embedding: list[th.Tensor], noise: Any, ent_coef: th.Tensor
    ) -> tuple[th.Tensor | None, th.Tensor | None]:
        if self.actor.is_exact:
            with th.no_grad():
                q_values = self.critic.q_values(embedding, self.critic.all_actions(len(embedding[0])))  # (batch, actions)
            log_probs = self.actor.distribution(observations, q_values, ent_coef).log_probs  # (batch, actions), eq. 6
            return None, expectation(log_probs, log_probs.exp())  # (batch, 1)
        fixed, updated, actions = self._particles(observations, noise)  # (batch, particles / 2, action) each
        direction = self._direction(embedding, actions, fixed, updated.detach(), ent_coef)  # (batch, updated, action)
        # The gradient of this loss is minus the direction, back-propagated through the network
        return -(direction * updated).sum(dim=-1).mean(), None  # (), eq. 14

    def _particles(self, observations: PyTorchObs, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        :param observations: Observations, shape (batch, ...)
        :param noise: Standard normal noise, shape (batch, particles, action)
        :return: Fixed particles, updated particles with gradient, and the actions of the fixed ones,
            shape (batch, particles / 2, action) each
        """
        # If particles moved themselves, modes would be lost. So one half carries the score, and the other half is moved
        fixed_noise, updated_noise = noise.chunk(2, dim=1)  # (batch, particles / 2, action) each
        features = self.actor.hidden_features(observations)  # (batch, 1, hidden)
        with th.no_grad():
            fixed = self.actor.transform(features, fixed_noise)  # (batch, particles / 2, action)
            actions = self.actor.squash(fixed)  # (batch, particles / 2, action)
        updated = self.actor.transform(features, updated_noise)  # (batch, particles / 2, action)
        return (actions, th.tanh(updated), actions) if self.particle_space == "reference" else (fixed, updated, actions)

    def _direction(
        self, embedding: list[th.Tensor], actions: th.Tensor, fixed: th.Tensor, updated: th.Tensor, ent_coef: th.Tensor
    ) -> th.Tensor:
        """
        :param embedding: The critic's embedding of the states
        :param actions: Actions of the fixed particles, shape (batch, fixed, action)
        :param fixed: Fixed particles, shape (batch, fixed, action)
        :param updated: Updated particles, shape (batch, updated, action)
        :param ent_coef: Entropy coefficient
        :return: Direction of the updated particles, shape (batch, updated, action)
        """
        score_of = mixed_space_score if self.particle_space == "reference" else pre_tanh_score
        with th.no_grad():
            q_gradient = th.func.grad(lambda actions: self.critic.q_values(embedding, actions).sum())(actions)
            score = score_of(actions, q_gradient, ent_coef)  # (batch, fixed, action)
            return stein_variational_gradient(score, fixed, updated)  # (batch, updated, action), eq. 13
