"""
Everything of PyTorch's compiler that is not public, imported only when an update is compiled.

A name that another version of PyTorch does not have raises ImportError or AttributeError here, and
:mod:`sb3_maxent.common.compilation` then leaves the update eager. What the operators take and return is stored by the
compiler. None has a gradient.
"""

import platform
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch as th
import torch._dynamo.config as dynamo_config
import torch._functorch.config as functorch_config
import torch._inductor.config as inductor_config
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch._inductor.lowering import clone, register_lowering
from torch.fx import Graph, Node

from sb3_maxent.functional import lower_median

# Family of AMD's processors, Zen 5, from which on their vector units are 512 bits wide
ZEN_5 = 26


def is_zen_5() -> bool:
    """
    :return: Whether the operating system says that the processor is one of AMD's, and of this family or a newer one
    """
    try:
        name = Path("/proc/cpuinfo").read_text()
    except OSError:  # only Linux has this file
        name = platform.processor()
    family = re.search(r"family\s*:?\s*(\d+)", name, re.IGNORECASE)
    return "AuthenticAMD" in name and family is not None and int(family[1]) >= ZEN_5


ONEDNN = th.backends.mkldnn.is_available()
ONEDNN_LINEAR = th.ops.mkldnn._linear_pointwise if ONEDNN else None
# PyTorch multiplies in float32 with MKL on x86, which uses half of the width of Zen 5's vector units: oneDNN takes half as
# long there. On Zen 4 and on an Intel Xeon an update is faster with MKL, see benchmarks/README.md. The name of the processor
# decides and not a timing, so that a machine always decides alike
PREFER_ONEDNN = ONEDNN and is_zen_5()
# Multiplications in a matrix product from which another library is worth a call through Python
MIN_MULTIPLICATIONS = 2**22
# Inductor stores what many later operations read or what took many to compute: here a hidden layer of all samples
THRESHOLDS = ("realize_opcount_threshold", "realize_acc_reads_threshold", "realize_reads_threshold")
# Lets the C++ compiler make one instruction of a product and a sum, with one rounding instead of two. Loops over samples are
# little else
FLAG = "enable_floating_point_contract_flag"
CONTRACTION = {f"cpp.{FLAG}": "fast"} if isinstance(getattr(inductor_config.cpp, FLAG, None), str) else {}
# What makes the gradient a part of the graph (new in PyTorch 2.13), and what compiles it in time where it is one of its own.
# Made once, because each update enters them
GRADIENT_SETTINGS = [
    config.patch({name: True})
    for config, name in ((dynamo_config, "trace_autograd_ops"), (functorch_config, "force_non_lazy_backward_lowering"))
    if hasattr(config, name)
]
# Does not look at each layer again before each update, see ``CompiledMethod``: it would take a twentieth of the update's time
GUARD_FILTER = getattr(th.compiler, "skip_guard_on_all_nn_modules_unsafe", None)
LIBRARY = th.library.Library("sb3_maxent", "FRAGMENT")

LIBRARY.define("linear(Tensor input, Tensor weight, Tensor? bias) -> Tensor")
LIBRARY.define("lower_median(Tensor values) -> Tensor")
LIBRARY.define("store(Tensor tensor) -> Tensor")


@th.library.impl(LIBRARY, "linear", "CPU")
def _linear(input: th.Tensor, weight: th.Tensor, bias: th.Tensor | None) -> th.Tensor:
    if not (weight.is_contiguous() or weight.t().is_contiguous()):
        # For some of the columns of a matrix oneDNN has a reference implementation only, a hundred times slower
        weight = weight.contiguous()
    # It reads the bias as if it were contiguous
    bias = None if bias is None else bias.contiguous()
    return ONEDNN_LINEAR(input, weight, bias, "none", [], "")  # type: ignore[misc]


@th.library.register_fake("sb3_maxent::linear", lib=LIBRARY)
def _linear_fake(input: th.Tensor, weight: th.Tensor, bias: th.Tensor | None) -> th.Tensor:
    return input.new_empty(input.shape[0], weight.shape[0])


@th.library.impl(LIBRARY, "lower_median", "CompositeExplicitAutograd")
def _lower_median(values: th.Tensor) -> th.Tensor:
    return lower_median(values)


@th.library.register_fake("sb3_maxent::lower_median", lib=LIBRARY)
def _lower_median_fake(values: th.Tensor) -> th.Tensor:
    return values.new_empty(values.shape[0])


@register_lowering(th.ops.sb3_maxent.store.default, type_promotion_kind=None)
def _store_compiled(tensor: Any) -> Any:
    # Without a call through Python. Loops that read the copy read what is stored
    tensor.realize()
    return clone(tensor)


