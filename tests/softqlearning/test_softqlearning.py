import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from scipy.stats import kstest
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.utils import LinearSchedule

from sb3_maxent import SoftQLearning
from sb3_maxent.functional import mixed_space_score, mixture_proposal, pre_tanh_score, stein_variational_gradient
from sb3_maxent.softqlearning.policies import SoftQLearningPolicy
from sb3_maxent.softqlearning.softmax_actor import SoftmaxActor
from tests.envs import QuadraticBandit
from tests.functional.closed_forms import BoundedQuadraticBandit
from tests.gradients import descend, moved, next_value
from tests.models import make_model

TINY = {"n_particles": 4, "n_value_samples": 4, "buffer_size": 1000, "learning_starts": 10, "batch_size": 16, "seed": 0}
SMALL = {**TINY, "policy_kwargs": {"net_arch": [16, 16]}}


def decaying(progress):
    return 1e-5 + 2e-3 * progress


def trained_samples(b: float, h: float, alpha: float, n_steps: int = 3000, **kwargs) -> tuple[np.ndarray, SoftQLearning]:
    """Train end to end on a one-step bandit and sample its policy"""
    env = TimeLimit(QuadraticBandit(h=h, b=b, terminate=True), 10)
    policy_kwargs = {"net_arch": [64, 64], "n_critics": 1, "action_layer": 0}
    arguments = {"learning_rate": decaying, "batch_size": 64, "learning_starts": 200, "seed": 0, **kwargs}
    model = SoftQLearning("MlpPolicy", env, ent_coef=alpha, policy_kwargs=policy_kwargs, **arguments).learn(n_steps)
    return model.sample_actions(np.ones((1, 1), np.float32), 4000)[0, :, 0], model


def test_samples_the_boltzmann_density():
    bandit = BoundedQuadraticBandit(c=0.0, h=3.0, b=0.4, alpha=0.3)
    actions, model = trained_samples(0.4, 3.0, 0.3)
    assert kstest(actions, bandit.policy.cdf).statistic < 0.05
    value = next_value(model, th.ones(500, 1), model._draw_noise(500).next_actions, th.tensor(0.3)).mean()
    assert value.item() == pytest.approx(bandit.value, abs=0.02)


@pytest.mark.slow
def test_the_reference_form_samples_another_density():
    """The control of the test above: it samples the density times 1 - a^2"""
    bandit = BoundedQuadraticBandit(c=0.0, h=3.0, b=0.4, alpha=0.3)
    reference, _ = trained_samples(0.4, 3.0, 0.3, particle_space="reference")
    assert kstest(reference, bandit.policy.cdf).statistic > 0.1


@pytest.mark.parametrize("n_value_samples", [8, 6])
def test_both_losses_share_their_noise_if_they_can(n_value_samples):
    model = SoftQLearning("MlpPolicy", "Pendulum-v1", n_particles=8, n_value_samples=n_value_samples)
    noise = model._draw_noise(4)
    assert noise.next_actions.centres.shape == (4, n_value_samples, 1) and noise.actions.shape == (4, 8, 1)
    assert (noise.actions is noise.next_actions.centres) == (n_value_samples == 8)
    assert not th.equal(noise.next_actions.centres[..., 0], noise.next_actions.proposal[..., 1])


@pytest.mark.parametrize("particle_space", ["pre_tanh", "reference"])
@pytest.mark.parametrize("value_proposal", ["mixture", "uniform"])
def test_gradient_isolation(particle_space, value_proposal):
    arguments = {"particle_space": particle_space, "value_proposal": value_proposal}
    model = SoftQLearning("MlpPolicy", "Pendulum-v1", **arguments, **SMALL).learn(20)
    replay_data, noise, ent_coef = model.replay_buffer.sample(8), model._draw_noise(8), model.temperature.value
    networks = {name: getattr(model, name) for name in ("actor", "critic", "critic_target")}
    losses = model._losses(replay_data, noise, ent_coef)
    assert moved(networks, losses.critic.backward) == {"critic"}
    assert moved(networks, losses.actor.backward) == {"actor"}
    assert moved(networks, lambda: model._update(replay_data, noise)) == {"actor", "critic"}


