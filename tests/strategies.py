"""What a user may give to the algorithms: spaces, and values of every argument, with and without a meaning."""

import functools
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from hypothesis import strategies as st
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer, RolloutBuffer
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from stable_baselines3.sac.policies import SACPolicy
from torch import nn

from sb3_maxent.dspg import CnnPolicy as DSPGCnnPolicy
from sb3_maxent.dspg import MlpPolicy as DSPGMlpPolicy
from sb3_maxent.softqlearning import MlpPolicy as SoftQMlpPolicy

NAN, INF, HUGE = float("nan"), float("inf"), 10**400

# --- spaces ----------------------------------------------------------------------------------------------------------------

shapes = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)
odd_shapes = st.sampled_from([(), (0,), (2, 0)])


def floats(dtype: type, **kwargs: Any) -> st.SearchStrategy:
    """Every number of a type, those that break something more often than others"""
    special = [0.0, -1.0, 1.0, 1e-30, 1e6, float(np.finfo(dtype).max), float(np.finfo(dtype).tiny)]
    kwargs = {"allow_nan": False, "allow_infinity": False, **kwargs}
    return st.sampled_from(special) | st.floats(-10, 10, width=16) | st.floats(width=np.finfo(dtype).bits, **kwargs)


def mostly(usual: st.SearchStrategy, odd: st.SearchStrategy) -> st.SearchStrategy:
    """One of six is odd"""
    return st.integers(0, 5).flatmap(lambda number: odd if number == 5 else usual)


@st.composite
def boxes(
    draw: Any, dtypes: tuple[type, ...], shape_strategy: st.SearchStrategy = shapes, infinite: bool = False
) -> spaces.Box:
    """Boxes of any bounds, width zero and more than the numbers can hold among them"""
    dtype, shape = draw(st.sampled_from(dtypes)), draw(shape_strategy)
    if np.issubdtype(dtype, np.integer):
        low = np.zeros(shape, dtype)
        return spaces.Box(low, low + draw(st.sampled_from([1, 100, np.iinfo(dtype).max])), dtype=dtype)
    bounds = np.sort([draw(floats(dtype, allow_infinity=infinite)) for _ in range(2 * int(np.prod(shape)))]) + 0.0
    with np.errstate(over="ignore"):
        # Neighbours after sorting are often close, and halves far apart
        low, high = (bounds[::2], bounds[1::2]) if draw(st.booleans()) else np.split(bounds, 2)
        return spaces.Box(low.reshape(shape).astype(dtype), high.reshape(shape).astype(dtype), dtype=dtype)