@th.library.impl(LIBRARY, "store", "CompositeExplicitAutograd")
def _store(tensor: th.Tensor) -> th.Tensor:
    return tensor.clone()


@th.library.register_fake("sb3_maxent::store", lib=LIBRARY)
def _store_fake(tensor: th.Tensor) -> th.Tensor:
    return th.empty_like(tensor)


class OperatorPass(CustomGraphPass):
    """
    Lets NumPy compute the medians of a graph, and oneDNN the large matrix products where it is faster. Stores the scales of
    batch normalisation. All this in losses and gradients.
    """

    def __call__(self, graph: Graph) -> None:
        """
        :param graph: Graph of ATen operators, changed in place
        """
        for node in graph.nodes:
            if node.target in (th.ops.aten.mm.default, th.ops.aten.addmm.default) and self._gains(node):
                self._replace_product(graph, node)
            elif node.target is th.ops.aten.median.dim and self._is_lower_median(node):
                self._replace_median(graph, node)
            elif node.target is th.ops.aten.rsqrt.default and node.meta["val"].device.type == "cpu":
                self._store_root(graph, node)

    @staticmethod
    def _store_root(graph: Graph, node: Node) -> None:
        """Store what each row of a batch would compute again for the scales of batch normalisation"""
        with graph.inserting_after(node):
            stored = graph.call_function(th.ops.sb3_maxent.store.default, (node,))
        stored.meta.update(node.meta)
        node.replace_all_uses_with(stored, delete_user_cb=lambda user: user is not stored)

    @staticmethod
    def _replace_product(graph: Graph, node: Node) -> None:
        *bias, left, right = node.args
        with graph.inserting_before(node):
            weight = graph.call_function(th.ops.aten.permute.default, (right, [1, 0]))
            weight.meta["val"] = right.meta["val"].t()  # type: ignore[union-attr]
            product = graph.call_function(th.ops.sb3_maxent.linear.default, (left, weight, bias[0] if bias else None))
        product.meta.update(node.meta)
        node.replace_all_uses_with(product)
        graph.erase_node(node)

    @staticmethod
    def _replace_median(graph: Graph, node: Node) -> None:
        for values in list(node.users):
            with graph.inserting_before(values):
                median = graph.call_function(th.ops.sb3_maxent.lower_median.default, (node.args[0],))
            median.meta.update(values.meta)
            values.replace_all_uses_with(median)
            graph.erase_node(values)
        graph.erase_node(node)

    @staticmethod
    def _is_lower_median(node: Node) -> bool:
        """Whether a node computes the medians of rows, as :func:`~sb3_maxent.functional.lower_median`, without their places"""
        values = node.args[0].meta["val"]  # type: ignore[union-attr]
        of_rows = values.dim() == 2 and node.args[1:] in ((1,), (-1,)) and not node.kwargs
        return of_rows and values.device.type == "cpu" and all(user.args[1] == 0 for user in node.users)

    @staticmethod
    def _gains(node: Node) -> bool:
        *bias, left, right = (each.meta["val"] for each in node.args)  # type: ignore[union-attr]
        if not PREFER_ONEDNN or left.device.type != "cpu" or left.dtype != th.float32:
            return False
        # A sum with a matrix, a bias for all outputs together, or a factor has another form
        if node.kwargs or any(each.shape != right.shape[1:] for each in bias):
            return False
        return left.numel() * right.shape[1] >= MIN_MULTIPLICATIONS

    def uuid(self) -> Any:
        """
        :return: What the cache of compiled graphs knows this class by
        """
        return get_hash_for_files((__file__,), f"oneDNN: {PREFER_ONEDNN}")


def compiler_options(guard_layers: bool) -> dict[str, Any]:
    """
    Options of ``torch.compile``.

    :param guard_layers: Whether a call must notice that attributes of layers have changed since the last one
    :return: Options by name
    """
    options = {**dict.fromkeys(THRESHOLDS, 10_000), **CONTRACTION, "post_grad_custom_post_pass": OperatorPass()}
    return options if guard_layers or GUARD_FILTER is None else {**options, "guard_filter_fn": GUARD_FILTER}


@contextmanager
def compile_gradient_at_once() -> Iterator[None]:
    """
    Let the compiler compile the gradient together with the function. Otherwise it does so at the first ``backward``, which
    another thread may disturb.

    :return: Context in which to call the compiled function, by one thread at a time
    """
    with ExitStack() as stack:
        for setting in GRADIENT_SETTINGS:
            stack.enter_context(setting)
        yield
