"""
Whatever a user gives, a model learns with finite numbers and acts inside the box, or says what is wrong.

The default run is small and always the same. ``HYPOTHESIS_PROFILE=long`` runs thousands of random examples.
"""

import re
import tempfile
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import event, given
from hypothesis import strategies as st
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common.errors import NonFiniteError
from sb3_maxent.common.hybrid_space import HybridBox
from sb3_maxent.envs import FlattenAction
from sb3_maxent.saving.checkpoints import ExactCheckpointCallback, latest_checkpoint, load_checkpoint
from tests.envs import ACTIONS, BOX, FuzzEnv
from tests.models import state_of
from tests.strategies import (
    ARGUMENTS,
    INF,
    LATE_IN_SB3,
    LEFT_TO_SB3,
    NAN,
    POLICY_ARGUMENTS,
    all_actions,
    all_observations,
    nested_actions,
    nothing,
)

pytestmark = pytest.mark.filterwarnings("ignore")

ALGORITHMS = {"DSPG": DSPG, "SoftQLearning": SoftQLearning}
SMALL = {
    "DSPG": {"n_action_samples": 3, "buffer_size": 20, "batch_size": 4, "learning_starts": 3, "seed": 0, "device": "cpu"},
    "SoftQLearning": {
        "n_particles": 4,
        "n_value_samples": 3,
        "buffer_size": 20,
        "batch_size": 4,
        "learning_starts": 3,
        "seed": 0,
    },
}
NON_FINITE = re.compile(
    r"(reward|observation.*|policy|train/\w+|parameter [\w. ]+) is not finite at environment step \d+"
    "|(action|Q-value) is not finite"
)
# SB3's own words, for spaces and combinations
SB3_REFUSES = "must have a finite lower and upper bound|Nested observation spaces|observation space is not supported"
CONFLICTS = (
    "optimize_memory_usage",
    "batch_size=1: batch normalisation needs two states, or batch_norm=False",
    "baseline='loo' needs at least two",
    "std_head='sigmoid' has no effect with use_sde",
    r"n_components=\d has no meaning with use_sde",
    r"n_steps=\d has no effect on replay_buffer_class",
    # A function as features_extractor_class with normalize_images=False
    r"^issubclass\(\) arg 1 must be a class",
)
# Of the combinations, those that SB3 meets when it learns: a buffer of one step has no next one
LATE_CONFLICTS = ("must use only one env when doing episodic training", "low >= high|high <= 0")
STEPS = 10


class Late(Exception):
    """Any error but a ``NonFiniteError`` after a model was made"""


