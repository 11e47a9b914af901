"""Polygon meshes as files hold them, checked, and cut into triangles that keep concave outlines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compnet3d.errors import CompNetError

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# coordinates beyond have areas that single precision cannot hold
_LARGEST, _SHORTEST_SIDE = 1e9, 1e-6
# cutting a concave outline takes time in the square of its corners
_MOST_CORNERS = 1024


@dataclass(frozen=True)
class Polygons:
    """A mesh of polygons.

    Attributes:
        vertices: float64 [V, 3].
        corners: int64 [C], the vertices of all polygons one after the other.
        counts: int64 [P], how many corners each polygon has; they add up to C.
    """

    vertices: Doubles
    corners: Integers
    counts: Integers

    @property
    def starts(self) -> Integers:
        """Where in `corners` each polygon begins [P]."""
        starts: Integers = np.cumsum(self.counts) - self.counts
        return starts


def check_polygons(path: Path, mesh: Polygons) -> None:
    """Refuse a model that no camera could see.

    Raises:
        CompNetError: naming the file and the vertex or face, if a coordinate is not finite or beyond 10^9, the longest
            side is below 10^-6, a face names a vertex that there is not, or there is no face of three corners.
    """
    vertices = mesh.vertices
    if not len(vertices) or not len(mesh.counts):
        raise CompNetError(f"{path}: the model has no vertices or no faces; export the model again")
    if not np.isfinite(vertices).all():
        bad = int(np.flatnonzero(~np.isfinite(vertices).all(axis=1))[0])
        raise CompNetError(f"{path}: vertex {bad} is not finite; export the model again")
    if np.abs(vertices).max() > _LARGEST:
        bad = int(np.abs(vertices).max(axis=1).argmax())
        raise CompNetError(f"{path}: vertex {bad} lies beyond {_LARGEST:g}; scale the model down")
    side = float(np.ptp(vertices, axis=0).max())
    if side == 0.0:
        raise CompNetError(f"{path}: all vertices are one point; export the model again")
    if side < _SHORTEST_SIDE:
        raise CompNetError(f"{path}: the model's longest side is {side:g}, less than {_SHORTEST_SIDE:g}; scale it up")
    outside = (mesh.corners < 0) | (mesh.corners >= len(vertices))
    if outside.any():
        corner = int(np.flatnonzero(outside)[0])
        face = int(np.searchsorted(mesh.starts, corner, side="right")) - 1
        one_based = mesh.corners.min() == 1 and mesh.corners.max() == len(vertices)
        hint = "count vertices from 0, not from 1" if one_based else "export the model again"
        raise CompNetError(
            f"{path}: face {face} names vertices that the file does not have ({mesh.corners[corner]} of "
            f"{len(vertices)}, counted from 0); {hint}"
        )
    if not (mesh.counts >= 3).any():
        raise CompNetError(f"{path}: no face has three corners; export the model with its faces")
    if not _has_area(mesh, side):
        raise CompNetError(f"{path}: no face has an area; export the model again")


def triangulate(path: Path, mesh: Polygons) -> tuple[Integers, Integers]:
    """Cut polygons into triangles.

    Convex ones become fans; concave ones lose one ear after the other, so that no triangle lies outside. Polygons of
    fewer than three corners give none.

    Returns:
        Places in `corners` [T, 3], in the polygons' own order round, and which polygon each triangle is of [T].

    Raises:
        CompNetError: naming the file and the face, if a concave one has more than 1024 corners.
    """
    starts, triangles, owners = mesh.starts, [], []
    for count in np.unique(mesh.counts[mesh.counts >= 3]):
        polygon = np.flatnonzero(mesh.counts == count)
        place = starts[polygon][:, None] + np.arange(count)
        fan = np.stack([np.zeros(count - 2, np.int64), np.arange(1, count - 1), np.arange(2, count)], axis=1)
        concave = _concave(mesh.vertices[mesh.corners[place]]) if count > 3 else np.zeros(len(polygon), dtype=bool)
        triangles.append(place[~concave][:, fan].reshape(-1, 3))
        owners.append(np.repeat(polygon[~concave], count - 2))
        for number in np.flatnonzero(concave):
            if count > _MOST_CORNERS:
                raise CompNetError(
                    f"{path}: face {polygon[number]} is concave and has {count} corners, more than {_MOST_CORNERS}; "
                    "export the model in triangles"
                )
            ears = _cut_ears(_flattened(mesh.vertices[mesh.corners[place[number]]]))
            triangles.append(place[number][ears])
            owners.append(np.full(len(ears), polygon[number]))
    if not triangles:
        return np.zeros((0, 3), dtype=np.int64), np.zeros(0, dtype=np.int64)
    joined, owner = np.concatenate(triangles), np.concatenate(owners).astype(np.int64)
    order = np.argsort(owner, kind="stable")
    return joined[order], owner[order]


def _has_area(mesh: Polygons, side: float) -> bool:
    """Whether any face has one, of a model with this longest side: twice the area, by the crossed steps round it."""
    own = np.repeat(mesh.starts, mesh.counts)
    after = np.arange(len(mesh.corners)) + 1
    after = np.where(after == own + np.repeat(mesh.counts, mesh.counts), own, after)
    # from each face's first corner: far from the origin the differences of large numbers would be left
    points, following, first = (mesh.vertices[mesh.corners[place]] for place in (np.arange(len(own)), after, own))
    crossed = np.cross(points - first, following - first)
    sums = np.stack([np.bincount(own, crossed[:, axis]) for axis in range(3)])
    return bool(np.linalg.norm(sums, axis=0).max() > 1e-12 * side**2)


def _newell(points: Doubles) -> Doubles:
    """Normals [..., 3] of polygons [..., N, 3], of length twice the area; concave ones are no exception."""
    points = points - points.mean(axis=-2, keepdims=True)
    normal: Doubles = np.cross(points, np.roll(points, -1, axis=-2)).sum(axis=-2)
    return normal


def _concave(points: Doubles) -> npt.NDArray[np.bool_]:
    """Which of the polygons [P, N, 3] turn the other way at a corner."""
    before, after = points - np.roll(points, 1, axis=1), np.roll(points, -1, axis=1) - points
    turn = np.einsum("pnd,pd->pn", np.cross(before, after), _newell(points))
    # rounding turns straight corners a little
    scale = np.square(_newell(points)).sum(axis=1)
    concave: npt.NDArray[np.bool_] = (turn < -1e-9 * scale[:, None]).any(axis=1)
    return concave


def _flattened(points: Doubles) -> Doubles:
    """A polygon [N, 3] in its plane [N, 2], counter-clockwise."""
    normal = _newell(points)
    drop = int(np.abs(normal).argmax())
    first, second = (drop + 1) % 3, (drop + 2) % 3
    return points[:, [first, second]] if normal[drop] > 0 else points[:, [first, second]] * np.array([-1.0, 1.0])


def _cut_ears(points: Doubles) -> Integers:
    """Triangles [N - 2, 3] of a counter-clockwise outline [N, 2]: a corner in whose triangle no other lies goes."""
    left, ears = list(range(len(points))), []
    while len(left) > 3:
        places = range(len(left))
        corner = next((i for i in places if _is_ear(points, left, i)), None)
        if corner is None:  # it crosses itself: any answer is wrong, and this one ends
            corner = max(places, key=lambda i: _turn(points, left, i))
        ears.append([left[corner - 1], left[corner], left[(corner + 1) % len(left)]])
        del left[corner]
    return np.array([*ears, left], dtype=np.int64)


def _turn(points: Doubles, left: list[int], corner: int) -> float:
    a, b, c = (points[left[(corner + k) % len(left)]] for k in (-1, 0, 1))
    return float((b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0]))


def _is_ear(points: Doubles, left: list[int], corner: int) -> bool:
    if _turn(points, left, corner) <= 0:
        return False
    triangle = np.array([points[left[(corner + k) % len(left)]] for k in (-1, 0, 1)])
    others = points[left]
    # corners at the same place are the seam of a hole
    others = others[(others[:, None] != triangle).any(axis=2).all(axis=1)]
    edges, reach = np.roll(triangle, -1, axis=0) - triangle, others[:, None] - triangle
    inside = (edges[:, 0] * reach[..., 1] - edges[:, 1] * reach[..., 0] >= 0).all(axis=1)
    return not inside.any()
