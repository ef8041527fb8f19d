"""Models that are composed of others act by the Q-functions of all of them."""

import numpy as np
import onnxruntime
import pytest
import torch as th
from gymnasium import spaces
from scipy.stats import kstest

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common.critics import MultiActionCritic
from sb3_maxent.common.errors import NonFiniteError
from sb3_maxent.common.q_network import QNetwork
from sb3_maxent.saving.export import export_onnx
from sb3_maxent.softqlearning import compose
from sb3_maxent.softqlearning.policies import SoftQLearningPolicy
from tests.envs import QuadraticBandit, RandomEnv
from tests.functional.closed_forms import BoundedQuadraticBandit
from tests.functional.tabular import TabularTask, random_tasks
from tests.models import IMAGE, make_model

ALPHA = 0.3
ONE = np.ones(1, np.float32)


class QuadraticNetwork(QNetwork):
    """A Q-function that is known: -h/2 |a - b|^2, of the same shape as any other"""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("h", th.ones(()))
        self.register_buffer("b", th.zeros(()))

    def forward(self, embedding, actions):
        return -0.5 * self.h * (actions - self.b).square().sum(dim=2)


class QuadraticCritic(MultiActionCritic):
    network_class = QuadraticNetwork


class QuadraticPolicy(SoftQLearningPolicy):
    critic_class = QuadraticCritic


def quadratic_model(h, b, alpha=ALPHA, action_dim=1, **arguments):
    """The sampling network is not trained: its actions are all over the box"""
    policy_kwargs = {"net_arch": [8], "n_critics": 1}
    env = QuadraticBandit(action_dim=action_dim)
    model = SoftQLearning(QuadraticPolicy, env, ent_coef=alpha, seed=0, policy_kwargs=policy_kwargs, **arguments)
    model.critic.q_networks[0].h.fill_(h), model.critic.q_networks[0].b.fill_(b)
    return model


def samples_of(model, n=1000):
    th.manual_seed(0)
    return model.predict(np.ones((n, 1), np.float32))[0][:, 0]


def statistic(samples, density):
    """Kolmogorov-Smirnov distance to an exact distribution function"""
    return kstest(samples, density).statistic


FIRST, SECOND = BoundedQuadraticBandit(0, 3.0, 0.6, ALPHA), BoundedQuadraticBandit(0, 9.0, -0.6, ALPHA)
MODELS = [quadratic_model(bandit.h, bandit.b) for bandit in (FIRST, SECOND)]


def test_and_is_the_product_of_the_policies():
    """Of two normals, truncated to the box: precisions add. No policy alone is it"""
    product = BoundedQuadraticBandit(0, 6.0, (3 * 0.6 - 9 * 0.6) / 12, ALPHA)
    samples = samples_of(compose(MODELS))
    assert statistic(samples, product.policy.cdf) < 0.06
    for control in (MODELS[0], compose(MODELS, "or"), compose(MODELS, weights=[3, 1])):
        assert statistic(samples_of(control), product.policy.cdf) > 0.1


def test_conflict_is_what_is_lost_of_the_values():
    mean = BoundedQuadraticBandit(3 * 0.3**2 - 0.25 * (3 + 9) * 0.6**2, 6.0, -0.3, ALPHA)
    exact = (0.5 * (FIRST.value + SECOND.value) - mean.value) / ALPHA
    conflict = compose(MODELS).policy.conflict(np.ones((400, 1), np.float32))
    assert conflict.mean() == pytest.approx(exact, rel=0.02) and conflict.std() < 0.2 * exact
    # None with itself
    assert compose([MODELS[0], MODELS[0]]).policy.conflict(ONE) == pytest.approx(0, abs=1e-5)


def test_or_is_their_mixture():
    """Each with its weight and the integral of exp(Q / alpha)"""
    weights = np.array([1, 3]) * np.exp(np.array([FIRST.value, SECOND.value]) / ALPHA)
    weights /= weights.sum()

    def mixture(actions):
        return weights[0] * FIRST.policy.cdf(actions) + weights[1] * SECOND.policy.cdf(actions)

    composed = compose(MODELS, "or", weights=[0.5, 1.5])
    assert statistic(samples_of(composed), mixture) < 0.06
    assert statistic(samples_of(compose(MODELS, "or")), mixture) > 0.1
    with pytest.raises(ValueError, match="mode='or': only policies that are composed by 'and' must agree"):
        composed.policy.conflict(ONE)


def test_deterministic_actions_are_the_best():
    assert compose(MODELS).predict(ONE, deterministic=True)[0] == pytest.approx(-0.3, abs=0.02)
    # With the larger weight
    for weights, best in (([9, 1], 0.6), ([1, 9], -0.6)):
        composed = compose(MODELS, "or", weights)
        assert composed.predict(ONE, deterministic=True)[0] == pytest.approx(best, abs=0.1)


