"""A policy that becomes deterministic, because the noise that it acts with is one of fewer and fewer vectors."""

import numpy as np
import pytest

from sb3_maxent import SoftQLearning
from tests.models import make_model

OBSERVATION = np.zeros(3, np.float32)


def n_actions(model):
    return len(np.unique(model.sample_actions(OBSERVATION, 500)))


@pytest.mark.parametrize(("size", "expected"), [(None, 500), (32, 32), (5, 5), (1, 1), ("lin_32_1_0.1", 32), (3.5, 4)])
def test_number_of_actions(size, expected):
    model = make_model("SoftQLearning", noise_set_size=size)
    assert n_actions(model) == expected
    # The same vectors for all states, the first ones of those that deterministic=True chooses from
    if size == 1:
        first = model.actor.actions_from_noise(
            model.policy.obs_to_tensor(OBSERVATION)[0], model.actor.deterministic_noise[None]
        )
        assert model.predict(OBSERVATION)[0] == pytest.approx(2 * first[0, 0].item())


def test_the_set_shrinks_during_training_and_stays_in_the_file(tmp_path):
    model = make_model("SoftQLearning", noise_set_size="lin_32_1_0.5")
    sizes = []
    model.learn(80, callback=lambda local, _: sizes.append(local["self"].actor.noise_set_size) or True)
    # Before the first update, too
    assert sizes[:45] == pytest.approx([32 - 31 * min(step, 40) / 40 for step in range(45)], abs=1) and sizes[45:] == [1] * 35
    assert n_actions(model) == 1
    model.save(tmp_path / "model")
    assert n_actions(SoftQLearning.load(tmp_path / "model")) == 1
    # As every argument it can be changed
    assert n_actions(SoftQLearning.load(tmp_path / "model", noise_set_size=None)) == 500


def test_training_draws_fresh_noise():
    """The sampling network stays one of the whole density: the same update with and without the set"""
    models = [make_model("SoftQLearning", noise_set_size=size, learning_starts=30).learn(30) for size in (None, 1)]
    for model in models:
        model.set_random_seed(0)
        model.replay_buffer = models[0].replay_buffer
        model.train(3, 8)
    first, second = (list(model.policy.parameters()) for model in models)
    assert all((one == other).all() for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("variant", "size", "message"),
    [
        ("SoftQLearning", 0, "noise_set_size=0: give None, or a number or schedule from 1 to 32"),
        ("SoftQLearning", 33, "noise_set_size=33: give None"),
        ("SoftQLearning", "lin_32", "noise_set_size='lin_32': give None"),
        ("SoftQLearning", "lin_1_33", "noise_set_size='lin_1_33': give None"),
        ("SoftQLearning", "few", "noise_set_size='few' is not a schedule"),
        ("Discrete SoftQLearning", 4, "noise_set_size=4: Discrete actions need no noise"),
    ],
)
def test_bad_sizes(variant, size, message):
    with pytest.raises(ValueError, match=message):
        make_model(variant, noise_set_size=size)


def test_a_function_that_is_too_large_in_between():
    model = make_model("SoftQLearning", noise_set_size=lambda progress: 1 + 400 * progress * (1 - progress))
    with pytest.raises(ValueError, match="give None, or a number or schedule from 1 to 32"):
        model.learn(60)
