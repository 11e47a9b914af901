"""Checks at the entry of public functions: shape, type, range. `python -O` leaves them out.

Each raises a ValueError that names the argument. Checks of shape and type read no values, so they cost nothing on a
GPU; those of values (finite, range) wait for it.
"""

from __future__ import annotations

from types import EllipsisType

import torch
from torch import Tensor


def check_shape(name: str, tensor: Tensor, pattern: tuple[int | str | EllipsisType, ...]) -> None:
    """Raise unless a shape is like (..., "V", 3): numbers are fixed, letters are free, ... is any batch."""
    if __debug__:
        shape = tensor.shape
        # only at the front: an ellipsis elsewhere would leave open which size is which
        batched = pattern[:1] == (...,)
        tail = pattern[1:] if batched else pattern
        long_enough = len(shape) >= len(tail) if batched else len(shape) == len(tail)
        sizes = shape[len(shape) - len(tail) :]
        if not long_enough or any(isinstance(n, int) and n != size for n, size in zip(tail, sizes, strict=True)):
            wanted = ", ".join("..." if n is ... else str(n) for n in pattern)
            raise ValueError(f"{name} must have shape [{wanted}], got {list(shape)}")


def check_broadcast(**shapes: torch.Size) -> None:
    """Raise unless the batch shapes of the named arguments go together."""
    if __debug__:
        # asked first: torch.broadcast_shapes imports a thousand modules
        sizes = list(shapes.values())
        if all(size == sizes[0] for size in sizes):
            return
        try:
            torch.broadcast_shapes(*shapes.values())
        except RuntimeError:
            text = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise ValueError(f"the batch shapes do not go together: {text}") from None


def check_floating(**tensors: Tensor) -> None:
    """Raise unless all tensors hold floating point numbers."""
    if __debug__:
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                raise ValueError(f"{name} must hold floating point numbers, got {tensor.dtype}")


def check_integer(**tensors: Tensor) -> None:
    """Raise unless all tensors hold whole numbers (bool is not one)."""
    if __debug__:
        for name, tensor in tensors.items():
            if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
                raise ValueError(f"{name} must hold whole numbers, got {tensor.dtype}")


def check_finite(**tensors: Tensor) -> None:
    """Raise if a tensor holds NaN or an infinity."""
    if __debug__:
        for name, tensor in tensors.items():
            if not bool(tensor.isfinite().all()):
                raise ValueError(f"{name} holds a number that is not finite")


def check_positive(**tensors: Tensor) -> None:
    """Raise unless all numbers are above zero and finite."""
    if __debug__:
        check_finite(**tensors)
        for name, tensor in tensors.items():
            if not bool((tensor > 0).all()):
                raise ValueError(f"{name} must be positive, got {float(tensor.min()):g}")


def check_index(name: str, index: Tensor, count: int) -> None:
    """Raise unless all entries lie in 0 ... count - 1."""
    if __debug__:
        check_integer(**{name: index})
        if index.numel() and not (0 <= int(index.min()) and int(index.max()) < count):
            raise ValueError(f"{name} must lie in 0 ... {count - 1}, got {int(index.min())} ... {int(index.max())}")


def check_rotation(name: str, rotmat: Tensor) -> None:
    """Raise unless the matrices [..., 3, 3] are rotations: finite, orthonormal, not mirrored."""
    if __debug__:
        check_shape(name, rotmat, (..., 3, 3))
        check_finite(**{name: rotmat})
        # single and double precision, or half precision and bfloat16, which have 2 to 3 digits
        tolerance = 1e-4 if torch.finfo(rotmat.dtype).eps < 1e-6 else 0.05
        # the product in double precision: the check must not add an error of its own
        exact = rotmat.double()
        gap = (exact @ exact.transpose(-1, -2) - torch.eye(3, dtype=torch.float64, device=rotmat.device)).abs()
        if not bool((gap <= tolerance).all()):
            raise ValueError(f"{name} is not a rotation: R R' differs from the identity by {float(gap.max()):.2g}")
        if not bool((torch.linalg.det(exact) > 0).all()):
            raise ValueError(f"{name} is not a rotation: it mirrors (its determinant is -1)")


def reads_values(tensor: Tensor) -> bool:
    """Whether a check may look at a tensor's numbers: not on an accelerator, which would wait, nor while tracing."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