@pytest.mark.parametrize("particle_space", ["pre_tanh", "reference"])
def test_gradient_of_the_actor_loss(particle_space):
    """The first half of the particles carries the score, and the Stein direction passes through the second half alone"""
    kwargs = {**SMALL, "n_particles": 8}
    model = SoftQLearning("MlpPolicy", "Pendulum-v1", ent_coef=0.5, particle_space=particle_space, **kwargs).learn(12)
    observations, noise = th.randn(6, 3), th.randn(6, 8, 1)
    model.critic.q_values = lambda embedding, actions: actions.sin().sum(dim=-1)
    loss, _ = model._actor_loss(observations, [], noise, th.tensor(0.5))
    gradients = th.autograd.grad(loss, list(model.actor.parameters()))

    particles = model.actor.pre_tanh(observations, noise)
    actions = th.tanh(particles)
    reference = particle_space == "reference"
    score = (mixed_space_score if reference else pre_tanh_score)(actions, actions.cos(), 0.5).detach()[:, :4]
    moved_particles = actions if reference else particles
    direction = stein_variational_gradient(score, moved_particles.detach()[:, :4], moved_particles.detach()[:, 4:])
    expected = th.autograd.grad(-(direction * moved_particles[:, 4:]).sum(dim=-1).mean(), list(model.actor.parameters()))
    assert all(th.allclose(a, b, atol=1e-5) for a, b in zip(gradients, expected, strict=True))


def test_actions_rise_where_q_rises():
    model = SoftQLearning("MlpPolicy", "Pendulum-v1", ent_coef=0.01, learning_rate=1e-3, **SMALL).learn(10)
    model.critic.q_values = lambda embedding, actions: actions.sum(dim=-1)
    observations, noise, zero_noise = th.randn(64, 3), th.randn(64, 4, 1), th.zeros(64, 1, 1)
    before = model.actor.pre_tanh(observations, zero_noise).mean()
    for _ in range(20):
        descend(model.actor, model._actor_loss(observations, [], noise, th.tensor(0.01))[0])
    assert model.actor.pre_tanh(observations, zero_noise).mean() > before + 0.01


@pytest.mark.parametrize("noise_layer", [0, -1])
@pytest.mark.parametrize("n_features", [2, 105])
@pytest.mark.parametrize("scale", [0.1, 1, 4])
def test_initial_actions_spread_over_the_box(scale, n_features, noise_layer):
    """However many features there are, and of any size of order one, which one initialisation for all layers does not do"""
    env = TimeLimit(QuadraticBandit(action_dim=3), 5)
    env.unwrapped.observation_space = type(env.observation_space)(-1, 1, (n_features,))
    policy_kwargs = {"noise_layer": noise_layer}
    model = SoftQLearning("MlpPolicy", env, n_particles=4, buffer_size=10, seed=0, policy_kwargs=policy_kwargs)
    observations = scale * np.random.default_rng(0).normal(size=(30, n_features)).astype(np.float32)
    actions = model.sample_actions(observations, 200)
    assert actions.std(axis=1).mean() > 0.3
    assert (np.abs(actions) > 0.99).mean() < 0.5


def test_features_extractor_keeps_its_own_initialisation():
    env = FakeImageEnv(screen_height=40, screen_width=40, n_channels=1, discrete=False)
    model = SoftQLearning("CnnPolicy", env, n_particles=4, buffer_size=10, seed=0)
    linear = model.actor.features_extractor.linear[0]
    # PyTorch's: biases, and weights below one over the root of the inputs
    assert linear.bias.abs().max() > 0 and linear.weight.abs().max() <= linear.in_features**-0.5


