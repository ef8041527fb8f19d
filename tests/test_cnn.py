"""Images, and which networks share and follow what."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize, VecTransposeImage, is_vecenv_wrapped

from tests.envs import RandomEnv
from tests.models import BOX_VARIANTS, VARIANTS, actions_of, check_learning, differing, make_model, parameters_of

SHARED = {"share_features_extractor": True}


def make_images(variant, height=40, n_channels=1, channel_first=False):
    shape = (n_channels, height, 40) if channel_first else (height, 40, n_channels)
    return RandomEnv(spaces.Box(0, 255, shape, np.uint8), actions_of(variant))


def make_cnn(variant, env=None, **policy_kwargs):
    policy_kwargs = {"features_extractor_kwargs": {"features_dim": 8}, **policy_kwargs}
    env = make_images(variant) if env is None else env
    return make_model(variant, env, "CnnPolicy", policy_kwargs=policy_kwargs, buffer_size=100)


@pytest.mark.parametrize("channel_first", [False, True])
@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_cnn(variant, n_channels, channel_first, tmp_path):
    env = make_images(variant, n_channels=n_channels, channel_first=channel_first)
    model = check_learning(make_cnn(variant, env))
    assert is_vecenv_wrapped(model.get_env(), VecTransposeImage) == (not channel_first)
    # An image as the environment gives it, with the channels where it has them
    observation = env.reset(seed=0)[0]
    action = model.predict(observation, deterministic=True)[0]
    assert env.action_space.contains(model.predict(observation)[0])
    model.save(tmp_path / "model")
    loaded = VARIANTS[variant].algorithm.load(tmp_path / "model")
    assert np.array_equal(loaded.predict(observation, deterministic=True)[0], action)


@pytest.mark.parametrize("variant", VARIANTS)
def test_vec_transpose_skip(variant):
    """Stacked frames whose channels only look as if they were last"""
    env = DummyVecEnv([lambda: make_images(variant, n_channels=10, channel_first=True, height=41)])
    env = VecFrameStack(env, 5, channels_order="first")
    assert VecTransposeImage(env).observation_space.shape != env.observation_space.shape
    model = check_learning(make_cnn(variant, VecTransposeImage(env, skip=True)))
    assert model.observation_space.shape == env.observation_space.shape == (50, 41, 40)


def two_parts(model):
    """Networks and their targets"""
    return parameters_of(model.critic), parameters_of(model.critic_target)


@pytest.mark.parametrize("share_features_extractor", [False, True])
@pytest.mark.parametrize("variant", BOX_VARIANTS)
def test_features_extractors(variant, share_features_extractor):
    model = make_cnn(variant, share_features_extractor=share_features_extractor)
    assert (model.actor.features_extractor is model.critic.features_extractor) == share_features_extractor
    extractors = [network.features_extractor for network in (model.actor, model.critic, model.critic_target)]
    assert len({id(extractor) for extractor in extractors}) == 3 - share_features_extractor
    # The optimizer of the critic must not move what belongs to the actor
    optimized = {id(parameter) for group in model.critic.optimizer.param_groups for parameter in group["params"]}
    shared = {id(parameter) for parameter in model.actor.features_extractor.parameters()}
    assert not optimized & shared
    check_learning(model)


@pytest.mark.parametrize(
    ("variant", "kwargs"), [*((each, {}) for each in VARIANTS), *((each, SHARED) for each in BOX_VARIANTS)]
)
def test_features_extractor_target_net(variant, kwargs):
    """tau = 0 leaves the target alone, a learning rate of 0 everything else, and one update moves every parameter"""
    model = make_cnn(variant, **kwargs)
    assert differing(*two_parts(model)) == set()
    check_learning(model)
    critic, target = two_parts(model)
    assert differing(critic, target) == set(critic)

    model = make_cnn(variant, **kwargs).learn(10)
    (critic, target), policy = two_parts(model), parameters_of(model.policy)
    model.tau = 0.0
    model.train(gradient_steps=1)
    new_critic, new_target = two_parts(model)
    assert differing(target, new_target) == set()
    # A shared extractor is a part of the critic, too
    assert differing(critic, new_critic) == set(critic)
    assert differing(policy, parameters_of(model.policy)) == {name for name in policy if not name.startswith("critic_target")}

    model.tau, model.lr_schedule, policy = 0.01, lambda progress: 0.0, parameters_of(model.policy)
    model.train(gradient_steps=1)
    assert differing(policy, parameters_of(model.policy)) == {name for name in policy if name.startswith("critic_target")}


@pytest.mark.parametrize("normalize_images", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_image_like_input(variant, normalize_images):
    """VecNormalize makes floats of the images, which are then normalised already"""
    env = VecNormalize(DummyVecEnv([lambda: make_images(variant, channel_first=True)]))
    if normalize_images:
        with pytest.raises(AssertionError, match="You should use NatureCNN only with images"):
            make_cnn(variant, env, normalize_images=True)
        return
    model = check_learning(make_cnn(variant, env, normalize_images=False))
    assert model.observation_space.dtype == np.float32


@pytest.mark.parametrize("variant", VARIANTS)
def test_vectors_are_no_images(variant):
    with pytest.raises(AssertionError, match="You should use NatureCNN only with images"):
        make_model(variant, policy="CnnPolicy")


@pytest.mark.parametrize("variant", VARIANTS)
def test_images_are_divided_by_255(variant):
    """The features of the same picture are the same, once in bytes and once in floats"""
    first = make_cnn(variant, make_images(variant, channel_first=True))
    second = make_cnn(variant, make_images(variant, channel_first=True), normalize_images=False)
    image = spaces.Box(0, 255, (1, 1, 40, 40), np.uint8, seed=0).sample()
    raw, _ = first.policy.obs_to_tensor(image)
    features, normalised, bytes_only = (
        model.critic.extract_features(obs, model.critic.features_extractor)
        for model, obs in ((first, raw), (second, raw / 255), (second, raw.float()))
    )
    assert features.equal(normalised) and not features.equal(bytes_only)


def test_a_discrete_actor_divides_images_only_if_told():
    env = RandomEnv(spaces.Box(0, 255, (1, 36, 36), np.uint8), spaces.Discrete(3))
    arguments = {"features_extractor_kwargs": {"features_dim": 8}, "normalize_images": False}
    actor, seen = make_model("DSPG", env, "CnnPolicy", policy_kwargs=arguments).actor, []
    actor.features_extractor.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    actor(th.full((1, 1, 36, 36), 200, dtype=th.uint8))
    assert (seen[0] == 200).all()
