"""Dict and Tuple actions through the wrapper: there and back, uniform at first, and in the original space ever after."""

import copy

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from sb3_contrib.common.wrappers import ActionMasker
from scipy.stats import chisquare
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common.hybrid_space import HybridBox
from sb3_maxent.envs import ActionMaskObservation, FlattenAction
from sb3_maxent.envs.flatten_action import flatten_action, flatten_action_space, unflatten_action
from tests.envs import RandomEnv
from tests.models import ACTIONS, SMALL, VECTOR, check_learning, make_model, make_random_env
from tests.strategies import nested_actions

HYBRID = ACTIONS["hybrid"]


def equal(first, second):
    """Values, types and shapes of nested actions"""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, tuple):
        return len(first) == len(second) and all(equal(*pair) for pair in zip(first, second, strict=True))
    return first.dtype == second.dtype and np.shape(first) == np.shape(second) and np.allclose(first, second, rtol=1e-6)


@given(nested_actions, st.integers(0, 99))
def test_round_trips(space, seed):
    """Of actions of the original space and of the flat one, also through SB3's scaling to what the buffer stores"""
    flat_space = flatten_action_space(space)
    for each in (space, flat_space):
        each.seed(seed)
    for _ in range(3):
        action = space.sample()
        flat = flatten_action(space, action)
        assert flat_space.contains(flat) and equal(unflatten_action(space, flat), action)
        flat = flat_space.sample()
        action = unflatten_action(space, flat)
        assert space.contains(action)
        back = flatten_action(space, action)
        # Integers of a Box are drawn with their fractions
        assert np.allclose(back, flat, rtol=1e-6, atol=1e-6 if is_float(space) else 0.51)
    if isinstance(flat_space, HybridBox) and seed % 4 == 0:
        policy = make_model("DSPG", RandomEnv(VECTOR, flat_space)).policy
        stored = policy.scale_action(flat_space.sample()).astype(np.float32)
        numbers = stored[..., -len(flat_space.choices) :]
        assert policy.critic.encode(th.tensor(stored).reshape(1, 1, -1)).shape == (1, 1, policy.critic.action_dim)
        assert (np.abs(numbers) < 1).all() and space.contains(unflatten_action(space, policy.unscale_action(stored)))


def is_float(space):
    inner = space.values() if isinstance(space, spaces.Dict) else space if isinstance(space, spaces.Tuple) else None
    if inner is not None:
        return all(is_float(each) for each in inner)
    return not isinstance(space, spaces.Box) or space.dtype.kind == "f"


def test_the_flat_space():
    """Boxes first, and the choices behind them, both in the order of the space"""
    flat = flatten_action_space(HYBRID)
    assert isinstance(flat, HybridBox) and flat.choices == (3, 2, 2, 2, 3) and flat.dtype == np.float64
    assert flat.low.tolist() == [-3, -3, -0.5] + [-0.5] * 5 and flat.high.tolist() == [1, 1, 9.5, 2.5, 1.5, 1.5, 1.5, 2.5]
    action = unflatten_action(HYBRID, np.array([0.5, -2.0, 3.2, 0.0, 1.0, 0.0, 1.0, 2.0]))
    assert HYBRID.contains(action) and action["gear"] == -1 and action["force"].tolist() == [0.5, -2.0]
    tools = action["tools"]
    assert [part.tolist() for part in tools] == [[[1, 0]], [1, 2], [3]]
    # Parts of one kind need no space of ours, so that both algorithms learn them
    boxes = spaces.Dict(a=spaces.Box(-1, 1, (2, 1)), b=spaces.Box(0, 5, (1,)))
    assert flatten_action_space(boxes) == spaces.Box(np.array([-1, -1, 0], np.float32), np.array([1, 1, 5], np.float32))
    factors = spaces.Tuple([spaces.Discrete(3, start=5), spaces.MultiBinary(2), spaces.MultiDiscrete([[2, 4]])])
    assert flatten_action_space(factors) == spaces.MultiDiscrete([3, 2, 2, 2, 4])
    assert flatten_action_space(spaces.Discrete(4, start=1)) == spaces.MultiDiscrete([4])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Dict(a=spaces.Text(3), b=spaces.Discrete(2)), "Text.* is no part that can be flattened"),
        (spaces.Tuple([]), "there is no part with an action"),
        (spaces.Tuple([spaces.Discrete(2), spaces.Box(-np.inf, 1, (1,))]), "must have finite bounds"),
        (spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (0,))]), "one number at least"),
        (spaces.Tuple([spaces.Box(0, 2**60, (2,), np.int64)]), r"must be below 2\*\*53"),
    ],
)
def test_what_cannot_be_flattened(space, message):
    with pytest.raises(ValueError, match=f"^action_space={type(space).__name__}.*{message}"):
        FlattenAction(RandomEnv(VECTOR, space))


