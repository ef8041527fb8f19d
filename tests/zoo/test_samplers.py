import pytest
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv

from sb3_maxent import DSPG
from sb3_maxent.zoo import convert_dspg_params, sample_dspg_params

optuna = pytest.importorskip("optuna")

N_TRIALS = 60
WITHOUT_HER = {"using_her_replay_buffer": False, "her_kwargs": {}}
WITH_HER = {"using_her_replay_buffer": True, "her_kwargs": {"n_sampled_goal": 4, "copy_info_dict": True}}


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """For a kind of problem, (what the sampler returned, parameters as read from the storage) of many random trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    cache = {}

    def sample(n_actions, additional_args):
        key = n_actions, additional_args["using_her_replay_buffer"]
        if key not in cache:
            # A file: what --trial-id reads has been through JSON
            path = str(tmp_path_factory.mktemp("study") / "study.log")
            storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
            study = optuna.create_study(storage=storage, study_name="study", sampler=optuna.samplers.RandomSampler(seed=0))
            returned = [sample_dspg_params(study.ask(), n_actions, 1, additional_args) for _ in range(N_TRIALS)]
            storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
            trials = optuna.load_study(study_name="study", storage=storage).trials
            cache[key] = list(zip(returned, trials, strict=True))
        return cache[key]

    return sample


@pytest.mark.parametrize("n_actions, additional_args", [(0, WITHOUT_HER), (1, WITHOUT_HER), (6, WITHOUT_HER), (1, WITH_HER)])
def test_converter_returns_what_the_sampler_returned(sampled, n_actions, additional_args):
    for hyperparams, trial in sampled(n_actions, additional_args):
        assert convert_dspg_params(trial.params) == hyperparams


def test_converter_does_not_change_its_argument(sampled):
    _, trial = sampled(1, WITH_HER)[0]
    params = dict(trial.params)
    convert_dspg_params(params)
    assert params == trial.params


def test_search_space(sampled):
    trials = [hyperparams for hyperparams, _ in sampled(6, WITHOUT_HER)]
    assert {trial["n_action_samples"] for trial in trials} == {4, 8, 16, 32, 64, 128}
    assert {trial["batch_size"] for trial in trials} == {32, 64, 128, 256, 512, 1024}
    for trial in trials:
        assert 0.97 <= trial["gamma"] <= 0.9999
        assert 0.1 <= trial["max_grad_norm"] <= 10
        assert 1 <= trial["train_freq"] == trial["gradient_steps"] <= 10
        assert trial["learning_rate"] != trial["qf_learning_rate"]
        assert set(trial["policy_kwargs"]) == {"net_arch"}


def test_temperature_is_learned_or_fixed(sampled):
    trials = [hyperparams for hyperparams, _ in sampled(6, WITHOUT_HER)]
    learned = [trial for trial in trials if trial["ent_coef"] == "auto"]
    fixed = [trial for trial in trials if trial["ent_coef"] != "auto"]
    assert len(learned) > N_TRIALS / 4
    assert len(fixed) > N_TRIALS / 4
    assert all(-12 <= trial["target_entropy"] <= 0 for trial in learned)
    assert all(0.005 <= trial["ent_coef"] <= 1 and "target_entropy" not in trial for trial in fixed)


def test_target_entropy_is_left_alone_without_action_dimension(sampled):
    trials = [hyperparams for hyperparams, _ in sampled(0, WITHOUT_HER)]
    assert "auto" in {trial["ent_coef"] for trial in trials}
    assert not any("target_entropy" in trial for trial in trials)


def test_true_values_are_displayed(sampled):
    for hyperparams, trial in sampled(6, WITHOUT_HER):
        assert trial.user_attrs == {name: hyperparams[name] for name in ("gamma", "batch_size", "n_action_samples")}


def test_constructor_accepts_every_configuration(sampled):
    for hyperparams, _ in sampled(1, WITHOUT_HER):
        model = DSPG("MlpPolicy", "Pendulum-v1", buffer_size=1, device="cpu", **hyperparams)
        assert {name: getattr(model, name) for name in ("n_action_samples", "max_grad_norm", "ent_coef", "gamma")} == {
            name: hyperparams[name] for name in ("n_action_samples", "max_grad_norm", "ent_coef", "gamma")
        }
        assert model.target_entropy == hyperparams.get("target_entropy", -1.0)
        assert (model.lr_schedule(1), model.qf_lr_schedule(1)) == (
            hyperparams["learning_rate"],
            hyperparams["qf_learning_rate"],
        )


def test_constructor_accepts_every_configuration_with_her(sampled):
    env = BitFlippingEnv(n_bits=1, continuous=True)
    for hyperparams, _ in sampled(1, WITH_HER):
        kwargs = {"replay_buffer_class": HerReplayBuffer, "buffer_size": 10, "device": "cpu", **hyperparams}
        model = DSPG("MultiInputPolicy", env, **kwargs)
        assert isinstance(model.replay_buffer, HerReplayBuffer)
        assert model.replay_buffer.n_sampled_goal == hyperparams["replay_buffer_kwargs"]["n_sampled_goal"] <= 5
        # From the hyperparameter file, not tuned
        assert model.replay_buffer.copy_info_dict


def test_registered_in_the_real_zoo():
    from rl_zoo3.exp_manager import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    from sb3_maxent import zoo

    zoo.register()
    assert (HYPERPARAMS_SAMPLER["dspg"], HYPERPARAMS_CONVERTER["dspg"]) == (sample_dspg_params, convert_dspg_params)
