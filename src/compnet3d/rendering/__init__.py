"""Drawing shapes into feature maps: `render(shape, pose, camera, stride)` for the exact cuboid, any mesh, a volume."""

from compnet3d.rendering.fragments import Fragments
from compnet3d.rendering.gaussian import GaussianShape
from compnet3d.rendering.raster import Raster, rasterize
from compnet3d.rendering.raycast import CuboidShape
from compnet3d.rendering.shape import Shape, render
from compnet3d.rendering.spread import spread_vertices
from compnet3d.rendering.surface import MeshShape, Surface

__all__ = [
    "CuboidShape",
    "Fragments",
    "GaussianShape",
    "MeshShape",
    "Raster",
    "Shape",
    "Surface",
    "rasterize",
    "render",
    "spread_vertices",
]
