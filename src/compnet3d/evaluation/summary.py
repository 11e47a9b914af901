"""From the rows of an evaluation to its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from compnet3d.evaluation.metrics import accuracy, confusion_matrix, summarise_joint, summarise_pose
from compnet3d.geometry.rotations import (
    CONTINUOUS,
)

if TYPE_CHECKING:
    from compnet3d.data.sample import Sample


HIDDEN = ("hidden_object", "hidden_background")


@dataclass(frozen=True)
class Record:
    """What the evaluator saw and thought of one image; angles and errors in radians.

    `pose` (azimuth, elevation, theta, distance) and `principal_point` (pixels of the crop) are the prediction for the
    predicted category; `error_*` are plain errors, `symmetric_error_*` take the category's symmetry into account.
    """

    index: int
    name: str
    category: str
    predicted: str
    confidence: float
    pose: tuple[float, float, float, float]
    principal_point: tuple[float, float]
    true_pose: tuple[float, float, float, float]
    error_true_category: float
    error_predicted_category: float
    symmetric_error_true_category: float
    symmetric_error_predicted_category: float

    @property
    def right(self) -> bool:
        """Whether the category is right."""
        return self.predicted == self.category


@dataclass(frozen=True)
class Errors:
    """Rotation errors [N] in radians for the pose of the true category and of the predicted one."""

    true_category: Tensor
    predicted_category: Tensor
    unknown: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> Errors:
        unknown = None if self.unknown is None else self.unknown[rows]
        return Errors(self.true_category[rows], self.predicted_category[rows], unknown)


@dataclass
class Outcome:
    """Everything measured on N images, one row each: what the metrics are computed from."""

    index: Tensor
    true: Tensor
    predicted: Tensor
    confidence: Tensor
    plain: Errors
    symmetric: Errors
    unknown_category: Tensor | None = None
    hidden: Tensor | None = None
    pose: Tensor = field(default_factory=lambda: torch.zeros(0, 4))
    principal_point: Tensor = field(default_factory=lambda: torch.zeros(0, 2))
    true_pose: Tensor = field(default_factory=lambda: torch.zeros(0, 4))


def summarise(outcome: Outcome, categories: Sequence[str], orders: Tensor) -> dict[str, Any]:
    """All metrics that follow from the rows: see this module's docstring for the forms of the pose metrics."""
    present = outcome.true.unique().tolist()
    excluded = [categories[y] for y in present if int(orders[y]) == CONTINUOUS]
    everything = torch.ones_like(outcome.true, dtype=torch.bool)
    per_category = {}
    for y in present:
        rows = outcome.true == y
        per_category[categories[y]] = {
            "images": int(rows.sum()),
            "accuracy": accuracy(outcome.predicted[rows], outcome.true[rows]),
            "pose": _pose_metrics(outcome, rows, orders),
        }
    matrix = confusion_matrix(outcome.predicted, outcome.true, len(categories))
    hidden = None if outcome.hidden is None else dict(zip(HIDDEN, outcome.hidden.mean(dim=0).tolist(), strict=True))
    return {
        "images": len(outcome.true),
        "classification": {"accuracy": accuracy(outcome.predicted, outcome.true)},
        "pose": {"excluded_categories": excluded, **_pose_metrics(outcome, everything, orders)},
        "per_category": per_category,
        "occlusion": hidden,
        "confusion": {"categories": list(categories), "matrix": matrix.tolist()},
    }


def _pose_metrics(outcome: Outcome, rows: Tensor, orders: Tensor) -> dict[str, Any]:
    """The three forms of the pose metrics over some of the rows, bool [N]."""
    defined = rows & (orders[outcome.true] != CONTINUOUS)
    right = outcome.predicted == outcome.true
    metrics: dict[str, Any] = {
        "images": int(defined.sum()),
        **_three_metrics(outcome.plain[defined], right[defined]),
        "symmetry_aware": {"images": int(rows.sum()), **_three_metrics(outcome.symmetric[rows], right[rows])},
        "all_images": {"images": int(rows.sum()), **_three_metrics(outcome.plain[rows], right[rows])},
    }
    if outcome.unknown_category is not None:
        metrics["unknown"]["category_accuracy"] = accuracy(outcome.unknown_category[defined], outcome.true[defined])
    return metrics


def _three_metrics(errors: Errors, right: Tensor) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "true_category": summarise_pose(errors.true_category),
        "predicted_category": summarise_pose(errors.predicted_category),
        "joint": summarise_joint(errors.predicted_category, right),
    }
    if errors.unknown is not None:
        metrics["unknown"] = summarise_pose(errors.unknown)
    return metrics


def to_records(outcome: Outcome, samples: Sequence[Sample], categories: Sequence[str]) -> list[Record]:
    """One Record per image, in the order of `samples`."""

    def numbers(row: Tensor) -> tuple[float, ...]:
        return tuple(float(value) for value in row)

    records = [
        Record(
            index=int(outcome.index[i]),
            name=samples[int(outcome.index[i])].name,
            category=categories[int(outcome.true[i])],
            predicted=categories[int(outcome.predicted[i])],
            confidence=float(outcome.confidence[i]),
            pose=numbers(outcome.pose[i]),  # type: ignore[arg-type]
            principal_point=numbers(outcome.principal_point[i]),  # type: ignore[arg-type]
            true_pose=numbers(outcome.true_pose[i]),  # type: ignore[arg-type]
            error_true_category=float(outcome.plain.true_category[i]),
            error_predicted_category=float(outcome.plain.predicted_category[i]),
            symmetric_error_true_category=float(outcome.symmetric.true_category[i]),
            symmetric_error_predicted_category=float(outcome.symmetric.predicted_category[i]),
        )
        for i in range(len(outcome.true))
    ]
    return sorted(records, key=lambda record: record.index)
