import numpy as np
import pytest
import torch as th
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.buffers import ReplayBufferSamples
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_maxent import DSPG
from sb3_maxent.common.errors import NonFiniteError
from tests.envs import FaultyEnv, QuadraticBandit
from tests.models import PLAIN, PLAIN_NETWORKS, VARIANTS, make_model

TINY = {
    **PLAIN,
    **{"policy_kwargs": {"net_arch": [16, 16], **PLAIN_NETWORKS}, "n_action_samples": 4},
    **{"buffer_size": 1000, "learning_starts": 10},
}


def parameters_of(module: th.nn.Module) -> list[th.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def equal(before: list[th.Tensor], after: list[th.Tensor]) -> bool:
    return all(th.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ent_coef": "atuo"}, r"ent_coef='atuo': give a number >= 0, a schedule, 'auto', or 'auto_x'"),
        ({"ent_coef": "auto_"}, "ent_coef='auto_'"),
        ({"ent_coef": "auto_0"}, "ent_coef='auto_0'"),
        ({"ent_coef": "auto-0.1"}, "ent_coef='auto-0.1'"),
        ({"ent_coef": "auto_1e-9"}, r"ent_coef='auto_1e-9': a learned coefficient must be between 2.1e-09 and 2.2e\+04"),
        ({"ent_coef": "auto_1e5"}, "ent_coef='auto_1e5'"),
        ({"ent_coef": -0.1}, "ent_coef=-0.1"),
        ({"ent_coef": float("nan")}, "ent_coef=nan"),
        ({"target_entropy": "low"}, "target_entropy='low': give a finite number of nats, or 'auto' for minus"),
        ({"target_entropy": "auto_half"}, "target_entropy='auto_half': give a finite number"),
        ({"target_entropy": float("nan")}, "target_entropy=nan: give a finite number"),
        ({"n_action_samples": 0}, "n_action_samples=0: give an integer >= 1"),
        ({"n_action_samples": 64.0}, "n_action_samples=64.0: give an integer >= 1"),
        ({"n_action_samples": "64"}, "n_action_samples='64': give an integer >= 1"),
        ({"max_grad_norm": 0.0}, "max_grad_norm=0.0: give a positive number"),
        ({"max_grad_norm": float("nan")}, "max_grad_norm=nan: give a positive number"),
        ({"max_grad_norm": "5"}, "max_grad_norm='5': give a positive number"),
        ({"max_grad_norm": True}, "max_grad_norm=True: give a positive number"),
        ({"seed": 1.5}, "seed=1.5: give an integer, or None"),
        ({"policy_kwargs": {"n_critics": 1.5}}, "n_critics=1.5: give an integer >= 1"),
        ({"policy_kwargs": {"n_critics": True}}, "n_critics=True: give an integer >= 1"),
        ({"policy_kwargs": {"action_layer": True}}, "action_layer=True is not a hidden layer"),
        ({"target_update_interval": 0}, "target_update_interval=0"),
        ({"policy_delay": 0}, "policy_delay=0: give an integer >= 1"),
        ({"norm_reward": "False"}, "norm_reward='False': give True, False or None"),
        ({"target_update_interval": 2.5}, "target_update_interval=2.5"),
        ({"qf_learning_rate": "cos_1e-3"}, "qf_learning_rate='cos_1e-3'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DSPG("MlpPolicy", "Pendulum-v1", **arguments)


def test_a_learned_temperature_starts_low_if_rewards_are_scaled():
    assert DSPG("MlpPolicy", "Pendulum-v1", buffer_size=1).temperature.value.item() == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("ent_coef", "value", "learned"), [("auto", 1.0, True), ("auto_0.1", 0.1, True), (0.2, 0.2, False), ("0.2", 0.2, False)]
)
def test_ent_coef(ent_coef, value, learned):
    model = DSPG("MlpPolicy", "Pendulum-v1", **{**TINY, "ent_coef": ent_coef})
    assert model.temperature.value.item() == pytest.approx(value)
    assert (model.ent_coef_optimizer is not None) == learned
    model.learn(30)
    assert (model.temperature.value.item() != pytest.approx(value)) == learned


@pytest.mark.parametrize(("target_entropy", "bound"), [(1e9, 10.0), (-1e9, -20.0)])
def test_ent_coef_stays_bounded(target_entropy, bound):
    """A target out of reach drives it on for ever"""
    model = DSPG("MlpPolicy", "Pendulum-v1", **{**TINY, "target_entropy": target_entropy, "learning_rate": 1.0}).learn(10)
    model._update_learning_rates()
    for step in range(30):
        model.temperature.learn(th.zeros(8, 4), model.target_entropy)
        assert abs(model.log_ent_coef.item()) == pytest.approx(min(step + 1, abs(bound)), rel=1e-3)
    assert model.log_ent_coef.item() == bound


def test_ent_coef_follows_a_schedule():
    model = DSPG("MlpPolicy", "Pendulum-v1", **{**TINY, "ent_coef": lambda progress: 0.1 + progress})
    assert model.temperature.value.item() == pytest.approx(1.1)
    model.learn(30)
    assert model.temperature.value.item() == pytest.approx(0.1)
    assert model.logger.name_to_value["train/ent_coef"] == pytest.approx(0.1)


def test_target_entropy():
    env = TimeLimit(QuadraticBandit(action_dim=3), 5)
    assert DSPG("MlpPolicy", env, **TINY).target_entropy == -3.0
    assert DSPG("MlpPolicy", env, **{**TINY, "target_entropy": "-1.5"}).target_entropy == -1.5
    assert DSPG("MlpPolicy", env, **{**TINY, "target_entropy": "auto_0.5"}).target_entropy == -1.5


FAULTS = {"reward": "reward", "observation": "observation", "dict reward": "reward", "dict observation": "observation reward"}


@pytest.mark.parametrize("step", [33, 40])  # within an episode and at its end
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_environment_loses_nothing(fault, step, tmp_path):
    model = DSPG("MultiInputPolicy" if "dict" in fault else "MlpPolicy", FaultyEnv(fault, step), **TINY)
    with pytest.raises(NonFiniteError, match=f"^{FAULTS[fault]} is not finite at environment step {step}: "):
        model.learn(100)
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())
    # The step before the fault is the last one in the buffer
    buffer = model.replay_buffer
    assert buffer.pos == step - 1
    next_observations = buffer.next_observations.values() if "dict" in fault else [buffer.next_observations]
    assert all(np.isfinite(values).all() for values in (buffer.rewards, *next_observations))
    # One can save, repair the environment and go on
    model.save(tmp_path / "model")
    model.set_env(FaultyEnv(fault, step=10_000))
    model.learn(20, reset_num_timesteps=False)
    assert model.num_timesteps == step + 20


@pytest.mark.parametrize("n_steps", [1, 3])
def test_going_on_after_a_fault_makes_no_step_up(n_steps):
    """The step of the fault is missing. The same environments go on, one of which was right"""

    class Repaired(FaultyEnv):
        def step(self, action):
            _, reward, *rest = super().step(action)
            if self.n_steps == self.fault_step:
                self.fault_step = 10_000
            return self.observation(), reward, *rest

        def observation(self):
            return np.full(3, self.n_steps / 1000, np.float32)

    env = make_vec_env(lambda: Repaired("reward", 31), 2)
    env.envs[1].unwrapped.fault_step = 10_000
    model = DSPG("MlpPolicy", env, n_steps=n_steps, **TINY)
    with pytest.raises(NonFiniteError, match=r"^reward is not finite at environment step 62: "):
        model.learn(200)
    buffer = model.replay_buffer
    assert model._last_obs is None and buffer.pos == 30 and buffer.timeouts[29].all()
    assert model.learn(40, reset_num_timesteps=False).num_timesteps == 102
    before, after = buffer.observations[30:50], buffer.next_observations[30:50]
    assert (after - before) == pytest.approx(np.full(before.shape, 1e-3), abs=1e-6)


class LastObservation(FaultyEnv):
    """The last observation of its second episode is NaN, and the first one of the next is not"""

    def reset(self, **kwargs):
        return np.zeros(3, np.float32), {}

    def step(self, action):
        _, reward, *rest = super().step(action)
        return np.full(3, np.nan if self.n_steps == 40 else 0.0, np.float32), reward, *rest


def test_a_fault_in_the_last_observation_of_an_episode():
    model = DSPG("MlpPolicy", LastObservation("reward", 10_000), **TINY)
    with pytest.raises(NonFiniteError, match=r"^observation is not finite at environment step 40"):
        model.learn(100)
    assert model.replay_buffer.pos == 39


def test_errors_of_the_environment_keep_their_names():
    class Refusing(FaultyEnv):
        def step(self, action):
            raise ValueError("action is outside the workspace")

    with pytest.raises(ValueError, match=r"^action is outside the workspace") as caught:
        DSPG("MlpPolicy", Refusing("reward", 10), **TINY).learn(10)
    assert not isinstance(caught.value, NonFiniteError)


@pytest.mark.parametrize("name", ["critic", "actor"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_network_may_be_frozen_as_a_whole(variant, name):
    model = make_model(variant, policy_delay=2).learn(30)
    network = getattr(model, name)
    if isinstance(network, th.nn.Module):
        network.requires_grad_(False)
    before = parameters_of(model.critic)
    model.learn(10, reset_num_timesteps=False)
    unchanged = all(th.equal(one, other) for one, other in zip(before, parameters_of(model.critic), strict=True))
    assert unchanged == (name == "critic")


def test_a_reset_with_a_fault_is_made_again():
    env = FaultyEnv("observation", step=0)
    model = DSPG("MlpPolicy", env, **TINY)
    with pytest.raises(NonFiniteError, match=r"^observation is not finite at environment step 0: "):
        model.learn(20)
    env.fault_step = 10_000
    assert model.learn(20, reset_num_timesteps=False).num_timesteps == 20


def test_a_fault_of_the_first_observation():
    model = DSPG("MlpPolicy", FaultyEnv("observation", step=0), **TINY)
    with pytest.raises(NonFiniteError, match=r"^observation is not finite at environment step 0: "):
        model.learn(20)
    assert model.replay_buffer.pos == 0


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("fault", ["reward", "observation"])
def test_vec_normalize_hides_no_fault(fault, training):
    """It clips an infinite value to 10, but SB3 stores the value before"""
    env = VecNormalize(DummyVecEnv([lambda: FaultyEnv(fault, step=33)]), training=training)
    model = DSPG("MlpPolicy", env, **TINY)
    with pytest.raises(NonFiniteError, match=f"^{fault} is not finite .* VecNormalize have seen it"):
        model.learn(100)
    assert np.isfinite(model.replay_buffer.rewards).all() and np.isfinite(model.replay_buffer.next_observations).all()


def test_updates_see_normalised_transitions(monkeypatch):
    env = VecNormalize(DummyVecEnv([lambda: TimeLimit(QuadraticBandit(c=1000.0), 10)]))
    model, seen = DSPG("MlpPolicy", env, **TINY), []
    update = model._update
    monkeypatch.setattr(model, "_update", lambda replay_data, *args: seen.append(replay_data) or update(replay_data, *args))
    model.learn(40)
    assert all(replay_data.rewards.abs().max() <= 10 for replay_data in seen) and model.replay_buffer.rewards.max() > 900


@pytest.mark.parametrize(("target_entropy", "direction"), [(100.0, 1), (-100.0, -1)])
def test_the_temperature_rises_while_the_entropy_is_too_small(target_entropy, direction):
    model = DSPG("MlpPolicy", "Pendulum-v1", **{**TINY, "target_entropy": target_entropy}).learn(40)
    assert direction * model.log_ent_coef.item() > 1e-3


def test_a_diverged_update_is_named():
    model = DSPG("MlpPolicy", "Pendulum-v1", **TINY).learn(30)
    with th.no_grad():
        next(model.critic.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="train/critic_loss is not finite at environment step 30"):
        model.train(1, 16)


@pytest.mark.parametrize("network", ["actor", "critic"])
def test_a_gradient_that_overflows_is_named(network):
    """While the loss is finite"""
    model = DSPG("MlpPolicy", "Pendulum-v1", **TINY).learn(30)
    hook = list(getattr(model, network).parameters())[-1].register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NonFiniteError, match=f"train/{network}_grad_norm is not finite at environment step 30"):
        model.train(1, 16)
    hook.remove()


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
    clipped, of_critic = (
        th.stack([parameter.grad.norm() for parameter in network.parameters()]).norm().item()
        for network in (model.actor, model.critic)
    )
    # The log has the norm before
    before = model.logger.name_to_value["train/actor_grad_norm"]
    assert clipped == pytest.approx(before if max_grad_norm is None else min(before, max_grad_norm), rel=1e-4)
    assert before > 1e-2
    # The critic's is not clipped
    assert of_critic == pytest.approx(model.logger.name_to_value["train/critic_grad_norm"], rel=1e-4) and of_critic > 1e-2


def test_learning_rates():
    """The actor and the temperature follow learning_rate, the critic its own, down to the last update at progress 0"""
    schedules = {"learning_rate": lambda progress: 1e-3 + progress, "qf_learning_rate": lambda progress: 4e-3 + progress}
    model = DSPG("MlpPolicy", "Pendulum-v1", **{**TINY, **schedules}).learn(40)
    optimizers = model.actor.optimizer, model.ent_coef_optimizer, model.critic.optimizer
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [1e-3, 1e-3, 4e-3]
    assert model.logger.name_to_value["train/qf_learning_rate"] == 4e-3
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
    model._next_value = lambda predictions, samples, ent_coef: th.full((4, 1), 10.0)
    seen = []

    def predictions(embedding, actions):
        seen.append(th.zeros(1, *actions.shape[:2], requires_grad=True))
        return seen[-1]

    model.critic.predictions = predictions
    discounts = th.tensor([[0.5], [0.25], [0.125], [1.0]])
    zeros = th.zeros(4, 1)
    replay_data = ReplayBufferSamples(th.zeros(4, 3), zeros, th.zeros(4, 3), zeros, th.ones(4, 1), discounts)
    model._losses(replay_data, model._draw_noise(4), th.tensor(0.0)).critic.backward()
    # d/dq of 1/(2 N) sum (q - y)^2 at q = 0 is -y / N
    assert th.allclose(-4 * seen[0].grad[0], 1 + 10 * discounts)


def test_log_keys():
    model = DSPG("MlpPolicy", "Pendulum-v1", **{**TINY, "gradient_steps": 2}, train_freq=4)
    model.learn(40, log_interval=None)
    logged = {key.removeprefix("train/") for key in model.logger.name_to_value if key.startswith("train/")}
    assert logged == {
        *("n_updates", "ent_coef", "actor_loss", "critic_loss", "ent_coef_loss", "learning_rate"),  # SAC's
        *("qf_learning_rate", "entropy", "log_prob", "q_mean", "actor_grad_norm", "critic_grad_norm", "updates_per_step"),
    }
    values = model.logger.name_to_value
    assert values["train/updates_per_step"] == 0.5
    assert values["train/entropy"] == -values["train/log_prob"]


def test_learn_takes_a_float_and_names_the_run(tmp_path):
    model = DSPG("MlpPolicy", "Pendulum-v1", tensorboard_log=str(tmp_path), **TINY).learn(3e1, progress_bar=True)
    assert model.num_timesteps == 30
    assert [path.name for path in tmp_path.iterdir()] == ["DSPG_1"]


def test_the_log_has_means_over_the_updates_of_the_actor():
    """Not over all updates, of which half do not move the actor"""
    model = DSPG("MlpPolicy", "Pendulum-v1", **{**TINY, "policy_delay": 2}).learn(20)
    seen, update = [], model._update
    model._update = lambda *args: seen.append(update(*args)) or seen[-1]
    model.train(4, 16)
    entropies = [metrics["entropy"].item() for metrics in seen if "entropy" in metrics]
    assert len(entropies) == 2 and model.logger.name_to_value["train/entropy"] == pytest.approx(np.mean(entropies))


def test_q_mean_is_that_of_the_first_critic():
    model = DSPG("MlpPolicy", "Pendulum-v1", **TINY).learn(20)
    model.critic.q_networks[1].head[-1].bias.data.add_(1000)
    model.train(1, 16)
    assert abs(model.logger.name_to_value["train/q_mean"]) < 100
