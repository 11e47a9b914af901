"""Triangle meshes: reading and writing OFF files, the extents of CAD models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compnet3d.errors import CompNetError
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
    """Read an OFF file; polygons are split into triangle fans, comments and blank lines are skipped.

    Coordinates are at most 10^9 and the model's longest side at least 10^-6, or single precision could not hold areas.

    Raises:
        CompNetError: if the file is missing, empty or broken, or the model is beyond those numbers; the message names
            the file and the place.
    """
    path, largest = Path(path), 128 * 2**20  # bytes: a million vertices
    try:
        # a comment in another encoding does no harm; a broken number is found below, with its place
        text = read_bytes(path, largest).decode("utf-8", errors="replace")
    except OSError as error:
        raise CompNetError(f"{path}: cannot read this CAD model ({error.strerror}); put an OFF file there") from None
    lines = list(_content_lines(text))
    if not lines:
        raise CompNetError(f"{path}: the file is empty; an OFF file starts with the word OFF")
    header, lines = lines[0], lines[1:]
    if not header.upper().startswith("OFF"):
        raise CompNetError(f"{path}: not an OFF file (it starts with {header[:20]!r}); convert the model to ASCII OFF")
    # some exporters write "OFF 8 6 0" or even "OFF8 6 0" on one line
    if header[3:].strip():
        lines.insert(0, header[3:].strip())
    try:
        vertex_count, face_count = (int(x) for x in lines[0].split()[:2])
    except (IndexError, ValueError):
        raise CompNetError(f"{path}: the line after OFF must give the numbers of vertices and faces") from None
    if min(vertex_count, face_count) < 0 or len(lines) < 1 + vertex_count + face_count:
        raise CompNetError(
            f"{path}: cut short: it promises {vertex_count} vertices and {face_count} faces "
            f"but holds {len(lines) - 1} lines; export the model again"
        )
    vertices = _parse_vertices(path, lines[1 : 1 + vertex_count])
    faces = _parse_faces(path, lines[1 + vertex_count : 1 + vertex_count + face_count], vertex_count)
    if vertex_count == 0 or not faces:
        raise CompNetError(f"{path}: the model has no vertices or no faces; export the model again")
    return Mesh(torch.from_numpy(vertices), torch.tensor(faces, dtype=torch.int64))


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


def _content_lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        line = line.split("#", 1)[0].strip()
        if line:
            yield line


def _parse_vertices(path: Path, rows: list[str]) -> np.ndarray:
    largest, shortest_side = 1e9, 1e-6
    vertices = np.empty((len(rows), 3))
    for number, row in enumerate(rows):
        try:
            # normals or colours may follow the position
            x, y, z = (float(coordinate) for coordinate in row.split()[:3])
        except ValueError:
            raise CompNetError(f"{path}: vertex {number} is not three numbers: {row[:40]!r}") from None
        vertices[number] = x, y, z
    if not np.isfinite(vertices).all():
        bad = int(np.flatnonzero(~np.isfinite(vertices).all(axis=1))[0])
        raise CompNetError(f"{path}: vertex {bad} is not finite; export the model again")
    if len(vertices) and np.abs(vertices).max() > largest:
        bad = int(np.abs(vertices).max(axis=1).argmax())
        raise CompNetError(f"{path}: vertex {bad} lies beyond {largest:g}; scale the model down")
    side = float(np.ptp(vertices, axis=0).max()) if len(vertices) else 1.0
    if side == 0.0:
        raise CompNetError(f"{path}: all vertices are one point; export the model again")
    if side < shortest_side:
        raise CompNetError(f"{path}: the model's longest side is {side:g}, less than {shortest_side:g}; scale it up")
    return vertices.astype(np.float32)


def _parse_faces(path: Path, rows: list[str], vertex_count: int) -> list[list[int]]:
    faces = []
    for number, row in enumerate(rows):
        try:
            # a colour may follow the corners
            count, *rest = (int(x) for x in row.split()[: 1 + int(row.split()[0])])
        except (ValueError, IndexError):
            raise CompNetError(f"{path}: face {number} is not a list of vertex numbers: {row[:40]!r}") from None
        if not 0 < count <= len(rest) or any(not 0 <= i < vertex_count for i in rest):
            raise CompNetError(f"{path}: face {number} names vertices that the file does not have: {row[:40]!r}")
        faces += [[rest[0], rest[i], rest[i + 1]] for i in range(1, count - 1)]
    return faces
