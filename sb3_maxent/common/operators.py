"""
Operators that compiled updates are made of, see :mod:`sb3_maxent.common.compilation`.

To a compiler they are opaque: their arguments are stored, and so is what they return. None has a gradient.
"""

import numpy as np
import torch as th

# PyTorch multiplies in float32 with MKL, which takes twice as long as oneDNN on an AMD EPYC, see benchmarks/README.md
ONEDNN = th.backends.mkldnn.is_available()
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
    return th.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")


@th.library.register_fake("sb3_maxent::linear", lib=LIBRARY)
def _linear_fake(input: th.Tensor, weight: th.Tensor, bias: th.Tensor | None) -> th.Tensor:
    return input.new_empty(input.shape[0], weight.shape[0])


@th.library.impl(LIBRARY, "lower_median", "CompositeExplicitAutograd")
def _lower_median(values: th.Tensor) -> th.Tensor:
    if values.device.type != "cpu" or values.dtype not in (th.float32, th.float64):
        return values.median(dim=1).values
    # NumPy's selection is vectorised: four to ten times as fast. To it NaN is the largest number, to PyTorch the median
    middle = (values.shape[1] - 1) // 2
    medians = np.partition(values.numpy(), middle, axis=1)[:, middle]
    return th.from_numpy(np.where(np.isnan(values.numpy()).any(axis=1), np.nan, medians).astype(medians.dtype))


@th.library.register_fake("sb3_maxent::lower_median", lib=LIBRARY)
def _lower_median_fake(values: th.Tensor) -> th.Tensor:
    return values.new_empty(values.shape[0])


@th.library.impl(LIBRARY, "store", "CompositeExplicitAutograd")
def _store(tensor: th.Tensor) -> th.Tensor:
    return tensor.clone()


@th.library.register_fake("sb3_maxent::store", lib=LIBRARY)
def _store_fake(tensor: th.Tensor) -> th.Tensor:
    return th.empty_like(tensor)


def lower_median(values: th.Tensor) -> th.Tensor:
    """
    Median of each row, of an even number of values the lower one.

    :param values: Values, shape (rows, columns)
    :return: Medians, shape (rows,)
    """
    if values.requires_grad and th.is_grad_enabled():
        return values.median(dim=1).values
    return th.ops.sb3_maxent.lower_median(values.detach())


def store(tensor: th.Tensor) -> th.Tensor:
    """
    Keep a compiler from computing a tensor anew for each of its readers.

    Compiled code does not store what it can compute from stored tensors in one loop: the hidden units that read actions would
    each compute them, hundreds of times.

    :param tensor: Tensor without gradient
    :return: The same
    """
    return th.ops.sb3_maxent.store(tensor) if th.compiler.is_compiling() else tensor
