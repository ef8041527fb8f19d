"""Every setting together with every other one, and what each of them should do."""

import time
from itertools import combinations

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise

from tests.envs import RandomEnv
from tests.models import (
    BOX_VARIANTS,
    ENVIRONMENTS,
    REFUSED,
    TABLE,
    UPDATES,
    VARIANTS,
    VECTOR,
    actions_of,
    all_pairs,
    check_learning,
    covering_rows,
    differing,
    is_refused,
    make_model,
    make_row,
    make_row_env,
    make_row_model,
    parameters_of,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*updates per step")
ROWS = [(algorithm, row) for algorithm in REFUSED for row in covering_rows(algorithm)]


def expected_updates(row, steps):
    """Updates after a rollout that ends behind the first 20 steps"""
    train_freq, gradient_steps = UPDATES[row.updates].get("train_freq", 1), UPDATES[row.updates].get("gradient_steps", 1)
    # Episodes have five steps
    rollout = 10 if train_freq == (2, "episode") else train_freq * ENVIRONMENTS[row.environments][0]
    n_rollouts = sum(end > 20 for end in range(rollout, steps + rollout, rollout))
    return n_rollouts * (rollout if gradient_steps == -1 else gradient_steps)


@pytest.mark.parametrize(("algorithm", "row"), ROWS, ids=lambda value: value if isinstance(value, str) else ", ".join(value))
def test_combination(algorithm, row):
    env = make_row_env(row)
    try:
        model = check_learning(make_row_model(algorithm, row, env), steps=32)
    finally:
        env.close()
    assert model._n_updates == expected_updates(row, 32)


@pytest.mark.parametrize("algorithm", REFUSED)
def test_every_pair_of_settings_is_run(algorithm):
    rows = [row for each, row in ROWS if each == algorithm]
    assert all(setting in column for row in rows for setting, column in zip(row, TABLE, strict=True))
    assert not any(is_refused(algorithm, row) for row in rows)
    run = {pair for row in rows for pair in combinations(row, 2)}
    assert run == all_pairs(algorithm) and len(run) > 450


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [(algorithm, settings) for algorithm, refused in REFUSED.items() for settings, error in refused.items() if error],
    ids=lambda value: value if isinstance(value, str) else ", ".join(value),
)
def test_the_other_pairs_are_refused(algorithm, settings):
    row = make_row(*settings)
    env = make_row_env(row)
    error, message = REFUSED[algorithm][settings]
    try:
        with pytest.raises(error, match=message):
            make_row_model(algorithm, row, env).learn(32)
    finally:
        env.close()


# --- arguments of the algorithms -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ent_coef", ["auto", 0.01, "auto_0.01"])
@pytest.mark.parametrize("baseline", ["none", "loo"])
def test_dspg(ent_coef, baseline):
    check_learning(make_model("DSPG", ent_coef=ent_coef, baseline=baseline))


@pytest.mark.parametrize("ent_coef", [0.01, "lin_1_0.1"])
@pytest.mark.parametrize("particle_space", ["pre_tanh", "reference"])
@pytest.mark.parametrize("value_proposal", ["mixture", "uniform"])
def test_softqlearning(ent_coef, particle_space, value_proposal):
    arguments = {"ent_coef": ent_coef, "particle_space": particle_space, "value_proposal": value_proposal}
    check_learning(make_model("SoftQLearning", **arguments))


@pytest.mark.parametrize("n_critics", [1, 3])
@pytest.mark.parametrize("action_layer", [0, -1])
@pytest.mark.parametrize("variant", VARIANTS)
def test_n_critics(variant, n_critics, action_layer):
    model = make_model(variant, policy_kwargs={"n_critics": n_critics, "action_layer": action_layer})
    assert len(check_learning(model).critic.q_networks) == n_critics


@pytest.mark.parametrize(
    ("variant", "policy_kwargs"),
    [
        ("DSPG", {"std_head": "sigmoid", "target_actor": True, "n_critics": 1, "action_layer": 0}),
        ("SoftQLearning", {"net_arch": [8, 8], "noise_layer": 0, "n_critics": 1, "action_layer": 0}),
    ],
)
def test_paper_networks(variant, policy_kwargs):
    check_learning(make_model(variant, policy_kwargs=policy_kwargs))


@pytest.mark.parametrize("use_expln", [False, True])
@pytest.mark.parametrize("sde_sample_freq", [-1, 8])
def test_gsde(sde_sample_freq, use_expln, monkeypatch):
    arguments = {"sde_sample_freq": sde_sample_freq, "policy_kwargs": {"use_expln": use_expln}, "train_freq": 30}
    model = make_model("DSPG", use_sde=True, **arguments)
    matrices, reset_noise = [], model.actor.reset_noise
    monkeypatch.setattr(model.actor, "reset_noise", lambda *args: matrices.append(model.num_timesteps) or reset_noise(*args))
    check_learning(model, 60)
    # At the start of a rollout, and every eight steps of it
    assert sorted(set(matrices)) == ([0, 30] if sde_sample_freq == -1 else [0, 8, 16, 24, 30, 38, 46, 54])
    assert model.actor.get_std().shape == (8, 1)


