"""Spaces: of any shape, with any bounds and in both precisions, and those that are refused."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_maxent.common.discrete import choices_of
from tests.envs import RandomEnv
from tests.models import ACTIONS, BOX_VARIANTS, OBSERVATIONS, VARIANTS, VECTOR, actions_of, check_learning, make_model

BOXES = {
    "asymmetric": spaces.Box(np.array([-3.0, 0.5], np.float32), np.array([1.0, 0.75], np.float32)),
    "asymmetric float64": ACTIONS["asymmetric float64"],
    "one dimension": spaces.Box(-2, 2, (1,)),
    "matrix": ACTIONS["matrix"],
    "three dimensions, float64": spaces.Box(-7, 3, (2, 1, 3), np.float64),
    "tiny": spaces.Box(1e-6, 2e-6, (2,), np.float64),
    "huge": spaces.Box(-1e6, 3e6, (2,)),
    # Not representable in binary
    "decimal": spaces.Box(-0.7, 0.3, (3,)),
    "float16": spaces.Box(-0.7, 1.3, (2,), np.float16),
}


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize(
    "observations", ["Discrete observations", "MultiDiscrete", "MultiBinary", "float64 matrix", "image", "channels first"]
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_identity_spaces(variant, observations, n_envs):
    """Images through MlpPolicy, too: it flattens whatever it gets"""
    actions = actions_of(variant)
    env = make_vec_env(lambda: RandomEnv(OBSERVATIONS[observations], actions), n_envs, seed=0)
    model = check_learning(make_model(variant, env, gradient_steps=-1, buffer_size=100))
    mean, std = evaluate_policy(model, env, n_eval_episodes=4, warn=False)
    assert np.isfinite([mean, std]).all()


@pytest.mark.parametrize("space", BOXES)
@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_action_spaces(variant, space):
    """The box is filled from bound to bound, and the buffer holds what the networks see, from -1 to 1"""
    space = BOXES[space]
    model = make_model(variant, RandomEnv(VECTOR, space), learning_starts=100).learn(60)
    stored = model.replay_buffer.actions[:60]
    assert stored.shape == (60, 1, np.prod(space.shape)) and 0.9 < np.abs(stored).max() <= 1 and abs(stored.mean()) < 0.2
    observation = np.zeros((1, *VECTOR.shape), np.float32)
    for raw in (-1.0, -0.5, 0.0, 1.0):
        model.policy._predict = lambda obs, deterministic=False, raw=raw: th.full((1, int(np.prod(space.shape))), raw)
        action = model.predict(observation)[0][0]
        assert action.shape == space.shape and space.contains(action)
        assert np.allclose(action, space.low + (raw + 1) / 2 * (space.high - space.low), rtol=1e-5, atol=0)


def test_target_entropy_counts_every_component():
    for space in BOXES.values():
        assert make_model("DSPG", RandomEnv(VECTOR, space)).target_entropy == -np.prod(space.shape)


@pytest.mark.parametrize("observation_type", [np.float32, np.float64])
@pytest.mark.parametrize("action_type", [np.float32, np.float64])
@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_float64_action_space(variant, observation_type, action_type):
    """RandomEnv refuses an action of another space, as a float64 one in a float32 box"""
    observations, actions = spaces.Box(-1, 1, (3,), observation_type), spaces.Box(-1, 1, (2,), action_type)
    env = RandomEnv(observations, actions)
    model = make_model(variant, env)
    assert env.action_space.contains(model.predict(env.observation_space.sample())[0])
    check_learning(model)
    assert env.action_space.contains(model.predict(env.observation_space.sample(), deterministic=True)[0])
    assert all(parameter.dtype == th.float32 for parameter in model.policy.parameters())


INTEGERS = {
    **{dtype.__name__: spaces.Box(-6, 9, (2,), dtype) for dtype in (np.int8, np.int16, np.int32, np.int64)},
    "uint8": spaces.Box(0, 255, (2,), np.uint8),
    "int64, wide": spaces.Box(-(2**51), 2**51, (2,), np.int64),
}


@pytest.mark.parametrize("space", INTEGERS)
@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_integer_action_spaces(variant, space):
    """The environment gets the nearest integers. The buffer holds what the networks see, SB3's own would truncate it"""
    space = INTEGERS[space]
    model = check_learning(make_model(variant, RandomEnv(VECTOR, space), n_steps=3), 60)
    stored = model.replay_buffer.actions[:60]
    assert stored.dtype == np.float32 and len(np.unique(stored)) > 12 and 0.8 < np.abs(stored).max() <= 1
    ends = model.policy.unscale_action(np.array([[-1.0, 1.0], [0.999999, -0.999999]], np.float32))
    assert ends.dtype == space.dtype and ends[0].tolist() == [space.low[0], space.high[0]] and space.contains(ends[1])
    # What is drawn at first is what is stored
    action = space.sample()
    assert np.array_equal(model.policy.unscale_action(model.policy.scale_action(action)), action)
    assert space.contains(model.sample_actions(model.get_env().reset()[0], 2)[1])


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4, start=1),
        spaces.MultiDiscrete([3, 2], start=[0, 1]),
        spaces.MultiDiscrete([[3, 2], [2, 2]]),
        spaces.MultiBinary((2, 3)),
    ],
    ids=str,
)
@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_discrete_spaces_of_other_forms_are_refused(variant, space):
    with pytest.raises(
        ValueError, match=rf"^action_space={type(space).__name__}\((.|\n)*start at 0 only(.|\n)*one dimension$"
    ):
        make_model(variant, RandomEnv(VECTOR, space))


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([3, 2], dtype=np.int32), spaces.MultiBinary(4)], ids=str)
@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_what_is_stored_of_discrete_factors(variant, space):
    """The choices as the environment got them, each of them now and then"""
    model = check_learning(make_model(variant, RandomEnv(VECTOR, space), learning_starts=20), 60)
    stored = model.replay_buffer.actions[:60, 0]
    assert stored.dtype == space.dtype and all(space.contains(action) for action in stored)
    assert stored.min(axis=0).max() == 0 and (stored.max(axis=0) + 1).tolist() == [*choices_of(space)]
    actions = model.sample_actions(model.get_env().reset(), 7)
    assert actions.shape == (1, 7, *space.shape) and all(space.contains(action) for action in actions[0])


def test_soft_q_learning_says_how_many_joint_actions_it_can_enumerate():
    make_model("SoftQLearning", RandomEnv(VECTOR, spaces.MultiBinary(10)))
    make_model("SoftQLearning", RandomEnv(VECTOR, spaces.Discrete(1025)))
    message = r"^action_space=MultiBinary\(11\): SoftQLearning evaluates all 2048 joint actions, .* no more than 1024"
    with pytest.raises(ValueError, match=message):
        make_model("SoftQLearning", RandomEnv(VECTOR, spaces.MultiBinary(11)))


@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_infinite_bounds_are_refused(variant):
    with pytest.raises(AssertionError, match="must have a finite lower and upper bound"):
        make_model(variant, RandomEnv(VECTOR, spaces.Box(-np.inf, 1, (2,))))


def test_sde_multi_dim():
    arguments = {"use_sde": True, "sde_sample_freq": 2, "use_sde_at_warmup": True}
    check_learning(make_model("DSPG", RandomEnv(VECTOR, ACTIONS["matrix"]), **arguments))
