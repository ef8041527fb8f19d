import pytest
import torch as th

from sb3_maxent.common.compilation import store
from sb3_maxent.common.operators import ONEDNN

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


def test_lower_median():
    values = th.randn(8, 5)
    assert th.equal(OPERATORS.lower_median(values), values.median(dim=1).values)
    th.library.opcheck(OPERATORS.lower_median, (values,))


def test_store_changes_nothing_and_is_not_elided():
    values = th.randn(3, 4).t()
    assert store(values) is values
    th.library.opcheck(OPERATORS.store, (values,))
    stored = OPERATORS.store(values)
    assert th.equal(stored, values) and stored.stride() == values.stride() and stored.data_ptr() != values.data_ptr()
