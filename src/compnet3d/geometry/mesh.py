"""Triangle meshes: reading and writing OFF files, the extents of CAD models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.geometry.off import parse_off
from compnet3d.geometry.polygons import Doubles, Integers, Polygons, check_polygons, triangulate
from compnet3d.utils.checks import check_floating, check_index, check_shape
from compnet3d.utils.files import read_bytes


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: float32 [V, 3] in the object frame (x right, y backward, z up).
        faces: int64 [F, 3], counter-clockwise seen from outside.

    Raises:
        ValueError: if a shape or type is wrong, or a face names a vertex that there is not.
    """

    vertices: Tensor
    faces: Tensor

    def __post_init__(self) -> None:
        check_shape("vertices", self.vertices, ("V", 3))
        check_shape("faces", self.faces, ("F", 3))
        check_floating(vertices=self.vertices)
        check_index("faces", self.faces, len(self.vertices))

    def face_normals(self) -> Tensor:
        """Normals [F, 3], outward, of length twice the triangle's area."""
        a, b, c = self.vertices[self.faces].unbind(dim=1)
        return torch.linalg.cross(b - a, c - a)


def load_off(path: str | Path) -> Mesh:
    """Read an OFF file of any dialect (`off.parse_off`); polygons are cut into triangles, concave ones too.

    Raises:
        CompNetError: as `mesh_of`, and if the file is missing, empty or broken; the message names the file and the
            place.
    """
    return mesh_of(Path(path), parse_off(Path(path), read_model(path)))


def read_model(path: str | Path) -> bytes:
    """The bytes of a model's file.

    Raises:
        CompNetError: naming the file, if it is missing or larger than 128 MiB, or holds no model but an archive or a
            web page; see `open_regular`.
    """
    largest = 128 * 2**20  # a million vertices as text
    try:
        data = read_bytes(path, largest)
    except OSError as error:
        reason = error.strerror or "no such file"
        raise CompNetError(f"{path}: cannot read this CAD model ({reason}); put a model there") from None
    except ValueError:  # of a name that no system has
        raise CompNetError(f"{path}: cannot read this CAD model (no such name); check the path") from None
    kinds = {
        b"\x1f\x8b": "is packed (gzip); unpack it",
        b"BZh": "is packed (bzip2); unpack it",
        b"PK\x03\x04": "is a zip archive; unpack it",
        b"<!doctype html": "is a web page; download the model itself",
        b"<html": "is a web page; download the model itself",
    }
    for start, what in kinds.items():
        if data[:40].lstrip().lower().startswith(start.lower()):
            raise CompNetError(f"{path}: {what}")
    return data


def mesh_of(path: Path, polygons: Polygons) -> Mesh:
    """Polygons as a mesh in single precision.

    Coordinates are at most 10^9, the longest side at least 10^-6, and the model so near to its origin that single
    precision keeps its shape.

    Raises:
        CompNetError: naming the file, if the model is beyond those numbers; see `check_polygons`, `triangulate`.
    """
    check_polygons(path, polygons)
    places, _ = triangulate(path, polygons)
    return float_mesh(path, polygons.vertices, polygons.corners[places])


def float_mesh(path: Path, vertices: Doubles, faces: Integers) -> Mesh:
    """A mesh from float64 [V, 3] and int64 [F, 3].

    Raises:
        CompNetError: naming the file, if the model lies so far from its origin that single precision would lose a
            ten-thousandth of its longest side.
    """
    side, away = float(np.ptp(vertices, axis=0).max()), float(np.abs(vertices).max())
    if away * 2**-24 > 1e-4 * side:
        raise CompNetError(
            f"{path}: the model lies {away:g} from its origin, too far for its size of {side:g}; move it to the "
            "origin, about which poses turn"
        )
    return Mesh(torch.from_numpy(vertices.astype(np.float32)), torch.from_numpy(faces))


def save_off(path: str | Path, mesh: Mesh) -> None:
    """Write an OFF file; float32 vertices survive the round trip exactly."""
    rows = [f"OFF\n{len(mesh.vertices)} {len(mesh.faces)} 0"]
    rows += [f"{x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.vertices.tolist()]
    rows += [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
    Path(path).write_text("\n".join(rows) + "\n", encoding="ascii")


def cuboid_bounds(meshes: Sequence[Mesh], coverage: float = 0.99) -> Tensor:
    """The box that a category's CAD models fill: per axis the shortest interval that holds `coverage` of all vertices.

    Args:
        meshes: the category's CAD models, at least one.
        coverage: share of the vertices, in (0, 1].

    Returns:
        Lower and upper corner, float32 [2, 3]; a flat axis is thickened to a thousandth of the longest one.
    """
    if not meshes:
        raise ValueError("cuboid_bounds needs at least one mesh")
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage must lie in (0, 1], got {coverage}")
    # each axis is sorted by itself, so that a row is no longer one point
    points = torch.cat([m.vertices for m in meshes]).sort(dim=0).values
    # the product may round to just above a whole number (0.07 * 100), which would hold one vertex too many
    held = max(1, int(np.ceil(coverage * len(points) - 1e-9)))
    lengths = points[held - 1 :] - points[: len(points) - held + 1]
    start = lengths.argmin(dim=0)
    low = points.gather(0, start[None])[0]
    high = points.gather(0, start[None] + held - 1)[0]
    longest = float((high - low).max())
    if longest <= 0:
        raise ValueError("the meshes are a single point: there is no box to fit")
    # a box without thickness has no lattice, and the ray-caster divides by its sides
    padding = (longest * 1e-3 - (high - low)).clamp_min(0) / 2
    return torch.stack([low - padding, high + padding])
