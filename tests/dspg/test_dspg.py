import numpy as np
import pytest
import torch as th
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_maxent import DSPG
from sb3_maxent.functional import score_function_loss
from tests.envs import QuadraticBandit
from tests.functional.closed_forms import BoundedQuadraticBandit
from tests.gradients import descend, moved, next_value
from tests.models import PLAIN, PLAIN_NETWORKS

TINY = {
    **PLAIN,
    **{"policy_kwargs": {"net_arch": [16, 16], **PLAIN_NETWORKS}, "n_action_samples": 4},
    **{"buffer_size": 1000, "learning_starts": 10},
}


class LinearExtractor(BaseFeaturesExtractor):
    """A features extractor with parameters, which sharing is about"""

    def __init__(self, observation_space):
        super().__init__(observation_space, 8)
        self.linear = nn.Linear(get_flattened_obs_dim(observation_space), 8)

    def forward(self, observations):
        return self.linear(observations)


def changed(model: DSPG, update) -> set[str]:
    networks = {
        "actor": model.actor.mu,
        "actor extractor": model.actor.features_extractor,
        "critic": model.critic.q_networks,
        "critic extractor": model.critic.features_extractor,
        "critic_target": model.critic_target,
        "actor_target": model.actor_target,
    }
    return moved(networks, update)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("baseline", ["none", "loo"])
def test_gradient_isolation(baseline, share):
    """The critic loss moves only the critic, the actor loss only the actor and a shared extractor, the temperature neither"""
    policy_kwargs = {"target_actor": True, "share_features_extractor": share, "features_extractor_class": LinearExtractor}
    kwargs = {**TINY, "policy_kwargs": {**TINY["policy_kwargs"], **policy_kwargs}}
    model = DSPG("MlpPolicy", "Pendulum-v1", baseline=baseline, **kwargs).learn(20)
    replay_data, noise, ent_coef = model.replay_buffer.sample(8), model._draw_noise(8), model.temperature.value
    losses = model._losses(replay_data, noise, ent_coef)
    by_critic = changed(model, losses.critic.backward)
    assert by_critic == ({"critic"} if share else {"critic", "critic extractor"})
    by_actor = changed(model, losses.actor.backward)
    assert by_actor == {"actor", "actor extractor"} | ({"critic extractor"} if share else set())
    assert changed(model, lambda: model.temperature.learn(th.zeros(8, 4), -1.0)) == set()
    assert changed(model, lambda: model._update(replay_data, noise)) == by_critic | by_actor


@pytest.mark.parametrize("n_target_samples", [None, 4, 2])
def test_both_losses_share_their_noise_if_they_can(n_target_samples):
    model = DSPG("MlpPolicy", "Pendulum-v1", **{**TINY, "n_target_samples": n_target_samples})
    noise = model._draw_noise(8)
    assert noise.next_actions.shape == (8, n_target_samples or 4, 1) and noise.actions.shape == (8, 4, 1)
    assert (noise.next_actions is noise.actions) == (n_target_samples != 2)


def test_the_actor_follows_the_critic_that_embedded_the_states():
    """Not one whose layers have moved since: half of it would be of another update"""
    model = DSPG("MlpPolicy", "Pendulum-v1", **TINY).learn(20)
    replay_data, noise = model.replay_buffer.sample(8), model._draw_noise(8)
    embedding = model.critic.embed(replay_data.observations)
    loss, _ = model._actor_loss(replay_data.observations, embedding, noise.actions, model.temperature.value)
    assert model._update(replay_data, noise)["actor_loss"].item() == loss.item()


@pytest.mark.parametrize("target_actor", [False, True])
def test_the_target_samples_from_the_right_actor(target_actor):
    kwargs = {**TINY, "policy_kwargs": {**TINY["policy_kwargs"], "target_actor": target_actor}}
    model = DSPG("MlpPolicy", "Pendulum-v1", tau=0.0, **kwargs).learn(20)
    assert (model.actor_target is not None) == target_actor
    observations, noise = th.randn(8, 3), th.randn(8, 4, 1)
    before = next_value(model, observations, noise, th.tensor(0.1))
    with th.no_grad():
        for parameter in model.actor.parameters():
            parameter.add_(0.5)
    assert th.equal(next_value(model, observations, noise, th.tensor(0.1)), before) == target_actor


def test_next_value_by_hand():
    """Smallest critic at each sampled action, minus the sampled entropy, averaged"""
    model = DSPG("MlpPolicy", "Pendulum-v1", **TINY).learn(20)
    observations, noise, ent_coef = th.randn(3, 3), th.randn(3, 4, 1), 0.3
    with th.no_grad():
        mean, log_std, _ = model.actor.get_action_dist_params(observations)
        total = th.zeros(3, 1)
        for i in range(4):
            pre_tanh = mean + log_std.exp() * noise[:, i]
            action = th.tanh(pre_tanh)
            log_prob = th.distributions.Normal(mean, log_std.exp()).log_prob(pre_tanh) - th.log(1 - action**2)
            q_values = th.cat(model.critic_target(observations, action), dim=1).min(dim=1, keepdim=True).values
            total += q_values - ent_coef * log_prob
        value = next_value(model, observations, noise, th.tensor(ent_coef))
    assert th.allclose(value, total / 4, atol=1e-5)


