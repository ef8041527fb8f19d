"""A new model starts from the networks of a trained one."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import RescaleObservation
from stable_baselines3 import HerReplayBuffer

from sb3_maxent import DSPG, SoftQLearning
from tests.envs import RandomEnv
from tests.models import ACTIONS, IMAGE, VARIANTS, VECTOR, check_learning, differing, make_model, parameters_of, state_of

# The same spaces as Pendulum-v1, in another task
POLICY_KWARGS = {"net_arch": [8, 8], "batch_norm": True}


def other_task(model):
    return RandomEnv(model.observation_space, model.action_space)


def actions_of(model, deterministic):
    th.manual_seed(0)
    rng = np.random.default_rng(0)
    low, high = (2, 1) if isinstance(model.observation_space, spaces.Box) else (0, 0)
    observations = rng.uniform(-low, high, (50, *model.observation_space.shape)).astype(np.float32)
    return model.predict(observations, deterministic=deterministic)[0]


def acts_alike(first, second):
    return all(np.array_equal(actions_of(first, mode), actions_of(second, mode)) for mode in (False, True))


def trained(variant, **arguments):
    return make_model(variant, **arguments).learn(30)


@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_starts_as_the_other_model_and_moves_on(variant, from_file, tmp_path):
    source = trained(variant, policy_kwargs=POLICY_KWARGS)
    source.save(tmp_path / "source")
    model = make_model(variant, other_task(source), seed=5, policy_kwargs=POLICY_KWARGS)
    # Without it they act differently: the control
    assert not acts_alike(model, source)
    assert model.start_from(tmp_path / "source" if from_file else source) is model
    assert acts_alike(model, source)
    assert model.replay_buffer.size() == model.num_timesteps == 0
    assert not model.critic.optimizer.state and (model.actor.optimizer is None or not model.actor.optimizer.state)
    # The targets follow the networks that they were copied from, not those of the other model
    targets = {name: tensor for name, tensor in model.critic_target.state_dict().items()}
    assert differing(targets, model.critic.state_dict()) == set() != differing(targets, source.critic_target.state_dict())
    before, theirs = parameters_of(model.policy), state_of(source)
    check_learning(model)
    assert differing(before, parameters_of(model.policy)) == set(before)
    # And the other model stays as it is
    assert differing(theirs, state_of(source)) == set()


@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_and_loaded(variant, tmp_path):
    source = trained(variant)
    model = make_model(variant, other_task(source)).start_from(source)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=model.get_env())
    assert acts_alike(loaded, source) and loaded.acts_from_start
    before = parameters_of(loaded.policy)
    assert differing(before, parameters_of(loaded.learn(30).policy)) == set(before)


def test_the_target_actor_follows_the_actor():
    arguments = {"policy_kwargs": {"target_actor": True}}
    source = trained("DSPG", **arguments)
    model = make_model("DSPG", **arguments).start_from(source)
    assert differing(model.actor_target.state_dict(), model.actor.state_dict()) == set()


def test_images():
    arguments = {"policy": "CnnPolicy", "policy_kwargs": {"features_extractor_kwargs": {"features_dim": 8}}}
    source = make_model("DSPG", RandomEnv(IMAGE, ACTIONS["box"]), **arguments).learn(30)
    model = make_model("DSPG", RandomEnv(IMAGE, ACTIONS["box"]), seed=1, **arguments).start_from(source)
    observation = source.get_env().reset()
    assert np.array_equal(*(each.predict(observation, deterministic=True)[0] for each in (model, source)))
    check_learning(model)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_compiled(variant):
    source = trained(variant, compile=True)
    model = make_model(variant, other_task(source), compile=True, seed=1).start_from(source)
    assert acts_alike(model, source)
    check_learning(model)


def test_the_policy_takes_the_first_steps():
    """Uniform actions would not be those of the policy, which is nearly deterministic here"""
    source = trained("DSPG", policy_kwargs={"actor_averaging": None})
    with th.no_grad():
        source.actor.log_std.weight.zero_(), source.actor.log_std.bias.fill_(-20)
    new, started = (
        make_model("DSPG", other_task(source), learning_starts=1000, policy_kwargs={"actor_averaging": None}) for _ in range(2)
    )
    started.start_from(source)
    for model, follows in ((new, False), (started, True)):
        model.learn(20)
        buffer = model.replay_buffer
        policy = source.predict(buffer.observations[:20, 0], deterministic=True)[0]
        assert np.allclose(source.policy.scale_action(policy), buffer.actions[:20, 0], atol=1e-3) == follows


def test_the_scale_of_rewards_is_taken_over():
    source = trained("DSPG", norm_reward=True)
    model = make_model("DSPG", norm_reward=True).start_from(source)
    scale = source.reward_scale.value
    assert model.reward_scale.value == scale != make_model("DSPG").reward_scale.value
    model.learn(30)
    assert source.reward_scale.value == scale != model.reward_scale.value
    # The episodes at hand are not those of the other model
    assert make_model("DSPG", norm_reward=True).start_from(source).reward_scale.returns.size == 0


@pytest.mark.parametrize(
    ("ours", "take", "expected"),
    [(0.2, False, 0.2), (0.2, True, 0.7), ("auto_0.2", False, 0.2), ("auto_0.2", True, 0.7), ("lin_1_0.1", True, 0.7)],
)
def test_the_temperature_is_taken_over_or_starts_as_configured(ours, take, expected, tmp_path):
    source = trained("DSPG", ent_coef=0.7)
    model = make_model("DSPG", ent_coef=ours).start_from(source, take_ent_coef=take)
    assert model.temperature.value.item() == pytest.approx(expected)
    assert model.ent_coef_optimizer is None or not model.ent_coef_optimizer.state
    model.save(tmp_path / "model")
    assert DSPG.load(tmp_path / "model").temperature.value.item() == pytest.approx(expected)
    model.learn(30)
    # A learned one moves on from there, another one stays
    fixed = model.temperature.value.item() == pytest.approx(expected, abs=1e-6)
    assert fixed == (ours != "auto_0.2")


def test_a_softmax_acts_at_its_own_temperature():
    source = trained("Discrete SoftQLearning", ent_coef=1e-3)
    assert make_model("Discrete SoftQLearning", ent_coef=3.0).start_from(source).policy.ent_coef.item() == 3.0
    taken = make_model("Discrete SoftQLearning", ent_coef=3.0).start_from(source, take_ent_coef=True)
    assert taken.policy.ent_coef.item() == pytest.approx(1e-3)


BOX = spaces.Box(-1, 1, (2,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env": RandomEnv(VECTOR, BOX)}, r"observation_space=Box\(-1.0, 1.0, \(3,\), float32\) of this model is not Box\("),
        ({"env": RescaleObservation(gym.make("Pendulum-v1"), np.float32(-2), np.float32(1))}, "observation_space="),
        ({"env": RandomEnv(gym.make("Pendulum-v1").observation_space, BOX)}, r"action_space=.* is not Box\(-2.0, 2.0, \(1,\)"),
        ({"policy_kwargs": {"net_arch": [9]}}, r"net_arch is \[9\] here and \[8\] in the other model"),
        ({"policy_kwargs": {"n_critics": 1}}, "n_critics is 1 here and 2 in the other model"),
        ({"policy_kwargs": {"activation_fn": th.nn.Tanh}}, r"activation_fn is '.*Tanh' here and '.*ReLU' in the other model"),
        ({"policy_kwargs": {"std_head": "sigmoid"}}, "std_head is 'sigmoid' here and 'log_std'"),
        ({"policy_kwargs": {"share_features_extractor": True}}, "share_features_extractor is True here and False"),
        ({"policy_kwargs": {"batch_norm": True}}, "batch_norm is True here and False"),
        ({"norm_reward": True}, "norm_reward=True of this model is not False"),
    ],
)
def test_refuses_what_does_not_fit_before_anything_is_changed(arguments, message):
    source = trained("DSPG")
    model = make_model("DSPG", ent_coef="auto", **arguments)
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        model.start_from(source, take_ent_coef=True)
    assert differing(before, state_of(model)) == set() and not model.acts_from_start


def test_refuses_other_models(tmp_path):
    source, model = trained("DSPG", ent_coef=0), make_model("DSPG", ent_coef="auto")
    source.save(tmp_path / "source")
    with pytest.raises(ValueError, match="a SoftQLearning model cannot start from one of DSPG"):
        make_model("SoftQLearning").start_from(source)
    with pytest.raises(ValueError, match="does not load as a SoftQLearning model"):
        make_model("SoftQLearning").start_from(tmp_path / "source")
    with pytest.raises(FileNotFoundError):
        model.start_from(tmp_path / "none")
    with pytest.raises(ValueError, match="the coefficient of the other model is 0, a learned one stays between"):
        model.start_from(source, take_ent_coef=True)
    with pytest.raises(ValueError, match="take_ent_coef='yes': give True or False"):
        model.start_from(source, take_ent_coef="yes")
    with pytest.raises(ValueError, match="this model has learned for 30 steps already"):
        source.start_from(model)
    with th.no_grad():
        next(source.critic.parameters()).fill_(np.nan)
    with pytest.raises(ValueError, match=r"parameter .* is not finite"):
        model.start_from(source)


def test_optimizers_and_precision_may_differ():
    source = trained("DSPG")
    policy_kwargs = {"optimizer_class": th.optim.AdamW, "evaluation_precision": "bfloat16"}
    check_learning(make_model("DSPG", policy_kwargs=policy_kwargs, learning_rate="lin_1e-3").start_from(source))


def test_a_file_is_read_without_a_trace(tmp_path):
    """With the buffer of goals, for which SB3 needs an environment, and without a seed for the generators"""
    env = RandomEnv(spaces.Dict({name: BOX for name in ("observation", "achieved_goal", "desired_goal")}), BOX)
    arguments = {"policy": "MultiInputPolicy", "replay_buffer_class": HerReplayBuffer}
    source = make_model("SoftQLearning", env, **arguments).learn(40)
    source.save(tmp_path / "source")
    model = make_model("SoftQLearning", env, **arguments)
    state, numbers = th.get_rng_state(), np.random.get_state()[1].copy()
    model.start_from(tmp_path / "source")
    assert th.equal(th.get_rng_state(), state) and np.array_equal(np.random.get_state()[1], numbers)
    assert isinstance(model, SoftQLearning) and differing(parameters_of(model.actor), parameters_of(source.actor)) == set()
