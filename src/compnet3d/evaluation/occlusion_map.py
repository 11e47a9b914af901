"""How well a model tells which part of the object is hidden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from compnet3d.utils.checks import check_shape
from compnet3d.utils.files import Json
from compnet3d.utils.settings import known, read


@dataclass(frozen=True)
class OcclusionMap:
    """The cells that a model takes for occluded against those that are, within the object's true silhouette.

    Attributes:
        images: those in which a part of the object is hidden.
        mean_iou: mean over them of the intersection over union of both sets of cells, in [0, 1].
        mean_iou_of_all: the same for an answer that takes every cell of the object for occluded.
    """

    images: int
    mean_iou: float
    mean_iou_of_all: float

    @classmethod
    def from_dict(cls, values: Json) -> OcclusionMap:
        """From the dictionary of `dataclasses.asdict`."""
        return read(cls, known(cls, values))

    @classmethod
    def of(cls, rows: Tensor) -> OcclusionMap | None:
        """From the rows of `occlusion_ious`, [N, 2]; None if nothing is hidden in any image."""
        found = rows[~rows.isnan().any(dim=1)]
        return cls(len(found), *found.mean(dim=0).tolist()) if len(found) else None


def occlusion_ious(occluded: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Intersection over union of the occluded cells of each image, and that of taking the whole object for occluded.

    A cell is the object's if its mask covers at least half of it, and hidden if occluders cover at least half of the
    object there. What the model says of other cells does not count.

    Args:
        occluded: see `Prediction.occluded`, bool [B, H, W].
        batch: has `object_mask` and `occluder_mask`, bool [B, height, width], of a multiple of H and W.

    Returns:
        float64 [B, 2]; not a number where no cell is hidden.
    """
    own, hiding = batch["object_mask"].cpu(), batch["occluder_mask"].cpu()
    occluded = occluded.cpu()
    check_shape("object_mask", own, (len(occluded), "height", "width"))
    check_shape("occluder_mask", hiding, own.shape)
    cell = (own.shape[1] // occluded.shape[1], own.shape[2] // occluded.shape[2])
    share, hidden_share = (avg_pool2d(mask[:, None].double(), cell)[:, 0] for mask in (own, own & hiding))
    silhouette = share >= 0.5
    hidden = silhouette & (hidden_share >= 0.5 * share)
    said = silhouette & occluded
    counts = [x.sum(dim=(1, 2)).double() for x in (hidden & said, hidden | said, hidden, silhouette)]
    ious = torch.stack([counts[0] / counts[1], counts[2] / counts[3]], dim=1)
    return ious.masked_fill((counts[2] == 0)[:, None], torch.nan)
