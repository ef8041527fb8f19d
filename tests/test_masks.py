"""Action masks: in acting, in the target and in the policy, for both algorithms; without them it is another policy."""

import gymnasium as gym
import numpy as np
import onnxruntime
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common.discrete import choices_of, one_hot
from sb3_maxent.common.masks import check_masks, joint_mask, sample_allowed
from sb3_maxent.envs import ActionMaskObservation
from sb3_maxent.saving.export import export_onnx
from tests.dspg.test_discrete import ALPHA, GAMMA, SPACES, TabularMDP, distance, joint
from tests.envs import RandomEnv
from tests.gradients import next_value
from tests.models import GOAL, PLAIN, PLAIN_NETWORKS, SMALL, VECTOR

ALGORITHMS = {"DSPG": (DSPG, {**PLAIN, "n_action_samples": 32}), "SoftQLearning": (SoftQLearning, {})}


def random_masks(space, n_states, seed=0):
    """Half of the choices of each factor, one at least, shape (states, sum of the numbers of choices)"""
    generator, parts = np.random.default_rng(seed), []
    for n in choices_of(space):
        parts.append(generator.random((n_states, n)) < 0.5)
        parts[-1][np.arange(n_states), generator.integers(n, size=n_states)] = True
    return np.concatenate(parts, axis=1)


class MaskedMDP(TabularMDP):
    """Where a forbidden action has been taken it says so"""

    def __init__(self, action_space, n_states=3, is_random=False, **kwargs):
        super().__init__(action_space, n_states, is_random=is_random, **kwargs)
        self.masks = random_masks(action_space, n_states)

    def action_masks(self):
        return self.masks[self.state]

    def allowed(self):
        """Shape (states, joint actions)"""
        actions = th.tensor(joint(self.action_space))[None]
        chosen = one_hot(actions, choices_of(self.action_space))[0].numpy()
        return (~self.masks).astype(int) @ chosen.T == 0

    def step(self, action):
        assert self.allowed()[self.state, self.numbers[tuple(np.atleast_1d(action))]], "a forbidden action"
        return super().step(action)

    def optimum(self, alpha=ALPHA, gamma=GAMMA, masked=True):
        if not masked:
            return super().optimum(alpha, gamma)
        value = np.zeros(self.n_states)
        for _ in range(500):
            q_values = np.where(self.allowed(), self.rewards + gamma * self.transitions @ value, -np.inf)
            value = alpha * np.log(np.exp(q_values / alpha).sum(axis=1))
        return np.exp((q_values - value[:, None]) / alpha), value


def observations_of(env):
    return {"observation": np.eye(env.n_states, dtype=np.float32), "action_mask": env.masks.astype(np.int8)}


