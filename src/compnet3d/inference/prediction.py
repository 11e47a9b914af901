"""What a model answers, and the one protocol that models, baselines and benchmarks meet at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from compnet3d.data.images import as_rgb, load_image
from compnet3d.data.transforms import Crop, InputSpec, crop_box
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Pose

ImageLike = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True)
class Prediction:
    """The answers for a batch of views.

    Attributes:
        categories: all category names, Y of them.
        category_index: the category whose pose is given: the best score's, unless it was prescribed, int64 [B].
        scores: the largest names the object, [B, Y]: S_y of Eq. 7, or what the model makes of it (see
            `CompNetConfig.reconstruction_share`); log-probabilities of a dual head.
        confidence: calibrated probability that the best-scoring category is right, [B].
        pose: of the camera whose focal length and principal point follow, [B].
        focal: focal length in pixels, [B].
        principal: where the object's origin is seen, pixels (u, v), [B, 2]. `predict_views` answers in pixels of the
            view, `CompNet.predict` in pixels of the image that it was given.
        reconstruction_score: - L(alpha) of Eq. 8 as an average over cells, [B]; higher is better. None for a predictor
            that reconstructs nothing.
        foreground: cells that the object explains better than the background, bool [B, H, W]; None like the former.
    """

    categories: tuple[str, ...]
    category_index: Tensor
    scores: Tensor
    confidence: Tensor
    pose: Pose
    focal: Tensor
    principal: Tensor
    reconstruction_score: Tensor | None = None
    foreground: Tensor | None = None

    def __len__(self) -> int:
        return len(self.category_index)

    @classmethod
    def cat(cls, parts: Sequence[Prediction]) -> Prediction:
        """Join the answers of several batches of one model."""
        tensors = {
            f.name: torch.cat([getattr(p, f.name) for p in parts])
            for f in fields(cls)
            if f.name not in ("categories", "pose") and getattr(parts[0], f.name) is not None
        }
        return cls(categories=parts[0].categories, pose=Pose.cat([p.pose for p in parts]), **tensors)

    def category(self, index: int) -> str:
        """Name of the category of answer `index`."""
        return self.categories[int(self.category_index[index])]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One plain dictionary per view, for JSON: angles in radians."""
        angles, quality = self.pose.wrapped(), self.reconstruction_score
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
                "reconstruction_score": None if quality is None else float(quality[i]),
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


def predict_images(
    predictor: Predictor,
    images: ImageLike | Sequence[ImageLike],
    *,
    boxes: Sequence[Sequence[float]] | None = None,
    batch_size: int = 32,
    unknown: bool = False,
) -> Prediction:
    """Name the object in each image and estimate its pose.

    Args:
        predictor: the model or baseline.
        images: one image or several: paths, PIL images or numpy arrays (any mode `as_rgb` takes).
        boxes: the object's bounding box (x1, y1, x2, y2) in each image, in pixels; without them each image is
            taken to be a crop of one object and is fitted into the network's input as a whole.
        batch_size: images computed at a time.
        unknown: pose of the category with the lowest reconstruction loss instead of the best-scoring one.

    Returns:
        One answer per image, its pose, focal length and principal point in pixels of that image.

    Raises:
        CompNetError: if an image cannot be read or a box is empty; the message names it.
    """
    if isinstance(images, str | Path) or not isinstance(images, Sequence):
        images = [images]
    pictures = [load_image(x) if isinstance(x, str | Path) else as_rgb(x) for x in images]
    if boxes is not None and len(boxes) != len(pictures):
        raise CompNetError(f"{len(boxes)} boxes were given for {len(pictures)} images; give one box for each image")
    if not pictures:
        raise CompNetError("there is no image to predict; give at least one")
    crops = [crop_box(p, None if boxes is None else boxes[i], predictor.spec) for i, p in enumerate(pictures)]
    views = torch.stack([torch.from_numpy(crop.image.copy()).permute(2, 0, 1) for crop in crops])
    whole = Prediction.cat(
        [predictor.predict_views(part, unknown=unknown, crop="box") for part in views.split(batch_size)]
    )
    device = whole.principal.device
    scale = torch.tensor([crop.scale for crop in crops], device=device)
    matrix = torch.tensor(np.stack([crop.matrix for crop in crops]), dtype=torch.float32, device=device)
    principal = (matrix[:, :, :2] @ whole.principal[..., None])[..., 0] + matrix[:, :, 2]
    return replace(whole, focal=whole.focal / scale, principal=principal)
