"""
Whatever a user gives, a model learns with finite numbers and acts inside the box, or says what is wrong.

The default run is small and always the same. ``HYPOTHESIS_PROFILE=long`` runs thousands of random examples.
"""

import re
import tempfile
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import event, given
from hypothesis import strategies as st
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common.checkpoints import ExactCheckpointCallback, latest_checkpoint, load_checkpoint, save_checkpoint
from sb3_maxent.common.errors import NonFiniteError
from tests.models import state_of
from tests.strategies import ARGUMENTS, INF, NAN, POLICY_ARGUMENTS, all_actions, all_observations

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
    r"(reward|observation.*|action( distribution)?|train/\w+|parameter [\w. ]+) is not finite at environment step \d+"
)
# Its own, for action spaces and combinations
SB3_REFUSES = "only supports .* as action spaces|must have a finite lower and upper bound|Nested observation spaces"
CONFLICTS = (
    "optimize_memory_usage",
    "baseline='loo' needs at least two",
    "std_head='sigmoid' has no effect with use_sde",
    "must use only one env when doing episodic training",
)
BOX, ACTIONS = spaces.Box(-1, 1, (3,)), spaces.Box(-2, 1, (2,))
STEPS = 10


class FuzzEnv(gym.Env):
    """
    Gives chosen rewards one after the other, and sampled and scaled observations. Refuses actions outside of its space.

    :param observation_space: Observation space
    :param action_space: Action space
    :param rewards: Rewards
    :param scale: Factor of observations of floats
    """

    def __init__(self, observation_space: Any = BOX, action_space: Any = ACTIONS, rewards: Any = (1.0,), scale: float = 1.0):
        self.observation_space, self.action_space = observation_space, action_space
        self.rewards, self.scale, self.n_steps = rewards, scale, 0
        # A model without a seed leaves them as they are
        for space in (observation_space, action_space):
            space.seed(0)

    def observation(self):
        with np.errstate(all="ignore"):
            value = self.observation_space.sample()
            return value if self.scale == 1.0 else (value * self.scale).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation(), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action} is outside"
        self.n_steps += 1
        reward = self.rewards[self.n_steps % len(self.rewards)]
        return self.observation(), reward, self.n_steps % 3 == 0, self.n_steps % 4 == 0, {}


def learn(algorithm: str, env: Any, checkpoints: bool = False, **arguments: Any) -> Any:
    """Make a model and train it; an error while it trains must be a ``NonFiniteError``, and leaves a checkpoint that loads"""
    policy = "MultiInputPolicy" if isinstance(getattr(env, "observation_space", None), spaces.Dict) else "MlpPolicy"
    arguments = {"policy": policy, "env": env, **SMALL[algorithm], "policy_kwargs": {"net_arch": [4]}, **arguments}
    th.manual_seed(0)
    model = ALGORITHMS[algorithm](**arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            model.learn(STEPS * model.n_envs, ExactCheckpointCallback(3, folder, keep=1) if checkpoints else None)
        except NonFiniteError as error:
            assert NON_FINITE.match(str(error)), error
            if latest_checkpoint(folder) is not None:
                assert_finite(load_checkpoint(ALGORITHMS[algorithm], folder, model.get_env()))
            raise
    assert_finite(model)
    # A finite network may overflow
    observation = model.get_env().reset()
    for deterministic in (False, True):
        actions, _ = model.predict(observation, deterministic=deterministic)
        assert all(model.action_space.contains(action) for action in actions)
    return model


def assert_finite(model: Any) -> None:
    assert all(th.isfinite(value).all() for value in state_of(model).values())


algorithms = st.sampled_from([*ALGORITHMS])


def outcome(error: Exception | None) -> None:
    """For the statistics: what happened, and how often"""
    event("learned" if error is None else f"{type(error).__name__}: {re.sub('[^a-zA-Z_].*', '', str(error))}")


@given(algorithms, all_observations, all_actions)
def test_spaces(algorithm, observation_space, action_space):
    error = None
    try:
        learn(algorithm, FuzzEnv(observation_space, action_space))
    except (AssertionError, NotImplementedError) as refusal:
        error = refusal
        assert re.search(SB3_REFUSES, str(error)), error
    except ValueError as refusal:
        error = refusal
        named = re.match("observation_space|action_space|features_extractor", str(error))
        assert named or isinstance(error, NonFiniteError), error
    outcome(error)


@st.composite
def settings_of(draw: Any, table: dict[str, dict[str, tuple[st.SearchStrategy, st.SearchStrategy]]]) -> tuple[Any, ...]:
    """An algorithm, arguments, and the name of the one without a meaning, if there is one"""
    algorithm = draw(algorithms)
    names = draw(st.lists(st.sampled_from([*table[algorithm]]), min_size=1, max_size=6, unique=True))
    wrong = draw(st.none() | st.just(names[0]))
    return algorithm, {name: draw(table[algorithm][name][name == wrong]) for name in names}, wrong


def check_arguments(algorithm: str, wrong: str | None, n_envs: int, **arguments: Any) -> None:
    """A wrong argument is named, right ones train, or do not go together"""
    error = None
    env = arguments.pop("env", "given")
    env = DummyVecEnv([FuzzEnv] * n_envs) if env == "given" else env
    try:
        learn(algorithm, env, **arguments)
    except (ValueError, AssertionError, NotImplementedError) as refusal:
        error = refusal
        if isinstance(error, NonFiniteError):
            assert wrong is None, error
        elif not any(re.search(message, str(error)) for message in CONFLICTS):
            assert type(error) is ValueError and wrong is not None, error
            assert f"{wrong}=" in str(error) or re.search("^Policy .* unknown|not a Gymnasium environment", str(error)), error
    else:
        assert wrong is None
    outcome(error)


@given(settings_of(ARGUMENTS), st.integers(1, 2))
def test_arguments(settings, n_envs):
    algorithm, arguments, wrong = settings
    check_arguments(algorithm, wrong, n_envs, **arguments)


@given(settings_of(POLICY_ARGUMENTS), st.booleans())
def test_policy_arguments(settings, use_sde):
    algorithm, policy_kwargs, wrong = settings
    arguments = {"use_sde": use_sde} if algorithm == "DSPG" else {}
    check_arguments(algorithm, wrong, 1, policy_kwargs={"net_arch": [4], **policy_kwargs}, **arguments)


rewards = st.lists(
    st.sampled_from([0.0, 1.0, -1e3, 1e-45, 1e19, 1e30, 3e38, -3e38, 1e300, NAN, INF, -INF]) | st.floats(-1e6, 1e6),
    min_size=1,
    max_size=6,
)
scales = st.sampled_from([1.0, 0.0, 1e-40, 1e5, 1e10, 1e18, 1e25, 3e38, -1e20]) | st.floats(-10, 10)


@given(algorithms, rewards, scales, st.booleans(), st.integers(0, 6))
def test_rewards_and_observations(algorithm, rewards, scale, discrete, learning_starts):
    actions = spaces.Discrete(3) if discrete and algorithm == "SoftQLearning" else ACTIONS
    error = None
    try:
        learn(algorithm, FuzzEnv(BOX, actions, rewards, scale), checkpoints=True, learning_starts=learning_starts)
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


@pytest.mark.parametrize(
    "arguments",
    [{"total_timesteps": NAN}, {"total_timesteps": INF}, {"total_timesteps": "9"}, {"log_interval": 0}, {"log_interval": 1.5}],
)
def test_arguments_of_learn(arguments):
    model = make("DSPG")
    with pytest.raises(ValueError, match="{}={!r}: give a".format(*next(iter(arguments.items())))):
        model.learn(**{"total_timesteps": 9, **arguments})
    # What is left after a rollout that passed the end
    assert model.learn(-2).num_timesteps == 0


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(np.array([0, 1]), np.ones(2)), "each upper bound must lie above the lower one"),
        (spaces.Box(-3e38, 3e38, (2,)), "by no more than a float32 can hold"),
        (spaces.Box(-1e300, 1e300, (2,), np.float64), "by no more than a float32 can hold"),
        (spaces.Box(-1, 1, (2,), np.float16), "give a Box of float32 or float64, not float16"),
        (spaces.Box(-1, 1, (2,), np.int8), "give a Box of float32 or float64, not int8"),
    ],
)
@by_algorithm
def test_boxes_that_actions_cannot_be_scaled_to(algorithm, space, message):
    with pytest.raises(ValueError, match=rf"^action_space=Box\(.*{message}"):
        make(algorithm, FuzzEnv(BOX, space))


