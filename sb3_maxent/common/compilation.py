"""Compilation of the parts of an update."""

import copy
from collections.abc import Callable
from inspect import signature
from typing import Any

import torch as th
from torch._dynamo.exc import TorchDynamoException

# Inductor stores what many later operations read or what took many to compute: here a hidden layer of all samples
FUSE_ALL: dict[str, str | int | bool | Callable[..., Any]] = {
    "realize_opcount_threshold": 10_000,
    "realize_acc_reads_threshold": 10_000,
}
# Otherwise all models of a process share a limit of eight graphs per method; the argument is new in PyTorch 2.13
ISOLATED: dict[str, Any] = {"isolate_recompiles": True} if "isolate_recompiles" in signature(th.compile).parameters else {}


class CompiledMethod:
    """
    A method that depends on tensors and networks only, compiled at its first call.

    :param method: Method, which must not have side effects
    :param on_failure: Called with the error where compilation fails, for instance without a C++ compiler; the method is
        called as it is then
    """

    def __init__(self, method: Callable[..., Any], on_failure: Callable[[Exception], None]):
        self.method = method
        self.on_failure = on_failure
        # One graph per shape: an update has one, and a loop of known length is faster
        self.compiled = th.compile(method, dynamic=False, options=FUSE_ALL, **ISOLATED)

    def __call__(self, *args: Any) -> Any:
        """
        :param args: Arguments of the method
        :return: What the method returns
        """
        try:
            return self.compiled(*args)
        except TorchDynamoException as error:
            self.on_failure(error)
            return self.method(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> "CompiledMethod":
        # Of the copied model: a copied function would go on updating the networks of the original
        return CompiledMethod(copy.deepcopy(self.method, memo), copy.deepcopy(self.on_failure, memo))