def test_random_actions_are_uniform_in_the_original_space():
    """Before learning starts, as the environment gets them"""
    seen = []

    class Recorder(RandomEnv):
        def step(self, action):
            seen.append(copy.deepcopy(action))
            return super().step(action)

    make_model("DSPG", FlattenAction(Recorder(VECTOR, HYBRID)), learning_starts=2000).learn(2000)
    gears = np.bincount([action["gear"] + 1 for action in seen], minlength=3)
    bits, factors, integers = (np.array([action["tools"][i].ravel() for action in seen]) for i in range(3))
    for counts in (gears, np.bincount(bits[:, 1]), np.bincount(factors[:, 1]), np.bincount(integers[:, 0])):
        assert chisquare(counts).pvalue > 1e-3
    assert len(np.bincount(integers[:, 0])) == 10
    forces = np.array([action["force"] for action in seen])
    assert chisquare(np.histogram(forces[:, 0], 10, (-3, 1))[0]).pvalue > 1e-3
    # Control: rounding within the bounds of the integers would draw the two ends half as often
    rounded = np.bincount(np.rint(np.random.default_rng(0).uniform(0, 9, 2000)).astype(int))
    assert chisquare(rounded).pvalue < 1e-6


def test_what_is_stored_and_what_is_acted():
    """Choices are stored as the middles of equal parts of [-1, 1]; predict returns them as integers for the wrapper"""
    env = make_vec_env(lambda: make_random_env(VECTOR, HYBRID), 2, seed=0)
    model = check_learning(make_model("DSPG", env, gradient_steps=-1, learning_starts=20), 60)
    stored, choices = model.replay_buffer.actions[:30], np.array(model.action_space.choices)
    assert stored.dtype == np.float32 and stored.shape == (30, 2, 8)
    numbers = (stored[..., 3:] + 1) / 2 * choices - 0.5
    assert np.allclose(numbers, np.rint(numbers), atol=1e-6) and (np.rint(numbers).max(axis=(0, 1)) + 1 == choices).all()
    observations = env.reset()
    for deterministic in (False, True):
        actions, _ = model.predict(observations, deterministic=deterministic)
        assert np.array_equal(actions[:, 3:], np.rint(actions[:, 3:]))
        assert all(HYBRID.contains(env.envs[0].get_wrapper_attr("action")(action)) for action in actions)
    mean, std = evaluate_policy(model, env, n_eval_episodes=4, warn=False)
    assert np.isfinite([mean, std]).all()
    samples = model.sample_actions(observations, 5)
    assert samples.shape == (2, 5, 8) and all(model.action_space.contains(action) for action in samples[0])


@pytest.mark.parametrize("algorithm", ["DSPG", "SoftQLearning"])
def test_parts_of_one_kind(algorithm):
    for space in (
        spaces.Tuple([VECTOR, spaces.Box(0, 5, (2, 1))]),
        spaces.Dict(a=spaces.Discrete(3, start=1), b=ACTIONS["Discrete"]),
    ):
        env = FlattenAction(RandomEnv(VECTOR, space))
        model = check_learning(make_model(algorithm, env))
        assert space.contains(env.action(model.predict(np.zeros(3, np.float32))[0]))


@pytest.mark.parametrize("algorithm", [DSPG, SoftQLearning])
def test_without_the_wrapper(algorithm):
    with pytest.raises(ValueError, match=r"(?s)^action_space=Dict\(.*sb3_maxent.envs.FlattenAction makes one of it"):
        algorithm("MlpPolicy", RandomEnv(VECTOR, HYBRID), **SMALL)


def masked(mask):
    env = FlattenAction(RandomEnv(VECTOR, spaces.Tuple([spaces.Discrete(3, start=1), VECTOR, spaces.MultiDiscrete([2, 4])])))
    return ActionMaskObservation(ActionMasker(env, lambda env: mask))


def test_masks_of_the_choices():
    """In random actions, in those of the policy and in the target, which has no others to choose from"""
    mask = np.array([1, 0, 1, 0, 1, 0, 1, 1, 0], bool)
    model = DSPG("MultiInputPolicy", masked(mask), **{**SMALL, "learning_starts": 100}, n_target_samples=4).learn(200)
    choices = np.rint((model.replay_buffer.actions[:200, 0, 3:] + 1) / 2 * [3, 2, 4] - 0.5).astype(int)
    for part in (choices[:100], choices[100:]):
        assert [set(column) for column in part.T] == [{0, 2}, {1}, {1, 2}]
    observations = {"observation": np.zeros((50, 3), np.float32), "action_mask": np.tile(mask, (50, 1))}
    tensors, _ = model.policy.obs_to_tensor(observations)
    samples = model._next_samples(tensors, model._draw_noise(50).next_actions)
    encoded = model.critic.encode(samples.actions)[..., 3:]
    assert encoded[..., th.tensor(~mask)].sum() == 0 and encoded.sum() == 50 * 4 * 3
    action, _ = model.predict(observations, action_masks=[[0, 1, 0, 1, 0, 1, 0, 0, 0]] * 50)
    assert (action[:, 3:] == [1, 0, 0]).all()
    # Control: with everything allowed, it takes the others too
    action, _ = model.predict({**observations, "action_mask": np.ones((50, 9), np.int8)})
    assert (action[:, 4] == 0).any()
