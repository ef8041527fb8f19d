"""The algorithms, as small as they still learn, and the table of settings that are combined with each other."""

import random
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecNormalize, VecTransposeImage

from sb3_maxent import DSPG, SoftQLearning
from sb3_maxent.envs import FlattenAction
from tests.envs import RandomEnv


class Variant(NamedTuple):
    algorithm: type[BaseAlgorithm]
    env: str
    arguments: dict[str, Any]


# DSPG without what its defaults add to SAC: for tests that write an update out, or that count updates
PLAIN_NETWORKS = {"action_layer": -1, "batch_norm": False, "actor_averaging": None}
PLAIN = {
    **{"learning_rate": 3e-4, "batch_size": 256, "gradient_steps": 1, "policy_delay": 1, "n_target_samples": None},
    **{"ent_coef": "auto", "target_entropy": "auto", "norm_reward": False},
}
PARTICLES = {"n_particles": 4, "n_value_samples": 4}
VARIANTS = {
    "DSPG": Variant(DSPG, "Pendulum-v1", {**PLAIN, "n_action_samples": 4}),
    "SoftQLearning": Variant(SoftQLearning, "Pendulum-v1", PARTICLES),
    "Discrete SoftQLearning": Variant(SoftQLearning, "CartPole-v1", PARTICLES),
}
BOX_VARIANTS = [name for name in VARIANTS if "Discrete" not in name]
SMALL = {"buffer_size": 1000, "learning_starts": 20, "batch_size": 16, "seed": 0}


def make_model(variant: str, env: Any = None, policy: str | type = "MlpPolicy", **arguments: Any) -> Any:
    """
    A small model.

    :param variant: Name in ``VARIANTS``
    :param env: Environment, the one of the variant by default
    :param policy: Policy
    :param arguments: Further arguments; ``policy_kwargs`` are added to small networks
    :return: The model
    """
    algorithm, env_id, small = VARIANTS[variant]
    networks = {"action_layer": -1, "batch_norm": False} if algorithm is DSPG else {}
    policy_kwargs = {"net_arch": [8], **networks, **arguments.pop("policy_kwargs", {})}
    return algorithm(policy, env_id if env is None else env, policy_kwargs=policy_kwargs, **{**small, **SMALL, **arguments})


def flatten(tree: Any, name: str = "") -> Iterator[tuple[str, th.Tensor]]:
    """
    Tensors of nested dictionaries and lists.

    :param tree: The dictionary
    :param name: Its name
    """
    if isinstance(tree, th.Tensor):
        yield name, tree.detach().clone()
    elif isinstance(tree, Mapping | list | tuple):
        for key, value in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from flatten(value, f"{name} {key}".strip())


def state_of(model: Any) -> dict[str, th.Tensor]:
    """
    Everything that training moves: parameters of all networks, moments of the optimizers, temperature.

    :param model: The model
    :return: Copies by name
    """
    variables = {name: getattr(model, name) for name in model._get_torch_save_params()[1]}
    return dict(flatten({**model.get_parameters(), **variables}))


def parameters_of(network: th.nn.Module) -> dict[str, th.Tensor]:
    """
    Copies of the parameters, without buffers.

    :param network: The network
    :return: Copies by name
    """
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def differing(first: Mapping[str, th.Tensor], second: Mapping[str, th.Tensor]) -> set[str]:
    """
    Names of the tensors that are not the same in both.

    :param first: Tensors by name
    :param second: Tensors by the same names
    :return: Names
    """
    assert first.keys() == second.keys()
    return {name for name, value in first.items() if not th.equal(value, second[name])}


def check_learning(model: Any, steps: int = 30) -> Any:
    """
    Learn, and check that every parameter of every network moved, stayed finite and that actions lie in the space.

    :param model: The model
    :param steps: Number of steps
    :return: The model
    """
    before = parameters_of(model.policy)
    model.learn(steps)
    assert model._n_updates > 0
    assert differing(before, parameters_of(model.policy)) == set(before)
    assert all(th.isfinite(value).all() for value in state_of(model).values())
    observation = model.get_env().reset()
    for deterministic in (False, True):
        actions, _ = model.predict(observation, deterministic=deterministic)
        assert len(actions) == model.n_envs and all(model.action_space.contains(action) for action in actions)
    return model


# --- the table -------------------------------------------------------------------------------------------------------------

