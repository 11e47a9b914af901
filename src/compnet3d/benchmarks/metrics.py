"""The figures of an evaluation, as functions of tensors: accuracy, confusion matrix, rotation errors.

Rotation errors are radians in [0, pi]; summaries give accuracy below pi/6 and pi/18 and the median in degrees.
"""

from __future__ import annotations

import math
from typing import TypedDict

import torch
from torch import Tensor

from compnet3d.geometry.rotations import rotmat_geodesic_distance

CONTINUOUS = 0
"""The symmetry order of an object that turns about its vertical axis without changing."""


class PoseFigures(TypedDict):
    """Share of the images within pi/6 and within pi/18, and the median error; None where there is no image."""

    acc_pi6: float | None
    acc_pi18: float | None
    median_deg: float | None


def accuracy(predicted: Tensor, true: Tensor) -> float | None:
    """Share of equal entries of two index tensors [N]; None for N = 0."""
    _check_same_shape(predicted, true)
    return float((predicted == true).double().mean()) if true.numel() else None


def confusion_matrix(predicted: Tensor, true: Tensor, count: int) -> Tensor:
    """Counts [count, count] int64: row = true category, column = predicted one, of index tensors [N]."""
    _check_same_shape(predicted, true)
    for name, index in (("predicted", predicted), ("true", true)):
        if index.numel() and not (0 <= int(index.min()) and int(index.max()) < count):
            raise ValueError(f"{name} holds an index outside 0 ... {count - 1}")
    return torch.bincount(true.long() * count + predicted.long(), minlength=count * count).reshape(count, count)


def row_shares(confusion: Tensor | list[list[int]]) -> Tensor:
    """The shares of each row of a confusion matrix, float64 [Y, Y]; zeros where a category has no image."""
    counts = torch.as_tensor(confusion, dtype=torch.float64)
    return counts / counts.sum(dim=1, keepdim=True).clamp_min(1)


def symmetric_rotation_error(predicted: Tensor, true: Tensor, order: Tensor) -> Tensor:
    """Smallest geodesic angle [N] over the turns about the object's z axis that leave the object as it is.

    Args:
        predicted: object-to-camera rotations [N, 3, 3].
        true: object-to-camera rotations [N, 3, 3].
        order: int [N]; 1 = no symmetry, n = a turn by 2 pi / n changes nothing, 0 = any turn changes nothing.

    For a continuous symmetry the minimum over all turns has a closed form: it is the angle between the two z axes
    as the camera sees them, because a turn about z can undo everything but the tilt of that axis.
    """
    if predicted.shape != true.shape or predicted.shape[1:] != (3, 3) or order.shape != predicted.shape[:1]:
        raise ValueError(
            f"need [N, 3, 3], [N, 3, 3] and [N], not {[*predicted.shape]}, {[*true.shape]} and {[*order.shape]}"
        )
    error = rotmat_geodesic_distance(predicted, true)
    for n in order.unique().tolist():
        chosen = order == n
        if n == CONTINUOUS:
            error[chosen] = axis_angle_between(predicted[chosen][..., 2], true[chosen][..., 2])
        elif n > 1:
            turned = predicted[chosen, None] @ _turns_about_z(n, predicted)
            error[chosen] = rotmat_geodesic_distance(turned, true[chosen, None].expand_as(turned)).amin(dim=1)
        elif n < 0:
            raise ValueError(f"a symmetry order is 0 (continuous), 1 (none) or n, not {n}")
    return error


def axis_angle_between(a: Tensor, b: Tensor) -> Tensor:
    """Angle [...] in [0, pi] between unit vectors [..., 3], from the chords: exact near 0 and near pi."""
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


def summarise_pose(error: Tensor) -> PoseFigures:
    """Figures of rotation errors [N] in radians."""
    return PoseFigures(
        acc_pi6=_mean(error < math.pi / 6), acc_pi18=_mean(error < math.pi / 18), median_deg=median_degrees(error)
    )


def summarise_joint(error: Tensor, right: Tensor) -> PoseFigures:
    """Figures of errors [N] where an image counts only if its category is right, bool [N], as well.

    The accuracies are over all N images; the median is over the rightly classified ones, since a wrongly named
    image has no joint error.
    """
    _check_same_shape(error, right)
    return PoseFigures(
        acc_pi6=_mean((error < math.pi / 6) & right),
        acc_pi18=_mean((error < math.pi / 18) & right),
        median_deg=median_degrees(error[right]),
    )


def median_degrees(error: Tensor) -> float | None:
    """Median of angles [N] in radians, as degrees (mean of the middle two for even N); None for N = 0."""
    return math.degrees(float(error.double().quantile(0.5))) if error.numel() else None


def _turns_about_z(n: int, like: Tensor) -> Tensor:
    """Rotations [n, 3, 3] by 0, 2 pi / n, ... about the z axis, with the type and device of `like`."""
    angle = torch.arange(n, dtype=like.dtype, device=like.device) * (2 * math.pi / n)
    turn = torch.eye(3, dtype=like.dtype, device=like.device).repeat(n, 1, 1)
    turn[:, 0, 0] = turn[:, 1, 1] = angle.cos()
    turn[:, 1, 0] = angle.sin()
    turn[:, 0, 1] = -angle.sin()
    return turn


def _mean(hit: Tensor) -> float | None:
    return float(hit.double().mean()) if hit.numel() else None


def _check_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"need two tensors [N] of one length, not {[*a.shape]} and {[*b.shape]}")