def test_sample_actions():
    model = SoftQLearning("MlpPolicy", "Pendulum-v1", **SMALL)
    single, batch = model.sample_actions(np.zeros(3, np.float32), 7), model.sample_actions(np.zeros((5, 3), np.float32), 7)
    assert single.shape == (7, 1) and batch.shape == (5, 7, 1)
    # In the units of the environment, and not all alike
    many = model.sample_actions(np.zeros((5, 3), np.float32), 500)
    assert many.std(axis=1).min() > 0.1 and 1.0 < np.abs(many).max() <= 2.0
    with pytest.raises(ValueError, match="n_samples=0"):
        model.sample_actions(np.zeros(3, np.float32), 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ent_coef": "auto"}, "cannot learn its temperature with Box actions, because the entropy"),
        ({"ent_coef": 0}, "needs a temperature that stays positive until the end"),
        ({"ent_coef": "lin_0_1"}, "needs a temperature that stays positive until the end"),
        ({"ent_coef": "lin_0.5"}, "ent_coef='lin_0.5': Soft Q-learning needs a temperature that stays positive"),
        ({"policy_kwargs": {"use_sde": True}}, "use_sde=True: gSDE is for Gaussian policies"),
        ({"policy_kwargs": {"noise_layer": 0.5}}, "noise_layer=0.5 is not a hidden layer"),
        ({"ent_coef": "autoo"}, "Give a positive number or a schedule$"),
        ({"ent_coef": "warm"}, "ent_coef='warm' is not a schedule: give a number >= 0, a function"),
        ({"n_particles": 5}, "n_particles=5: give an even number >= 4"),
        ({"n_particles": 2}, "n_particles=2: give an even number >= 4"),
        ({"n_particles": 8.0}, "n_particles=8.0: give an integer"),
        ({"n_value_samples": 0}, "n_value_samples=0: give an integer"),
        ({"value_proposal": "policy"}, r"value_proposal='policy' is not one of \('mixture', 'uniform'\)"),
        ({"particle_space": "action"}, r"particle_space='action' is not one of \('pre_tanh', 'reference'\)"),
        ({"policy_kwargs": {"net_arch": []}}, "needs at least one hidden layer"),
        ({"policy_kwargs": {"net_arch": [8, 8], "noise_layer": 2}}, "noise_layer=2 is not a hidden layer"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SoftQLearning("MlpPolicy", "Pendulum-v1", **arguments)


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
def test_the_temperature_follows_its_schedule_after_loading(env_id, tmp_path):
    schedule = LinearSchedule(1.0, 0.5, 1.0)
    model = SoftQLearning("MlpPolicy", env_id, ent_coef=schedule, **SMALL).learn(40)
    model.save(tmp_path / "model")
    loaded = SoftQLearning.load(tmp_path / "model", env=model.get_env())
    # The policy alone has the temperature that the schedule had reached
    model.policy.save(tmp_path / "policy")
    policy = SoftQLearningPolicy.load(tmp_path / "policy")
    assert policy.ent_coef.item() == loaded.ent_coef_tensor.item() == 0.5
    loaded.learn(20, reset_num_timesteps=False)
    loaded._current_progress_remaining = 1.0
    loaded.train(1, 8)
    assert loaded.policy.ent_coef.item() == loaded.ent_coef_tensor.item() == 1.0


# --- deterministic actions ---------------------------------------------------------------------------------------------


def test_deterministic_is_the_best_of_the_denser_candidates():
    model = SoftQLearning("MlpPolicy", "Pendulum-v1", **SMALL)
    model.actor.deterministic_noise.copy_(th.linspace(-1, 1, 32)[:, None])
    # Actions before tanh: 20 within 0.2 around 0.8, where they are densest in the middle, and 12 from -3 to -1
    model.actor.pre_tanh = lambda obs, noise: th.where(noise > -0.25, 0.8 + 0.2 * noise**3, 2 * noise - 1)
    observation = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    candidates = model.actor.candidates(th.as_tensor(observation))
    assert candidates.shape == (20, 16, 1) and (candidates.atanh() - 0.8).abs().max() < 0.2
    # The largest Q-value is that of an action outside of the denser half
    model.critic.q_values = lambda embedding, actions: -actions[..., 0]
    first, second = (model.predict(observation, deterministic=True)[0] for _ in range(2))
    assert np.array_equal(first, second)
    assert first / 2 == pytest.approx(candidates.min(dim=1).values.numpy(), abs=1e-6)
    # The largest is inside: the nearest candidate
    model.critic.q_values = lambda embedding, actions: -(actions[..., 0] - 0.67).abs()
    nearest = (candidates - 0.67).abs().min(dim=1).values.numpy()
    assert np.abs(model.predict(observation, deterministic=True)[0] / 2 - 0.67) == pytest.approx(nearest, abs=1e-6)


# --- Discrete ----------------------------------------------------------------------------------------------------------

REWARDS = np.array([0.0, 1.0, -0.5, 0.3])


class DiscreteBandit(gym.Env):
    """One state, one step, a reward for each action. What is learned is in ``tests/dspg/test_discrete.py``, for DSPG too."""

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Discrete(len(REWARDS))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), REWARDS[action], True, False, {}


def test_the_actor_of_discrete_actions_has_no_parameters():
    model = SoftQLearning("MlpPolicy", "CartPole-v1", **SMALL).learn(20)
    assert isinstance(model.actor, SoftmaxActor) and not [name for name in model.policy.state_dict() if "actor" in name]
    networks = {name: getattr(model, name) for name in ("critic", "critic_target")}
    replay_data, ent_coef = model.replay_buffer.sample(8), model.temperature.value
    losses = model._losses(replay_data, model._draw_noise(8), ent_coef)
    assert moved(networks, losses.critic.backward) == {"critic"}
    assert losses.actor is None and losses.log_prob.shape == (8, 1)
    assert 0 < model.logger.name_to_value["train/entropy"] <= np.log(2) + 1e-6


def test_discrete_critic_knows_which_action():
    """``q_values`` of all actions and ``forward`` of one action read the same Q-value"""
    model = SoftQLearning("MlpPolicy", DiscreteBandit(), seed=0, policy_kwargs={"net_arch": [32], "n_critics": 1})
    observations = th.ones(4, 1)
    all_q_values = model.critic.q_values(model.critic.embed(observations), model.critic.all_actions(4))
    (q_values,) = model.critic(observations, th.arange(4)[:, None])
    assert th.allclose(q_values[:, 0], all_q_values.diagonal())
    assert all_q_values[0].unique().numel() == 4


def test_discrete_spaces_start_at_zero():
    env = DiscreteBandit()
    env.action_space = spaces.Discrete(4, start=1)
    with pytest.raises(ValueError, match="start at 0"):
        SoftQLearning("MlpPolicy", env)
    with pytest.raises(ValueError, match="share_features_extractor=True: without a network in the actor"):
        SoftQLearning("MlpPolicy", "CartPole-v1", policy_kwargs={"share_features_extractor": True})
    with pytest.raises(ValueError, match=r"action_noise=.* has no meaning for Discrete actions"):
        SoftQLearning("MlpPolicy", "CartPole-v1", action_noise=NormalActionNoise(np.zeros(1), np.ones(1)))


def test_the_smallest_critic_has_the_soft_value():
    model, observations, alpha = make_model("Discrete SoftQLearning"), th.randn(6, 4), 0.3
    actions = [th.full((6, 1), action) for action in range(2)]
    q_values = th.stack([th.cat(model.critic_target(observations, action), dim=1) for action in actions])  # (2, 6, 2)
    expected = alpha * th.logsumexp(q_values.amin(dim=2) / alpha, dim=0)
    assert th.allclose(next_value(model, observations, None, th.tensor(alpha))[:, 0], expected)
    # The control: their mean
    assert not th.allclose(alpha * th.logsumexp(q_values.mean(dim=2) / alpha, dim=0), expected, atol=0.02)


@pytest.mark.parametrize("proposal", ["uniform", "mixture"])
def test_value_proposal(proposal):
    model, observations = make_model("SoftQLearning", value_proposal=proposal), th.randn(4, 3)
    noise = model._draw_noise(4).next_actions
    samples = model._next_samples(observations, noise)
    if proposal == "uniform":
        expected = 2 * noise.proposal[..., 1:] - 1, th.full((4, 4), -np.log(2.0))
    else:
        expected = mixture_proposal(th.tanh(model.actor.pre_tanh(observations, noise.centres)), noise.proposal)
    assert th.allclose(samples.actions, expected[0]) and th.allclose(samples.log_prob, expected[1].to(th.float32))


@pytest.mark.parametrize(("noise_layer", "width"), [(0, 8), (-1, 16)])
def test_noise_enters_at_its_layer(noise_layer, width):
    model = make_model("SoftQLearning", policy_kwargs={"net_arch": [8, 16], "noise_layer": noise_layer})
    assert model.actor.noise_network.out_features == width
