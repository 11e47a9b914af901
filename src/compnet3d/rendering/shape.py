"""What every renderer draws and answers: `render(shape, pose, camera, stride)` gives `Fragments`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from compnet3d.geometry.camera import Camera, Pose
from compnet3d.rendering.fragments import Fragments
from compnet3d.utils.checks import check_broadcast, check_integer


class Shape(Protocol):
    """A surface that carries vertices, or one for each pose of a batch.

    The exact box is a `CuboidShape`, any triangle mesh a `MeshShape`, the paper's volume a `GaussianShape`.
    """

    @property
    def shape(self) -> torch.Size:
        """The batch shape: [] for one surface, else one for each pose."""
        ...

    @property
    def vertices(self) -> Tensor:
        """[..., K, 3] in the object frame."""
        ...

    @property
    def real(self) -> Tensor:
        """False where vertices are padding, bool [..., K]."""
        ...

    @property
    def spacing(self) -> Tensor:
        """How far neighbouring vertices are apart, [...]."""
        ...

    def visible(self, pose: Pose) -> Tensor:
        """Which vertices the shape itself does not hide from the camera, bool [..., K]; the image has no borders."""
        ...

    def draw(self, pose: Pose, camera: Camera, stride: float, softness: float) -> Fragments:
        """What `render` returns, for poses [N] and a camera [N]."""
        ...


class Stack(Protocol):
    """Surfaces of several categories, padded to one number of vertices: [Y, K, 3], bool [Y, K] and [Y]."""

    vertices: Tensor
    real: Tensor
    spacing: Tensor


S = TypeVar("S", bound=Stack)


@dataclass(frozen=True)
class StackedShape(Generic[S]):
    """The part of `Shape` that is looked up: which surface of a stack each rendering shows.

    Attributes:
        stack: the categories' surfaces.
        category: int64, [] for all poses or [N] for each.

    Raises:
        ValueError: if `category` is no whole number or has another shape.
    """

    stack: S
    category: Tensor

    def __post_init__(self) -> None:
        check_integer(category=self.category)
        if __debug__ and self.category.ndim > 1:
            raise ValueError(f"category must have shape [] or [N], got {list(self.category.shape)}")

    @property
    def shape(self) -> torch.Size:
        """The batch shape, [] or [N]."""
        return self.category.shape

    @property
    def vertices(self) -> Tensor:
        """[..., K, 3]."""
        return self.stack.vertices[self.category]

    @property
    def real(self) -> Tensor:
        """bool [..., K]."""
        return self.stack.real[self.category]

    @property
    def spacing(self) -> Tensor:
        """How far neighbouring vertices are apart, [...]."""
        return self.stack.spacing[self.category]


def render(shape: Shape, pose: Pose, camera: Camera, stride: float = 1, *, softness: float = 0.0) -> Fragments:
    """Draw a shape into the cells of a feature map, differentiable in the pose and the camera.

    Args:
        shape: one for all poses or, with the poses' batch shape, one for each.
        pose: [...].
        camera: focal [...] and principal point [..., 2], broadcast to the poses.
        stride: pixels per cell; the map has height // stride by width // stride cells.
        softness: width of the silhouette's soft edge in cells; 0 gives the exact, hard one.

    Returns:
        Fragments [..., H, W], cell (i, j) as seen at the pixel (stride (j + 0.5), stride (i + 0.5)).

    Raises:
        ValueError: if the batch shapes do not go together, or stride or softness is out of range.
    """
    if __debug__:
        _check(shape, pose, camera, stride, softness)
    batch = pose.shape
    focal = camera.focal.to(pose.azimuth).expand(batch)
    principal_point = camera.principal_point.to(pose.azimuth).expand(*batch, 2)
    placed = replace(camera, focal=focal.reshape(-1), principal_point=principal_point.reshape(-1, 2))
    seen = shape.draw(pose if len(batch) == 1 else flatten_pose(pose), placed, stride, softness)
    if len(batch) == 1:
        return seen
    parts = (x.reshape(*batch, *x.shape[1:]) for x in (seen.vertex_index, seen.weight, seen.foreground))
    return Fragments(*parts)


def flatten_pose(pose: Pose) -> Pose:
    """A batch of any shape as poses [N]."""
    return Pose(**{f.name: getattr(pose, f.name).reshape(-1) for f in fields(pose)})


def _check(shape: Shape, pose: Pose, camera: Camera, stride: float, softness: float) -> None:
    if not 0 < stride <= min(camera.height, camera.width):
        raise ValueError(f"stride must be positive and at most the image's sides, got {stride}")
    if not softness >= 0:
        raise ValueError(f"softness must be at least 0, got {softness}")
    # one shape for each pose goes with a flat batch only: which pose it belongs to would be unclear after flattening
    if shape.shape != () and (shape.shape != pose.shape or len(pose.shape) != 1):
        raise ValueError(
            f"shape must be one, or one for each of N poses, got {list(shape.shape)} for poses {list(pose.shape)}"
        )
    views = torch.broadcast_shapes(camera.focal.shape, camera.principal_point.shape[:-1])
    check_broadcast(pose=pose.shape, camera=views)
    if torch.broadcast_shapes(views, pose.shape) != pose.shape:
        raise ValueError(f"camera must broadcast to the poses {list(pose.shape)}, got {list(views)}")