def trained(algorithm, env, n_updates=500, gamma=GAMMA, **kwargs):
    """Random allowed transitions first, and all updates then"""
    algorithm, arguments = ALGORITHMS[algorithm]
    arguments = {**arguments, "learning_rate": lambda progress: 1e-2 * progress, "batch_size": 128, "tau": 0.05, **kwargs}
    networks = PLAIN_NETWORKS if algorithm is DSPG else {}
    arguments = {**arguments, "gamma": gamma, "ent_coef": ALPHA, "learning_starts": 1000, "seed": 0, **kwargs}
    model = algorithm(
        "MultiInputPolicy",
        gym.wrappers.TimeLimit(ActionMaskObservation(env), 5),
        policy_kwargs={"net_arch": [32], "n_critics": 1, **networks, "action_layer": 0},
        **arguments,
    )
    model.learn(1000)
    for left in range(10, 0, -1):
        model._current_progress_remaining = left / 10
        model.train(n_updates // 10, 128)
    return model


def policy_of(model, env, **observations):
    actions = model.sample_actions({**observations_of(env), **observations}, 20_000).reshape(env.n_states, 20_000, -1)
    numbers = np.ravel_multi_index(np.moveaxis(actions, 2, 0), choices_of(env.action_space))
    return np.stack([np.bincount(row, minlength=len(joint(env.action_space))) / row.size for row in numbers])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_learned_policy_is_the_softmax_of_what_is_allowed(algorithm):
    env = MaskedMDP(spaces.Discrete(4))
    exact, value = env.optimum()
    model = trained(algorithm, env)
    policy = policy_of(model, env)
    assert distance(policy, exact) < 0.02 and (policy[exact == 0] == 0).all() and (exact == 0).sum() > 2
    assert model.predict(observations_of(env), deterministic=True)[0].tolist() == exact.argmax(axis=1).tolist()
    tensors, _ = model.policy.obs_to_tensor(observations_of(env))
    learned = next_value(model, tensors, model._draw_noise(3).next_actions, th.tensor(ALPHA))
    assert learned[:, 0].numpy() == pytest.approx(value, abs=0.03)
    # Controls: masks when acting alone leave other values, and so another policy; without masks it is neither
    unmasked, unmasked_value = env.optimum(masked=False)
    assert np.abs(unmasked_value - value).max() > 0.3 and distance(unmasked, exact) > 0.3
    when_acting = np.where(exact > 0, unmasked, 0)
    assert distance(when_acting / when_acting.sum(axis=1, keepdims=True), exact) > 0.05
    observations = np.ones_like(env.masks, dtype=np.int8)
    assert (policy_of(model, env, action_mask=observations)[exact == 0] > 0).any()


@pytest.mark.parametrize("space", ["MultiDiscrete", pytest.param("MultiBinary", marks=pytest.mark.slow)])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_masked_bandit_of_factors(algorithm, space):
    """Its reward is a sum over the factors, so that the softmax is a product"""
    space = SPACES[space]
    rewards = np.tile(joint(space) @ np.linspace(0.5, -0.3, len(choices_of(space))), (2, 1))
    env = MaskedMDP(space, n_states=2, rewards=rewards)
    exact, _ = env.optimum(gamma=0.0)
    assert distance(policy_of(trained(algorithm, env, 300, gamma=0.0), env), exact) < 0.02
    assert distance(env.optimum(gamma=0.0, masked=False)[0], exact) > 0.1


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_random_actions_and_those_of_the_policy_are_allowed(algorithm, space, tmp_path):
    """MaskedMDP refuses any other; a saved and loaded model goes on, in several environments and with a learned temperature"""
    algorithm, arguments = ALGORITHMS[algorithm]
    env = make_vec_env(lambda: gym.wrappers.TimeLimit(ActionMaskObservation(MaskedMDP(SPACES[space])), 7), 2, seed=0)
    model = algorithm("MultiInputPolicy", env, **{**SMALL, **arguments, "ent_coef": "auto", "learning_starts": 40}).learn(80)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=env)
    observations = env.reset()
    for deterministic in (False, True):
        th.manual_seed(0)
        actions = model.predict(observations, deterministic=deterministic)[0]
        th.manual_seed(0)
        assert np.array_equal(loaded.predict(observations, deterministic=deterministic)[0], actions)
    loaded.learn(20, reset_num_timesteps=False)
    # The control: without masks it refuses soon
    with pytest.raises(AssertionError, match="a forbidden action"):
        algorithm("MlpPolicy", gym.wrappers.TimeLimit(MaskedMDP(SPACES[space]), 7), **{**SMALL, **arguments}).learn(40)


def test_the_mask_of_the_last_state_of_an_episode_reaches_the_target():
    """And not that of the first one of the next episode, which a vector environment has by then"""
    env = MaskedMDP(spaces.Discrete(4))
    model = DSPG("MultiInputPolicy", gym.wrappers.TimeLimit(ActionMaskObservation(env), 3), **SMALL, n_action_samples=4)
    model.learn(60)
    data = model.replay_buffer.sample(200)
    for observations in (data.observations, data.next_observations):
        states = observations["observation"].argmax(dim=1)
        assert th.equal(observations["action_mask"] > 0, th.tensor(env.masks)[states])