def test_compositions_can_be_composed():
    composed = compose([compose(MODELS), MODELS[0]], weights=[2, 1])
    expected, _ = compose(MODELS, weights=[2, 1]).predict(ONE, deterministic=True)
    assert composed.predict(ONE, deterministic=True)[0] == pytest.approx(expected, abs=0.05)


def test_composed_models_have_the_unit_of_their_parts():
    scaled = SoftQLearning("MlpPolicy", QuadraticBandit(), norm_reward=True, buffer_size=1)
    composed = compose([compose([scaled, scaled]), scaled])
    assert composed.norm_reward
    with pytest.raises(ValueError, match="models: norm_reward=True of the first is not False"):
        compose([composed, MODELS[0]])


def test_other_temperatures_are_other_units():
    """Rewards and temperature three times as large are the same policy"""
    scaled = [MODELS[0], quadratic_model(27.0, -0.6, 3 * ALPHA)]
    composed, same = compose(scaled), compose(MODELS)
    assert composed.temperature.value.item() == pytest.approx(2 * ALPHA)
    assert np.allclose(samples_of(composed, 500), samples_of(same, 500), atol=1e-4)
    assert composed.policy.conflict(ONE) == pytest.approx(same.policy.conflict(ONE), rel=0.2)


class TaskEnv(RandomEnv):
    def __init__(self):
        super().__init__(spaces.Discrete(5), spaces.Discrete(3))


def table_model(table, alpha):
    """One hidden unit for each state and action, with its Q-value as its weight"""
    n_states, n_actions = table.shape
    policy_kwargs = {"net_arch": [table.size], "n_critics": 1, "action_layer": 0}
    model = SoftQLearning("MlpPolicy", TaskEnv(), ent_coef=alpha, gamma=0.9, policy_kwargs=policy_kwargs)
    (network,) = model.critic.q_networks
    with th.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.join.bias.fill_(-1)
        for unit, (state, action) in enumerate(np.ndindex(n_states, n_actions)):
            network.join.weight[unit, state] = network.join.weight[unit, n_states + action] = 1
        network.head[-1].weight[0] = th.as_tensor(table.flatten())
    return model


def test_two_tasks_with_tables():
    """The mean of known soft Q-functions, its policy, and the bound by the conflict"""
    tasks = random_tasks(np.random.default_rng(0))
    tables = [task.optimal_q_values() for task in tasks]
    model = compose([table_model(table, 0.5) for table in tables])
    assert model.gamma == 0.9
    states = th.arange(5)
    with th.no_grad():
        q_values = model.critic.q_values(model.critic.embed(states), model.critic.all_actions(5))
    composed = 0.5 * (tables[0] + tables[1])
    assert q_values.numpy() == pytest.approx(composed, rel=1e-4)
    both = TabularTask(tasks[0].transitions, 0.5 * (tasks[0].rewards + tasks[1].rewards), tasks[0].ends)
    conflict = model.policy.conflict(states.numpy())
    over, _ = both.bounds(conflict, both.policy(composed))
    optimum = both.optimal_q_values()
    assert (composed - over <= optimum + 1e-3).all()
    # What is bounded is there
    assert (composed > optimum + 0.1).any()
    actions = model.predict(np.repeat(np.arange(5), 2000))[0].reshape(5, 2000)
    shares = np.stack([(actions == action).mean(axis=1) for action in range(3)], axis=1)
    assert shares == pytest.approx(both.policy(composed), abs=0.04)


@pytest.mark.parametrize("variant", ["SoftQLearning", "Discrete SoftQLearning"])
def test_saved_and_loaded(variant, tmp_path):
    models = [make_model(variant, seed=seed, ent_coef=0.1 + seed).learn(30) for seed in range(2)]
    env = models[0].get_env()
    model = compose(models, "and", [1, 2])
    model.save(tmp_path / "model")
    loaded = SoftQLearning.load(tmp_path / "model", env=env)
    model.policy.save(tmp_path / "policy")
    policy = type(model.policy).load(tmp_path / "policy")
    observations = np.concatenate([env.reset() for _ in range(20)])
    expected = model.predict(observations, deterministic=True)[0]
    for each in (loaded, policy):
        assert np.array_equal(each.predict(observations, deterministic=True)[0], expected)
        samples = []
        for one in (model, each):
            th.manual_seed(0)
            samples.append(one.predict(observations)[0])
        assert np.array_equal(*samples)
    with pytest.raises(ValueError, match="a composed policy does not learn"):
        loaded.learn(10)
    # And it can be composed again
    assert compose([model, models[0]], "or").predict(observations)[0].shape == expected.shape


