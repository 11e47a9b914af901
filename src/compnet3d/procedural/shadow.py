"""What an object keeps the light from: itself, and the ground under it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from compnet3d.geometry.mesh import Mesh
from compnet3d.procedural.parts import cross
from compnet3d.rendering.materials import Floats
from compnet3d.rendering.raster import Raster, rasterize

# thirty times an object's diagonal: rays to it are nearly parallel, so that one perspective rasteriser serves all
_LIGHT_DISTANCE = 30.0


class ShadowMap:
    """Depth of a mesh of unit diagonal as seen from a far light.

    Args:
        mesh: what throws the shadow.
        direction: unit vector [3] towards the light.
        cells: on a side of the map.
    """

    def __init__(self, mesh: Mesh, direction: npt.ArrayLike, cells: int = 80) -> None:
        self.size = cells
        raster, self.axes = orthographic(mesh, direction, cells, 0.62)
        self.height = (_LIGHT_DISTANCE - raster.depth[0].numpy()).astype(np.float32)
        # for the ground, whose shadow has soft borders; `height` is infinite where nothing is hit
        self.cover = box_blur(np.isfinite(self.height).astype(np.float32), 1)

    def cells(
        self, points: Floats
    ) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Height towards the light [N], row, column, and whether the point lies inside the map."""
        local = points @ self.axes.T.astype(np.float32)
        # the projection of `orthographic`, 1.24 = 2 * 0.62 being the width that the map covers
        scale = _LIGHT_DISTANCE / (_LIGHT_DISTANCE - local[:, 2]) * (self.size / 1.24)
        column = np.floor(self.size / 2 + local[:, 0] * scale).astype(np.int64)
        row = np.floor(self.size / 2 - local[:, 1] * scale).astype(np.int64)
        inside = (column >= 0) & (column < self.size) & (row >= 0) & (row < self.size)
        return local[:, 2], row.clip(0, self.size - 1), column.clip(0, self.size - 1), inside

    def lit(self, points: Floats, spread: int = 1) -> Floats:
        """1 in the light, 0 in the shadow, soft at borders over `spread` cells to either side [N]."""
        height, row, column, _ = self.cells(points)
        result = np.zeros(len(points), dtype=np.float32)
        # five neighbouring cells give soft borders; 0.035 is more than the width of two cells, without which surfaces
        # would shade themselves
        for dr, dc in ((0, 0), (0, spread), (spread, 0), (0, -spread), (-spread, 0)):
            seen = self.height[(row + dr).clip(0, self.size - 1), (column + dc).clip(0, self.size - 1)]
            result += seen < height + 0.035
        return result * np.float32(0.2)

    def reached(self, points: Floats) -> npt.NDArray[np.bool_]:
        """Whether the light reaches points [N], without soft borders."""
        height, row, column, _ = self.cells(points)
        # as in `lit`, in cells of this map
        return self.height[row, column] < height + np.float32(2.8 / self.size)

    def ground(self, points: Floats) -> Floats:
        """How much of the light the object takes away at ground points [N]."""
        _, row, column, inside = self.cells(points)
        taken: Floats = np.where(inside, self.cover[row, column], 0.0).astype(np.float32)
        return taken


def footprint(mesh: Mesh) -> Floats:
    """How much stands above the ground over [-0.75, 0.75]^2, float32 [G, G] in [0, 1], rows along y."""
    raster, _ = orthographic(mesh, (0.0, 0.0, -1.0), 36, 0.75)
    # seen from below, depth grows with height: what is left is the height over the lowest point
    height = (_LIGHT_DISTANCE - raster.depth[0].numpy()) * -1 - float(mesh.vertices[:, 2].min())
    near = np.where(np.isfinite(height), np.exp(-np.maximum(height, 0) / 0.06), 0.0)
    # seen from below, columns run along -x and rows along -y
    return box_blur(near[::-1, ::-1].astype(np.float32), 2)


def ground_shade(footprint: Floats, points: Floats, shadow: ShadowMap) -> Floats:
    """What is left of the light at ground points [N, 3], a factor [N], under an object with this footprint."""
    count = len(footprint)
    column = ((points[:, 0] + 0.75) / 1.5 * count).astype(np.int64)
    row = ((points[:, 1] + 0.75) / 1.5 * count).astype(np.int64)
    inside = (column >= 0) & (column < count) & (row >= 0) & (row < count)
    contact = np.where(inside, footprint[row.clip(0, count - 1), column.clip(0, count - 1)], 0.0)
    shade = (1 - 0.5 * shadow.ground(points)) * (1 - 0.45 * contact)
    return shade.astype(np.float32)


def orthographic(
    mesh: Mesh, direction: npt.ArrayLike, cells: int, half: float
) -> tuple[Raster, npt.NDArray[np.float64]]:
    """The mesh as seen from far away in a direction, over [-half, half]^2, and the axes [3, 3] (right, up, towards)."""
    towards = np.asarray(direction, dtype=np.float64)
    towards = towards / np.linalg.norm(towards)
    # any axis across the direction will do, but it must not be near it
    right = cross(np.array([0.0, 1.0, 0.0] if abs(towards[2]) > 0.9 else [0.0, 0.0, 1.0]), towards)
    right /= np.linalg.norm(right)
    axes = np.stack([right, cross(towards, right), towards])
    points = mesh.vertices.double() @ torch.from_numpy(axes).T
    points[:, 2] -= _LIGHT_DISTANCE
    focal = torch.tensor([cells / (2 * half) * _LIGHT_DISTANCE], dtype=torch.float64)
    principal_point = torch.full((1, 2), cells / 2, dtype=torch.float64)
    raster = rasterize(
        points[None], mesh.faces, focal=focal, principal_point=principal_point, height=cells, width=cells
    )
    return raster, axes


def box_blur(image: Floats, radius: int) -> Floats:
    """Mean over (2 radius + 1)^2 cells, zero outside; twice, so nearly a Gaussian."""
    if radius < 1:
        return image
    for _ in range(2):
        for axis in (0, 1):
            # a running sum: the cost does not depend on the radius
            padding = [(radius + 1, radius) if k == axis else (0, 0) for k in (0, 1)]
            total = np.cumsum(np.pad(image, padding), axis=axis, dtype=np.float32)
            width = 2 * radius + 1
            upper = total[width:] if axis == 0 else total[:, width:]
            lower = total[:-width] if axis == 0 else total[:, :-width]
            image = (upper - lower) * np.float32(1 / width)
    return image
