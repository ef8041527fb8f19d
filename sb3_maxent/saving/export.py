"""Export of a trained policy to an ONNX file, which contains arrays and operators. Loading it runs no code of its author."""

from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecCheckNan, VecMonitor, VecNormalize, VecTransposeImage
from torch import nn

from sb3_maxent.common.discrete import choices_of
from sb3_maxent.common.maxent_algorithm import MaxEntAlgorithm
from sb3_maxent.common.policies import MaxEntPolicy

# Names of tensors in the file. The first one is used if the observation space is not a Dict
OBSERVATION, NOISE, ACTION = "observation", "noise", "action"


class Normaliser(nn.Module):
    """
    Normalisation of observations as in ``VecNormalize``, with its current statistics.

    :param statistics: Running mean and variance
    :param vec_normalize: The wrapper, for its epsilon and clipping
    """

    mean: th.Tensor
    std: th.Tensor

    def __init__(self, statistics: RunningMeanStd, vec_normalize: VecNormalize):
        super().__init__()
        self.register_buffer("mean", th.as_tensor(statistics.mean))
        self.register_buffer("std", th.as_tensor(np.sqrt(statistics.var + vec_normalize.epsilon)))
        self.clip = vec_normalize.clip_obs

    def forward(self, obs: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations of the environment, shape (batch, ...)
        :return: Normalised observations, computed in double precision as the wrapper does, shape (batch, ...)
        """
        return ((obs - self.mean) / self.std).clamp(-self.clip, self.clip).float()


class ActingPolicy(nn.Module):
    """
    Policy that maps observations of the environment to actions of the environment. It includes everything that ``predict``
    does before and after the networks.

    :param policy: Policy
    :param vec_normalize: Normalisation of the observations, if there is any
    :param deterministic: Whether to act deterministically instead of turning noise into actions
    :raises ValueError: If the normalisation is for observations of another shape
    """

    low: th.Tensor
    high: th.Tensor

    def __init__(self, policy: MaxEntPolicy, vec_normalize: VecNormalize | None, deterministic: bool):
        super().__init__()
        self.policy, self.deterministic = policy, deterministic
        self.normalisers = nn.ModuleDict(make_normalisers(policy.observation_space, vec_normalize))
        self.action_shape = policy.action_space.shape or ()
        self.n_choices = len(choices_of(policy.action_space))
        self.rescale = isinstance(policy.action_space, spaces.Box)
        self.dtype = th.as_tensor(np.empty(0, policy.action_space.dtype)).dtype
        if isinstance(policy.action_space, spaces.Box):
            self.register_buffer("low", th.as_tensor(policy.action_space.low))
            self.register_buffer("high", th.as_tensor(policy.action_space.high))

    def forward(self, obs: PyTorchObs, noise: th.Tensor | None = None) -> th.Tensor:
        """
        Act.

        :param obs: Observations, shape (batch, ...)
        :param noise: Noise of the actions unless they are deterministic, shape (batch, noise)
        :return: Actions in the units of the environment, shape (batch, *action shape)
        """
        if isinstance(obs, dict):
            obs = {key: self.normalisers[key](value) if key in self.normalisers else value for key, value in obs.items()}
        elif OBSERVATION in self.normalisers:
            obs = self.normalisers[OBSERVATION](obs)
        if noise is None:
            actions = self.policy._predict(obs, deterministic=True)  # (batch, action)
        else:
            actions = self.policy.actor.actions_from_noise(obs, noise.unsqueeze(1)).squeeze(1)  # (batch, action)
        actions = actions.reshape(-1, *self.action_shape)
        if not self.rescale:
            return actions.to(self.dtype)
        # As in ``unscale_action``, clamp because of rounding
        actions = self.low + 0.5 * (actions + 1.0) * (self.high - self.low)
        if self.n_choices > 0:
            actions = th.cat([actions[:, : -self.n_choices], actions[:, -self.n_choices :].round()], dim=1)
        return (actions if self.low.is_floating_point() else actions.round()).clamp(self.low, self.high).to(self.dtype)


def make_normalisers(observation_space: spaces.Space, vec_normalize: VecNormalize | None) -> dict[str, Normaliser]:
    """
    Make the normalisation of each observation.

    :param observation_space: Observation space of the policy
    :param vec_normalize: The wrapper, if there is one
    :return: Normalisation by name of the observation
    :raises ValueError: If it is for observations of another shape
    """
    if vec_normalize is None or not vec_normalize.norm_obs:
        return {}
    statistics: Any = vec_normalize.obs_rms
    space_of = (
        dict(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else {OBSERVATION: observation_space}
    )
    statistics_of = statistics if isinstance(statistics, dict) else {OBSERVATION: statistics}
    for name, each in statistics_of.items():
        if name not in space_of or space_of[name].shape != each.mean.shape:
            raise ValueError(
                f"vec_normalize has statistics of {name!r} of shape {each.mean.shape}, the policy sees {observation_space}"
            )
    return {name: Normaliser(each, vec_normalize) for name, each in statistics_of.items()}


def export_onnx(
    model: MaxEntAlgorithm, path: str | Path, *, vec_normalize: VecNormalize | None = None, deterministic: bool = True
) -> None:
    """
    Write the policy of a model to an ONNX file. For the observations of the environment it returns the actions of ``predict``.

    The input is named ``observation``, or by the keys of a ``Dict`` space. It is a batch of any size, in the types of the
    policy's observation space (images with their channels first). The output ``action`` has the units of the environment. The
    normalisation of ``VecNormalize`` and the bounds of the actions are part of the file. The networks use single precision,
    even with ``evaluation_precision="bfloat16"``.

    :param model: Model with the policy
    :param path: File to write
    :param vec_normalize: Normalisation of the observations, by default that of the model's environment. A model that was
        loaded without an environment does not know whether it was trained with ``VecNormalize``.
    :param deterministic: ``True`` exports ``predict(deterministic=True)``. ``False`` adds the input ``noise``, shape
        (batch, noise). Draw new noise for each state, from a standard normal distribution. For discrete actions draw it
        uniformly from [0, 1): one number per factor of the action for DSPG, and one number for SoftQLearning. For a
        ``HybridBox`` draw all of it from a standard normal distribution. With gSDE the file samples the distribution of the
        actions over all noise matrices.
    :raises ImportError: If onnx or onnxscript is missing
    :raises ValueError: If ``vec_normalize`` is for observations of another shape, a wrapper may change the normalised
        observations, an observation has the name of the noise or the action, or a policy that is to act at random has a set of
        noise
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError("Exporting needs onnx and onnxscript: pip install 'onnx>=1.17' 'onnxscript>=0.6.2'") from error
    policy = model.policy
    inputs, names = example_inputs(policy, deterministic)
    acting = ActingPolicy(policy, vec_normalize or normalisation_of(model), deterministic).to(model.device)
    policy.set_training_mode(False)
    batch = {0: th.export.Dim("batch", min=1)}
    with th.no_grad():
        program = th.onnx.export(
            acting.eval(),
            kwargs=inputs,
            input_names=names,
            output_names=[ACTION],
            dynamic_shapes={
                key: dict.fromkeys(value, batch) if isinstance(value, dict) else batch for key, value in inputs.items()
            },
            external_data=False,
            # The default since PyTorch 2.9. The older exporter does not support keyword arguments and dynamic shapes
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(path)


def normalisation_of(model: MaxEntAlgorithm) -> VecNormalize | None:
    """
    Find the normalisation of the environment of a model.

    :param model: Model
    :return: The wrapper ``VecNormalize``, or ``None``
    :raises ValueError: If a wrapper around it may change the normalised observations
    """
    env, vec_normalize = model.env, model.get_vec_normalize_env()
    while vec_normalize is not None and env is not vec_normalize:
        # The first wrapper only reorders the axes of images, and the others change nothing
        if not isinstance(env, (VecTransposeImage, VecMonitor, VecCheckNan)):
            raise ValueError(
                f"{type(env).__name__} around VecNormalize may change what the policy sees, and cannot be exported: "
                "wrap the environment in it before VecNormalize"
            )
        env = env.venv
    return vec_normalize


def example_inputs(policy: MaxEntPolicy, deterministic: bool) -> tuple[dict[str, Any], list[str]]:
    """
    Make inputs of an :class:`ActingPolicy` for two states. With one state the exporter would assume a batch size of one.

    :param policy: Policy
    :param deterministic: Whether there is no noise
    :return: Inputs by argument, and the names of all their tensors
    :raises ValueError: If an observation has the name of the noise or the action, or the policy acts with a set of noise
    """
    space = policy.observation_space
    spaces_by_name = dict(space.spaces) if isinstance(space, spaces.Dict) else {OBSERVATION: space}
    example = {name: np.zeros((2, *(each.shape or ())), each.dtype) for name, each in spaces_by_name.items()}
    names = list(example)
    if {NOISE, ACTION} & set(names):
        raise ValueError(f"observation_space={space}: {NOISE!r} and {ACTION!r} are names of the file's own")
    inputs: dict[str, Any] = {
        "obs": obs_as_tensor(example if isinstance(space, spaces.Dict) else example[OBSERVATION], policy.device)
    }
    if not deterministic:
        if getattr(policy.actor, "noise_set_size", None) is not None:
            raise ValueError(
                f"deterministic=False: the policy acts with {policy.actor.noise_set_size} fixed noise vectors, and a file has "
                "none of its own. Load the model with noise_set_size=None, or export deterministic actions"
            )
        noise_dim = policy.actor.noise_dim
        inputs["noise"] = th.zeros(2, noise_dim, device=policy.device)
        names.append(NOISE)
    return inputs, names