action_boxes = boxes((np.float32, np.float64))
normal_boxes = st.builds(
    lambda shape, low, width, dtype: spaces.Box(low, low + width, shape, dtype),
    *(shapes, st.floats(-100, 100), st.floats(1e-3, 1e3), st.sampled_from([np.float32, np.float64])),
)
discretes = st.integers(1, 5).map(spaces.Discrete)
factors = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(spaces.MultiDiscrete) | st.integers(1, 12).map(
    spaces.MultiBinary
)
# Boxes and factors of any shape and start, in a Dict or Tuple, which may be in another one
action_parts = st.one_of(
    normal_boxes,
    boxes((np.uint8, np.int16)),
    st.builds(spaces.Discrete, st.integers(1, 5), start=st.integers(-3, 3)),
    factors,
    st.just(spaces.MultiDiscrete([[2, 3], [1, 4]], start=[[0, 1], [2, 3]])),
    shapes.map(spaces.MultiBinary),
)
nested_actions = st.recursive(
    action_parts,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple)
        | st.dictionaries(st.text(min_size=1, max_size=3), inner, min_size=1, max_size=3).map(spaces.Dict)
    ),
    max_leaves=4,
)
observations = st.one_of(
    normal_boxes,
    boxes((np.float16, np.float32, np.float64, np.uint8, np.int16), infinite=True),
    discretes,
    st.lists(st.integers(1, 4), min_size=1, max_size=3).map(spaces.MultiDiscrete),
    st.integers(1, 4).map(spaces.MultiBinary),
    shapes.map(spaces.MultiBinary),
)
odd_observations = st.one_of(
    boxes((np.float32,), odd_shapes),
    st.builds(spaces.Discrete, st.integers(1, 3), start=st.integers(1, 3) | st.integers(-3, -1)),
    st.builds(spaces.MultiDiscrete, st.just([2, 3]), start=st.just([0, 1])),
    st.just(spaces.MultiDiscrete([[2, 3], [2, 2]])),
    st.sampled_from([spaces.Dict(), spaces.Tuple([spaces.Discrete(2)]), spaces.Text(3), spaces.Sequence(spaces.Discrete(2))]),
    st.just(spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(2)})})),
    st.just(spaces.Dict({"a": spaces.Tuple([spaces.Discrete(2)])})),
)
dict_observations = st.dictionaries(
    st.text(min_size=1, max_size=3) | st.sampled_from(["x", "keys", "type"]), observations, max_size=3
)
all_observations = mostly(observations | dict_observations.map(spaces.Dict), odd_observations)
odd_actions = st.one_of(
    boxes((np.float32,), odd_shapes),
    boxes((np.float16, np.int8, np.uint8, np.int64)),
    boxes((np.float32,), infinite=True),
    st.builds(spaces.Discrete, st.integers(1, 3), start=st.integers(1, 3)),
    st.builds(spaces.MultiDiscrete, st.just([2, 3]), start=st.just([0, 1])),
    st.sampled_from([spaces.MultiDiscrete([[2, 3]]), spaces.MultiBinary((2, 2)), spaces.Tuple([spaces.Discrete(2)])]),
)

all_actions = mostly(normal_boxes | action_boxes | discretes | factors, odd_actions)

# --- arguments -------------------------------------------------------------------------------------------------------------

junk = st.sampled_from([None, "", "x", [1], {}, b"1", 1j, object()])
not_numbers = junk | st.booleans() | st.sampled_from([NAN, INF, -INF, HUGE])
not_counts = junk | st.booleans() | st.sampled_from([NAN, INF, -INF]) | st.integers(-5, 0) | st.floats(0, 4)
not_flags = junk | st.sampled_from([2, "True"])
not_fractions = not_numbers | st.floats(1.0, 1e6, exclude_min=True) | st.floats(-1e6, 0.0, exclude_max=True)
not_rates = st.sampled_from(
    [-1e-3, NAN, INF, -INF, 1e39, HUGE, "", "lin_", "lin_-1", "log_1", "x", [1], True, lambda p: None, lambda p: -p]
)
rates = st.one_of(
    *(st.floats(0, 1e-2), st.floats(0, 1.0), st.floats(0, 1e38)),
    st.sampled_from([0, 1, "1e-3", "lin_1e-3", "log_1_0.1_0.5", lambda progress: 1e-3 * progress, np.float32(1e-3)]),
)
noises = st.builds(NormalActionNoise, st.just(np.zeros(2)), st.floats(0, 100).map(lambda sigma: sigma * np.ones(2)))
not_noises = st.sampled_from(
    [
        *(NormalActionNoise(np.zeros(n), np.ones(n)) for n in (3, 4, (2, 2))),
        OrnsteinUhlenbeckActionNoise(np.zeros(3), np.ones(3)),
    ]
)
nothing: st.SearchStrategy = st.nothing()

