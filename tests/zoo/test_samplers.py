import inspect
from itertools import product

import pytest
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.common.temperature import parse_target_entropy
from sb3_maxent.zoo import CONVERTERS, SAMPLERS

optuna = pytest.importorskip("optuna")

N_TRIALS = 60
WITHOUT_HER = {"using_her_replay_buffer": False, "her_kwargs": {}}
WITH_HER = {"using_her_replay_buffer": True, "her_kwargs": {"n_sampled_goal": 4, "copy_info_dict": True}}
PROBLEMS = [(0, WITHOUT_HER), (1, WITHOUT_HER), (6, WITHOUT_HER), (1, WITH_HER)]


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """For a kind of problem, (what the sampler returned, parameters as read from the storage) of many random trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    cache = {}

    def sample(key, n_actions, additional_args):
        problem = key, n_actions, additional_args["using_her_replay_buffer"]
        if problem not in cache:
            # A file: what --trial-id reads has been through JSON
            path = str(tmp_path_factory.mktemp("study") / "study.log")
            storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
            study = optuna.create_study(storage=storage, study_name="study", sampler=optuna.samplers.RandomSampler(seed=0))
            returned = [SAMPLERS[key](study.ask(), n_actions, 1, additional_args) for _ in range(N_TRIALS)]
            storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
            trials = optuna.load_study(study_name="study", storage=storage).trials
            cache[problem] = list(zip(returned, trials, strict=True))
        return cache[problem]

    return sample


@pytest.mark.parametrize("key", SAMPLERS)
@pytest.mark.parametrize("n_actions, additional_args", PROBLEMS)
def test_converter_returns_what_the_sampler_returned(sampled, key, n_actions, additional_args):
    for hyperparams, trial in sampled(key, n_actions, additional_args):
        assert CONVERTERS[key](trial.params) == hyperparams


@pytest.mark.parametrize("key", SAMPLERS)
def test_converter_does_not_change_its_argument(sampled, key):
    _, trial = sampled(key, 1, WITH_HER)[0]
    params = dict(trial.params)
    CONVERTERS[key](params)
    assert params == trial.params


@pytest.mark.parametrize("key", SAMPLERS)
def test_shared_search_space(sampled, key):
    trials = [hyperparams for hyperparams, _ in sampled(key, 6, WITHOUT_HER)]
    assert {trial["batch_size"] for trial in trials} == {32, 64, 128, 256, 512, 1024}
    for trial in trials:
        assert 0.97 <= trial["gamma"] <= 0.9999
        assert 1 <= trial["train_freq"] <= 10 and trial["target_update_interval"] == 1
        assert trial["learning_rate"] != trial["qf_learning_rate"]
        assert all(1e-5 <= trial[name] <= 2e-3 for name in ("learning_rate", "qf_learning_rate"))
        assert 0.001 <= trial["tau"] <= 0.08
        own = {"n_critics", "unit_norm"} if key == "softqlearning" else set()
        assert set(trial["policy_kwargs"]) - own == {"net_arch", "action_layer", "batch_norm"}
    assert {trial["policy_delay"] for trial in trials} == {1, 2, 3}
    # The default of DSPG makes two updates per step
    updates_per_step = {trial["gradient_steps"] / trial["train_freq"] for trial in trials}
    assert updates_per_step == ({1, 2} if key == "dspg" else {1})


@pytest.mark.parametrize("key", SAMPLERS)
@pytest.mark.parametrize("n_actions, additional_args", PROBLEMS)
def test_rl_zoos_sampler_models_all_parameters_together(sampled, key, n_actions, additional_args):
    """With ``multivariate=True`` it draws those one by one that some trial lacks, or has in another range"""
    trials = [trial for _, trial in sampled(key, n_actions, additional_args)]
    assert {frozenset(trial.params) for trial in trials} == {frozenset(trials[0].params)}
    assert all(trial.distributions == trials[0].distributions for trial in trials)


def test_dspg_search_space(sampled):
    trials = [hyperparams for hyperparams, _ in sampled("dspg", 6, WITHOUT_HER)]
    late = [trial for trial in trials if trial["policy_kwargs"]["action_layer"] == -1]
    assert N_TRIALS / 4 < len(late) < 3 * N_TRIALS / 4
    assert {trial["n_action_samples"] for trial in late} == {4, 8, 16, 32, 64, 128}
    assert {trial["n_action_samples"] for trial in trials if trial not in late} == {4, 8, 16}
    assert {(trial["policy_kwargs"]["batch_norm"], trial["norm_reward"]) for trial in trials} == set(
        product((True, False), repeat=2)
    )
    assert all(0.1 <= trial["max_grad_norm"] <= 10 for trial in trials)


def test_temperature_of_dspg_is_learned_or_fixed(sampled):
    trials = [hyperparams for hyperparams, _ in sampled("dspg", 6, WITHOUT_HER)]
    learned = [trial for trial in trials if str(trial["ent_coef"]).startswith("auto")]
    fixed = [trial for trial in trials if trial not in learned]
    assert {(trial["norm_reward"], trial["ent_coef"]) for trial in learned} == {(True, "auto"), (False, "auto")}
    assert len(learned) > N_TRIALS / 4
    assert len(fixed) > N_TRIALS / 4
    assert all(-12 <= trial["target_entropy"] <= 0 for trial in learned)
    assert all(0.0001 <= trial["ent_coef"] <= 1 and "target_entropy" not in trial for trial in fixed)


@pytest.mark.parametrize("key", SAMPLERS)
def test_target_entropy_of_discrete_actions(sampled, key):
    """Without an action dimension: a multiple of "auto", up to more than hyperparams/dspg.yml has"""
    trials = [hyperparams for hyperparams, _ in sampled(key, 0, WITHOUT_HER)]
    learned = [trial for trial in trials if str(trial["ent_coef"]).startswith("auto")]
    assert N_TRIALS / 4 < len(learned) < 3 * N_TRIALS / 4
    assert all(0.25 <= float(trial["target_entropy"].removeprefix("auto_")) <= 5 for trial in learned)
    assert not any("target_entropy" in trial for trial in trials if trial not in learned)
    # With Box actions SoftQLearning learns no temperature
    temperatures = [trial["ent_coef"] for trial, _ in sampled(key, 1, WITHOUT_HER)]
    assert any(isinstance(each, str) for each in temperatures) == (key == "dspg")


def test_softqlearning_search_space(sampled):
    trials = [hyperparams for hyperparams, _ in sampled("softqlearning", 6, WITHOUT_HER)]
    for name in ("n_particles", "n_value_samples"):
        assert {trial[name] for trial in trials} == {8, 16, 32, 64}
        # Discrete actions: no particles
        assert not any(name in trial for trial, _ in sampled("softqlearning", 0, WITHOUT_HER))
    for name, values in (("action_layer", {0, -1}), ("n_critics", {1, 2})):
        assert {trial["policy_kwargs"][name] for trial in trials} == values
    networks = {(trial["policy_kwargs"]["batch_norm"], trial["policy_kwargs"]["unit_norm"]) for trial in trials}
    assert networks == {(True, True), (False, False)}
    temperatures = [trial["ent_coef"] for trial in trials]
    assert 0.001 <= min(temperatures) < 0.01 and 1 < max(temperatures) <= 10


@pytest.mark.parametrize(
    "key, names",
    [
        ("dspg", ("gamma", "batch_size", "n_action_samples")),
        ("softqlearning", ("gamma", "batch_size", "n_particles", "n_value_samples")),
    ],
)
def test_true_values_are_displayed(sampled, key, names):
    for hyperparams, trial in sampled(key, 6, WITHOUT_HER):
        assert trial.user_attrs == {name: hyperparams[name] for name in names}


def check_accepted(model, hyperparams):
    default = inspect.signature(type(model)).parameters["target_entropy"].default
    target_entropy = hyperparams.get("target_entropy", default)
    assert model.target_entropy == parse_target_entropy(target_entropy, model.action_space)
    for name in ("n_action_samples", "n_particles", "n_value_samples", "max_grad_norm", "ent_coef", "gamma", "batch_size"):
        assert name not in hyperparams or getattr(model, name) == hyperparams[name]
    assert (model.lr_schedule(1), model.qf_lr_schedule(1)) == (hyperparams["learning_rate"], hyperparams["qf_learning_rate"])


@pytest.mark.parametrize("algorithm", [DSPG, SoftQLearning])
@pytest.mark.parametrize("n_actions, env_id", [(1, "Pendulum-v1"), (0, "CartPole-v1")])
def test_constructor_accepts_every_configuration(sampled, algorithm, n_actions, env_id):
    for hyperparams, _ in sampled(algorithm.__name__.lower(), n_actions, WITHOUT_HER):
        check_accepted(algorithm("MlpPolicy", env_id, buffer_size=1, device="cpu", **hyperparams), hyperparams)


@pytest.mark.parametrize("algorithm", [DSPG, SoftQLearning])
def test_constructor_accepts_every_configuration_with_her(sampled, algorithm):
    env = BitFlippingEnv(n_bits=1, continuous=True)
    for hyperparams, _ in sampled(algorithm.__name__.lower(), 1, WITH_HER):
        kwargs = {"replay_buffer_class": HerReplayBuffer, "buffer_size": 10, "device": "cpu", **hyperparams}
        model = algorithm("MultiInputPolicy", env, **kwargs)
        assert isinstance(model.replay_buffer, HerReplayBuffer)
        assert model.replay_buffer.n_sampled_goal == hyperparams["replay_buffer_kwargs"]["n_sampled_goal"] <= 5
        # From the hyperparameter file, not tuned
        assert model.replay_buffer.copy_info_dict


@pytest.mark.parametrize("key", SAMPLERS)
def test_registered_in_the_real_zoo(key):
    from rl_zoo3.exp_manager import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    from sb3_maxent import zoo

    zoo.register()
    assert (HYPERPARAMS_SAMPLER[key], HYPERPARAMS_CONVERTER[key]) == (SAMPLERS[key], CONVERTERS[key])
