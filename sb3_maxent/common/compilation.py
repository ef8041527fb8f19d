"""Compilation of an update, and its fallback to the eager update."""

import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable
from inspect import signature
from types import FunctionType
from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy
from torch import nn

# Otherwise all models of a process share a limit of eight graphs per method; the argument is new in PyTorch 2.13
ISOLATED: dict[str, Any] = {"isolate_recompiles": True} if "isolate_recompiles" in signature(th.compile).parameters else {}
# While one thread compiles, no other may call what is compiled: in a search of several trials at a time, for instance
LOCK = threading.Lock()

# Layers of these have no attribute that changes during a run
KNOWN_PACKAGES = ("torch.", "stable_baselines3.", "sb3_contrib.", "sb3_maxent.")

# Attributes that change without an effect on an update: updates always run in training mode and with fresh noise
UNREAD = ("training", "noise_set_size")

# Environment steps of a run from which on ``compile="auto"`` compiles: what it saves is then several times what it costs
AUTO_TIMESTEPS = 20_000


class CompiledMethod:
    """
    A method that depends on tensors and networks only, compiled at its first call.

    Where it cannot be compiled, for instance without a C++ compiler or because PyTorch has changed, it warns once and calls
    the method as it is from then on.

    To look at every attribute of every layer takes a twentieth of an update's time. So the first call of a run looks for
    changes, and the others do not, unless the network has layers of a user's own classes. Parameters, their values, and which
    of them are trained may change at any time.

    :param method: Method without effects but on the buffers of networks, as those of batch normalisation
    :param network: All networks that it reads
    """

    def __init__(self, method: Callable[..., Any], network: nn.Module):
        self.method, self.network = method, network
        self.compiled: Callable[..., Any] | None = None
        self.is_new_run = False
        # Where models share their graphs, guards tell whose layers they are
        self.guard_layers = not ISOLATED
        self._compile()

    def _compile(self) -> None:
        self.has_run = False
        self.layers = describe_layers(self.network)
        self.guard_layers |= any(not layer[0].__module__.startswith(KNOWN_PACKAGES) for layer in self.layers)
        try:
            # Here, because the compiler takes a second to import
            from sb3_maxent.common.operators import compile_gradient_at_once, compiler_options

            self.context = compile_gradient_at_once
            options = compiler_options(self.guard_layers)
            # One graph per shape: an update has one, and a loop of known length is faster
            self.compiled = th.compile(self.method, dynamic=False, options=options, **ISOLATED)
        except Exception as error:  # of a version of PyTorch without a name that is not public
            self._stay_eager(error)

    def start_run(self, network: nn.Module) -> None:
        """
        Look for changed layers at the next call, after the callbacks that prepare the run.

        :param network: All networks that the method reads
        """
        self.network, self.is_new_run = network, True

    def __call__(self, *args: Any) -> Any:
        """
        :param args: Arguments of the method
        :return: What the method returns
        """
        if self.compiled is None:
            return self.method(*args)
        if self.is_new_run and not self.guard_layers and describe_layers(self.network) != self.layers:
            self._compile()
        self.is_new_run = False
        try:
            with LOCK, self.context():
                result = self.compiled(*args)
            self.has_run = True
            return result
        except Exception as error:  # at first the compiler's are of many kinds
            if self.has_run and not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            if not self.guard_layers:
                # With some guards left out PyTorch 2.13 cannot compile images, whose bounds are arrays of NumPy
                self.guard_layers = True
                self._compile()
                return self(*args)
            # An error of the method itself is raised here
            result = self.method(*args)
            self._stay_eager(error)
            return result

    def _stay_eager(self, error: Exception) -> None:
        self.compiled = None
        warnings.warn(f"compile=True has no effect, the update could not be compiled: {type(error).__name__}: {error}")

    def __reduce__(self) -> tuple[type["CompiledMethod"], tuple[Callable[..., Any], nn.Module]]:
        # What is compiled belongs to a process, and to the networks of this model: a copy compiles its own
        return CompiledMethod, (self.method, self.network)


def describe_layers(network: nn.Module) -> list[tuple[Any, ...]]:
    """
    What a compiled update assumes of layers of PyTorch, SB3 and this package: classes, hooks, and attributes that are plain
    values or functions.

    :param network: Network
    :return: A description of each layer
    """
    constants = (bool, int, float, str, tuple, type(None), FunctionType)
    described = []
    for name, layer in network.named_modules():
        hooks = [list(getattr(layer, attribute, {}).values()) for attribute in ("_forward_hooks", "_forward_pre_hooks")]
        attributes = {key: value for key, value in vars(layer).items() if key not in UNREAD and isinstance(value, constants)}
        described.append((type(layer), name, hooks, attributes))
    return described


def reason_to_stay_eager(total_timesteps: int, device: th.device) -> str | None:
    """
    Why ``compile="auto"`` does not compile.

    It depends on the length of the run and not on a timing, so that the same run on the same machine has the same weights.

    :param total_timesteps: Environment steps of the run, over all calls of ``learn()`` that continue it
    :param device: Device of the networks
    :return: The reason, ``None`` to compile
    """
    # The compiler that torch.compile asks for
    compiler = os.environ.get("CXX", {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++"))
    if device.type != "cpu":
        return f"that it pays on {device.type} has not been measured"
    if total_timesteps < AUTO_TIMESTEPS:
        return f"a run of {total_timesteps} environment steps is too short for it to pay, {AUTO_TIMESTEPS} are enough"
    if shutil.which(compiler) is None:
        return f"there is no C++ compiler {compiler!r}"
    return None


def function_for_run(
    method: Callable[..., Any], current: Callable[..., Any], policy: BasePolicy, compile: bool | str, total_timesteps: int
) -> tuple[Callable[..., Any], str]:
    """
    What the run that starts calls: the method, or what is compiled of it.

    :param method: The method
    :param current: The method, or what was compiled of it for an earlier run
    :param policy: The policy, which has all networks that the method reads
    :param compile: With ``"auto"`` it is compiled for this run if that pays, otherwise it stays as it is
    :param total_timesteps: Environment steps of the run, over all calls that continue it: a resumed run decides as at first
    :return: The function, and the decision of ``"auto"`` in words for the log
    """
    decision = ""
    if compile == "auto":
        reason = reason_to_stay_eager(total_timesteps, policy.device)
        decision = "compile='auto': updates are " + (f"not compiled, {reason}" if reason else "compiled")
        if isinstance(current, CompiledMethod) != (reason is None):
            current = method if reason else CompiledMethod(method, policy)
    if isinstance(current, CompiledMethod):
        current.start_run(policy)
    return current, decision


def store(tensor: th.Tensor) -> th.Tensor:
    """
    Keep a compiler from computing a tensor again for each of its readers.

    Compiled code does not store what it can compute from stored tensors in one loop: each hidden unit that reads actions would
    compute them again, hundreds of times.

    :param tensor: Tensor without gradient
    :return: The same
    """
    # The operator exists once a method has been compiled here, and not where an exported graph runs
    if th.compiler.is_compiling() and not th.compiler.is_exporting() and hasattr(th.ops.sb3_maxent, "store"):
        return th.ops.sb3_maxent.store(tensor)
    return tensor