# Values that train, and those that are refused by name; for actions of shape (2,)
SHARED: dict[str, tuple[st.SearchStrategy, st.SearchStrategy]] = {
    "learning_rate": (rates, not_rates | st.none()),
    "buffer_size": (st.integers(1, 50), not_counts),
    "learning_starts": (st.integers(-3, 8) | st.floats(0, 8), not_numbers),
    "batch_size": (st.integers(1, 6), not_counts),
    "tau": (st.floats(0, 1) | st.sampled_from([0, 1]), not_fractions),
    "gamma": (st.floats(0, 1) | st.sampled_from([0, 1]), not_fractions),
    "train_freq": (
        st.integers(1, 4) | st.tuples(st.integers(1, 3), st.sampled_from(["step", "episode"])),
        junk
        | st.sampled_from([0, -1, 1.5, True, (0, "step"), (1, "steps"), (1,), (1.0, "step"), [1, "step"], (1, 2, 3), NAN]),
    ),
    "gradient_steps": (st.integers(-1, 3), junk | st.integers(-5, -2) | st.floats() | st.booleans()),
    "action_noise": (st.none() | noises, not_noises),
    "replay_buffer_class": (st.sampled_from([None, ReplayBuffer, NStepReplayBuffer]), nothing),
    "replay_buffer_kwargs": (
        st.none() | st.fixed_dictionaries({}, optional={"handle_timeout_termination": st.booleans()}),
        nothing,
    ),
    "optimize_memory_usage": (st.booleans(), not_flags),
    "n_steps": (st.integers(1, 5), not_counts),
    "policy_delay": (st.integers(1, 3), not_counts),
    "norm_reward": (st.none() | st.booleans(), st.sampled_from([2, "True", NAN, [True]])),
    "target_update_interval": (st.integers(1, 4), not_counts),
    "qf_learning_rate": (rates | st.none(), not_rates),
    "max_grad_norm": (
        st.none() | st.floats(1e-30, 1e30) | st.integers(1, 5),
        st.sampled_from([0, -1, NAN, "5", [1], 1j, False, -INF]),
    ),
    "compile": (st.just(False), not_flags),
    "stats_window_size": (st.none() | st.integers(1, 5), nothing),
    "tensorboard_log": (st.none(), nothing),
    "verbose": (st.just(0), nothing),
    "seed": (
        st.none() | st.integers(0, 2**32 - 1) | st.integers(0, 9).map(np.int64),
        st.sampled_from([1.5, "0", [1], NAN]),
    ),
    "device": (st.sampled_from(["cpu", "auto", th.device("cpu")]), nothing),
    "policy_kwargs": (st.just({"net_arch": [4]}), nothing),
    "env": (st.just("given"), st.none()),
}
ARGUMENTS = {
    "DSPG": {
        **SHARED,
        "ent_coef": (
            st.sampled_from(["auto", "auto_0.1", "lin_1", "0.2", 0, lambda progress: progress]) | st.floats(0, 1e38),
            st.sampled_from(
                [-1, NAN, INF, HUGE, "", "auto_", "auto_0", "auto_1e-60", "auto_x", None, [1], True, lambda p: -1.0]
            ),
        ),
        "target_entropy": (
            st.just("auto") | st.floats(-1e30, 1e30) | st.sampled_from(["-1.5", 3, "auto_0.5"]),
            st.sampled_from([NAN, INF, HUGE, "low", "auto_", "auto_inf", None, [1], {}]),
        ),
        "n_target_samples": (st.none() | st.integers(1, 5), st.sampled_from([0, -1, 2.5, "4"])),
        "n_action_samples": (st.integers(1, 5), not_counts),
        "baseline": (st.sampled_from(["loo", "none"]), not_numbers),
        "use_sde": (st.booleans(), not_flags),
        "use_sde_at_warmup": (st.booleans(), not_flags),
        "sde_sample_freq": (st.integers(-5, 4), nothing),
        "policy": (
            st.sampled_from(["MlpPolicy", DSPGMlpPolicy]),
            st.sampled_from(["Mlp", None, 1, SACPolicy, SoftQMlpPolicy, nn.Module]),
        ),
    },
    "SoftQLearning": {
        **SHARED,
        "ent_coef": (
            st.sampled_from(["1", "lin_1_0.1", "log_1_0.1", 1, lambda progress: 1.0 + progress]) | st.floats(1.2e-38, 1e38),
            st.sampled_from([0, -1, NAN, INF, HUGE, 1e-40, "", "auto", "auto_1", "lin_1", None, [1], lambda p: p]),
        ),
        "target_entropy": (
            st.just("auto") | st.floats(-1e30, 1e30) | st.sampled_from(["-1.5", 3, "auto_0.5"]),
            st.sampled_from([NAN, INF, HUGE, "low", "auto_", "auto_inf", None, [1], {}]),
        ),
        "n_particles": (st.sampled_from([4, 6, 8]), not_counts | st.sampled_from([2, 3, 5])),
        "n_value_samples": (st.integers(1, 5), not_counts),
        "value_proposal": (st.sampled_from(["mixture", "uniform"]), not_numbers),
        "particle_space": (st.sampled_from(["pre_tanh", "reference"]), not_numbers),
        "noise_set_size": (
            st.sampled_from([None, 1, 32, "lin_32_1", "log_8_1_0.5", lambda progress: 1.0 + progress]),
            st.sampled_from([0, -1, 33, NAN, INF, "", "lin_32", "x", [1], True]),
        ),
        "policy": (
            st.sampled_from(["MlpPolicy", SoftQMlpPolicy]),
            st.sampled_from(["Mlp", None, 1, SACPolicy, DSPGCnnPolicy, nn.Module]),
        ),
    },
}
not_layers = st.sampled_from([3, -4, 0.0, "0", None, [1], NAN, HUGE])
widths = st.lists(st.integers(1, 5), min_size=1, max_size=3)
SHARED_POLICY: dict[str, tuple[st.SearchStrategy, st.SearchStrategy]] = {
    "net_arch": (widths | st.fixed_dictionaries({"pi": widths, "qf": widths}), nothing),
    "activation_fn": (
        st.sampled_from([nn.ReLU, nn.Tanh, nn.ELU, nn.PReLU, functools.partial(nn.LeakyReLU, 0.1), lambda: nn.Tanh()]),
        nothing,
    ),
    "n_critics": (st.integers(1, 3), nothing),
    "action_layer": (st.sampled_from([0, -1]), not_layers),
    "evaluation_precision": (st.sampled_from(["float32", "bfloat16"]), not_numbers),
    "actor_averaging": (st.none() | st.integers(1, 1000), st.sampled_from([0, -3, 0.5, "many"])),
    "normalize_images": (st.booleans(), nothing),
    "share_features_extractor": (st.booleans(), nothing),
    "optimizer_class": (
        st.sampled_from([th.optim.Adam, th.optim.SGD, th.optim.RMSprop, th.optim.AdamW]),
        nothing,
    ),
    "optimizer_kwargs": (
        st.none() | st.fixed_dictionaries({}, optional={"weight_decay": st.floats(0, 1), "maximize": st.booleans()}),
        nothing,
    ),
    "features_extractor_class": (
        st.sampled_from([FlattenExtractor, lambda observation_space: FlattenExtractor(observation_space)]),
        st.sampled_from(["x", None, 1, dict, CombinedExtractor, nn.Module]),
    ),
    "features_extractor_kwargs": (st.sampled_from([None, {}]), st.sampled_from(["x", 1, [1], {"foo": 1}, {1: 2}])),
}
POLICY_ARGUMENTS = {
    "DSPG": {
        **SHARED_POLICY,
        "std_head": (st.sampled_from(["log_std", "sigmoid"]), not_numbers),
        "n_components": (st.integers(1, 4), not_counts),
        "target_actor": (st.booleans(), not_flags),
        "batch_norm": (st.booleans(), not_flags),
        "unit_norm": (st.just(False) | st.none(), st.sampled_from([2, "True", [True]])),
        "log_std_init": (st.floats(-80, 80), nothing),
        "use_expln": (st.booleans(), nothing),
        "clip_mean": (st.floats(-10, 1e30), nothing),
    },
    "SoftQLearning": {**SHARED_POLICY, "noise_layer": (st.sampled_from([0, -1]), not_layers)},
}