def test_normalised_parts_act_in_evaluation_mode():
    """A batch has no effect on the action in a state, nor on the running statistics"""
    policy_kwargs = {"net_arch": [16, 16], "batch_norm": True}
    models = [make_model("SoftQLearning", seed=seed, policy_kwargs=policy_kwargs).learn(30) for seed in range(2)]
    for model in models:
        model.policy.set_training_mode(True)
    composed = compose(models)
    before = {name: value.clone() for name, value in composed.policy.state_dict().items()}
    observations = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    actions = composed.predict(observations, deterministic=True)[0]
    singles = [composed.predict(observation, deterministic=True)[0] for observation in observations]
    assert actions == pytest.approx(np.stack(singles), abs=1e-5)
    assert all(th.equal(value, before[name]) for name, value in composed.policy.state_dict().items())


def test_a_model_that_is_not_finite_is_refused():
    broken = quadratic_model(3.0, 0.4)
    next(broken.actor.parameters()).data[0] = th.nan
    with pytest.raises(NonFiniteError):
        compose([MODELS[0], broken])


def test_the_conflict_needs_masks_that_allow_something():
    mask = np.array([1, 0, 1], np.int8)
    env = RandomEnv(spaces.Dict({"obs": spaces.Box(-1, 1, (2,)), "action_mask": spaces.MultiBinary(3)}), spaces.Discrete(3))
    env.observation_space["action_mask"].sample = lambda *args: mask
    models = [SoftQLearning("MultiInputPolicy", env, ent_coef=0.1, seed=seed, buffer_size=10) for seed in range(2)]
    policy = compose(models).policy
    observation = {"obs": np.zeros(2, np.float32), "action_mask": mask}
    assert 0 <= policy.conflict(observation) < np.inf
    for bad in ({**observation, "action_mask": 0 * mask}, {"obs": observation["obs"]}):
        with pytest.raises(ValueError, match="action_masks"):
            policy.conflict(bad)


def test_images():
    env = RandomEnv(IMAGE, spaces.Box(-1, 1, (2,)))
    policy_kwargs = {"features_extractor_kwargs": {"features_dim": 8}}
    model = compose([make_model("SoftQLearning", env, "CnnPolicy", policy_kwargs=policy_kwargs) for _ in range(2)])
    assert model.action_space.contains(model.predict(model.observation_space.sample())[0])


def test_only_deterministic_actions_are_exported(tmp_path):
    with pytest.raises(ValueError, match="export it with deterministic=True"):
        export_onnx(compose(MODELS), tmp_path / "model.onnx", deterministic=False)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["SoftQLearning", "Discrete SoftQLearning"])
def test_exported(variant, tmp_path):
    models = [make_model(variant, seed=seed).learn(30) for seed in range(2)]
    model = compose(models)
    export_onnx(model, tmp_path / "model.onnx")
    observations = np.concatenate([models[0].get_env().reset() for _ in range(20)]).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (actions,) = session.run(["action"], {"observation": observations})
    assert actions == pytest.approx(model.predict(observations, deterministic=True)[0], abs=1e-5)


@pytest.mark.parametrize(
    ("models", "arguments", "message"),
    [
        (MODELS[:1], {}, "give two or more trained models"),
        (MODELS, {"mode": "xor"}, r"mode='xor' is not one of \('and', 'or'\)"),
        (MODELS, {"weights": [1]}, r"weights=\[1\]: give 2 positive numbers"),
        (MODELS, {"weights": [1, 0]}, r"weights=\[1, 0\]: give 2 positive numbers"),
        (MODELS, {"weights": [1, np.nan]}, "give 2 positive numbers"),
        ([MODELS[0], quadratic_model(1.0, 0.0, gamma=0.9)], {}, r"models: gamma=0.99 of the first is not 0.9"),
        (
            [MODELS[0], SoftQLearning("MlpPolicy", QuadraticBandit(), norm_reward=True, buffer_size=1)],
            {},
            "models: norm_reward=False of the first is not True",
        ),
        ([MODELS[0], quadratic_model(1.0, 0.0, action_dim=2)], {}, r"models: action_space=Box\(.* of the first is not Box"),
        ([MODELS[0], DSPG("MlpPolicy", QuadraticBandit(), buffer_size=1)], {}, "models: DSPG has no soft Q-function"),
    ],
)
def test_refuses_what_does_not_fit(models, arguments, message):
    with pytest.raises(ValueError, match=message):
        compose(models, **arguments)


def test_the_temperature_is_the_weighted_mean():
    models = [quadratic_model(3.0, 0.4, alpha=0.3), quadratic_model(27.0, -0.6, alpha=0.9)]
    assert compose(models, weights=[3, 1]).temperature.value.item() == pytest.approx(0.45)
