import json
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch as th

from sb3_maxent import DSPG

TINY = {"n_action_samples": 4, "buffer_size": 1000, "learning_starts": 20, "batch_size": 16, "seed": 0}
VARIANTS = {
    "default": {"policy_kwargs": {"net_arch": [16]}},
    "fixed temperature": {"policy_kwargs": {"net_arch": [16]}, "ent_coef": 0.2},
    "paper": {
        "policy_kwargs": {"net_arch": [16], "n_critics": 1, "action_layer": 0, "std_head": "sigmoid", "target_actor": True},
        "baseline": "none",
        "ent_coef": 0.2,
    },
    "gSDE": {"policy_kwargs": {"net_arch": [16]}, "use_sde": True},
    "n steps": {"policy_kwargs": {"net_arch": [16]}, "n_steps": 3},
    "schedules": {"policy_kwargs": {"net_arch": [16]}, "qf_learning_rate": "lin_1e-3", "learning_rate": lambda progress: 1e-3},
}


def state_of(model: DSPG) -> list[th.Tensor]:
    """Everything that training moves: parameters of all networks, optimizer moments, temperature"""
    state_dicts, variables = model._get_torch_save_params()
    tensors = list(model.policy.state_dict().values()) + [getattr(model, name) for name in variables]
    optimizers = [model.actor.optimizer, model.critic.optimizer] + (
        [model.ent_coef_optimizer] if model.ent_coef_optimizer else []
    )
    for optimizer in optimizers:
        for state in optimizer.state_dict()["state"].values():
            tensors += [value for value in state.values() if isinstance(value, th.Tensor)]
    assert set(state_dicts) >= {"policy", "actor.optimizer", "critic.optimizer"}
    return [tensor.detach().clone() for tensor in tensors]


def assert_equal(first: list[th.Tensor], second: list[th.Tensor]) -> None:
    assert len(first) == len(second)
    assert all(th.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_save_load(tmp_path, variant):
    model = DSPG("MlpPolicy", "Pendulum-v1", **TINY, **VARIANTS[variant]).learn(60)
    saved, observation = state_of(model), np.ones((5, 3), np.float32)
    expected, _ = model.predict(observation, deterministic=True)
    model.save(tmp_path / "model")
    loaded = DSPG.load(tmp_path / "model", env=model.get_env())
    assert_equal(saved, state_of(loaded))
    assert np.array_equal(loaded.predict(observation, deterministic=True)[0], expected)
    for name in ("baseline", "n_action_samples", "max_grad_norm", "ent_coef", "target_entropy", "_n_updates", "num_timesteps"):
        assert getattr(loaded, name) == getattr(model, name), name
    # It goes on learning, every network of it
    loaded.learn(60, reset_num_timesteps=False)
    assert loaded.num_timesteps == 120
    assert not any(th.equal(a, b) for a, b in zip(saved, state_of(loaded), strict=True) if a.numel() > 16)
    assert (loaded.policy.actor_target is not None) == (variant == "paper")


def test_same_update_after_loading(tmp_path):
    """The optimizers' moments are restored: one update of the copy equals one of the original"""
    model = DSPG("MlpPolicy", "Pendulum-v1", **TINY, **VARIANTS["paper"]).learn(60)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    loaded = DSPG.load(tmp_path / "model", env=model.get_env())
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    for each in (model, loaded):
        each.set_random_seed(3)
        each.set_logger(model.logger)
        each.train(3, 16)
    assert_equal(state_of(model), state_of(loaded))


def test_hyperparameters_can_change_on_load(tmp_path):
    """As RL Zoo does when it resumes; values without a meaning are refused then too"""
    DSPG("MlpPolicy", "Pendulum-v1", **TINY).save(tmp_path / "model")
    arguments = {"n_action_samples": 8, "max_grad_norm": None, "qf_learning_rate": 1e-2}
    loaded = DSPG.load(tmp_path / "model", env=gym.make("Pendulum-v1"), **arguments)
    assert (loaded.n_action_samples, loaded.max_grad_norm, loaded.qf_lr_schedule(1.0)) == (8, None, 1e-2)
    loaded.learn(30)
    with pytest.raises(ValueError, match="n_action_samples=0"):
        DSPG.load(tmp_path / "model", n_action_samples=0)


def test_no_tensor_or_closure_in_the_json(tmp_path):
    """The JSON part holds plain values: what needs pickle breaks between Python versions"""
    DSPG("MlpPolicy", "Pendulum-v1", **TINY, qf_learning_rate="lin_1e-3").learn(30).save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        data = json.loads(archive.read("data"))
    serialized = {key for key, value in data.items() if isinstance(value, dict) and ":serialized:" in value}
    ours = {
        "actor_target",
        "critic",
        "qf_lr_schedule",
        "qf_learning_rate",
        "_target_updates",
        "log_ent_coef",
        "baseline",
        "max_grad_norm",
    }
    assert not serialized & ours
    assert data["qf_learning_rate"] == "lin_1e-3"
