"""What ``load`` does besides reading the file."""

import pytest
from stable_baselines3.common.buffers import ReplayBuffer
from torch import nn

from sb3_maxent import DSPG
from tests.models import PLAIN_NETWORKS, VARIANTS, make_model


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("gsde", [False, True])
def test_the_policy_kwargs_that_the_model_was_made_with(tmp_path, variant, gsde):
    """As RL Zoo gives them, though SB3 has added one to those of the model; also where JSON cannot hold them"""
    if gsde and variant != "DSPG":
        pytest.skip("gSDE is for Gaussian policies")
    networks = {"net_arch": [8], **(PLAIN_NETWORKS if variant == "DSPG" else {})}
    for policy_kwargs in (networks, {**networks, "activation_fn": nn.Tanh}):
        make_model(variant, policy_kwargs=policy_kwargs, **({"use_sde": True} if gsde else {})).save(tmp_path / "model")
        given = dict(policy_kwargs)
        model = VARIANTS[variant].algorithm.load(tmp_path / "model", policy_kwargs=given)
        assert given == policy_kwargs and (variant != "DSPG" or model.actor.use_sde is gsde)
        with pytest.raises(ValueError, match="The specified policy kwargs do not equal the stored policy kwargs"):
            VARIANTS[variant].algorithm.load(tmp_path / "model", policy_kwargs={**policy_kwargs, "n_critics": 1})


class CountingRate:
    """A schedule that counts how often it is unpickled"""

    unpickled = 0

    def __call__(self, progress):
        return 1e-3

    def __setstate__(self, state):
        type(self).unpickled += 1


def test_each_entry_is_unpickled_once(tmp_path):
    rate = CountingRate()
    rate.state = 1  # which is asked for ``__setstate__``
    make_model("DSPG", qf_learning_rate=rate).save(tmp_path / "model")
    CountingRate.unpickled = 0
    assert DSPG.load(tmp_path / "model").qf_lr_schedule(1.0) == 1e-3
    assert CountingRate.unpickled == 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_of_n_steps(tmp_path, variant, recwarn):
    """The buffer is chosen again, for the arguments of ``load``: SB3's own choice is not taken for the user's"""
    make_model(variant, n_steps=3, gamma=0.9).save(tmp_path / "model")
    for arguments, expected in [({}, (3, 0.9)), ({"n_steps": 5}, (5, 0.9)), ({"gamma": 0.5}, (3, 0.5))]:
        buffer = VARIANTS[variant].algorithm.load(tmp_path / "model", **arguments).replay_buffer
        assert (buffer.n_steps, buffer.gamma) == expected
    assert type(VARIANTS[variant].algorithm.load(tmp_path / "model", n_steps=1).replay_buffer) is ReplayBuffer
    assert [str(warning.message) for warning in recwarn] == []
