import math

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common.discrete import choices_of
from sb3_maxent.common.hybrid_space import HybridBox
from sb3_maxent.common.temperature import Temperature, parse_ent_coef, parse_target_entropy
from tests.models import make_model

CPU = th.device("cpu")


@pytest.mark.parametrize(
    ("ent_coef", "expected"),
    [
        *[("auto", (True, 1.0, 1.0)), ("auto_0.1", (True, 0.1, 0.1)), (0.2, (False, 0.2, 0.2)), ("0.2", (False, 0.2, 0.2))],
        *[(0, (False, 0.0, 0.0)), ("lin_0.2", (False, 0.2, 0.1)), (lambda progress: progress**2, (False, 1.0, 0.25))],
    ],
)
def test_ent_coef(ent_coef, expected):
    learned, schedule = parse_ent_coef(ent_coef)
    assert (learned, schedule(1.0), schedule(0.5)) == expected


@pytest.mark.parametrize(
    "ent_coef",
    [
        *(
            "atuo",
            "auto_",
            "auto_0",
            "auto_-1",
            "auto-0.1",
            "autox",
            "auto_lin_1",
            "auto_lin_1_0.5",
            "lin_x",
            "auto_log_1_0.5",
            "log_0.1",
        ),
        *(-0.1, float("nan"), float("inf"), None),
    ],
)
def test_malformed_ent_coef(ent_coef):
    with pytest.raises(ValueError, match=r"ent_coef=.*: give a number >= 0, a schedule, 'auto', or 'auto_x'"):
        parse_ent_coef(ent_coef)


def test_target_entropy():
    action_space = spaces.Box(-1, 1, (2, 3))
    assert parse_target_entropy("auto", action_space) == -6.0
    assert parse_target_entropy("-1.5", action_space) == -1.5
    assert parse_target_entropy("auto_0.5", action_space) == -3.0
    for value in ("low", "auto_", "auto_low", "automatic", None, float("nan"), "inf"):
        with pytest.raises(ValueError, match=r"target_entropy=.*: give a finite number of nats, or 'auto' for minus"):
            parse_target_entropy(value, action_space)


DISCRETE = [spaces.Discrete(2), spaces.Discrete(18), spaces.MultiDiscrete([3, 4]), spaces.MultiBinary(2000)]


@pytest.mark.parametrize("space", DISCRETE, ids=str)
def test_target_entropy_of_discrete_actions(space):
    """That of a policy with 5 % random actions, which can be reached: minus the number of components could not"""
    target, choices = parse_target_entropy("auto", space), choices_of(space)
    assert 0 < target < sum(np.log(choices)) and parse_target_entropy("auto_2", space) == 2 * target
    n_actions = math.prod(choices)
    if n_actions < 1000:
        probabilities = np.full(n_actions, 0.05 / n_actions)
        probabilities[0] += 0.95
        assert target == pytest.approx(-(probabilities * np.log(probabilities)).sum())
        # However the actions are written
        assert target == pytest.approx(parse_target_entropy("auto", spaces.Discrete(n_actions)))
    assert parse_target_entropy("auto", spaces.Discrete(1)) == 0.0


def test_target_entropy_of_hybrid_actions():
    """The sum of both defaults, which is below the largest entropy"""
    space = HybridBox(spaces.Box(-3, 1, (2,)), (3, 4))
    target = parse_target_entropy("auto", space)
    assert target == pytest.approx(parse_target_entropy("auto", spaces.Discrete(12)) - 2)
    assert target < np.log(12) + 2 * np.log(2) and parse_target_entropy("auto_0.5", space) == target / 2
    assert parse_target_entropy("auto", HybridBox(spaces.Box(-3, 1, (2,)), (1,))) == -2.0