def learn(algorithm: str, env: Any, checkpoints: bool = False, **arguments: Any) -> Any:
    """Make a model, train it and act; an error should be a ``NonFiniteError`` then, and leaves a checkpoint that loads"""
    policy = "MultiInputPolicy" if isinstance(getattr(env, "observation_space", None), spaces.Dict) else "MlpPolicy"
    arguments = {"policy": policy, "env": env, **SMALL[algorithm], "policy_kwargs": {"net_arch": [4]}, **arguments}
    th.manual_seed(0)
    model = ALGORITHMS[algorithm](**arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            model.learn(STEPS * model.n_envs, ExactCheckpointCallback(3, folder, keep=1) if checkpoints else None)
            # A finite network may overflow
            observation = model.get_env().reset()
            for deterministic in (False, True):
                actions, _ = model.predict(observation, deterministic=deterministic)
                assert all(model.action_space.contains(action) for action in actions)
        except NonFiniteError as error:
            assert NON_FINITE.match(str(error)), error
            if latest_checkpoint(folder) is not None:
                assert_finite(load_checkpoint(ALGORITHMS[algorithm], folder, model.get_env()))
            raise
        except Exception as error:
            raise Late(f"{type(error).__name__}: {error}") from error
    assert_finite(model)
    return model


def assert_finite(model: Any) -> None:
    assert all(th.isfinite(value).all() for value in state_of(model).values())


algorithms = st.sampled_from([*ALGORITHMS])


def outcome(error: Exception | None) -> None:
    """For the statistics: what happened, and how often"""
    event("learned" if error is None else f"{type(error).__name__}: {re.sub('[^a-zA-Z_].*', '', str(error))}")


@given(algorithms, all_observations, all_actions | nested_actions, st.booleans())
def test_spaces(algorithm, observation_space, action_space, flattened):
    """Actions that are a Dict or Tuple, and any other, also through the wrapper that flattens them"""
    error = None
    try:
        env = FuzzEnv(observation_space, action_space)
        learn(algorithm, FlattenAction(env) if flattened else env)
    except (AssertionError, NotImplementedError) as refusal:
        error = refusal
        assert re.search(SB3_REFUSES, str(error)), error
    except ValueError as refusal:
        error = refusal
        assert re.match("observation_space|action_space|features_extractor", str(error)) or isinstance(error, NonFiniteError)
    outcome(error)


@st.composite
def settings_of(draw: Any, table: dict[str, dict[str, tuple[st.SearchStrategy, st.SearchStrategy]]]) -> tuple[Any, ...]:
    """An algorithm, arguments, and the error of the first of them: its type and text, or ``None``"""
    algorithm = draw(algorithms)
    names = draw(st.lists(st.sampled_from([*table[algorithm]]), min_size=1, max_size=6, unique=True))
    right, wrong = table[algorithm][names[0]]
    choices: list[tuple[st.SearchStrategy, Any]] = [(right, None)]
    choices += [(wrong, (ValueError, f"{names[0]}="))] if wrong is not nothing else []
    choices += [(LEFT_TO_SB3[names[0]][0], (Exception, LEFT_TO_SB3[names[0]][1]))] if names[0] in LEFT_TO_SB3 else []
    choices += [(LATE_IN_SB3[names[0]][0], (Late, LATE_IN_SB3[names[0]][1]))] if names[0] in LATE_IN_SB3 else []
    first, expected = draw(st.sampled_from(choices))
    values = {name: draw(table[algorithm][name][0]) for name in names[1:]}
    return algorithm, {names[0]: draw(first), **values}, expected


def check_arguments(algorithm: str, expected: Any, n_envs: int, **arguments: Any) -> None:
    """An argument without a meaning is refused, by its name or in SB3's words, right ones train, or do not go together"""
    error = None
    env = arguments.pop("env", "given")
    env = DummyVecEnv([FuzzEnv] * n_envs) if env == "given" else env
    try:
        learn(algorithm, env, **arguments)
    except NonFiniteError as refusal:
        error = refusal
        assert expected is None, error
    except Exception as refusal:
        error = refusal
        conflicts = LATE_CONFLICTS if isinstance(error, Late) else CONFLICTS
        if not any(re.search(message, str(error)) for message in conflicts):
            assert expected is not None, error
            assert isinstance(error, expected[0]) and isinstance(error, Late) == (expected[0] is Late), error
            assert re.search(expected[1], str(error)), error
    else:
        assert expected is None, arguments
    outcome(error)


@given(settings_of(ARGUMENTS), st.integers(1, 2))
def test_arguments(settings, n_envs):
    algorithm, arguments, expected = settings
    check_arguments(algorithm, expected, n_envs, **arguments)


@given(settings_of(POLICY_ARGUMENTS), st.booleans())
def test_policy_arguments(settings, use_sde):
    algorithm, policy_kwargs, expected = settings
    arguments = {"use_sde": use_sde} if algorithm == "DSPG" else {}
    check_arguments(algorithm, expected, 1, policy_kwargs={"net_arch": [4], **policy_kwargs}, **arguments)


rewards = st.lists(
    st.sampled_from([0.0, 1.0, -1e3, 1e-45, 1e19, 1e30, 3e38, -3e38, 1e300, NAN, INF, -INF]) | st.floats(-1e6, 1e6),
    min_size=1,
    max_size=6,
)
scales = st.sampled_from([1.0, 0.0, 1e-40, 1e5, 1e10, 1e18, 1e25, 3e38, -1e20]) | st.floats(-10, 10)


HYBRID = HybridBox(ACTIONS, (3, 2))
SOME_ACTIONS = (ACTIONS, spaces.Discrete(3), spaces.MultiDiscrete([3, 2]), spaces.MultiBinary(7), HYBRID)


@given(algorithms, rewards, scales, st.sampled_from(SOME_ACTIONS), st.integers(0, 6), st.booleans())
def test_rewards_and_observations(algorithm, rewards, scale, actions, learning_starts, learned):
    if actions is HYBRID:
        algorithm = "DSPG"
    arguments = {"ent_coef": "auto"} if learned and (algorithm == "DSPG" or actions is not ACTIONS) else {}
    error = None
    try:
        env = FuzzEnv(BOX, actions, rewards, scale)
        learn(algorithm, env, checkpoints=True, learning_starts=learning_starts, **arguments)
    except NonFiniteError as found:
        error = found
    # A reward that float32 cannot hold never gets into the buffer
    if not np.isfinite(np.array(rewards)).all():
        assert error is not None
    outcome(error)


# --- what it found, exactly ------------------------------------------------------------------------------------------------

by_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def make(algorithm: str, env: Any = None, **arguments: Any) -> Any:
    arguments = {**SMALL[algorithm], "policy_kwargs": {"net_arch": [4]}, **arguments}
    return ALGORITHMS[algorithm]("MlpPolicy", env or FuzzEnv(), **arguments)


@by_algorithm
def test_rounding_stays_in_the_box(algorithm):
    policy = make(algorithm, FuzzEnv(BOX, spaces.Box(-1e8, 5, (1,)))).policy
    ends = np.array([[-1.0], [1.0]], np.float32)
    assert policy.unscale_action(ends).flatten().tolist() == [-1e8, 5]
    # The width is no float32
    assert BasePolicy.unscale_action(policy, ends).flatten().tolist() == [-1e8, 8]


@by_algorithm
def test_schedules_stop_at_their_end(algorithm):
    """The second step of four environments passes the end"""
    model = make(algorithm, DummyVecEnv([FuzzEnv] * 4), learning_rate=lambda progress: progress).learn(6)
    assert (model.num_timesteps, model._current_progress_remaining) == (8, 0.0)
    assert model.critic.optimizer.param_groups[0]["lr"] == 0.0


def test_policy_kwargs_stay_as_they_are():
    """SB3 writes ``use_sde`` into them, which Soft Q-learning refuses"""
    policy_kwargs = {"net_arch": [4]}
    assert make("DSPG", policy_kwargs=policy_kwargs, use_sde=True).policy_kwargs["use_sde"]
    assert policy_kwargs == {"net_arch": [4]}
    make("SoftQLearning", policy_kwargs=policy_kwargs)


@pytest.mark.parametrize("total_timesteps", [NAN, INF, "9", -1])
def test_arguments_of_learn(total_timesteps):
    with pytest.raises(ValueError, match=f"total_timesteps={total_timesteps!r}: give a"):
        make("DSPG").learn(total_timesteps)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(np.array([0, 1]), np.ones(2)), "each upper bound must be larger than the lower bound"),
        (spaces.Box(-3e38, 3e38, (2,)), "must be numbers that float32 and float(32|64) can represent"),
        (spaces.Box(-1e300, 1e300, (2,), np.float64), "must be numbers that float32 and float(32|64) can represent"),
        (spaces.Box(-6e4, 6e4, (2,), np.float16), "must be numbers that float32 and float16 can represent"),
        (spaces.Box(-100, 100, (2,), np.int8), "must be numbers that float32 and int8 can represent"),
        (spaces.Box(0, 2**60, (2,), np.int64), "must be numbers that float32 and int64 can represent"),
        (spaces.Box(-1, 1, (2, 0)), "each upper bound must be larger than the lower bound"),
    ],
)
@by_algorithm
def test_boxes_that_actions_cannot_be_scaled_to(algorithm, space, message):
    with pytest.raises(ValueError, match=rf"^action_space=Box\(.*{message}"):
        make(algorithm, FuzzEnv(BOX, space))
