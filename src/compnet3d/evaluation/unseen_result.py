"""What an evaluation of categories that the model was not trained on finds, as types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from compnet3d.evaluation.metrics import PoseMetrics
from compnet3d.evaluation.result import Resources, reading_json
from compnet3d.utils.files import Json
from compnet3d.utils.settings import known, read


@dataclass(frozen=True)
class UnseenPose:
    """Pose metrics of unseen categories: plain where the pose is defined, symmetry-aware over all images."""

    plain: PoseMetrics
    symmetry_aware: PoseMetrics

    def to_dict(self) -> Json:
        """For JSON: the plain metrics, and in them the symmetry-aware ones."""
        return {**asdict(self.plain), "symmetry_aware": asdict(self.symmetry_aware)}

    @classmethod
    def from_dict(cls, values: Json) -> UnseenPose:
        """From `to_dict`."""
        return cls(PoseMetrics.from_dict(values), PoseMetrics.from_dict(values["symmetry_aware"]))


@dataclass(frozen=True)
class UnseenCategory:
    """Metrics of one unseen category.

    Attributes:
        images: number of images.
        pose: pose metrics.
        source_categories: of each seen category, the share of the images for which its features gave the pose, the
            largest first.
    """

    images: int
    pose: UnseenPose
    source_categories: Mapping[str, float]

    def to_dict(self) -> Json:
        """For JSON."""
        return {
            "images": self.images,
            "pose": self.pose.to_dict(),
            "source_categories": dict(self.source_categories),
        }

    @classmethod
    def from_dict(cls, values: Json) -> UnseenCategory:
        """From `to_dict`."""
        return read(cls, {**known(cls, values), "pose": UnseenPose.from_dict(values["pose"])})


@dataclass(frozen=True)
class UnseenResult:
    """What an evaluation of categories that the model was not trained on finds.

    Attributes:
        images: number of images.
        pose: pose metrics over all images.
        average, average_symmetry_aware: means of the pose accuracy at pi/6 over the categories, as in table 3; None
            where no category's pose is defined.
        per_category: metrics of each category.
        resources: time and memory.
    """

    images: int
    pose: UnseenPose
    average: float | None
    average_symmetry_aware: float
    per_category: Mapping[str, UnseenCategory]
    resources: Resources

    def to_dict(self) -> Json:
        """For JSON."""
        return {
            "images": self.images,
            "pose": self.pose.to_dict(),
            "average": self.average,
            "average_symmetry_aware": self.average_symmetry_aware,
            "per_category": {name: metrics.to_dict() for name, metrics in self.per_category.items()},
            **asdict(self.resources),
        }

    @classmethod
    def from_dict(cls, values: Any, source: str = "the evaluation") -> UnseenResult:
        """From `to_dict`; see `EvaluationResult.from_dict`."""
        with reading_json(source):
            found = {
                **known(cls, values),
                "pose": UnseenPose.from_dict(values["pose"]),
                "per_category": {k: UnseenCategory.from_dict(v) for k, v in values["per_category"].items()},
                "resources": Resources.from_dict(values),
            }
            return read(cls, found)
