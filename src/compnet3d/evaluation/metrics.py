"""The metrics of an evaluation, as functions of tensors: accuracy, confusion matrix, rotation errors.

Rotation errors are radians in [0, pi]; summaries give accuracy below pi/6 and pi/18 and the median in degrees.
"""

from __future__ import annotations

import math
from typing import TypedDict

import torch
from torch import Tensor

"""The symmetry order of an object that turns about its vertical axis without changing."""


class PoseMetrics(TypedDict):
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


def summarise_pose(error: Tensor) -> PoseMetrics:
    """Figures of rotation errors [N] in radians."""
    return PoseMetrics(
        acc_pi6=_mean(error < math.pi / 6), acc_pi18=_mean(error < math.pi / 18), median_deg=median_degrees(error)
    )


def summarise_joint(error: Tensor, right: Tensor) -> PoseMetrics:
    """Figures of errors [N] where an image counts only if its category is right, bool [N], as well.

    The accuracies are over all N images; the median is over the rightly classified ones, since a wrongly named
    image has no joint error.
    """
    _check_same_shape(error, right)
    return PoseMetrics(
        acc_pi6=_mean((error < math.pi / 6) & right),
        acc_pi18=_mean((error < math.pi / 18) & right),
        median_deg=median_degrees(error[right]),
    )


def median_degrees(error: Tensor) -> float | None:
    """Median of angles [N] in radians, as degrees (mean of the middle two for even N); None for N = 0."""
    return math.degrees(float(error.double().quantile(0.5))) if error.numel() else None


def _mean(hit: Tensor) -> float | None:
    return float(hit.double().mean()) if hit.numel() else None


def _check_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"need two tensors [N] of one length, not {[*a.shape]} and {[*b.shape]}")
