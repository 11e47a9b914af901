"""A soft silhouette for any mesh, which gradients can move.

Where the outline runs is read off a raster of three by three samples per cell. How it moves with the pose follows from
the place of the surface next to it: the outline moves outwards as far as that place does in the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.mesh import Mesh
from compnet3d.rendering.raster import Raster


@dataclass(frozen=True)
class SoftEdge:
    """A soft silhouette, and the place of the surface next to it.

    Attributes:
        foreground: [N, H, W] in [0, 1], differentiable in the pose and the camera.
        face_index: the face at the nearest covered sample, int64 [N, H, W], -1 where none is near.
        barycentric: where on it, [N, H, W, 3].
    """

    foreground: Tensor
    face_index: Tensor
    barycentric: Tensor


def soft_foreground(
    fine: Raster, mesh: Mesh, pose: Pose, camera: Camera, stride: float, softness: float, reach: int = 6
) -> SoftEdge:
    """Soften the silhouette of a raster with 3 x 3 samples in each cell.

    Args:
        fine: samples [N, 3 H, 3 W] of the mesh at the poses [N] and the camera [N].
        stride: pixels per cell; softness: of the edge, in cells.
        reach: how far from a cell's centre the outline is looked for, in samples.
    """
    batch, rows, columns = fine.face_index.shape
    height, width = rows // 3, columns // 3
    covered = fine.face_index >= 0
    offsets = _nearest_first(reach, covered.device)
    padded = torch.nn.functional.pad(covered[:, None].float(), (reach,) * 4, mode="replicate")[:, 0] > 0
    # the middle one of a cell's three samples, which is at the cell's centre
    row = torch.arange(height, device=covered.device)[:, None] * 3 + 1
    column = torch.arange(width, device=covered.device) * 3 + 1
    # [N, H, W, M]: every cell's surroundings, nearest first
    near = padded[:, row[..., None] + reach + offsets[:, 0], column[..., None] + reach + offsets[:, 1]]
    own = covered[:, 1::3, 1::3]
    opposite = near != own[..., None]
    # argmax gives the first of equal maxima, here the nearest sample of the other kind
    found, place = opposite.any(dim=-1), opposite.to(torch.uint8).argmax(dim=-1)
    step = offsets[place]
    length = torch.linalg.vector_norm(step.float(), dim=-1).clamp_min(1.0)
    # the last covered sample on the way to the outline
    inward = torch.where(own[..., None], (step * (1 - 1 / length)[..., None]).round().long(), step)
    anchor_row = (row + inward[..., 0]).clamp(0, rows - 1)
    anchor_column = (column + inward[..., 1]).clamp(0, columns - 1)
    image = torch.arange(batch, device=covered.device)[:, None, None]
    face = fine.face_index[image, anchor_row, anchor_column]
    barycentric = fine.barycentric[image, anchor_row, anchor_column]
    # distances are positive inside. The step leads outwards from a covered cell and inwards from any other, so the sign
    # makes it point outwards; rows and columns are flipped to (u, v)
    sign = torch.where(own, 1.0, -1.0)
    # half way between the two samples; where the outline is out of reach, just beyond it
    gap = torch.where(found, length - 0.5, float(reach))
    outward = sign[..., None] * step.flip(-1) / length[..., None]
    moved = _moved(face, barycentric, mesh, pose, camera)
    # the value is that of the raster, which has no gradient; `_moved` is 0 and has the gradient: as the surface moves
    # outwards, so does the outline
    distance = sign * gap * (stride / 3) + (moved * outward).sum(-1) * (found & (face >= 0))
    foreground = torch.sigmoid(distance / (softness * stride))
    # no surface is near, so there is nothing that the cell could show: exactly 0, and not a sigmoid's tail
    nothing = ~own & (~found | (face < 0))
    return SoftEdge(foreground.masked_fill(nothing, 0.0), face.masked_fill(nothing, -1), barycentric)


def _moved(face: Tensor, barycentric: Tensor, mesh: Mesh, pose: Pose, camera: Camera) -> Tensor:
    """Zeros [N, H, W, 2] with the gradient of the pixels (u, v) of places on the mesh."""
    corners = mesh.vertices.to(barycentric)[mesh.faces[face.clamp_min(0)]]
    # a place that stays fixed on the object, so that the gradient is of its motion in the image alone
    points = (barycentric.detach()[..., None] * corners).sum(dim=-2).flatten(1, 2)
    pixels, _ = camera.project(points, pose)
    return (pixels - pixels.detach()).reshape(*face.shape, 2)


def _nearest_first(reach: int, device: torch.device) -> Tensor:
    """Steps (rows, columns) of at most `reach` samples, the shortest first, int64 [M, 2]."""
    line = torch.arange(-reach, reach + 1, device=device)
    steps = torch.cartesian_prod(line, line)
    length = steps.square().sum(dim=1)
    steps, length = steps[length <= reach * reach], length[length <= reach * reach]
    return steps[length.argsort(stable=True)]