@pytest.mark.parametrize("actor_q_value", ["min", "mean"])
def test_the_actor_follows_the_smallest_critic_or_their_mean(actor_q_value):
    """The target is the smallest one in both cases"""
    model = DSPG("MlpPolicy", "Pendulum-v1", **{**TINY, "policy_kwargs": {"net_arch": [16]}}, actor_q_value=actor_q_value)
    model.learn(20)
    model.policy.set_training_mode(False)
    observations, noise, ent_coef = th.randn(5, 3), th.randn(5, 4, 1), th.tensor(0.3)
    embedding = model.critic.embed(observations)
    actions, log_prob, _ = model.actor.action_samples(observations, noise)
    predictions = model.critic.predictions(embedding, actions)  # (networks, batch, samples)
    losses = {
        name: score_function_loss(log_prob, values.detach(), ent_coef, "loo").item()
        for name, values in {"min": predictions.amin(dim=0), "mean": predictions.mean(dim=0)}.items()
    }
    loss, _ = model._actor_loss(observations, embedding, noise, ent_coef)
    assert loss.item() == pytest.approx(losses.pop(actor_q_value), rel=1e-5) and loss.item() != pytest.approx(*losses.values())
    model.policy.set_training_mode(True)
    values = {}
    for model.actor_q_value in ("min", "mean"):
        values[model.actor_q_value] = next_value(model, observations, noise, ent_coef)
    assert th.equal(values["min"], values["mean"])


def test_bad_q_value_of_the_actor():
    with pytest.raises(ValueError, match=r"actor_q_value='max' is not one of \('min', 'mean'\)"):
        DSPG("MlpPolicy", "Pendulum-v1", actor_q_value="max")


@pytest.mark.parametrize("arguments", [{"baseline": "loo", "n_action_samples": 1}, {"baseline": "mean"}, {"baseline": None}])
def test_bad_baseline(arguments):
    with pytest.raises(ValueError, match="baseline="):
        DSPG("MlpPolicy", "Pendulum-v1", **arguments)


def test_one_sample_without_a_baseline():
    model = DSPG("MlpPolicy", "Pendulum-v1", **{**TINY, "n_action_samples": 1}, baseline="none").learn(30)
    assert model.logger.name_to_value["train/n_updates"] > 0


def train_bandit(env, gamma, steps=1500, seed=0):
    model = DSPG(
        "MlpPolicy",
        TimeLimit(env, 10),
        **{**PLAIN, "learning_rate": 3e-3, "ent_coef": 0.3, "batch_size": 64},
        gamma=gamma,
        tau=0.05,
        n_action_samples=32,
        learning_starts=100,
        seed=seed,
        policy_kwargs={"net_arch": [32, 32], **PLAIN_NETWORKS},
    )
    return model.learn(steps)


def samples_and_value(model, n_samples=4000):
    observation, noise = th.ones(1, 1), th.randn(1, n_samples, 1)
    with th.no_grad():
        distribution = model.actor.action_distribution(observation)
        actions = distribution.actions(distribution.sample(noise))
        return actions.flatten().numpy(), next_value(model, observation, noise, model.temperature.value).item()


def test_learns_the_continuing_bandit():
    """
    Trained end to end on one state: the policy is the Boltzmann density and the value V_1 / (1 - gamma).

    Control: the same bandit that ends after each step has the value V_1.
    """
    exact, gamma = BoundedQuadraticBandit(c=1.0, h=12.0, b=0.3, alpha=0.3), 0.8
    actions, value = samples_and_value(train_bandit(QuadraticBandit(c=1.0, h=12.0, b=0.3), gamma))
    # A squashed Gaussian is close to, not equal to a truncated one: its best value is smaller by alpha times the divergence
    assert value == pytest.approx(exact.value / (1 - gamma), abs=0.15)
    assert actions.mean() == pytest.approx(exact.policy.mean(), abs=0.03)
    assert actions.std() == pytest.approx(exact.policy.std(), abs=0.03)

    _, value = samples_and_value(train_bandit(QuadraticBandit(c=1.0, h=12.0, b=0.3, terminate=True), gamma))
    assert value == pytest.approx(exact.value, abs=0.15)
    assert abs(exact.value / (1 - gamma) - exact.value) > 1


def test_a_large_offset_hides_the_gradient_without_a_baseline():
    """The reason for the default: the same updates find the best action with leave-one-out and lose it without"""

    def distance(baseline):
        model = DSPG(
            "MlpPolicy", "Pendulum-v1", seed=0, ent_coef=0.01, baseline=baseline, n_action_samples=16, learning_rate=1e-3
        )
        observations = th.randn(64, 3)
        model.critic.q_values = lambda embedding, actions: 2500 - 10 * (actions[..., 0] - 0.5) ** 2
        for _ in range(200):
            descend(model.actor, model._actor_loss(observations, [], th.randn(64, 16, 1), th.tensor(0.01))[0])
        with th.no_grad():
            return (model.actor(observations, deterministic=True) - 0.5).abs().mean().item()

    assert distance("loo") < 0.05
    assert distance("none") > 0.3


def test_actions_are_rescaled_to_the_box():
    model = DSPG("MlpPolicy", "Pendulum-v1", **TINY).learn(20)
    actions = np.array([model.predict(np.random.randn(3).astype(np.float32))[0] for _ in range(200)])
    assert np.abs(actions).max() > 1.0 and np.abs(actions).max() <= 2.0


def test_sample_actions():
    model = DSPG("MlpPolicy", "Pendulum-v1", **TINY)
    single, batch = model.sample_actions(np.zeros(3, np.float32), 500), model.sample_actions(np.zeros((5, 3), np.float32), 7)
    assert single.shape == (500, 1) and batch.shape == (5, 7, 1)
    # In the units of the environment, and not all alike
    assert single.std() > 0.5 and 1.0 < np.abs(single).max() <= 2.0
