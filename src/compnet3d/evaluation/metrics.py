"""The metrics of an evaluation, as functions of tensors: accuracy, confusion matrix, rotation errors.

Rotation errors are radians in [0, pi]; summaries give accuracy below pi/6 and pi/18 and the median in degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compnet3d.geometry.rotations import FLIP_ANGLE
from compnet3d.utils.files import Json
from compnet3d.utils.settings import known, read


@dataclass(frozen=True)
class PoseMetrics:
    """Pose accuracy at pi/6 and at pi/18 (shares of the images) and the median error; None where there is no image."""

    acc_pi6: float | None
    acc_pi18: float | None
    median_deg: float | None

    @classmethod
    def from_dict(cls, values: Json) -> PoseMetrics:
        """From a dictionary that has these entries among others."""
        return read(cls, known(cls, values))


@dataclass(frozen=True)
class FlipMetrics:
    """How many poses are flipped (see `is_flipped`).

    Attributes:
        share: of all images; None where there is none.
        of_errors: of the images whose error is at least pi/6; None where there is none.
    """

    share: float | None
    of_errors: float | None

    @classmethod
    def from_dict(cls, values: Json) -> FlipMetrics:
        """From the dictionary of `dataclasses.asdict`."""
        return read(cls, known(cls, values))


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
    # each pair of categories is one number, so that one count over N images gives the whole matrix
    return torch.bincount(true.long() * count + predicted.long(), minlength=count * count).reshape(count, count)


def row_shares(confusion: Tensor | Sequence[Sequence[int]]) -> Tensor:
    """The shares of each row of a confusion matrix, float64 [Y, Y]; zeros where a category has no image."""
    counts = torch.as_tensor(confusion, dtype=torch.float64)
    # a row of zeros stays zeros
    return counts / counts.sum(dim=1, keepdim=True).clamp_min(1)


def summarise_pose(error: Tensor) -> PoseMetrics:
    """Metrics of rotation errors [N] in radians."""
    return PoseMetrics(
        acc_pi6=_mean(error < math.pi / 6), acc_pi18=_mean(error < math.pi / 18), median_deg=median_degrees(error)
    )


def summarise_joint(error: Tensor, correct: Tensor) -> PoseMetrics:
    """Metrics of errors [N] where an image counts only if it is classified correctly too, bool [N].

    The accuracies are over all N images. The median is over the correctly classified ones, since a misclassified image
    has no joint error.
    """
    _check_same_shape(error, correct)
    return PoseMetrics(
        acc_pi6=_mean((error < math.pi / 6) & correct),
        acc_pi18=_mean((error < math.pi / 18) & correct),
        median_deg=median_degrees(error[correct]),
    )


def is_flipped(half_turn: Tensor, error: Tensor) -> Tensor:
    """Which poses are flipped, bool [N]: wrong, and within pi/6 of the true one after half a turn about z.

    Args:
        half_turn: rotation errors [N] in radians against the true rotation after half a turn (see `half_turned`).
        error: against the true rotation itself, [N]. Both over the object's symmetry: of an object with many turns that
            change nothing, a right pose is near half a turn, too.
    """
    _check_same_shape(half_turn, error)
    return (half_turn < FLIP_ANGLE) & (error >= FLIP_ANGLE)


def summarise_flips(half_turn: Tensor, error: Tensor) -> FlipMetrics:
    """The shares of flipped poses; see `is_flipped`."""
    flipped = is_flipped(half_turn, error)
    return FlipMetrics(share=_mean(flipped), of_errors=_mean(flipped[error >= FLIP_ANGLE]))


def median_degrees(error: Tensor) -> float | None:
    """Median of angles [N] in radians, as degrees (mean of the middle two for even N); None for N = 0."""
    # not torch.median, which takes the lower of the middle two
    return math.degrees(float(error.double().quantile(0.5))) if error.numel() else None


def _mean(hit: Tensor) -> float | None:
    return float(hit.double().mean()) if hit.numel() else None


def _check_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"need two tensors [N] of one length, not {[*a.shape]} and {[*b.shape]}")
