import pytest

from benchmarks.later import ChangeLater
from sb3_maxent import DSPG
from tests.models import SMALL


@pytest.mark.parametrize(
    "changed", [{}, {"n_steps": 1}, {"learning_rate": 1e-5}, {"n_action_samples": 8}, {"target_entropy": -7.0}]
)
def test_one_hyperparameter_changes_later(changed):
    model = DSPG("MlpPolicy", "Pendulum-v1", n_steps=3, learning_rate=1e-3, target_entropy=-1.0, **SMALL)
    before = {"n_steps": 3, "learning_rate": 1e-3, "n_action_samples": 4, "target_entropy": -1.0}

    def values():
        return {
            "n_steps": model.replay_buffer.n_steps,
            "learning_rate": model.actor.optimizer.param_groups[0]["lr"],
            "n_action_samples": model.n_action_samples,
            "target_entropy": model.target_entropy,
        }

    callback = ChangeLater(after=30, **changed)
    assert (model.learn(30, callback), values())[1] == before
    model.learn(3, callback, reset_num_timesteps=False)
    assert values() == {**before, **changed}
    assert model.critic.optimizer.param_groups[0]["lr"] == values()["learning_rate"]


def test_other_buffers_stay_as_they_are():
    assert DSPG("MlpPolicy", "Pendulum-v1", **SMALL).learn(25, ChangeLater(after=10, n_action_samples=8)).n_action_samples == 8
