"""What a model answers, and the one protocol that models, baselines and benchmarks meet at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from compnet3d.data.transforms import Crop, InputSpec
from compnet3d.geometry.camera import Pose


@dataclass(frozen=True)
class Prediction:
    """The answers for a batch of views.

    Attributes:
        categories: all category names, Y of them.
        category_index: the category whose pose is given: the best score's, unless it was prescribed, int64 [B].
        scores: S_y of Eq. 7, [B, Y].
        confidence: calibrated probability that the best-scoring category is right, [B].
        pose: of the camera whose focal length and principal point follow, [B].
        focal: focal length in pixels, [B].
        principal: where the object's origin is seen, pixels (u, v), [B, 2]. `predict_views` answers in pixels of the
            view, `CompNet.predict` in pixels of the image that it was given.
        reconstruction_score: - L(alpha) of Eq. 8 as an average over cells, [B]; higher is better.
        foreground: cells that the object explains better than the background, bool [B, H, W].
    """

    categories: tuple[str, ...]
    category_index: Tensor
    scores: Tensor
    confidence: Tensor
    pose: Pose
    focal: Tensor
    principal: Tensor
    reconstruction_score: Tensor
    foreground: Tensor

    def __len__(self) -> int:
        return len(self.category_index)

    @classmethod
    def cat(cls, parts: Sequence[Prediction]) -> Prediction:
        """Join the answers of several batches of one model."""
        tensors = {
            f.name: torch.cat([getattr(p, f.name) for p in parts])
            for f in fields(cls)
            if f.name not in ("categories", "pose")
        }
        return cls(categories=parts[0].categories, pose=Pose.cat([p.pose for p in parts]), **tensors)

    def category(self, index: int) -> str:
        """Name of the category of answer `index`."""
        return self.categories[int(self.category_index[index])]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One plain dictionary per view, for JSON: angles in radians."""
        angles = self.pose.wrapped()
        return [
            {
                "category": self.category(i),
                "confidence": float(self.confidence[i]),
                "azimuth": float(angles.azimuth[i]),
                "elevation": float(angles.elevation[i]),
                "theta": float(angles.theta[i]),
                "distance": float(angles.distance[i]),
                "focal": float(self.focal[i]),
                "principal": [float(x) for x in self.principal[i]],
                "reconstruction_score": float(self.reconstruction_score[i]),
                "scores": {name: float(s) for name, s in zip(self.categories, self.scores[i], strict=True)},
            }
            for i in range(len(self))
        ]


class Predictor(Protocol):
    """Anything that names the object and its pose in a batch of views."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Category names, in the order of the scores."""
        ...

    @property
    def spec(self) -> InputSpec:
        """The network's input."""
        ...

    def predict_views(
        self, images: Tensor, *, category: Tensor | None = None, unknown: bool = False, crop: Crop = "oracle"
    ) -> Prediction:
        """Answer for views [B, 3, height, width], uint8 or float in 0 .. 1.

        Args:
            images: the views.
            category: int64 [B]; if given, the pose is that of this category (scores stay the classification's).
            unknown: take the pose of the category with the lowest reconstruction loss over all.
            crop: how the views were cut, which tells what is known of distance and principal point.
        """
        ...