@by_algorithm
def test_no_checkpoint_of_damaged_networks(algorithm, tmp_path):
    """An infinite moment of Adam is damage too: it divides by it"""
    model = make(algorithm).learn(STEPS)
    moment = model.critic.optimizer.state[next(model.critic.parameters())]["exp_avg_sq"]
    parameter = next(model.actor.parameters()).data
    for tensor, value, name in [(moment, INF, r"critic\.optimizer 0 exp_avg_sq"), (parameter, NAN, r"actor\..*weight")]:
        before = tensor.clone()
        tensor.flatten()[0] = value
        with pytest.raises(NonFiniteError, match=f"^parameter {name} is not finite at environment step 10: "):
            save_checkpoint(model, tmp_path)
        with pytest.raises(NonFiniteError, match=f"^parameter {name} is not finite"):
            model.learn(0, reset_num_timesteps=False)
        tensor.copy_(before)
    # Neither do the buffers of batch normalisation escape
    model.critic.register_buffer("running_mean", th.full((2,), NAN))
    with pytest.raises(NonFiniteError, match=r"^parameter critic\.running_mean is not finite"):
        save_checkpoint(model, tmp_path)
    del model.critic.running_mean
    assert list(tmp_path.iterdir()) == []
    assert latest_checkpoint(save_checkpoint(model, tmp_path).parent) is not None


@by_algorithm
def test_a_broken_actor_does_not_act(algorithm):
    model = make(algorithm)
    observation = model.get_env().reset()
    assert model.predict(observation)[0].shape == (1, 2)
    for parameter in model.actor.parameters():
        parameter.data.fill_(NAN)
    with pytest.raises(NonFiniteError, match=r"^action is not finite at environment step 0: \[\[nan nan\]\]"):
        model.predict(observation)


@pytest.mark.parametrize(("validate", "name"), [(True, "action distribution"), (False, "action")])
def test_gsde_that_diverges_is_named(monkeypatch, validate, name):
    """Whether the distributions of PyTorch look at their parameters, as they do unless some package has switched it off"""
    monkeypatch.setattr(th.distributions.Distribution, "_validate_args", validate)
    with pytest.raises(NonFiniteError, match=rf"^{name} is not finite at environment step \d+: "):
        make("DSPG", use_sde=True, learning_rate=1e3).learn(30)


@by_algorithm
def test_float64_observations_beyond_float32(algorithm):
    model = make(algorithm, FuzzEnv(spaces.Box(1e299, 1e300, (2,), np.float64)))
    with pytest.raises(NonFiniteError, match=r"^observation is not finite at environment step 0: "):
        model.learn(3)
