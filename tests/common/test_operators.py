import sys

import pytest
import torch as th
import torch._dynamo.config as dynamo_config
from torch._inductor.utils import run_and_get_code

from sb3_maxent.common import operators
from sb3_maxent.common.compilation import store
from sb3_maxent.common.layers import BatchNorm
from sb3_maxent.common.updates import gradients_of

OPERATORS = th.ops.sb3_maxent


@pytest.mark.parametrize(
    ("cpuinfo", "processor", "expected"),
    [
        ("vendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\n", "x86_64", True),
        ("vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\n", "x86_64", False),
        ("vendor_id\t: AuthenticAMD\ncpu family\t: 23\nmodel\t\t: 49\n", "x86_64", False),
        ("vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 207\n", "x86_64", False),
        # A newer family of another maker
        ("vendor_id\t: GenuineIntel\ncpu family\t: 27\nmodel\t\t: 1\n", "x86_64", False),
        ("CPU implementer\t: 0x41\n", "aarch64", False),
        # What Windows says
        (None, "AMD64 Family 26 Model 68 Stepping 0, AuthenticAMD", True),
        (None, "AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD", False),
        (None, "Intel64 Family 6 Model 207 Stepping 2, GenuineIntel", False),
    ],
)
def test_processor_that_multiplies_faster_with_onednn(cpuinfo, processor, expected, tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    monkeypatch.setattr(operators, "Path", lambda _: path)
    monkeypatch.setattr("platform.processor", lambda: processor)
    assert operators.is_zen_5() == expected


def test_cache_of_compiled_graphs_knows_the_library(monkeypatch):
    names = []
    for prefer_onednn in (True, False):
        monkeypatch.setattr(operators, "PREFER_ONEDNN", prefer_onednn)
        names.append(operators.OperatorPass().uuid())
    assert names[0] != names[1]


@pytest.mark.skipif(not operators.ONEDNN, reason="PyTorch was built without oneDNN")
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


def code_of(function, options, *args):
    compiled = th.compile(function, dynamic=False, options=options)
    with operators.compile_gradient_at_once():
        result, code = run_and_get_code(compiled, *args)
    return result, "".join(code)


@pytest.mark.skipif(not hasattr(dynamo_config, "trace_autograd_ops"), reason="The gradient has a graph of its own")
@pytest.mark.parametrize(("pass_name", "n_loops"), [("post_grad_custom_post_pass", 1), ("none", 2)], ids=["stored", "control"])
def test_scales_of_batch_normalisation_are_computed_once(pass_name, n_loops):
    """And not again for each row, or for the gradient"""
    layers = th.nn.Sequential(BatchNorm(64), th.nn.ReLU(), th.nn.Linear(64, 1))
    options = operators.compiler_options(guard_layers=True)
    options = {name: value for name, value in options.items() if not name.endswith("pass") or name == pass_name}
    _, code = code_of(
        lambda inputs: gradients_of(layers(inputs).square().mean(), [*layers.parameters()]), options, th.randn(32, 64)
    )
    assert code.count("sqrt(") == n_loops
    # It has no call of its own
    assert "sb3_maxent" not in code


@pytest.mark.skipif(sys.platform == "win32" or not operators.CONTRACTION, reason="There is no such flag")
@pytest.mark.parametrize("flag", ["fast", "off"])
def test_products_and_sums_are_rounded_once(flag):
    """What the product was rounded by is left"""
    left, right = th.randn(64), th.randn(64)
    options = operators.compiler_options(guard_layers=True)
    options = options if flag == "fast" else {**options, **dict.fromkeys(operators.CONTRACTION, flag)}
    rest, _ = code_of(lambda left, right, product: left * right - product, options, left, right, left * right)
    assert rest.any() == (flag == "fast")
    assert th.allclose(rest, th.zeros(64), atol=1e-6)