def cliff_entropy(temperature, n_actions, gamma=0.99):
    """Of the soft optimal policy where one action earns 1 and goes on, and each other one ends the episode"""
    low, high = 0.0, (1 + temperature * np.log(n_actions)) / (1 - gamma)
    for _ in range(100):
        value = (low + high) / 2
        advantage = (1 + gamma * value) / temperature
        if temperature * (advantage + np.log1p((n_actions - 1) * np.exp(-advantage))) > value:
            low = value
        else:
            high = value
    # Of each action that ends the episode
    log_prob = -advantage - np.log1p((n_actions - 1) * np.exp(-advantage))
    end = (n_actions - 1) * np.exp(log_prob)
    return -(1 - end) * np.log1p(-end) - end * log_prob


@pytest.mark.parametrize("n_actions", [2, 4, 18])
def test_the_default_target_does_not_drive_the_temperature_up(n_actions):
    """Where no temperature makes the policy random, because it would not live to have more entropy"""
    highest = cliff_entropy(1e6, n_actions)
    default, usual = parse_target_entropy("auto", spaces.Discrete(n_actions)), 0.98 * np.log(n_actions)
    assert default < highest < 0.25 * usual
    results = {}
    for target in (default, usual):
        temperature = Temperature("auto", CPU)
        temperature.optimizer.param_groups[0]["lr"] = 0.1
        for _ in range(400):
            entropy = cliff_entropy(temperature.value.item(), n_actions)
            temperature.learn(th.tensor([[-entropy]]), target)
        results[target] = temperature.value.item(), entropy
    # As large as the value of staying alive, 100. The other one goes on up to the bound of every temperature
    assert 50 < results[default][0] < 200 and results[default][1] == pytest.approx(default, abs=1e-3)
    assert results[usual][0] > 2e4


def test_it_rises_while_the_entropy_is_too_small():
    for target_entropy, direction in ((1.0, 1), (-1.0, -1)):
        temperature = Temperature("auto_0.5", CPU)
        assert temperature.value.item() == pytest.approx(0.5)
        assert temperature.learn(th.zeros(8, 4), target_entropy)["ent_coef_loss"].item() == pytest.approx(
            np.log(2) * target_entropy
        )
        assert direction * (temperature.value.item() - 0.5) > 1e-4
    assert Temperature(0.5, CPU).learn(th.zeros(8, 4), 1.0) == {}


def test_a_schedule_is_followed_and_a_number_stays():
    scheduled, fixed = Temperature("lin_1", CPU), Temperature(1.0, CPU)
    fixed.fixed_value.fill_(0.7)
    for temperature in (scheduled, fixed):
        temperature.follow_schedule(0.25)
    assert (scheduled.value.item(), fixed.value.item()) == (0.25, pytest.approx(0.7))
    for temperature in (scheduled, fixed):
        temperature.assign(0.125)
        temperature.follow_schedule(0.5)
        assert temperature.value.item() == 0.125


class Annealing(BaseCallback):
    """SAC's users assign ``ent_coef_tensor``, or fill it"""

    def __init__(self, in_place):
        super().__init__()
        self.in_place = in_place

    def _on_step(self):
        value = 0.5 * 0.9**self.num_timesteps
        if self.in_place:
            self.model.ent_coef_tensor.fill_(value)
        else:
            self.model.ent_coef_tensor = th.tensor(value)
        return True


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("variant", ["DSPG", "SoftQLearning", "Discrete SoftQLearning"])
def test_an_annealing_callback(variant, in_place, tmp_path):
    model = make_model(variant, ent_coef=0.5).learn(30, Annealing(in_place))
    expected = pytest.approx(0.5 * 0.9**30)
    assert model.ent_coef_tensor.item() == expected and model.logger.name_to_value["train/ent_coef"] == expected
    if "Soft" in variant:
        assert model.policy.ent_coef.item() == expected
    # As with SAC, it is saved
    model.save(tmp_path / "model")
    assert type(model).load(tmp_path / "model").ent_coef_tensor.item() == expected


