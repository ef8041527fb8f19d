"""Checks of shapes with named dimensions."""

import torch as th


def check_shapes(*tensors: tuple[th.Tensor, str]) -> None:
    """
    Check that tensors have the named dimensions, and that each name has the same size in all of them.

    Without this check, a ``(batch, 1)`` and a ``(batch,)`` would broadcast to a wrong loss that looks plausible.

    :param tensors: Pairs of a tensor and its dimensions separated by blanks, as ``(q_values, "batch samples")``.
        A number stands for exactly that size.
    :raises ValueError: If a tensor has a wrong number of dimensions, or a size that contradicts its name
    """
    sizes: dict[str, int] = {}
    for tensor, spec in tensors:
        names = spec.split()
        if tensor.dim() != len(names):
            raise ValueError(f"Expected a tensor of shape ({', '.join(names)}), got {tuple(tensor.shape)}")
        for name, size in zip(names, tensor.shape, strict=True):
            expected = int(name) if name.isdigit() else sizes.setdefault(name, size)
            if size != expected:
                named = "a dimension of size" if name.isdigit() else f"{name} ="
                raise ValueError(f"Expected {named} {expected} in ({', '.join(names)}), got shape {tuple(tensor.shape)}")
