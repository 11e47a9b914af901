"""Where the objects are: boxes that were given, a detector's, or the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

Box = Sequence[float]  # x1, y1, x2, y2 in pixels


@dataclass(frozen=True)
class Detections:
    """Objects in one image, the surest first.

    Attributes:
        boxes: x1, y1, x2, y2 in pixels, float [N, 4].
        scores: [N], larger is surer; each detector has a scale of its own.
        labels: what the detector takes them for; empty where it says nothing.
    """

    boxes: Tensor
    scores: Tensor
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.boxes)

    def first(self, count: int) -> Detections:
        """The surest ones."""
        return Detections(self.boxes[:count], self.scores[:count], self.labels[:count])


class Detector(Protocol):
    """Anything that finds objects in an image."""

    def detect(self, image: Image.Image, count: int) -> Detections:
        """At most so many objects in an image in RGB."""
        ...


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes [N, 4] and [M, 4], [N, M]; 0 where both are empty."""
    corner = torch.maximum(first[:, None, :2], second[None, :, :2])
    opposite = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (opposite - corner).clamp_min(0).prod(dim=-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(dim=-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return torch.where(union > 0, shared / union.clamp_min(torch.finfo(union.dtype).tiny), 0.0)


def suppress(boxes: Tensor, scores: Tensor, overlap: float, count: int) -> Tensor:
    """Greedy non-maximum suppression: the numbers of the boxes that stay, the best score first, int64 [at most count].

    Args:
        boxes: [N, 4]; scores: [N].
        overlap: a box goes that shares more than this (IoU) with a better one.
        count: how many stay at most.
    """
    order = scores.argsort(descending=True, stable=True)
    kept: list[int] = []
    while len(order) and len(kept) < count:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        order = rest[box_iou(boxes[best][None], boxes[rest])[0] <= overlap]
    return torch.tensor(kept, dtype=torch.int64)


def beyond_image(box: Box, size: tuple[int, int]) -> float:
    """Which share of a box lies outside an image of this (width, height), 0 to 1."""
    whole = torch.tensor([list(map(float, box))], dtype=torch.float64)
    inside = torch.stack([whole[0, :2].clamp_min(0), torch.minimum(whole[0, 2:], whole.new_tensor(size))]).reshape(1, 4)
    area = (whole[0, 2:] - whole[0, :2]).prod()
    return float(1 - (inside[0, 2:] - inside[0, :2]).clamp_min(0).prod() / area)
