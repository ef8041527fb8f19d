import pytest
import torch as th

from sb3_maxent.functional import check_shapes


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