def probabilities(model):
    th.manual_seed(0)
    actions = model.sample_actions(model.observation_space.sample() * 0, 20_000)
    return (actions == 0).mean()


def test_an_ent_coef_for_load_holds_at_once(tmp_path):
    """A softmax policy that is loaded to act only, too"""
    model = make_model("Discrete SoftQLearning", ent_coef=1e-4).learn(60)
    model.save(tmp_path / "model")
    same, other = SoftQLearning.load(tmp_path / "model"), SoftQLearning.load(tmp_path / "model", ent_coef=1e4)
    assert other.policy.ent_coef.item() == other.ent_coef_tensor.item() == 1e4
    assert probabilities(same) == probabilities(model) != pytest.approx(0.5, abs=0.05)
    assert probabilities(other) == pytest.approx(0.5, abs=0.02)
    for arguments in ({"custom_objects": {"ent_coef": 2.0}}, {"ent_coef": 2.0}):
        assert SoftQLearning.load(tmp_path / "model", **arguments).policy.ent_coef.item() == 2.0
    assert SoftQLearning.load(tmp_path / "model", None, "cpu", {"ent_coef": 2.0}).policy.ent_coef.item() == 2.0


@pytest.mark.parametrize("given", ["auto", "auto_0.5"])
def test_an_ent_coef_that_is_given_again_goes_on(given, tmp_path):
    """RL Zoo gives ``load`` the hyperparameters again when it continues a model"""
    model = make_model("DSPG", ent_coef="auto", learning_rate=0.01).learn(60)
    learned = model.temperature.value.item()
    model.save(tmp_path / "model")
    for arguments in ({"ent_coef": given}, {"custom_objects": {"ent_coef": given}}):
        value = DSPG.load(tmp_path / "model", **arguments).temperature.value.item()
        assert value == pytest.approx(learned if given == "auto" else 0.5)
    assert learned != pytest.approx(1.0, abs=0.05)
    # One that is not learned is what is given
    fixed = make_model("DSPG", ent_coef=0.2)
    fixed.ent_coef_tensor.fill_(0.05)
    fixed.save(tmp_path / "fixed")
    values = [DSPG.load(tmp_path / "fixed", **arguments).temperature.value.item() for arguments in ({}, {"ent_coef": 0.2})]
    assert values == pytest.approx([0.05, 0.2])


@pytest.mark.parametrize("variant", ["SoftQLearning", "Discrete SoftQLearning"])
def test_set_parameters_leaves_the_temperature(variant):
    donor, model = make_model(variant, ent_coef=0.1), make_model(variant, ent_coef=3.0)
    model.set_parameters(donor.get_parameters())
    assert model.policy.ent_coef.item() == model.ent_coef_tensor.item() == 3.0
    assert th.equal(next(model.critic.parameters()), next(donor.critic.parameters()))


def test_a_donors_policy_leaves_the_temperature_of_training():
    donor, model = (make_model("Discrete SoftQLearning", ent_coef=ent_coef) for ent_coef in (5.0, 0.3))
    model.policy.load_state_dict(donor.policy.state_dict())
    model.learn(30)
    assert model.policy.ent_coef.item() == model.logger.name_to_value["train/ent_coef"] == pytest.approx(0.3)


def test_a_policy_that_was_converted_follows_its_schedule():
    model = make_model("Discrete SoftQLearning", ent_coef="lin_1_0.1")
    model.policy.to(th.float64).to(th.float32)
    model.learn(30)
    assert model.policy.ent_coef.item() == model.ent_coef_tensor.item() == pytest.approx(0.1)


def test_an_annealed_target_entropy():
    """It is read at each update, as in SAC"""
    model = make_model("DSPG").learn(30)
    model.target_entropy = -100.0
    before = model.log_ent_coef.item()
    for _ in range(5):
        model.train(1, 16)
    assert model.log_ent_coef.item() < before and model.logger.name_to_value["train/ent_coef_loss"] < -0.1