# What SB3, NumPy and PyTorch refuse in their own words while the model is made
NOT_A_MAPPING = (
    r"object is not a mapping|must be a mapping|keywords must be strings|unexpected keyword argument|multiple values for"
)
NOT_CALLABLE = r"object is not callable|missing \d required positional|not a Module subclass|unexpected keyword argument"
LEFT_TO_SB3: dict[str, tuple[st.SearchStrategy, str]] = {
    "replay_buffer_class": (
        st.sampled_from(["ReplayBuffer", 1, RolloutBuffer, dict]),
        r"issubclass\(\) arg 1 must be a class|unexpected keyword argument|dict expected at most 1 argument",
    ),
    "replay_buffer_kwargs": (st.sampled_from(["x", 1, [1], {"foo": 1}, {"device": "cpu"}, {1: 2}]), NOT_A_MAPPING),
    "verbose": (junk, "'>=' not supported between instances of"),
    "seed": (st.sampled_from([-1, 2**32]), r"Seed must be between 0 and 2\*\*32 - 1"),
    "device": (
        st.sampled_from(["gpu", "", None, [1], 1.5]),
        "Expected one of cpu, cuda, .* gpu$|Device string must not be empty|invalid combination of arguments",
    ),
    "policy_kwargs": (st.sampled_from(["x", 1, [1], {"foo": 1}, {1: 2}, {"action_space": 1}]), NOT_A_MAPPING),
    "env": (st.sampled_from([1, object()]), "not a Gymnasium environment"),
    "net_arch": (
        st.sampled_from([1, "x", (4,), [-1], [1.5], ["4"], [None], {}, {"pi": [4]}, {"pi": [4], "qf": None}]),
        r"net_arch can only contain|negative dimension|must be tuple of ints|no key '(pi|qf)'|has no len\(\)",
    ),
    "activation_fn": (
        st.sampled_from(["relu", None, 1, nn.Linear, th.relu, nn.ReLU(), object]),
        NOT_CALLABLE + r"|missing 1 required positional",
    ),
    "n_critics": (
        junk | st.sampled_from([0, -1, False, NAN, 1.5]),
        "n_critics=|cannot be interpreted as an integer|empty parameter list|'<' not supported between",
    ),
    "optimizer_class": (st.sampled_from(["Adam", None, 1, nn.Linear]), NOT_CALLABLE),
    "optimizer_kwargs": (
        st.sampled_from(["x", 1, [1], {"lr": 1e-3}, {"foo": 1}, {1: 2}, {"weight_decay": "x"}, {"weight_decay": -1.0}]),
        NOT_A_MAPPING + "|object is not iterable|'<=' not supported|Invalid weight_decay value",
    ),
}
# In the first steps of ``learn``
LATE_IN_SB3: dict[str, tuple[st.SearchStrategy, str]] = {
    "action_noise": (
        st.sampled_from(["x", 1, NormalActionNoise(np.zeros(2), -np.ones(2)), NormalActionNoise(np.zeros(2), np.ones(3))]),
        "object has no attribute 'reset'|Expected base_noise to be|scale < 0|shape mismatch: objects cannot be broadcast",
    ),
    "stats_window_size": (
        st.sampled_from(["", [1], {}, 1.5, NAN, -1]),
        "an integer is required|maxlen must be non-negative",
    ),
    "tensorboard_log": (st.sampled_from([1, 1.5, [1], True]), "expected str, bytes or os.PathLike object"),
    "activation_fn": (st.sampled_from([nn.GLU, nn.Flatten]), "shapes? |size"),
    "optimizer_class": (
        st.sampled_from([th.optim.LBFGS, th.optim.SparseAdam]),
        "required positional argument: 'closure'|does not support dense gradients",
    ),
}
