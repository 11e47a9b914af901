"""The shapes that are laid over photographs: a category's CAD models, or a cuboid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from compnet3d.data.shapes.read import indexed_shapes, load_mesh
from compnet3d.errors import CompNetError
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.mesh import Mesh, save_off
from compnet3d.utils.files import Json, explain


def read_shapes(folder: Path, mesh: Mesh | None) -> dict[int, Mesh]:
    """A category's CAD models by cad_index; where it has none, `mesh` or a cube.

    Raises:
        CompNetError: if a model is broken, or the category has another than `mesh`.
    """
    found = {number: load_mesh(path) for number, path in indexed_shapes(folder).items()}
    if not found:
        return {1: cuboid_of((1.0, 1.0, 1.0)) if mesh is None else mesh}
    if mesh is not None and (1 not in found or not _equal(mesh, found[1])):
        raise CompNetError(f"{folder}: holds another CAD model; leave --cad and --cuboid out, or choose another --out")
    return found


def cuboid_of(size: Sequence[float]) -> Mesh:
    """A box of this width, depth and height.

    Raises:
        CompNetError: if they are no three positive numbers of one order.
    """
    if len(size) != 3 or not all(1e-3 <= side <= 1e6 for side in size) or max(size) > 1000 * min(size):
        raise CompNetError("the cuboid's width, depth and height must be positive numbers, such as 1.8 4.2 1.5")
    return cuboid_mesh(torch.tensor([float(side) for side in size]), 8).mesh


def is_cuboid(mesh: Mesh) -> bool:
    """Whether a mesh is one that `cuboid_of` makes."""
    extents = mesh.vertices.amax(0) - mesh.vertices.amin(0)
    return len(mesh.vertices) == 8 and bool((extents > 0).all()) and _equal(mesh, cuboid_mesh(extents, 8).mesh)


def write_off(path: Path, mesh: Mesh) -> None:
    """`save_off` of a whole file or none."""
    temporary = path.with_name(f".{path.name}.new-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_off(temporary, mesh)
        temporary.replace(path)
    except OSError as error:
        raise CompNetError(explain(error, path)) from None


def shape_json(mesh: Mesh) -> Json:
    """What the page draws of a mesh: at most 12,000 of its triangles, and the points that its box depends on."""
    most = 12_000
    faces = mesh.faces[:: -(-len(mesh.faces) // most)]
    used, numbered = faces.unique(return_inverse=True)
    vertices = mesh.vertices.double()
    return {
        "vertices": vertices[used].tolist(),
        "faces": numbered.tolist(),
        "hull": vertices[_hull(vertices.numpy())].tolist(),
        "size": (vertices.amax(0) - vertices.amin(0)).tolist(),
        "cuboid": is_cuboid(mesh),
    }


def _hull(points: np.ndarray) -> np.ndarray:
    """Indices of the corners of the convex hull; of all points where they lie in a plane."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return np.sort(ConvexHull(points).vertices).astype(np.int64)
    except QhullError:
        return np.arange(len(points))


def _equal(mesh: Mesh, other: Mesh) -> bool:
    same = mesh.vertices.shape == other.vertices.shape and mesh.faces.shape == other.faces.shape
    return same and torch.allclose(mesh.vertices, other.vertices) and torch.equal(mesh.faces, other.faces)