def test_her_keeps_masks():
    class Goals(RandomEnv):
        def __init__(self):
            goals = {"observation": VECTOR, "achieved_goal": GOAL, "desired_goal": GOAL}
            super().__init__(spaces.Dict(goals), spaces.Discrete(4))

        def compute_reward(self, achieved, desired, info):
            return -np.linalg.norm(achieved - desired, axis=-1)

    env = ActionMaskObservation(ActionMasker(Goals(), lambda env: np.array([0, 1, 1, 0])))
    model = DSPG("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, **SMALL, n_action_samples=4).learn(60)
    stored = model.replay_buffer.actions[:60]
    assert set(stored.flatten()) == {1, 2}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("algorithm", [pytest.param("DSPG", marks=pytest.mark.slow), "SoftQLearning"])
def test_an_exported_policy_takes_masks(algorithm, tmp_path):
    env = MaskedMDP(spaces.MultiDiscrete([3, 2]), n_states=5)
    algorithm, arguments = ALGORITHMS[algorithm]
    model = algorithm("MultiInputPolicy", ActionMaskObservation(env), **{**SMALL, **arguments})
    observations = observations_of(env)
    for deterministic in (True, False):
        export_onnx(model, tmp_path / "policy.onnx", deterministic=deterministic)
        session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
        th.manual_seed(0)
        expected, _ = model.predict(observations, deterministic=deterministic)
        th.manual_seed(0)
        noise = {} if deterministic else {"noise": model.actor.draw_noise(5, 1)[:, 0].numpy()}
        assert np.array_equal(session.run(["action"], {**observations, **noise})[0], expected)
        # The control: other masks, other actions
        masks = {"action_mask": 1 - observations["action_mask"]}
        assert not np.array_equal(session.run(["action"], {**observations, **masks, **noise})[0], expected)


def test_normalised_observations():
    env = DummyVecEnv([lambda: ActionMaskObservation(MaskedMDP(spaces.Discrete(4)))])
    env = VecNormalize(env, norm_obs_keys=["observation"])
    model = DSPG("MultiInputPolicy", env, **SMALL, n_action_samples=4).learn(40)
    # Its noise chooses among allowed actions, which the task checks; the mask is what it was
    assert model._n_updates > 0 and set(np.unique(env.reset()["action_mask"])) <= {0, 1}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_masks_for_predict(algorithm):
    env = ActionMaskObservation(MaskedMDP(spaces.MultiDiscrete([3, 2])))
    algorithm, arguments = ALGORITHMS[algorithm]
    model = algorithm("MultiInputPolicy", env, **{**SMALL, **arguments})
    observation, _ = env.reset(seed=0)
    without = {"observation": observation["observation"]}
    for deterministic in (False, True):
        # One state and several, with the mask of the observation replaced or not there
        for each in (observation, without):
            mask = np.array([0, 0, 1, 1, 0], bool)
            assert model.predict(each, deterministic=deterministic, action_masks=mask)[0].tolist() == [2, 0]
        batch = {"observation": np.stack([observation["observation"]] * 2)}
        masks = [[1, 0, 0, 0, 1], [0, 1, 0, 1, 0]]
        assert model.predict(batch, deterministic=deterministic, action_masks=masks)[0].tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match=r"(?s)^action_masks=.*some state has no allowed action in MultiDiscrete"):
        model.predict(observation, action_masks=[1, 1, 1, 0, 0])
    with pytest.raises(ValueError, match=r"^action_masks of shape \(4,\): give 5 numbers per state"):
        model.predict(observation, action_masks=[1, 1, 1, 0])
    with pytest.raises(ValueError, match=r"^action_masks=.*: 2 masks for 1 states, give one per state"):
        model.predict(observation, action_masks=masks)
    with pytest.raises(ValueError, match=r"^action_masks=.*: 1 masks for 2 states, give one per state"):
        model.predict(batch, action_masks=masks[0])
    plain = algorithm("MlpPolicy", TabularMDP(spaces.Discrete(4)), **{**SMALL, **arguments})
    with pytest.raises(ValueError, match=r"the policy was trained without masks.*ActionMaskObservation"):
        plain.predict(np.ones(3, np.float32), action_masks=[1, 0, 0, 0])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sampled_actions_are_allowed_ones(algorithm):
    env = ActionMaskObservation(MaskedMDP(spaces.Discrete(3)))
    algorithm, arguments = ALGORITHMS[algorithm]
    model = algorithm("MultiInputPolicy", env, **{**SMALL, **arguments})
    observation, _ = env.reset(seed=0)
    for allowed in ([0, 0, 1], [0, 0, 5]):
        assert set(model.sample_actions({**observation, "action_mask": np.array(allowed)}, 20)) == {2}
    with pytest.raises(ValueError, match="some state has no allowed action in Discrete"):
        model.sample_actions({**observation, "action_mask": np.zeros(3)}, 20)


