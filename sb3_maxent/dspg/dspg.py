"""Deep Soft Policy Gradient."""

from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, Schedule
from torch import nn

from sb3_maxent.common.checks import check_choice, check_count
from sb3_maxent.common.hybrid_space import HybridBox
from sb3_maxent.common.maxent_algorithm import MaxEntAlgorithm
from sb3_maxent.common.types import ActionSamples, UpdateNoise
from sb3_maxent.dspg.policies import CnnPolicy, DSPGPolicy, MlpPolicy, MultiInputPolicy
from sb3_maxent.functional import expectation, score_function_loss
from sb3_maxent.functional.policy_gradients import BASELINES


class DSPG(MaxEntAlgorithm):
    """
    Deep Soft Policy Gradient (DSPG).

    It is a maximum-entropy actor-critic whose actor loss and critic target can average over many sampled actions per state.
    The actor follows the score-function gradient: it needs no gradient of the Q-function and no reparametrisation.

    With ``Discrete`` actions the expectation over actions is the exact sum, as it is over up to 64 joint actions of
    ``MultiDiscrete`` and ``MultiBinary`` spaces: ``n_action_samples`` has no effect then. ``Dict`` and ``Tuple`` actions, of
    boxes and choices together, need the wrapper :class:`~sb3_maxent.envs.flatten_action.FlattenAction`.

    Paper: https://arxiv.org/abs/1909.03198

    .. note::
        The defaults differ from the paper where a better choice is known: a leave-one-out baseline, a learned entropy
        coefficient, two critics, no target actor; batch normalisation, scaled rewards, and two updates per step with few
        samples, which learn faster in the same time. ``hyperparams/dspg-paper.yml`` has the settings of the paper. As in the
        authors' code, the Gaussian is squashed by tanh.

    .. note::
        With ``n_steps > 1`` the target leaves out the entropy of the steps in between, as in SB3's SAC.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: Learning rate of the actor, of the entropy coefficient, and of the critic unless
        ``qf_learning_rate`` is given; can be a function of the remaining progress (from 1 to 0)
    :param buffer_size: Size of the replay buffer
    :param learning_starts: Number of steps with random actions before learning starts
    :param batch_size: Number of states per update
    :param tau: Soft update coefficient of the target networks, between 0 and 1
    :param gamma: Discount factor
    :param train_freq: Update the model every ``train_freq`` steps, or a tuple such as ``(2, "episode")``
    :param gradient_steps: Number of updates after each rollout, -1 for as many as environment steps in the rollout
    :param action_noise: Action noise added during exploration
    :param replay_buffer_class: Replay buffer class (for instance ``HerReplayBuffer``), chosen automatically if ``None``
    :param replay_buffer_kwargs: Keyword arguments of the replay buffer
    :param optimize_memory_usage: Enable a memory efficient variant of the replay buffer
    :param n_steps: When larger than 1, use n-step returns (with the NStepReplayBuffer) for the critic.
        Dict observation spaces are not supported yet. A ``replay_buffer_class`` is refused, unless ``replay_buffer_kwargs``
        has the same ``n_steps``.
    :param ent_coef: Entropy coefficient (the temperature, the inverse of a reward scale): a number, a schedule, or ``"auto"``
        to learn it from 1, or from 0.01 if rewards are scaled. ``"auto_0.1"`` starts at 0.1. A learned coefficient stays
        between 2.1e-9 and 2.2e4
    :param target_update_interval: Number of updates between two updates of the target networks, counted over all calls of
        ``train`` (SB3's SAC counts within a call, so that with one gradient step its interval has no effect)
    :param target_entropy: Target entropy in nats when learning ``ent_coef``; ``"auto"`` is minus the action dimension,
        for discrete actions the entropy of a policy with 5 % random actions; ``"auto_0.5"`` is half of that
    :param qf_learning_rate: Learning rate of the critic, ``None`` for ``learning_rate``. A number, a schedule, or
        an RL Zoo string such as ``"lin_3e-4"``
    :param n_action_samples: Number M of actions sampled per state in the actor loss
    :param n_target_samples: Number of actions sampled per next state in the critic target, ``None`` for ``n_action_samples``
    :param baseline: ``"loo"`` subtracts the mean of the other samples in the actor loss (exactly unbiased),
        ``"none"`` is the paper's estimator
    :param actor_q_value: Q-value that the actor follows: ``"min"`` is the smallest of the critics, as in the critic target,
        and ``"mean"`` is their mean, in which the errors of the critics partly cancel
    :param max_grad_norm: Largest norm of the actor's gradient over all its parameters, ``None`` not to clip
    :param policy_delay: Number of updates of the critic for each update of the actor and of a learned entropy coefficient
    :param norm_reward: Whether to divide rewards by a running standard deviation of the discounted return, part of the saved
        model and logged as ``train/reward_scale``. The replay buffer keeps the rewards of the environment. ``None`` divides
        them if ``ent_coef`` is learned: a given one is in the unit of the rewards
    :param compile: Whether to compile the update with ``torch.compile``. Updates are faster, but the first ones take 40 to
        80 seconds. ``"auto"`` compiles on a CPU with a C++ compiler in runs of at least 20,000 environment steps.
        ``True`` warns where it cannot compile.
    :param use_sde: Whether to use generalized State Dependent Exploration (gSDE) instead of action noise exploration
    :param sde_sample_freq: Sample a new noise matrix every n steps when using gSDE, -1 only at the start of the rollout
    :param use_sde_at_warmup: Whether to use gSDE instead of uniform sampling during the warm up phase
    :param stats_window_size: Number of episodes to average in the rollout log
    :param tensorboard_log: The log location for tensorboard (if None, no logging)
    :param policy_kwargs: Additional arguments of the policy, see :class:`~sb3_maxent.dspg.policies.DSPGPolicy`
    :param verbose: Verbosity level: 0 for no output, 1 for info messages, 2 for debug messages
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, ...) on which the code should be run
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises ValueError: If an argument has no meaning
    """

    supported_action_spaces: ClassVar[tuple[type[spaces.Space], ...]] = (
        spaces.Box,
        spaces.Discrete,
        spaces.MultiDiscrete,
        spaces.MultiBinary,
        HybridBox,
    )
    policy_base = DSPGPolicy
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy: DSPGPolicy

    def __init__(
        self,
        policy: str | type[DSPGPolicy],
        env: GymEnv | str,
        learning_rate: float | str | Schedule = 5e-4,
        buffer_size: int = 1_000_000,  # 1e6
        learning_starts: int = 100,
        batch_size: int = 128,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 2,
        action_noise: ActionNoise | None = None,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        ent_coef: str | float | Schedule = "auto",
        target_update_interval: int = 1,
        target_entropy: str | float = "auto_0.5",
        qf_learning_rate: float | str | Schedule | None = None,
        n_action_samples: int = 4,
        n_target_samples: int | None = 1,
        baseline: str = "loo",
        actor_q_value: str = "min",
        max_grad_norm: float | None = 5.0,
        policy_delay: int = 2,
        norm_reward: bool | None = None,
        compile: bool | str = "auto",
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        use_sde_at_warmup: bool = False,
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
            target_update_interval=target_update_interval,
            target_entropy=target_entropy,
            qf_learning_rate=qf_learning_rate,
            max_grad_norm=max_grad_norm,
            policy_delay=policy_delay,
            norm_reward=norm_reward,
            compile=compile,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            use_sde_at_warmup=use_sde_at_warmup,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
        )
        self.n_action_samples = n_action_samples
        self.n_target_samples = n_target_samples
        self.baseline = baseline
        self.actor_q_value = actor_q_value
        if _init_setup_model:
            self._setup_model()

    def _check_hyperparameters(self) -> None:
        super()._check_hyperparameters()
        check_count(self.n_action_samples, "n_action_samples")
        if self.n_target_samples is not None:
            check_count(self.n_target_samples, "n_target_samples")
        check_choice(self.baseline, "baseline", BASELINES)
        check_choice(self.actor_q_value, "actor_q_value", ("min", "mean"))
        if self.baseline == "loo" and self.n_action_samples < 2:
            raise ValueError(
                f"baseline='loo' needs at least two action samples per state, got n_action_samples={self.n_action_samples}: "
                "increase it, or use baseline='none'"
            )

    def _create_aliases(self) -> None:
        self.actor_target = self.policy.actor_target
        super()._create_aliases()

    def _target_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [*super()._target_pairs(), *([] if self.actor_target is None else [(self.actor, self.actor_target)])]

    def _draw_noise(self, batch_size: int, update_actor: bool = True) -> UpdateNoise:
        n_target_samples = self.n_target_samples or self.n_action_samples
        noise = self.actor.draw_noise(batch_size, n_target_samples)
        if n_target_samples == self.n_action_samples:
            # The same noise in both losses leaves each one unbiased, and takes half the time
            return UpdateNoise(noise, noise)
        return UpdateNoise(noise, self.actor.draw_noise(batch_size, self.n_action_samples) if update_actor else None)

    def _next_samples(self, next_observations: PyTorchObs, noise: th.Tensor) -> ActionSamples:
        actor = self.actor if self.actor_target is None else self.actor_target
        return actor.action_samples(next_observations, noise)

    def _next_value(self, predictions: th.Tensor, samples: ActionSamples, ent_coef: th.Tensor) -> th.Tensor:
        return self.critic_target.soft_value(predictions, samples, ent_coef)  # (batch, 1), eq. 15

    def _actor_loss(
        self, observations: PyTorchObs, embedding: list[th.Tensor], noise: th.Tensor, ent_coef: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor]:
        actions, log_prob, weights = self.actor.action_samples(observations, noise)
        evaluate = self.critic.q_values if self.actor_q_value == "min" else self.critic.mean_q_values
        with th.no_grad():
            q_values = evaluate(embedding, actions)  # (batch, samples)
        loss = score_function_loss(log_prob, q_values, ent_coef, self.baseline, weights)  # (), eq. 17
        return loss, expectation(log_prob.detach(), weights)  # (), (batch, 1)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "actor_target"]
