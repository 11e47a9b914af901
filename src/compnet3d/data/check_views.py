"""CAD models in the annotated cameras of many objects at once, and the boxes that they project to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from compnet3d.data.sample import Sample
from compnet3d.geometry.mesh import Mesh
from compnet3d.geometry.rotations import angles_to_rotmat


class Views:
    """Objects of a category in their annotated cameras, at any rotation.

    Attributes:
        samples: the objects, N of them.
        distance: of the cameras, [N, 1]; size: width and height of the images, [N, 2].
    """

    def __init__(self, samples: Sequence[Sample], points: Mapping[int, np.ndarray]) -> None:
        """Keep what is the same at all rotations.

        Args:
            samples: at least one; points: of each CAD model by its index, as many of each, [P, 3]. An object whose
                index is not among them gets those of another.
        """
        self.samples = samples
        indices = [s.cad_index if s.cad_index in points else min(points) for s in samples]
        one = len(set(indices)) == 1
        # coordinate by coordinate, as all that follows is done
        self._points = points[indices[0]].T if one else np.stack([points[i].T for i in indices])
        self._focal, self.distance = (np.array([[getattr(s, n)] for s in samples]) for n in ("focal", "distance"))
        self._principal_point = np.array([s.principal_point for s in samples], dtype=float).T[..., None]
        self.size = np.array([[s.width, s.height] for s in samples], dtype=float)

    def project(self, rotmat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Columns, rows and depths of the points at rotations [N, 3, 3], each [N, P]; depth is positive in front."""
        x, y, z = np.moveaxis(rotmat @ self._points, 1, 0)
        depth = self.distance - z
        across, down = self._principal_point
        return across + self._focal * x / depth, down - self._focal * y / depth, depth


def projected_boxes(samples: Sequence[Sample], meshes: Mapping[int, Mesh]) -> np.ndarray:
    """The boxes x1, y1, x2, y2 [N, 4] of the projected CAD models; NaN where a part is behind the camera.

    Args:
        samples: of one category, at least one; meshes: as in `Views`.
    """
    # double precision: the pixels of a far object are small differences of large numbers
    names = ("azimuth", "elevation", "theta")
    angles = (torch.tensor([getattr(s, name) for s in samples], dtype=torch.float64) for name in names)
    with np.errstate(all="ignore"):
        u, v, depth = Views(samples, outlines(meshes)).project(angles_to_rotmat(*angles).numpy())
    boxes = np.stack([u.min(axis=1), v.min(axis=1), u.max(axis=1), v.max(axis=1)], axis=1)
    boxes[~(depth > 0).all(axis=1)] = np.nan
    return boxes


def projected_box_ious(samples: Sequence[Sample], meshes: Mapping[int, Mesh]) -> np.ndarray:
    """Intersections over unions [N] of the annotated boxes and those of the projected CAD models.

    Both are cut to the image as well, and the better of the two counts, because annotators differ in whether
    boxes follow an object out of the image. 0 if a part of the model is behind the camera.

    Args:
        samples, meshes: as in `projected_boxes`.
    """
    projected, annotated = projected_boxes(samples, meshes), np.array([s.bbox for s in samples], dtype=float)
    return placed_box_ious(projected, annotated, np.array([(s.width, s.height) for s in samples], dtype=float))


def placed_box_ious(first: np.ndarray, second: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The greater of `box_ious` of boxes [N, 4] and of what of them is inside the images, [N].

    Args:
        size: width and height of the images, [N, 2].
    """
    limits = np.tile(size, 2)
    return np.fmax(box_ious(first, second), box_ious(np.clip(first, 0.0, limits), np.clip(second, 0.0, limits)))


def box_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersections over unions [N] of boxes x1, y1, x2, y2 [N, 4]; 0 where both are empty or one is NaN."""
    overlap = np.clip(np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2]), 0, None)
    shared = overlap.prod(axis=1)
    union = (first[:, 2:] - first[:, :2]).prod(axis=1) + (second[:, 2:] - second[:, :2]).prod(axis=1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def outermost(mesh: Mesh, directions: int = 300) -> Mesh:
    """The vertices that lie farthest in some direction, without faces: they tell the box that a model projects to.

    A scan has 100,000 vertices; every so many-th of them would leave out a handle that has few.
    """
    if len(mesh.vertices) <= directions:
        return mesh
    # a Fibonacci lattice on the sphere
    number = torch.arange(directions, dtype=torch.float64) + 0.5
    height, turn = 1 - 2 * number / directions, math.pi * (1 + math.sqrt(5)) * number
    level = (1 - height.square()).sqrt()
    outward = torch.stack([level * turn.cos(), level * turn.sin(), height])
    chosen = (mesh.vertices.double() @ outward).argmax(dim=0).unique()
    return Mesh(mesh.vertices[chosen], mesh.faces[:0])


def outlines(meshes: Mapping[int, Mesh]) -> dict[int, np.ndarray]:
    """Each model's outermost vertices, repeated up to the number of the one that has most, [P, 3] each."""
    corners = {index: outermost(mesh).vertices.double().numpy() for index, mesh in meshes.items()}
    most = max(map(len, corners.values()))
    return {index: np.resize(own, (most, 3)) for index, own in corners.items()}