def test_an_environment_that_allows_nothing():
    env = ActionMaskObservation(ActionMasker(TabularMDP(spaces.Discrete(4)), lambda env: np.zeros(4)))
    with pytest.raises(ValueError, match="some state has no allowed action in Discrete"):
        env.reset()


class Ending(TabularMDP):
    """Allows nothing behind the end"""

    def step(self, action):
        self.is_over = True
        observation, reward, *_ = super().step(action)
        return observation, reward, True, False, {}

    def action_masks(self):
        return np.zeros(4) if getattr(self, "is_over", False) else np.array([0, 0, 1, 0])


def test_behind_the_end_nothing_need_be_allowed():
    env = ActionMaskObservation(Ending(spaces.Discrete(4)))
    assert env.reset()[0]["action_mask"].tolist() == [0, 0, 1, 0]
    assert env.step(2)[0]["action_mask"].tolist() == [1, 1, 1, 1]


class EndingWithItsOwnMask(Ending):
    """Observes the mask by itself, so that nothing is allowed in the last state"""

    def __init__(self, action_space):
        super().__init__(action_space)
        self.observation_space = spaces.Dict(state=self.observation_space, action_mask=spaces.MultiBinary(4))

    def reset(self, **kwargs):
        self.is_over = False
        return self.observe(super().reset(**kwargs)[0]), {}

    def step(self, action):
        observation, *rest = super().step(action)
        return self.observe(observation), *rest

    def observe(self, observation):
        return {"state": observation, "action_mask": self.action_masks().astype(np.int8)}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_last_state_that_allows_nothing_has_no_value(algorithm):
    kind, arguments = ALGORITHMS[algorithm]
    env = EndingWithItsOwnMask(spaces.Discrete(4))
    model = kind("MultiInputPolicy", env, **{**arguments, **SMALL}).learn(60)
    assert not model.replay_buffer.next_observations["action_mask"][:60].any() and model._n_updates >= 40
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())


def test_a_last_state_at_a_time_limit_must_allow_something():
    class Truncated(EndingWithItsOwnMask):
        def step(self, action):
            observation, reward, *_ = super().step(action)
            return observation, reward, False, True, {}

    model = DSPG("MultiInputPolicy", Truncated(spaces.Discrete(4)), **SMALL)
    with pytest.raises(ValueError, match="some state has no allowed action in Discrete"):
        model.learn(10)
    assert model.replay_buffer.size() == 0 and model._last_obs is None