@pytest.mark.parametrize("use_sde_at_warmup", [False, True])
def test_gsde_at_warmup(use_sde_at_warmup):
    """The policy with one noise matrix acts alike in one state, random actions do not"""
    observations = type(VECTOR)(0, 0, (3,))
    model = make_model(
        "DSPG", RandomEnv(observations, VECTOR), use_sde=True, use_sde_at_warmup=use_sde_at_warmup, train_freq=20
    )
    model.learn(20)
    assert (np.ptp(model.replay_buffer.actions[:20], axis=0) == 0).all() == use_sde_at_warmup


# --- when it trains --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient_steps", [1, -1])
@pytest.mark.parametrize(
    ("train_freq", "rollouts"), [(4, [24, 28, 32, 36, 40]), ((4, "step"), [24, 28, 32, 36, 40]), ((3, "episode"), [30, 45])]
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_train_freq(variant, train_freq, rollouts, gradient_steps):
    actions = actions_of(variant)
    model, calls = make_model(variant, RandomEnv(VECTOR, actions), train_freq=train_freq, gradient_steps=gradient_steps), []
    train = model.train
    model.train = lambda **kwargs: calls.append((model.num_timesteps, kwargs["gradient_steps"])) or train(**kwargs)
    model.learn(40)
    steps = 15 if train_freq == (3, "episode") else 4
    assert calls == [(end, steps if gradient_steps == -1 else 1) for end in rollouts]


@pytest.mark.parametrize("train_freq", ["4", ("1", "episode"), "non_sense", (1, "close"), 2.5])
@pytest.mark.parametrize("variant", VARIANTS)
def test_train_freq_fail(variant, train_freq):
    with pytest.raises(ValueError, match="`train_freq` must be"):
        make_model(variant, train_freq=train_freq)


@pytest.mark.parametrize("variant", VARIANTS)
def test_offpolicy_multi_env(variant):
    """As many updates as environment steps after the start, and all environments fill the buffer"""
    env = make_vec_env(VARIANTS[variant].env, n_envs=3, seed=0)
    model = check_learning(make_model(variant, env, gradient_steps=-1), steps=90)
    assert model.logger.name_to_value["train/updates_per_step"] == 1.0
    assert (model.num_timesteps, model._n_updates) == (90, 72)
    assert model.replay_buffer.pos == 30 and model.replay_buffer.observations.shape[:2] == (333, 3)
    assert len(np.unique(model.replay_buffer.observations[:30, :, 0])) > 80


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("noise", [NormalActionNoise, OrnsteinUhlenbeckActionNoise])
@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_action_noise(variant, noise, n_envs):
    """Noise far out of the box puts every action at its bound, random ones at the start too"""
    mean, sigma = np.full(1, 50.0), np.full(1, 0.1)
    arguments = {"initial_noise": mean} if noise is OrnsteinUhlenbeckActionNoise else {}
    actions = {}
    for action_noise in (None, noise(mean, sigma, **arguments)):
        model = make_model(variant, make_vec_env("Pendulum-v1", n_envs, seed=0), action_noise=action_noise).learn(60)
        actions[action_noise is None] = model.replay_buffer.actions[: 60 // n_envs]
    assert (actions[False] == 1).all() and np.abs(actions[True]).mean() < 0.95
    # The policy itself has no noise
    assert model.predict(model.get_env().reset(), deterministic=True)[0].max() < 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_learning_rate_moves_nothing(variant):
    """Not by way of the targets either, which follow what does not move"""
    model = make_model(variant, learning_rate=0.0, tau=0.5)
    before, ent_coef = parameters_of(model.policy), model.temperature.value.clone()
    model.learn(40)
    assert model._n_updates == 20 and model.temperature.value.equal(ent_coef)
    assert differing(before, parameters_of(model.policy)) == set()


# --- memory and logs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_optimize_memory_usage(variant):
    memory = {"optimize_memory_usage": True, "buffer_size": 50}
    with pytest.raises(
        ValueError, match="does not support optimize_memory_usage = True and handle_timeout_termination = True"
    ):
        make_model(variant, **memory)
    model = make_model(variant, replay_buffer_kwargs={"handle_timeout_termination": False}, **memory)
    buffer = check_learning(model, 70).replay_buffer
    assert buffer.full and not hasattr(buffer, "next_observations")
    # The same transitions as without, in half of the memory
    whole = make_model(
        variant, buffer_size=50, replay_buffer_kwargs={"handle_timeout_termination": False}, learning_starts=100
    )
    frugal = make_model(variant, replay_buffer_kwargs={"handle_timeout_termination": False}, learning_starts=100, **memory)
    for each in (whole, frugal):
        each.learn(40)
    indices = np.arange(39)
    first, second = (each.replay_buffer._get_samples(indices) for each in (whole, frugal))
    assert first.observations.equal(second.observations) and first.rewards.equal(second.rewards)
    same = first.next_observations.eq(second.next_observations).all(dim=1)
    assert same[first.dones.flatten() == 0].all() and (first.dones == 1).any() == ("Discrete" in variant)


def test_stats_window_size():
    model = make_model("SoftQLearning", RandomEnv(VECTOR, VECTOR), stats_window_size=3).learn(40)
    assert len(model.ep_info_buffer) == model.ep_info_buffer.maxlen == 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_fps_no_div_zero(variant):
    model, logged = make_model(variant).learn(30), {}
    model.logger.dump = lambda step: logged.update(model.logger.name_to_value)
    # No time has passed
    model.start_time = time.time_ns() + 10**15
    model.dump_logs()
    assert np.isfinite(logged["time/fps"]) and logged["time/total_timesteps"] == 30
