"""What an image shows of its object and of what is around it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, max_pool2d, normalize

from compnet3d.geometry.camera import Camera, Pose
from compnet3d.inference.matching import cells_of
from compnet3d.rendering.shape import Shape
from compnet3d.utils.checks import check_shape


@dataclass(frozen=True)
class Observation:
    """The features that an image shows of its object's vertices (f_k with o_k), padded over the batch.

    Attributes:
        features: unit vectors [B, Q, D].
        vertex: k within the category, int64 [B, Q].
        valid: False where padded, [B, Q].
    """

    features: Tensor
    vertex: Tensor
    valid: Tensor


def observe(
    feature_map: Tensor, shape: Shape, pose: Pose, camera: Camera, occluded: Tensor | None = None
) -> Observation:
    """Read the features at the projections of the visible vertices (bilinear, so neighbours differ).

    Args:
        feature_map: [B, D, H, W]; shape: the object in each image, [B]; pose: [B]; camera: [B].
        occluded: bool [B, height, width], pixels where something else hides the object.

    Raises:
        ValueError: if a shape does not fit.
    """
    check_shape("feature_map", feature_map, (*pose.shape, "D", "H", "W"))
    pixels, depth = camera.project(shape.vertices, pose)
    size = pixels.new_tensor([camera.width, camera.height])
    visible = shape.visible(pose)
    # the shape knows nothing of the image's borders, nor of a vertex behind the camera, whose pixel means nothing
    visible &= ((pixels >= 0) & (pixels < size)).all(dim=-1) & (depth > 0)
    if occluded is not None:
        check_shape("occluded", occluded, (len(feature_map), camera.height, camera.width))
        # vertices outside are invisible already; clamped, they index some pixel
        u, v = (pixels.clamp_min(0).minimum(size - 1)).long().unbind(-1)
        visible &= ~occluded[torch.arange(len(u), device=u.device)[:, None], v, u]
    # padded to the most that any image shows, not to K: about half of an object is visible
    count = max(1, int(visible.sum(dim=1).max())) if len(visible) else 1
    # visible ones first; stable, so that they stay in the vertices' order
    valid, vertex = visible.to(torch.uint8).sort(dim=1, descending=True, stable=True)
    valid, vertex = valid[:, :count].bool(), vertex[:, :count]
    at = pixels.gather(1, vertex[..., None].expand(-1, -1, 2))
    # grid_sample without align_corners has -1 and 1 at the outer borders of the image, as our pixels have 0 and the
    # size
    sampled = grid_sample(
        feature_map, (2 * at / size - 1)[:, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    # a mean of unit vectors is shorter than one
    return Observation(normalize(sampled[:, :, 0].transpose(1, 2), dim=-1), vertex, valid)


@torch.no_grad()
def sample_background(
    feature_map: Tensor, covered: Tensor, count: int, draw: Tensor, occluded: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Features of up to `count` cells per image that the projected object does not touch.

    Args:
        feature_map: [B, D, H, W]; covered: cells that show the object, bool [B, H, W]. Their neighbours are left out.
        count: T; draw: uniform random numbers in [0, 1), one for each cell, [B, H W].
        occluded: see `observe`; cells that are mostly hidden by something else count as background, too.

    Returns:
        Features [B, T, D], T being at most `count`, and which of them are of such cells, bool [B, T].
    """
    check_shape("covered", covered, (len(feature_map), *feature_map.shape[2:]))
    # vertices near the border are read bilinearly, so the cells beside the object are touched, too
    touched = max_pool2d(covered[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
    if occluded is not None:
        stride = occluded.shape[1] // feature_map.shape[2]
        touched &= avg_pool2d(occluded[:, None].float(), stride)[:, 0] < 0.9
    free = ~touched.flatten(1)
    # -1 where a cell is not free: the largest are a random choice, and an image with too few free cells gives fewer
    check_shape("draw", draw, tuple(free.shape))
    value, cell = draw.masked_fill(~free, -1.0).topk(min(count, free.shape[1]), dim=1)
    features = cells_of(feature_map)
    return features.gather(1, cell[..., None].expand(-1, -1, features.shape[2])), value >= 0