def test_a_learned_coefficient_is_not_assigned(tmp_path):
    model = make_model("DSPG", ent_coef="auto").learn(30)
    with pytest.raises(ValueError, match=r"ent_coef_tensor=0\.5: the coefficient is learned"):
        model.ent_coef_tensor = 0.5
    with pytest.raises(ValueError, match=r"ent_coef_tensor=-1\.0: give a finite number from 0 to"):
        make_model("DSPG", ent_coef=0.2).ent_coef_tensor = -1.0
    # For load a learned one starts again
    model.save(tmp_path / "model")
    assert DSPG.load(tmp_path / "model").temperature.value.item() == model.temperature.value.item() != 0.5
    assert DSPG.load(tmp_path / "model", ent_coef="auto_0.5").temperature.value.item() == pytest.approx(0.5)


def test_an_assigned_value_outlives_a_schedule_and_the_file(tmp_path):
    model = make_model("DSPG", ent_coef="lin_1_0.5")
    model.ent_coef_tensor = 0.05
    model.learn(30).save(tmp_path / "model")
    loaded = DSPG.load(tmp_path / "model", env=model.get_env()).learn(30)
    assert loaded.temperature.value.item() == pytest.approx(0.05)


def test_sb3s_names():
    learned, fixed = DSPG("MlpPolicy", "Pendulum-v1"), DSPG("MlpPolicy", "Pendulum-v1", ent_coef=0.2)
    assert learned.log_ent_coef.shape == (1,) and isinstance(learned.ent_coef_optimizer, th.optim.Adam)
    assert fixed.log_ent_coef is None and fixed.ent_coef_optimizer is None
    assert fixed.ent_coef_tensor.item() == pytest.approx(0.2)


def test_a_policy_knows_an_assigned_value_at_once():
    model = make_model("Discrete SoftQLearning", ent_coef=1e-4)
    model.ent_coef_tensor = 4.0
    assert model.policy.ent_coef.item() == 4.0


@pytest.mark.parametrize("variant", ["SoftQLearning", "Discrete SoftQLearning"])
def test_that_of_soft_q_learning_stays_positive(variant):
    """With zero all parameters would be NaN after an update"""
    model = make_model(variant, ent_coef=0.5)
    with pytest.raises(ValueError, match=r"ent_coef_tensor=0\.0: give a finite number from 1\.17549e-38"):
        model.ent_coef_tensor = 0.0
    assert model.policy.ent_coef.item() == model.temperature.schedule(1.0) == 0.5
    # A function that is positive at both ends
    model = make_model(variant, ent_coef=lambda progress: abs(progress - 0.5))
    with pytest.raises(ValueError, match=r"ent_coef\(0\.5\)=0\.0: give a finite number from 1\.17549e-38"):
        model.learn(100)
    assert all(parameter.isfinite().all() for parameter in model.policy.parameters())


def test_learning_rate_without_an_actor_that_learns():
    model = make_model("Discrete SoftQLearning", ent_coef="auto", learning_rate=lambda progress: 3e-3 + progress).learn(30)
    assert model.ent_coef_optimizer.param_groups[0]["lr"] == 3e-3


def test_a_restarted_coefficient_forgets_its_gradients(tmp_path):
    """With a gradient of zero it stays where it restarted. Control: one that goes on follows the gradients of before"""
    model = make_model("DSPG", ent_coef="auto_0.1").learn(40)
    model.save(tmp_path / "model")
    log_prob = th.full((4, 1), -float(model.target_entropy))
    values = []
    for ent_coef in ("auto_0.5", "auto_0.1"):
        temperature = DSPG.load(tmp_path / "model", ent_coef=ent_coef).temperature
        before = temperature.value.item()
        temperature.learn(log_prob, float(model.target_entropy))
        values.append((before, temperature.value.item()))
    assert values[0] == (pytest.approx(0.5), pytest.approx(0.5))
    assert values[1][0] != pytest.approx(values[1][1], rel=1e-6)
