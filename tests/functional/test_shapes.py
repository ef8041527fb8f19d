import re

import pytest
import torch as th

from sb3_maxent import functional
from sb3_maxent.functional import check_shapes

# Function, dimensions of its tensors, other arguments. Of the noise of ``mixture_proposal`` one component more is read
PAIR, FIXED = ["batch samples"] * 2, "batch fixed action"
FUNCTIONS = {
    "soft_value": (PAIR, [0.5]),
    "soft_value_importance": (PAIR, [0.5]),
    "expectation": (PAIR, []),
    "td_target": (["batch 1", "batch 1", "batch values", "batch 1"], []),
    "critic_loss": (["batch 1"] * 3, []),
    "score_function_weights": (PAIR, [0.5]),
    "score_function_loss": (PAIR, [0.5]),
    "ent_coef_loss": (["1", "batch samples"], [-1.0]),
    "uniform_proposal": (["batch samples action"], []),
    "mixture_proposal": (["batch centres action", "batch samples action"], []),
    "lower_median": (["rows columns"], []),
    "median_bandwidth": (["batch fixed updated"], []),
    "rbf_kernel": ([FIXED, "batch updated action"], []),
    "kernel_density": ([FIXED], []),
    "stein_variational_gradient": ([FIXED, FIXED, "batch updated action"], []),
    "pre_tanh_score": ([FIXED] * 2, [0.5]),
    "mixed_space_score": ([FIXED] * 2, [0.5]),
    "composed_q_values": (["parts batch samples", "parts", "parts"], ["and"]),
    "policy_conflict": (["parts batch samples", "batch samples", "parts", "parts"], []),
}
SIZES = {
    "1": 1,
    "batch": 5,
    "samples": 3,
    "actions": 4,
    "centres": 6,
    "fixed": 7,
    "updated": 2,
    "action": 8,
    "values": 6,
    "rows": 4,
    "columns": 3,
    "parts": 2,
}


def call(name, shapes):
    tensors = [th.zeros(shape) for shape in shapes]
    if name == "mixture_proposal":
        tensors[1] = th.zeros(*shapes[1][:-1], shapes[1][-1] + 1)
    if name == "critic_loss":
        tensors = [tensors[1:], tensors[0]]
    return getattr(functional, name)(*tensors, *FUNCTIONS[name][1])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_tensor_of_every_function_is_checked(name):
    dimensions = [spec.split() for spec in FUNCTIONS[name][0]]
    shapes = [[SIZES[dimension] for dimension in each] for each in dimensions]
    call(name, shapes)
    used = [dimension for each in dimensions for dimension in each]
    for i, (names, shape) in enumerate(zip(dimensions, shapes, strict=True)):
        listed = re.escape(f"({', '.join(names)})")
        with pytest.raises(ValueError, match=rf"^Expected a tensor of shape {listed}, got \([0-9, ]*\)$"):
            # One dimension more may be the strata of weights
            call(name, [*shapes[:i], [2, 2, *shape], *shapes[i + 1 :]])
        for j, dimension in enumerate(names):
            wrong = [*shapes[:i], [*shape[:j], shape[j] + 1, *shape[j + 1 :]], *shapes[i + 1 :]]
            if dimension == "1" or used.count(dimension) > 1:
                expected = "a dimension of size 1" if dimension == "1" else rf"{dimension} = \d+"
                with pytest.raises(ValueError, match=rf"^Expected {expected} in \([a-z0-9, ]*\), got shape \([0-9, ]*\)$"):
                    call(name, wrong)
            else:
                call(name, wrong)


def test_the_table_has_every_function():
    assert set(FUNCTIONS) == set(functional.__all__) - {"check_shapes"}


def test_accepts_matching_shapes():
    assert (
        check_shapes(
            (th.zeros(4, 3), "batch samples"), (th.zeros(4, 1), "batch 1"), (th.zeros(4, 3, 2), "batch samples action")
        )
        is None
    )


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([((4,), "batch samples")], r"shape \(batch, samples\), got \(4,\)"),
        ([((4, 3), "batch samples"), ((5, 3), "batch samples")], r"batch = 4 .* got shape \(5, 3\)"),
        ([((4, 2), "batch 1")], r"size 1 .* got shape \(4, 2\)"),
        ([((4, 3), "batch samples"), ((4, 3, 1), "batch samples")], r"got \(4, 3, 1\)"),
    ],
)
def test_names_the_wrong_dimension(shapes, message):
    with pytest.raises(ValueError, match=message):
        check_shapes(*[(th.zeros(shape), names) for shape, names in shapes])
