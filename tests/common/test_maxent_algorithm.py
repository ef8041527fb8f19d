import numpy as np
import pytest
import torch as th
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.buffers import ReplayBufferSamples

from sb3_maxent import DSPG
from sb3_maxent.common.errors import NonFiniteError
from tests.envs import FaultyEnv, QuadraticBandit

TINY = {"policy_kwargs": {"net_arch": [16, 16]}, "n_action_samples": 4, "buffer_size": 1000, "learning_starts": 10}


def parameters_of(module: th.nn.Module) -> list[th.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def equal(before: list[th.Tensor], after: list[th.Tensor]) -> bool:
    return all(th.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ent_coef": "atuo"}, r"ent_coef='atuo': give a number >= 0, 'auto', or 'auto_x'"),
        ({"ent_coef": "auto_"}, "ent_coef='auto_'"),
        ({"ent_coef": "auto_0"}, "ent_coef='auto_0'"),
        ({"ent_coef": "auto-0.1"}, "ent_coef='auto-0.1'"),
        ({"ent_coef": -0.1}, "ent_coef=-0.1"),
        ({"ent_coef": float("nan")}, "ent_coef=nan"),
        ({"target_entropy": "low"}, "target_entropy='low': give a number of nats, or 'auto'"),
        ({"n_action_samples": 0}, "n_action_samples=0: at least one"),
        ({"max_grad_norm": 0.0}, "max_grad_norm=0.0: give a positive number"),
        ({"target_update_interval": 0}, "target_update_interval=0"),
        ({"qf_learning_rate": "cos_1e-3"}, "qf_learning_rate='cos_1e-3'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DSPG("MlpPolicy", "Pendulum-v1", **arguments)


@pytest.mark.parametrize("env", ["CartPole-v1", "FrozenLake-v1"])
def test_wrong_action_space(env):
    with pytest.raises(AssertionError, match=r"only supports .*Box.* as action spaces but Discrete"):
        DSPG("MlpPolicy", env)


@pytest.mark.parametrize(
    ("ent_coef", "value", "learned"), [("auto", 1.0, True), ("auto_0.1", 0.1, True), (0.2, 0.2, False), ("0.2", 0.2, False)]
)
def test_ent_coef(ent_coef, value, learned):
    model = DSPG("MlpPolicy", "Pendulum-v1", ent_coef=ent_coef, **TINY)
    assert model._current_ent_coef().item() == pytest.approx(value)
    assert (model.ent_coef_optimizer is not None) == learned
    model.learn(30)
    assert (model._current_ent_coef().item() != pytest.approx(value)) == learned


def test_target_entropy():
    env = TimeLimit(QuadraticBandit(action_dim=3), 5)
    assert DSPG("MlpPolicy", env, **TINY).target_entropy == -3.0
    assert DSPG("MlpPolicy", env, target_entropy="-1.5", **TINY).target_entropy == -1.5


@pytest.mark.parametrize("fault", ["reward", "observation"])
def test_a_fault_of_the_environment_loses_nothing(fault, tmp_path):
    model = DSPG("MlpPolicy", FaultyEnv(fault, step=40), **TINY)
    with pytest.raises(NonFiniteError, match=f"^{fault} is not finite at environment step 40: "):
        model.learn(100)
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())
    # The step before the fault is the last one in the buffer
    assert model.replay_buffer.pos == 39
    buffer = model.replay_buffer
    assert np.isfinite(buffer.rewards[:39]).all() and np.isfinite(buffer.next_observations[:39]).all()
    # One can save, repair the environment and go on
    model.save(tmp_path / "model")
    model.set_env(FaultyEnv(fault, step=10_000))
    model.learn(20, reset_num_timesteps=False)
    assert model.num_timesteps == 60


def test_a_diverged_update_is_named():
    model = DSPG("MlpPolicy", "Pendulum-v1", **TINY).learn(30)
    with th.no_grad():
        next(model.critic.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="train/critic_loss is not finite at environment step 30"):
        model.train(1, 16)


def test_target_update_interval_delays():
    model = DSPG("MlpPolicy", "Pendulum-v1", target_update_interval=3, tau=0.5, **TINY).learn(10)
    moved = []
    for _ in range(6):
        before = parameters_of(model.critic_target)
        # One step per call, where SB3's own count starts again each time
        model.train(1, 16)
        moved.append(not equal(before, parameters_of(model.critic_target)))
    assert moved == [False, False, True, False, False, True]


def test_targets_move_by_tau():
    model = DSPG("MlpPolicy", "Pendulum-v1", tau=0.25, **TINY).learn(10)
    before = parameters_of(model.critic_target)
    model.train(1, 16)
    for old, new, source in zip(before, parameters_of(model.critic_target), model.critic.parameters(), strict=True):
        assert th.allclose(new, 0.75 * old + 0.25 * source, atol=1e-6)


@pytest.mark.parametrize("max_grad_norm", [1e-3, 1e3, None])
def test_clips_the_global_norm(max_grad_norm):
    model = DSPG("MlpPolicy", "Pendulum-v1", max_grad_norm=max_grad_norm, **TINY).learn(10)
    model.train(1, 16)
    clipped = th.stack([parameter.grad.norm() for parameter in model.actor.parameters()]).norm().item()
    # The log has the norm before
    before = model.logger.name_to_value["train/actor_grad_norm"]
    assert clipped == pytest.approx(before if max_grad_norm is None else min(before, max_grad_norm), rel=1e-4)
    assert before > 1e-2


def test_learning_rates():
    model = DSPG("MlpPolicy", "Pendulum-v1", learning_rate=lambda p: 1e-3 * p, qf_learning_rate="lin_4e-3", **TINY)
    model.learn(40)
    optimizers = model.actor.optimizer, model.ent_coef_optimizer, model.critic.optimizer
    progress = 1 / 40  # the last update was before the last step was counted as progress
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    assert rates[0] == rates[1]
    assert rates[2] == pytest.approx(4 * rates[0])
    assert rates[0] <= progress * 1e-3
    assert model.logger.name_to_value["train/qf_learning_rate"] == pytest.approx(rates[2])
    model = DSPG("MlpPolicy", "Pendulum-v1", **TINY)
    for learning_rate in (3e-4, 1e-2):
        model.lr_schedule = lambda progress, learning_rate=learning_rate: learning_rate
        model.learn(12)
        assert model.critic.optimizer.param_groups[0]["lr"] == model.actor.optimizer.param_groups[0]["lr"] == learning_rate


def test_the_update_is_a_function_of_its_arguments():
    """All randomness is an argument: the same transitions and noise give the same weights, other noise other ones"""

    def weights_after(noise_seed):
        model = DSPG("MlpPolicy", "Pendulum-v1", seed=0, **TINY).learn(30)
        replay_data = model.replay_buffer.sample(8)
        th.manual_seed(noise_seed)
        noise = model._draw_noise(8)
        th.manual_seed(1234 + noise_seed)  # the update must not care
        generator_state = th.get_rng_state()
        model._update(replay_data, noise)
        assert th.equal(th.get_rng_state(), generator_state)
        return parameters_of(model.policy)

    assert equal(weights_after(0), weights_after(0))
    assert not equal(weights_after(0), weights_after(1))


def test_n_step_discounts_reach_the_target():
    """With a constant value of 10 after the step, the critic is fitted to r + discount * 10"""
    model = DSPG("MlpPolicy", "Pendulum-v1", **TINY)
    model._next_value = lambda next_observations, noise, ent_coef: th.full((len(next_observations), 1), 10.0)
    seen = []
    model.critic.forward = lambda obs, actions: seen.append(th.zeros(len(obs), 1, requires_grad=True)) or (seen[-1],)
    discounts = th.tensor([[0.5], [0.25], [0.125], [1.0]])
    zeros = th.zeros(4, 1)
    replay_data = ReplayBufferSamples(th.zeros(4, 3), zeros, th.zeros(4, 3), zeros, th.ones(4, 1), discounts)
    model._update_critic(replay_data, th.zeros(4, 4, 1), th.tensor(0.0))
    # d/dq of 1/(2 N) sum (q - y)^2 at q = 0 is -y / N
    assert th.allclose(-4 * seen[0].grad, 1 + 10 * discounts)


def test_log_keys():
    model = DSPG("MlpPolicy", "Pendulum-v1", **TINY, gradient_steps=2, train_freq=4)
    model.learn(40, log_interval=None)
    logged = {key.removeprefix("train/") for key in model.logger.name_to_value if key.startswith("train/")}
    assert logged == {
        *("n_updates", "ent_coef", "actor_loss", "critic_loss", "ent_coef_loss", "learning_rate"),  # SAC's
        *("qf_learning_rate", "entropy", "log_prob", "q_mean", "actor_grad_norm", "updates_per_step"),
    }
    values = model.logger.name_to_value
    assert values["train/updates_per_step"] == 0.5
    assert values["train/entropy"] == -values["train/log_prob"]


def test_learn_takes_a_float_and_names_the_run(tmp_path):
    model = DSPG("MlpPolicy", "Pendulum-v1", tensorboard_log=str(tmp_path), **TINY).learn(3e1, progress_bar=True)
    assert model.num_timesteps == 30
    assert [path.name for path in tmp_path.iterdir()] == ["DSPG_1"]
