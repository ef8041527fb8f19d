"""Compilation of an update."""

import copy
import threading
from collections.abc import Callable
from contextlib import nullcontext
from inspect import signature
from typing import Any

import torch as th
import torch._functorch.config as functorch_config
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.fx import Graph, Node

from sb3_maxent.common.operators import ONEDNN

# Inductor stores what many later operations read or what took many to compute: here a hidden layer of all samples
THRESHOLDS = ("realize_opcount_threshold", "realize_acc_reads_threshold", "realize_reads_threshold")
# Otherwise all models of a process share a limit of eight graphs per method; the argument is new in PyTorch 2.13
ISOLATED: dict[str, Any] = {"isolate_recompiles": True} if "isolate_recompiles" in signature(th.compile).parameters else {}
# While one thread compiles, no other may call what is compiled: in a search of several trials at a time, for instance
LOCK = threading.Lock()
# The gradient at once, under that lock; otherwise it is compiled at the first ``backward``
WITH_GRADIENT = {name: True for name in ("force_non_lazy_backward_lowering",) if hasattr(functorch_config, name)}
# Multiplications in a matrix product from which another library is worth a call through Python
MIN_MULTIPLICATIONS = 2**22


class OneDNNProducts(CustomGraphPass):
    """Lets oneDNN compute the large matrix products of a graph, of the losses and of their gradients, see ``operators``"""

    def __call__(self, graph: Graph) -> None:
        """
        :param graph: Graph of ATen operators, changed in place
        """
        for node in graph.nodes:
            if node.target not in (th.ops.aten.mm.default, th.ops.aten.addmm.default) or not self._gains(node):
                continue
            *bias, left, right = node.args
            with graph.inserting_before(node):
                weight = graph.call_function(th.ops.aten.permute.default, (right, [1, 0]))
                weight.meta["val"] = right.meta["val"].t()
                product = graph.call_function(th.ops.sb3_maxent.linear.default, (left, weight, bias[0] if bias else None))
            product.meta.update(node.meta)
            node.replace_all_uses_with(product)
            graph.erase_node(node)

    @staticmethod
    def _gains(node: Node) -> bool:
        *bias, left, right = (each.meta["val"] for each in node.args)  # type: ignore[union-attr]
        if not ONEDNN or left.device.type != "cpu" or left.dtype != th.float32:
            return False
        # A sum with a matrix, a bias for all outputs together, or a factor has another form
        if node.kwargs or any(each.shape != right.shape[1:] for each in bias):
            return False
        return left.numel() * right.shape[1] >= MIN_MULTIPLICATIONS

    def uuid(self) -> Any:
        """
        :return: What the cache of compiled graphs knows this class by
        """
        return get_hash_for_files((__file__,))


class CompiledMethod:
    """
    A method that depends on tensors and networks only, compiled at its first call.

    :param method: Method without effects but on the buffers of networks, as those of batch normalisation
    :param on_failure: Called with the error where compilation fails, for instance without a C++ compiler; the method is
        called as it is then
    """

    def __init__(self, method: Callable[..., Any], on_failure: Callable[[Exception], None]):
        self.method = method
        self.on_failure = on_failure
        # One graph per shape: an update has one, and a loop of known length is faster
        options: dict[str, Any] = {**dict.fromkeys(THRESHOLDS, 10_000), "post_grad_custom_post_pass": OneDNNProducts()}
        self.called = False
        self.compiled = th.compile(method, dynamic=False, options=options, **ISOLATED)

    def __call__(self, *args: Any) -> Any:
        """
        :param args: Arguments of the method
        :return: What the method returns
        """
        try:
            with LOCK, nullcontext() if self.called else functorch_config.patch(WITH_GRADIENT):
                self.called = True
                return self.compiled(*args)
        except TorchDynamoException as error:
            self.on_failure(error)
            return self.method(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> "CompiledMethod":
        # Of the copied model: a copied function would go on updating the networks of the original
        return CompiledMethod(copy.deepcopy(self.method, memo), copy.deepcopy(self.on_failure, memo))
