import math

import pytest
import torch as th

from sb3_maxent.common.compilation import store
from sb3_maxent.common.operators import ONEDNN
from sb3_maxent.functional import lower_median

OPERATORS = th.ops.sb3_maxent


@pytest.mark.skipif(not ONEDNN, reason="PyTorch was built without oneDNN")
@pytest.mark.parametrize(
    "bias", [None, th.randn(7), th.randn(7, 2)[:, 0], th.randn(1).expand(7)], ids=["no", "one", "strided", "expanded"]
)
@pytest.mark.parametrize(
    "weight", [th.randn(7, 5), th.randn(5, 7).t(), th.randn(7, 9)[:, 2:7]], ids=["rows", "columns", "some"]
)
@pytest.mark.parametrize("input", [th.randn(3, 5), th.randn(5, 3).t()], ids=["rows", "columns"])
def test_linear(input, weight, bias):
    """Whatever the strides"""
    expected = th.nn.functional.linear(input.double(), weight.double(), None if bias is None else bias.double())
    assert th.allclose(OPERATORS.linear(input, weight, bias).double(), expected, atol=1e-5)
    th.library.opcheck(OPERATORS.linear, (input, weight, bias))


@pytest.mark.parametrize("n_columns", [1, 2, 5, 256])
@pytest.mark.parametrize("dtype", [th.float32, th.float64])
def test_lower_median(n_columns, dtype):
    values = th.randn(8, n_columns, dtype=dtype)
    assert th.equal(lower_median(values), values.median(dim=1).values)
    assert th.equal(lower_median(values.t().contiguous().t()), values.median(dim=1).values)
    th.library.opcheck(OPERATORS.lower_median, (values,))


def test_lower_median_of_other_numbers():
    values = th.tensor([[1, math.nan, 2, 3], [4, 1, 3, 2], [math.inf, math.inf, 1, 2]])
    assert th.equal(lower_median(values).nan_to_num(9, posinf=8), values.median(dim=1).values.nan_to_num(9, posinf=8))
    assert lower_median(values)[:2].nan_to_num(9).tolist() == [9, 2]
    assert th.equal(lower_median(values[1:].bfloat16()), values[1:].bfloat16().median(dim=1).values)
    # Its gradient is that of the median
    values = th.randn(3, 4, requires_grad=True)
    gradient, expected = (th.autograd.grad(each.sum(), values)[0] for each in (lower_median(values), values.median(1).values))
    assert th.equal(gradient, expected) and gradient.sum() == 3


def test_store_changes_nothing_and_is_not_elided():
    values = th.randn(3, 4).t()
    assert store(values) is values
    th.library.opcheck(OPERATORS.store, (values,))
    stored = OPERATORS.store(values)
    assert th.equal(stored, values) and stored.stride() == values.stride() and stored.data_ptr() != values.data_ptr()
