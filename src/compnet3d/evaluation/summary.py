"""From the rows of an evaluation to its metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from compnet3d.evaluation.metrics import (
    accuracy,
    confusion_matrix,
    is_flipped,
    summarise_flips,
    summarise_joint,
    summarise_pose,
)
from compnet3d.evaluation.occlusion_map import OcclusionMap
from compnet3d.evaluation.reliability import Reliability, summarise_reliability
from compnet3d.evaluation.result import (
    CategoryMetrics,
    Confusion,
    EvaluationResult,
    Flips,
    HiddenShares,
    PoseForm,
    PoseSummary,
    Record,
    Resources,
    Settings,
)
from compnet3d.geometry.rotations import CONTINUOUS, half_turn_shows

if TYPE_CHECKING:
    from compnet3d.data.sample import Sample


HIDDEN = ("hidden_object", "hidden_background")


@dataclass(frozen=True)
class Errors:
    """Rotation errors [N] in radians for the pose of the true category and of the predicted one."""

    true_category: Tensor
    predicted_category: Tensor
    unseen: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> Errors:
        unseen = None if self.unseen is None else self.unseen[rows]
        return Errors(self.true_category[rows], self.predicted_category[rows], unseen)


@dataclass
class Outcome:
    """Everything measured on N images, one row each: what the metrics are computed from.

    `half_turn` are the symmetric errors against the true rotation after half a turn about z.
    """

    index: Tensor
    true: Tensor
    predicted: Tensor
    confidence: Tensor
    plain: Errors
    symmetric: Errors
    half_turn: Errors
    unseen_category: Tensor | None = None
    hidden: Tensor | None = None
    occlusion_ious: Tensor | None = None
    pose: Tensor = field(default_factory=lambda: torch.zeros(0, 4))
    principal_point: Tensor = field(default_factory=lambda: torch.zeros(0, 2))
    true_pose: Tensor = field(default_factory=lambda: torch.zeros(0, 4))
    pose_confidence: Tensor | None = None
    unknown: Tensor | None = None


def summarise(
    outcome: Outcome,
    categories: Sequence[str],
    orders: Tensor,
    samples: Sequence[Sample],
    resources: Resources,
    settings: Settings,
) -> EvaluationResult:
    """All metrics that follow from the rows, of which there must be at least one, and a record of each row."""
    # categories without an image have no metrics; a 0 would look like a failure
    present = outcome.true.unique().tolist()
    per_category = {}
    for y in present:
        rows = outcome.true == y
        per_category[categories[y]] = CategoryMetrics(
            images=int(rows.sum()),
            accuracy=float(accuracy(outcome.predicted[rows], outcome.true[rows]) or 0.0),
            pose=_pose_summary(outcome, rows, orders),
        )
    matrix = confusion_matrix(outcome.predicted, outcome.true, len(categories)).tolist()
    return EvaluationResult(
        images=len(outcome.true),
        accuracy=float(accuracy(outcome.predicted, outcome.true) or 0.0),
        pose=_pose_summary(outcome, torch.ones_like(outcome.true, dtype=torch.bool), orders),
        excluded_categories=tuple(categories[y] for y in present if int(orders[y]) == CONTINUOUS),
        per_category=per_category,
        occlusion=None if outcome.hidden is None else HiddenShares(*outcome.hidden.mean(dim=0).tolist()),
        occlusion_map=None if outcome.occlusion_ious is None else OcclusionMap.of(outcome.occlusion_ious),
        confusion=Confusion(tuple(categories), tuple(tuple(row) for row in matrix)),
        resources=resources,
        settings=settings,
        confidence=summarise_reliability(outcome.confidence, outcome.predicted == outcome.true),
        pose_confidence=_pose_reliability(outcome),
        called_unknown=None if outcome.unknown is None else float(outcome.unknown.double().mean()),
        records=to_records(outcome, samples, categories, half_turn_shows(orders)),
    )


def _pose_reliability(outcome: Outcome) -> Reliability | None:
    if outcome.pose_confidence is None:
        return None
    return summarise_reliability(outcome.pose_confidence, outcome.symmetric.predicted_category < math.pi / 6)


def _pose_summary(outcome: Outcome, rows: Tensor, orders: Tensor) -> PoseSummary:
    """The three forms of the pose metrics over some of the rows, bool [N]."""
    # an object that turns about its axis without changing has an arbitrary azimuth, and the plain error says nothing
    defined = rows & (orders[outcome.true] != CONTINUOUS)
    correct = outcome.predicted == outcome.true
    unseen = outcome.unseen_category
    return PoseSummary(
        plain=_pose_form(outcome.plain[defined], correct[defined]),
        symmetry_aware=_pose_form(outcome.symmetric[rows], correct[rows]),
        all_images=_pose_form(outcome.plain[rows], correct[rows]),
        unseen_accuracy=None if unseen is None else accuracy(unseen[defined], outcome.true[defined]),
        flips=_flips(outcome, rows & half_turn_shows(orders[outcome.true])),
    )


def _flips(outcome: Outcome, rows: Tensor) -> Flips:
    half_turn, error = outcome.half_turn[rows], outcome.symmetric[rows]
    return Flips(
        images=int(rows.sum()),
        true_category=summarise_flips(half_turn.true_category, error.true_category),
        predicted_category=summarise_flips(half_turn.predicted_category, error.predicted_category),
    )


def _pose_form(errors: Errors, correct: Tensor) -> PoseForm:
    return PoseForm(
        images=len(correct),
        true_category=summarise_pose(errors.true_category),
        predicted_category=summarise_pose(errors.predicted_category),
        joint=summarise_joint(errors.predicted_category, correct),
        unseen=None if errors.unseen is None else summarise_pose(errors.unseen),
    )


def to_records(
    outcome: Outcome, samples: Sequence[Sample], categories: Sequence[str], can_flip: Tensor
) -> tuple[Record, ...]:
    """One Record per image, in the order of `samples`; `can_flip`, bool [Y]: see `half_turn_shows`."""
    flipped = is_flipped(outcome.half_turn.true_category, outcome.symmetric.true_category)

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
            flipped=bool(flipped[i]) if can_flip[outcome.true[i]] else None,
            pose_confidence=None if outcome.pose_confidence is None else float(outcome.pose_confidence[i]),
            unknown=None if outcome.unknown is None else bool(outcome.unknown[i]),
        )
        for i in range(len(outcome.true))
    ]
    return tuple(sorted(records, key=lambda record: record.index))