def test_a_mask_may_be_all_that_is_observed():
    space = spaces.Dict(action_mask=spaces.MultiBinary(4))
    model = DSPG("MultiInputPolicy", RandomEnv(space, spaces.Discrete(4)), **SMALL)
    mask = np.array([0, 1, 0, 0])
    for observation, given in (({"action_mask": mask}, None), ({}, mask)):
        action = model.predict(observation, action_masks=given)[0]
        assert action == 1 and action.shape == ()
    assert model.predict({"action_mask": np.stack([mask, mask[::-1]])})[0].tolist() == [1, 2]


def with_observations(space, action_space=None):
    env = RandomEnv(space, action_space or spaces.Discrete(4))
    env.action_masks = lambda: np.ones(4)
    return env


@pytest.mark.parametrize(
    ("make_env", "message"),
    [
        (lambda: with_observations(VECTOR, spaces.Box(-1, 1, (2,))), "masks are for Discrete, MultiDiscrete and MultiBinary"),
        (lambda: RandomEnv(VECTOR, spaces.Discrete(4)), r"has no method action_masks\(\)"),
        (lambda: with_observations(spaces.Dict(action_mask=VECTOR)), "has an observation 'action_mask' already"),
    ],
)
def test_what_cannot_be_wrapped(make_env, message):
    with pytest.raises(ValueError, match=message):
        ActionMaskObservation(make_env())


def test_a_mask_of_another_size_is_refused():
    space = spaces.Dict(observation=VECTOR, action_mask=spaces.MultiBinary(3))
    with pytest.raises(ValueError, match=r"action_mask'\]=MultiBinary\(3\): the mask of Discrete\(4\) is MultiBinary\(4\)"):
        DSPG("MultiInputPolicy", RandomEnv(space, spaces.Discrete(4)), **SMALL)
    # Of boxes there is none: it is an observation like any other
    DSPG("MultiInputPolicy", RandomEnv(space, spaces.Box(-1, 1, (2,))), **SMALL)


@pytest.mark.parametrize("space", SPACES)
def test_joint_masks_and_random_actions(space):
    space = SPACES[space]
    masks = random_masks(space, 5, seed=1)
    allowed = joint_mask(th.tensor(masks), choices_of(space)).numpy()
    offsets = np.cumsum([0, *choices_of(space)[:-1]])
    expected = [[all(mask[offsets + action]) for action in joint(space)] for mask in masks]
    assert allowed.tolist() == expected
    space.seed(0)
    for mask, row in zip(check_masks(masks, space), expected, strict=True):
        drawn = {tuple(np.atleast_1d(sample_allowed(space, mask))) for _ in range(200)}
        assert drawn == {tuple(action) for action, allowed in zip(joint(space), row, strict=True) if allowed}


def test_a_temperature_far_above_one():
    """Zero times the logarithm of a forbidden action stays zero"""
    env = ActionMaskObservation(MaskedMDP(spaces.MultiDiscrete([3, 2])))
    for algorithm, arguments in ALGORITHMS.values():
        model = algorithm("MultiInputPolicy", env, **{**SMALL, **arguments, "ent_coef": 1e6}).learn(30)
        assert model._n_updates > 0 and all(th.isfinite(parameter).all() for parameter in model.policy.parameters())


def test_the_learned_temperature_has_the_entropy_of_the_allowed_actions():
    env = ActionMaskObservation(MaskedMDP(spaces.Discrete(4)))
    model = SoftQLearning("MultiInputPolicy", env, ent_coef="auto", **SMALL)

    def entropy(masks):
        obs, _ = model.policy.obs_to_tensor({"observation": np.eye(3, dtype=np.float32), "action_mask": masks})
        return -model._actor_loss(obs, model.critic.embed(obs), None, th.tensor(1.0))[1]

    one, two, all_of_them = (np.repeat([[1] * n + [0] * (4 - n)], 3, axis=0).astype(np.int8) for n in (1, 2, 4))
    assert entropy(one).abs().max() < 1e-6
    assert 0 < entropy(two).max() < np.log(2) + 1e-6 < entropy(all_of_them).min()
