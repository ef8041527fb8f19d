import numpy as np
import pytest
import torch as th
from stable_baselines3.common.vec_env import VecNormalize

from sb3_maxent import DSPG
from sb3_maxent.common.reward_scale import RewardScale
from tests.models import BOX_VARIANTS, SMALL, make_model, state_of
from tests.saving.test_checkpoints import pendulums

pytestmark = pytest.mark.filterwarnings("ignore:.*updates per step")


def test_reward_scale_is_the_deviation_of_the_discounted_return():
    """Two episodes of rewards 1, with returns 1, 1.5, 1.75 and 1, 1.5"""
    scale = RewardScale()
    for done in (False, False, True, False, False):
        scale.update(np.ones(1), np.array([done]), gamma=0.5)
    assert scale.value == pytest.approx(np.std([1, 1.5, 1.75, 1, 1.5]), rel=1e-3)


def test_reward_scale_of_a_task_without_rewards():
    scale = RewardScale()
    for _ in range(1000):
        scale.update(np.zeros(3), np.zeros(3, bool), gamma=0.9)
    assert 0 < scale.value < 1e-3


def test_reward_scale_is_that_of_vec_normalize():
    """Which has seen the same rewards, and keeps its statistics in the wrapper"""
    env = VecNormalize(pendulums(normalize=False), norm_obs=False, norm_reward=False, gamma=0.9)
    model = DSPG("MlpPolicy", env, gamma=0.9, norm_reward=True, gradient_steps=0, **SMALL).learn(1000)
    assert model.reward_scale.value == pytest.approx(np.sqrt(env.ret_rms.var))
    assert model.reward_scale.returns == pytest.approx(env.returns)


@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_norm_reward_trains_on_rewards_of_order_one(variant):
    """The same update as with the rewards divided by hand, and the buffer as without it"""
    models = [make_model(variant, norm_reward=norm_reward).learn(30) for norm_reward in (True, False)]
    scaled, plain = models
    assert np.array_equal(scaled.replay_buffer.rewards[:20], plain.replay_buffer.rewards[:20])
    scale = scaled.reward_scale.value
    assert scale > 2 and scaled.logger.name_to_value["train/reward_scale"] == scale
    assert "train/reward_scale" not in plain.logger.name_to_value
    plain.policy.load_state_dict(scaled.policy.state_dict())
    data, noise = scaled.replay_buffer.sample(16), scaled._draw_noise(16)
    ent_coef = th.tensor(0.5)
    by_hand = plain._losses(data._replace(rewards=data.rewards / scale), noise, ent_coef)
    losses = scaled._losses(scaled._scaled(data), noise, ent_coef)
    assert losses.critic == by_hand.critic != plain._losses(data, noise, ent_coef).critic


def test_norm_reward_is_saved(tmp_path):
    model = make_model("DSPG", norm_reward=True).learn(50)
    model.save(tmp_path / "model")
    loaded = DSPG.load(tmp_path / "model", env=model.get_env())
    assert loaded.norm_reward and loaded.reward_scale.value == model.reward_scale.value
    # RL Zoo gives all arguments again
    DSPG.load(tmp_path / "model", norm_reward=True)
    with pytest.raises(ValueError, match="norm_reward=False, but the Q-values were learned with norm_reward=True"):
        DSPG.load(tmp_path / "model", norm_reward=False)
    loaded.learn(30, reset_num_timesteps=False)
    assert loaded.reward_scale.statistics.count == pytest.approx(80, abs=1)


def test_norm_reward_follows_the_number_of_environments():
    scale = RewardScale()
    scale.update(np.ones(2), np.zeros(2, bool), gamma=1.0)
    scale.update(np.ones(3), np.zeros(3, bool), gamma=1.0)
    assert scale.returns.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "scaled"),
    [
        ({}, True),
        ({"ent_coef": "auto"}, True),
        ({"ent_coef": 0.2}, False),
        ({"ent_coef": "lin_1_0.1"}, False),
        ({"ent_coef": lambda progress: 0.1}, False),
        ({"ent_coef": 0.2, "norm_reward": True}, True),
        ({"norm_reward": False}, False),
    ],
)
def test_a_given_temperature_is_in_the_unit_of_the_rewards(arguments, scaled):
    assert DSPG("MlpPolicy", "Pendulum-v1", buffer_size=1, **arguments).norm_reward is scaled


@pytest.mark.parametrize("gradient_steps", [1, 6])
@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_policy_delay(variant, gradient_steps):
    """Every third update moves the actor, also where a call of train makes one update"""
    model = make_model(variant, policy_delay=3, gradient_steps=gradient_steps, train_freq=gradient_steps).learn(20)
    moved = []
    for _ in range(6 // gradient_steps):
        before = state_of(model)
        model.policy.set_training_mode(True)
        model.train(gradient_steps, 8)
        after = state_of(model)
        changed = [name for name in before if name.startswith("policy") and not th.equal(before[name], after[name])]
        moved.append({name.split()[1].split(".")[0] for name in changed})
    actors = {"actor", "averaged_actor"} if variant == "DSPG" else {"actor"}
    expected = [{"critic", "critic_target"}] * 2 + [{"critic", "critic_target", *actors}]
    assert moved == (expected * 2 if gradient_steps == 1 else expected[-1:])


def test_a_second_call_of_learn_starts_new_returns():
    """As VecNormalize does, which is reset with the environments; they are left in the middle of an episode"""
    env = VecNormalize(pendulums(normalize=False), norm_obs=False, norm_reward=False, gamma=0.9)
    model = DSPG("MlpPolicy", env, gamma=0.9, norm_reward=True, gradient_steps=0, **SMALL)
    for steps in (130, 90):
        model.learn(steps)
        assert model.reward_scale.returns == pytest.approx(env.returns)
    assert model.reward_scale.value == pytest.approx(np.sqrt(env.ret_rms.var))
    # The same episodes go on
    model.learn(2, reset_num_timesteps=False)
    assert model.reward_scale.returns == pytest.approx(env.returns) and (model.reward_scale.returns < -17).all()


@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_updates_see_scaled_rewards(variant, monkeypatch):
    model, seen = make_model(variant, norm_reward=True).learn(30), []
    update = model._update
    monkeypatch.setattr(model, "_update", lambda data, *args: (seen.append(data.rewards), update(data, *args))[1])
    np.random.seed(0)
    model.train(1, 16)
    np.random.seed(0)
    rewards = model.replay_buffer.sample(16).rewards
    assert model.reward_scale.value > 2 and th.allclose(seen[0] * model.reward_scale.value, rewards)


@pytest.mark.parametrize(("norm_reward", "low", "high"), [(True, 0.1, 10), (False, 30, 1000)])
def test_reward_scale_is_that_of_the_rewards_that_the_model_learns_from(norm_reward, low, high):
    """VecNormalize has divided them already"""
    env = VecNormalize(pendulums(normalize=False), norm_reward=norm_reward)
    model = DSPG("MlpPolicy", env, norm_reward=True, gradient_steps=0, **SMALL).learn(400)
    assert low < model.reward_scale.value < high


def test_only_the_episode_that_ends_begins_at_zero():
    scale = RewardScale()
    scale.update(np.ones(2), np.array([True, False]), gamma=0.5)
    assert scale.returns.tolist() == [0, 1]
