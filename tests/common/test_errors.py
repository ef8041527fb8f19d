import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_maxent.common.errors import NonFiniteError, check_finite
from sb3_maxent.saving.checkpoints import latest_checkpoint, save_checkpoint
from tests.envs import ACTIONS, BOX, FuzzEnv
from tests.models import BOX_VARIANTS, make_model

NAN, INF, STEPS = float("nan"), float("inf"), 10


def make(variant, env=None, **arguments):
    return make_model(variant, env or FuzzEnv(), learning_starts=3, batch_size=4, **arguments)


@pytest.mark.parametrize("value", [float("nan"), np.array([1.0, np.inf]), th.tensor([0.0, -float("inf")]), np.float32("nan")])
def test_names_value_step_and_hint(value):
    with pytest.raises(NonFiniteError, match=r"^reward is not finite at environment step 12: .* Look there$") as error:
        check_finite({"fine": 1.0, "reward": value}, 12, "Look there")
    # So that RL Zoo prunes the trial
    assert isinstance(error.value, ValueError)


def test_finite_values_pass():
    values = {"a": 1.0, "b": np.array([255], dtype=np.uint8), "c": np.array([3, 4]), "d": th.zeros(2), "e": np.array([True])}
    assert check_finite(values, 0, "") is None


@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_no_checkpoint_of_damaged_networks(variant, tmp_path):
    """An infinite moment of Adam is damage too: it divides by it"""
    model = make(variant).learn(STEPS)
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


@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_a_broken_actor_does_not_act(variant):
    model = make(variant)
    observation = model.get_env().reset()
    assert model.predict(observation)[0].shape == (1, 2)
    for parameter in model.actor.parameters():
        parameter.data.fill_(NAN)
    for act in (model.predict, model.policy.predict):
        with pytest.raises(NonFiniteError, match=r"^action is not finite: \[\[nan nan\]\]"):
            act(observation)
    with pytest.raises(
        NonFiniteError, match=r"^policy is not finite at environment step 3: action is not finite: \[\[nan nan"
    ):
        model.learn(STEPS)


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("actions", [ACTIONS, spaces.Discrete(3)], ids=str)
def test_a_broken_critic_chooses_no_action(actions, value):
    """The largest of Q-values that are NaN would be the first action, whatever the state"""
    model = make("SoftQLearning", FuzzEnv(BOX, actions))
    observation = model.get_env().reset()
    discrete = isinstance(actions, spaces.Discrete)
    for deterministic in (False, True):
        model.predict(observation, deterministic=deterministic)
    for parameter in model.critic.parameters():
        parameter.data.fill_(value)
    for deterministic in [True, False] if discrete else [True]:
        with pytest.raises(NonFiniteError, match=r"^Q-value is not finite: tensor\(\[\["):
            model.predict(observation, deterministic=deterministic)
    if discrete:
        with pytest.raises(NonFiniteError, match=r"^policy is not finite at environment step 3: Q-value is not finite"):
            model.learn(STEPS)


@pytest.mark.parametrize("validate", [True, False])
def test_gsde_that_diverges_is_named(monkeypatch, validate):
    """Whether the distributions of PyTorch look at their parameters, as they do unless some package has switched it off"""
    monkeypatch.setattr(th.distributions.Distribution, "_validate_args", validate)
    with pytest.raises(NonFiniteError, match=r"^policy is not finite at environment step \d+: "):
        make("DSPG", use_sde=True, learning_rate=1e3).learn(30)


@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_float64_observations_beyond_float32(variant):
    model = make(variant, FuzzEnv(spaces.Box(1e299, 1e300, (2,), np.float64)))
    with pytest.raises(NonFiniteError, match=r"^observation is not finite at environment step 0: "):
        model.learn(3)