VECTOR, GOAL = spaces.Box(-1, 1, (3,)), spaces.Box(0, 1, (2,))
IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
OBSERVATIONS = {
    "vector": VECTOR,
    "float64 matrix": spaces.Box(-10, 5, (2, 3), np.float64),
    "image": IMAGE,
    "channels first": spaces.Box(0, 255, (3, 36, 36), np.uint8),
    "Discrete observations": spaces.Discrete(4),
    "MultiDiscrete": spaces.MultiDiscrete([4, 3]),
    "MultiBinary": spaces.MultiBinary((2, 3)),
    "Dict": spaces.Dict({"vector": VECTOR, "image": IMAGE, "discrete": spaces.Discrete(4)}),
    "goals": spaces.Dict({"observation": VECTOR, "achieved_goal": GOAL, "desired_goal": GOAL}),
}
ACTIONS = {
    "box": spaces.Box(-1, 1, (2,)),
    "asymmetric float64": spaces.Box(np.array([-3.0, 0.5]), np.array([1.0, 0.75]), dtype=np.float64),
    "matrix": spaces.Box(-2, 5, (2, 3)),
    "Discrete": spaces.Discrete(4),
    "MultiDiscrete actions": spaces.MultiDiscrete([3, 2]),
    # More than are summed
    "MultiBinary actions": spaces.MultiBinary(7),
    "hybrid": spaces.Dict(
        {
            "force": spaces.Box(-3, 1, (2,)),
            "gear": spaces.Discrete(3, start=-1),
            "tools": spaces.Tuple(
                [spaces.MultiBinary((1, 2)), spaces.MultiDiscrete([2, 3]), spaces.Box(0, 9, (1,), np.int64)]
            ),
        }
    ),
}
FINITE = [each for each in ACTIONS if not isinstance(ACTIONS[each], (spaces.Box, spaces.Dict))]
ENVIRONMENTS = {"1 env": (1, DummyVecEnv), "3 envs": (3, DummyVecEnv), "2 processes": (2, SubprocVecEnv)}
UPDATES = {
    "each step": {},
    "as many as steps": {"gradient_steps": -1},
    "every 5 steps": {"train_freq": 5, "gradient_steps": 3},
    "episodes": {"train_freq": (2, "episode"), "gradient_steps": 4},
}
BUFFERS = {
    "plain": {},
    "3 steps": {"n_steps": 3},
    "memory": {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    "HER": {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": {"n_sampled_goal": 2}},
}
EXPLORATION = {"policy": "", "noise": "", "gSDE": "", "mixture": ""}
NETWORKS = {
    "late action": {},
    "early action": {"action_layer": 0, "n_critics": 1},
    "three critics": {"n_critics": 3},
    "two arches": {"net_arch": {"pi": [8], "qf": [8, 8]}},
    "shared": {"share_features_extractor": True},
    "normalised": {"net_arch": [8, 8], "action_layer": 0, "batch_norm": True, "unit_norm": True},
    "no target": {"net_arch": [8, 8], "batch_norm": True, "target_critic": False},
    "AdamW": {"optimizer_class": th.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}},
}
NORMALISATION = {"raw": False, "VecNormalize": True}
TABLE: tuple[Mapping[str, Any], ...] = (
    OBSERVATIONS,
    ACTIONS,
    ENVIRONMENTS,
    NORMALISATION,
    UPDATES,
    BUFFERS,
    EXPLORATION,
    NETWORKS,
)


def actions_of(variant: str) -> spaces.Space:
    """
    :param variant: Name in ``VARIANTS``
    :return: An action space for it
    """
    return ACTIONS["Discrete" if "Discrete" in variant else "box"]


class Row(NamedTuple):
    observations: str
    actions: str
    environments: str
    normalisation: str
    updates: str
    buffer: str
    exploration: str
    networks: str


NO_GOALS = [each for each in OBSERVATIONS if each not in ("Dict", "goals")]
Refused = dict[tuple[str, ...], tuple[type[Exception], str] | None]
REFUSED_BY_SB3: Refused = {
    **{("3 steps", each): (AssertionError, "N-step returns are not supported for Dict") for each in ("Dict", "goals")},
    **{("memory", each): (AssertionError, "does not support optimize_memory_usage") for each in ("Dict", "goals")},
    **{("HER", each): (AssertionError, "must be used with Dict obs space") for each in NO_GOALS},
    ("HER", "Dict"): (KeyError, "achieved_goal"),
    **{("episodes", each): (AssertionError, "only one env when doing episodic") for each in ("3 envs", "2 processes")},
    # Breaks in SB3 2.9.2 when an episode ends, for SAC too
    ("Discrete observations", "VecNormalize"): None,
}
# What does not go together, with the error
NO_NOISE: Refused = {("noise", each): (ValueError, "has no meaning for .* actions") for each in FINITE}
REFUSED: dict[str, Refused] = {
    "DSPG": {
        **REFUSED_BY_SB3,
        **NO_NOISE,
        **{("gSDE", each): (ValueError, "can only be used with continuous actions") for each in FINITE},
        ("noise", "hybrid"): (ValueError, "action_noise=.* has no meaning for HybridBox actions"),
        ("gSDE", "hybrid"): (ValueError, "use_sde=True has no effect on HybridBox actions"),
        ("mixture", "hybrid"): (ValueError, "n_components=3 has no effect on HybridBox actions"),
        **{("mixture", each): (ValueError, "n_components=3 has no effect on .* actions") for each in FINITE},
    },
    "SoftQLearning": {
        **REFUSED_BY_SB3,
        **NO_NOISE,
        ("hybrid",): (ValueError, "action_space=HybridBox.*: SoftQLearning learns Box, .* or MultiBinary actions"),
        ("gSDE",): (TypeError, "unexpected keyword argument 'use_sde'"),
        ("mixture",): (TypeError, "unexpected keyword argument 'n_components'"),
        **{("shared", each): (ValueError, "there is nothing to share") for each in FINITE},
    },
}


def make_row(*settings: str) -> Row:
    """
    A row of ``TABLE`` with some settings, and the first of its column for each other.

    :param settings: Settings of different columns
    :return: The row
    """
    return Row(*(next((each for each in settings if each in column), next(iter(column))) for column in TABLE))


def is_refused(algorithm: str, settings: tuple[str, ...]) -> bool:
    """
    :param algorithm: Name in ``REFUSED``
    :param settings: Settings of ``TABLE``
    :return: Whether some of them do not go together
    """
    return any(set(refused) <= set(settings) for refused in REFUSED[algorithm])


def all_pairs(algorithm: str) -> set[tuple[str, str]]:
    """
    :param algorithm: Name in ``REFUSED``
    :return: All pairs of settings of two columns that go together
    """
    pairs = {(one, other) for first, second in combinations(TABLE, 2) for one in first for other in second}
    return {pair for pair in pairs if not is_refused(algorithm, pair)}


def covering_rows(algorithm: str) -> list[Row]:
    """
    Rows of ``TABLE`` among which every pair of settings that go together is found: two settings that break each other do so.

    :param algorithm: Name in ``REFUSED``
    :return: The rows, always the same
    """
    generator, missing, found = random.Random(0), all_pairs(algorithm), []
    while missing:
        pair, candidates = min(missing), []
        while len(candidates) < 30:
            row = make_row(*pair, *(generator.choice([*column]) for column in TABLE if not set(pair) & set(column)))
            if not is_refused(algorithm, row):
                candidates.append(row)
        found.append(max(candidates, key=lambda row: len(missing & {*combinations(row, 2)})))
        missing -= {*combinations(found[-1], 2)}
    return found


def make_random_env(observation_space: spaces.Space, action_space: spaces.Space) -> gym.Env:
    """
    :param observation_space: Observation space
    :param action_space: Action space
    :return: Environment, whose actions are flattened where they have parts
    """
    env = RandomEnv(observation_space, action_space)
    return FlattenAction(env) if isinstance(action_space, spaces.Dict) else env


def make_row_env(row: Row) -> VecEnv:
    """
    :param row: A row of ``TABLE``
    :return: Its environment, with episodes of five steps
    """
    n_envs, vec_env_cls = ENVIRONMENTS[row.environments]
    # Forked processes start at once, those of SB3's default import PyTorch first
    kwargs = {"start_method": "fork"} if vec_env_cls is SubprocVecEnv else {}
    arguments = {"observation_space": OBSERVATIONS[row.observations], "action_space": ACTIONS[row.actions]}
    env = make_vec_env(make_random_env, n_envs, seed=0, env_kwargs=arguments, vec_env_cls=vec_env_cls, vec_env_kwargs=kwargs)
    if NORMALISATION[row.normalisation]:
        if row.observations in ("image", "Dict"):
            # Under VecNormalize: SB3 stores what that has seen
            env = VecTransposeImage(env)
        # SB3 recognises an image by its integers
        keys = {"Dict": ["vector"], "goals": ["observation"]}.get(row.observations)
        env = VecNormalize(
            env, norm_obs=keys is not None or row.observations in ("vector", "float64 matrix"), norm_obs_keys=keys
        )
    return env


def make_row_model(algorithm: str, row: Row, env: VecEnv, **further: Any) -> Any:
    """
    :param algorithm: Name in ``VARIANTS``
    :param row: A row of ``TABLE``
    :param env: Its environment
    :param further: Further arguments
    :return: Its model
    """
    policy, extractor_kwargs = {
        "image": ("CnnPolicy", {"features_dim": 8}),
        "channels first": ("CnnPolicy", {"features_dim": 8}),
        "Dict": ("MultiInputPolicy", {"cnn_output_dim": 8}),
        "goals": ("MultiInputPolicy", {}),
    }.get(row.observations, ("MlpPolicy", {}))
    arguments = {**UPDATES[row.updates], **BUFFERS[row.buffer], "buffer_size": 200, **further}
    if row.exploration == "noise":
        shape = env.action_space.shape
        arguments["action_noise"] = NormalActionNoise(np.zeros(shape), np.full(shape, 0.1))
    elif row.exploration == "gSDE":
        arguments["use_sde"] = True
    heads = {"n_components": 3} if row.exploration == "mixture" else {}
    policy_kwargs = {"features_extractor_kwargs": extractor_kwargs, **NETWORKS[row.networks], **heads}
    return make_model(algorithm, env, policy, policy_kwargs=policy_kwargs, **arguments)
