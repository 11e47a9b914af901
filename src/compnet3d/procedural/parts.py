"""Parametric primitives as closed triangle meshes, and the parts that objects are joined from.

Lengths are in whatever unit the object is modelled in; `Part.normalised` makes the diagonal 1. Every primitive is
closed and wound counter-clockwise seen from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from compnet3d.geometry.mesh import Mesh
from compnet3d.rendering.skin import Skin

Array = npt.NDArray[np.float64]
Vector = Sequence[float]


class Role(IntEnum):
    """What a face is made of; an instance's palette gives each role a material."""

    MAIN = 0
    SECOND = 1
    ACCENT = 2
    DARK = 3
    LIGHT = 4
    GLASS = 5


@dataclass(frozen=True)
class Part:
    """A closed mesh with a role for each face.

    Attributes:
        vertices: float64 [V, 3].
        faces: int64 [F, 3], outward.
        roles: int64 [F].
        skin: colours of the faces' own, as files have them; None for none.
    """

    vertices: Array
    faces: npt.NDArray[np.int64]
    roles: npt.NDArray[np.int64]
    skin: Skin | None = None

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Part:
        """Shift."""
        return replace(self, vertices=self.vertices + np.array([x, y, z]))

    def turned(self, axis: str, degrees: float) -> Part:
        """Turn about an axis through the origin ('x', 'y' or 'z'), counter-clockwise."""
        return replace(self, vertices=self.vertices @ axis_rotation(axis, degrees).T)

    def scaled(self, x: float = 1.0, y: float = 1.0, z: float = 1.0) -> Part:
        """Stretch along the axes; a mirroring keeps the faces outward."""
        vertices = self.vertices * np.array([x, y, z])
        if x * y * z > 0:
            return replace(self, vertices=vertices)
        # copied, as torch takes no arrays of negative strides
        skin = None if self.skin is None else self.skin.turned_round()
        return Part(vertices, self.faces[:, ::-1].copy(), self.roles, skin)

    def mirrored(self) -> Part:
        """The mirror image under x to -x."""
        return self.scaled(x=-1.0)

    def both_sides(self) -> Part:
        """This part and its mirror image."""
        return join([self, self.mirrored()])

    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest corner."""
        return self.vertices.min(axis=0), self.vertices.max(axis=0)

    def normalised(self) -> Part:
        """Centred on its bounding box, whose diagonal becomes 1."""
        low, high = self.bounds()
        return replace(self, vertices=(self.vertices - (low + high) / 2) / np.linalg.norm(high - low))

    def mesh(self) -> Mesh:
        """Vertices as float32 tensors, roles dropped."""
        return Mesh(torch.from_numpy(self.vertices.astype(np.float32)), torch.from_numpy(self.faces.copy()))


def join(parts: Sequence[Part]) -> Part:
    """All parts as one (they may run into each other), without skins."""
    offsets = np.cumsum([0] + [len(p.vertices) for p in parts[:-1]])
    return Part(
        np.concatenate([p.vertices for p in parts]),
        np.concatenate([p.faces + o for p, o in zip(parts, offsets, strict=True)]),
        np.concatenate([p.roles for p in parts]),
    )


def axis_rotation(axis: str, degrees: float) -> Array:
    """Rotation matrix [3, 3] about a coordinate axis."""
    angle = np.deg2rad(degrees)
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def cross(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Cross products of vectors [..., 3]; what np.cross gives, several times faster for few vectors."""
    a0, a1, a2 = a[..., 0], a[..., 1], a[..., 2]
    b0, b1, b2 = b[..., 0], b[..., 1], b[..., 2]
    return np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=-1)


def signed_volume(vertices: Array, faces: npt.NDArray[np.int64]) -> float:
    """Volume enclosed by outward faces (negative if they face inward)."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float(np.einsum("ij,ij->", cross(a, b), c) / 6)


def closed(vertices: Array, faces: npt.NDArray[np.int64], role: Role) -> Part:
    """A part from a closed mesh of consistent winding: degenerate faces dropped, turned outward if inward."""
    vertices = np.asarray(vertices, dtype=np.float64)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    # relative to the largest face, since parts come in any unit
    area = np.linalg.norm(cross(b - a, c - a), axis=1)
    faces = faces[area > 1e-12 * max(1e-12, float(area.max()))]
    # about the mean, as far from the origin the sum would lose its digits
    if signed_volume(vertices - vertices.mean(axis=0), faces) < 0:
        faces = faces[:, ::-1].copy()
    return Part(vertices, faces, np.full(len(faces), int(role), dtype=np.int64))


def loft(sections: Array, role: Role = Role.MAIN, *, ring: bool = False) -> Part:
    """A skin over a sequence of closed outlines with equal numbers of points, both ends capped.

    Args:
        sections: [S, N, 3], S >= 2 outlines (any two neighbours are joined point by point).
        role: material role of all faces.
        ring: join the last outline to the first instead of capping.
    """
    sections = np.asarray(sections, dtype=np.float64)
    count, points = sections.shape[:2]
    index = np.arange(count * points).reshape(count, points)
    # each quadrilateral between two outlines becomes two triangles, [S, N, 3] before the reshape
    lower = index if ring else index[:-1]
    upper = np.roll(index, -1, axis=0) if ring else index[1:]
    after_lower, after_upper = np.roll(lower, -1, axis=1), np.roll(upper, -1, axis=1)
    faces = [
        np.stack([lower, after_lower, after_upper], axis=-1).reshape(-1, 3),
        np.stack([lower, after_upper, upper], axis=-1).reshape(-1, 3),
    ]
    if not ring:
        # seen from outside, the first end turns the other way; `closed` turns the whole if the outline ran clockwise
        faces.append(_cap(sections[0])[:, ::-1] + index[0, 0])
        faces.append(_cap(sections[-1]) + index[-1, 0])
    return closed(sections.reshape(-1, 3), np.concatenate(faces).astype(np.int64), role)


def extrude(outline: Sequence[Vector], width: float, role: Role = Role.MAIN, *, bevel: float = 0.0) -> Part:
    """A side view (y, z), possibly concave, pulled along x to a width, centred at x = 0.

    Args:
        outline: (y, z) corners in order.
        width: extent along x.
        role: material role.
        bevel: the outline is pulled in by this much at both sides, over the same depth.
    """
    flat = np.asarray(outline, dtype=np.float64)
    half = width / 2
    if bevel <= 0:
        stations = [(-half, flat), (half, flat)]
    else:
        inner = inset(flat, bevel)
        stations = [(-half, inner), (bevel - half, flat), (half - bevel, flat), (half, inner)]
    return loft(np.stack([np.column_stack([np.full(len(p), x), p]) for x, p in stations]), role)


def inset(outline: Array, amount: float) -> Array:
    """Move every corner of an outline [N, 2] inward along its bisector by about `amount`."""
    edge = np.roll(outline, -1, axis=0) - outline
    normal = np.column_stack([-edge[:, 1], edge[:, 0]])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    # the sign tells which way the outline runs, and with it which side is inside
    area = np.sum(outline[:, 0] * np.roll(outline[:, 1], -1) - outline[:, 1] * np.roll(outline[:, 0], -1))
    bisector = normal + np.roll(normal, 1, axis=0)
    bisector /= np.maximum(np.linalg.norm(bisector, axis=1, keepdims=True), 1e-12)
    moved: Array = outline + np.sign(area) * amount * bisector
    return moved


def box(
    size: Vector,
    role: Role = Role.MAIN,
    *,
    at: Vector = (0.0, 0.0, 0.0),
    bevel: float = 0.0,
    taper: tuple[float, float] = (1.0, 1.0),
    lean: tuple[float, float] = (0.0, 0.0),
) -> Part:
    """A box standing on `at` (the centre of its bottom).

    Args:
        size: extents along x, y, z.
        role: material role.
        at: centre of the bottom face.
        bevel: chamfer of all edges, a length.
        taper: scale of the top face relative to the bottom, along x and y.
        lean: shift of the top face along x and y.
    """
    x, y, z = (float(s) for s in size)
    # more would turn the box inside out
    bevel = min(bevel, 0.45 * min(x, y, z))
    heights = [0.0, z] if bevel <= 0 else [0.0, bevel, z - bevel, z]
    sections = []
    for level, height in enumerate(heights):
        part = height / z
        half_x, half_y = x / 2 * (1 + (taper[0] - 1) * part), y / 2 * (1 + (taper[1] - 1) * part)
        if bevel > 0:
            shrink = bevel if level in (0, 3) else 0.0
            outline = _chamfered(half_x - shrink, half_y - shrink, bevel if not shrink else bevel * 0.4)
        else:
            outline = np.array([[-half_x, -half_y], [half_x, -half_y], [half_x, half_y], [-half_x, half_y]])
        centre = np.array([lean[0] * part, lean[1] * part])
        sections.append(np.column_stack([outline + centre, np.full(len(outline), height)]))
    return loft(np.stack(sections), role).moved(*at)


def _chamfered(half_x: float, half_y: float, cut: float) -> Array:
    cut = min(cut, 0.6 * min(half_x, half_y))
    corners = [(-1, -1, 0, 1), (-1, -1, 1, 0), (1, -1, -1, 0), (1, -1, 0, 1)]
    corners += [(1, 1, 0, -1), (1, 1, -1, 0), (-1, 1, 1, 0), (-1, 1, 0, -1)]
    return np.array([[sx * half_x + dx * cut, sy * half_y + dy * cut] for sx, sy, dx, dy in corners])


def lathe(profile: Sequence[Vector], role: Role = Role.MAIN, *, segments: int = 20, ring: bool = False) -> Part:
    """A surface of revolution about z.

    Args:
        profile: (radius, z) from one end to the other; ends that are not on the axis are capped flat.
        role: material role.
        segments: corners around.
        ring: the profile is closed (a torus), nothing is capped.
    """
    angle = np.arange(segments) * (2 * np.pi / segments)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    outline = np.asarray(profile, dtype=np.float64)
    rings = [np.column_stack([circle * r, np.full(segments, z)]) for r, z in outline]
    return loft(np.stack(rings), role, ring=ring)


def cylinder(
    radius: float,
    height: float,
    role: Role = Role.MAIN,
    *,
    top: float | None = None,
    at: Vector = (0.0, 0.0, 0.0),
    axis: str = "z",
    segments: int = 16,
    bevel: float = 0.0,
) -> Part:
    """A cylinder, or a frustum with top radius `top`, from the centre of its base `at` along +axis."""
    end = radius if top is None else top
    profile: list[Vector] = [(radius, 0.0), (end, height)]
    if bevel > 0:
        profile = [(radius - bevel, 0.0), (radius, bevel), (end, height - bevel), (max(end - bevel, 0.0), height)]
    part = lathe(profile, role, segments=segments)
    if axis == "x":
        part = part.turned("y", 90)
    elif axis == "y":
        part = part.turned("x", -90)
    return part.moved(*at)


def wheel(radius: float, width: float, at: Vector, *, tyre: Role = Role.DARK, hub: Role = Role.LIGHT) -> Part:
    """A wheel with its axle along x, centred at `at`: a tyre and a hub that shows on both sides."""
    half = width / 2
    soft = min(0.2 * radius, 0.4 * half)
    outer = [(0.62 * radius, -half), (radius - soft, -half), (radius, soft - half)]
    outer += [(radius, half - soft), (radius - soft, half), (0.62 * radius, half)]
    parts = [lathe(outer, tyre, segments=16).turned("y", 90)]
    parts.append(cylinder(0.6 * radius, width * 1.06, hub, segments=10).moved(z=-half * 1.06).turned("y", 90))
    parts.append(cylinder(0.22 * radius, width * 1.2, tyre, segments=8).moved(z=-half * 1.2).turned("y", 90))
    return join(parts).moved(*at)


def ellipsoid(
    radii: Vector, role: Role = Role.MAIN, *, at: Vector = (0.0, 0.0, 0.0), segments: int = 16, rings: int = 8
) -> Part:
    """An ellipsoid centred at `at`."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, rings + 1)
    profile = np.column_stack([np.cos(angle), np.sin(angle)])
    # exactly on the axis, where the cosine leaves 6e-17
    profile[[0, -1], 0] = 0.0
    return lathe(profile.tolist(), role, segments=segments).scaled(*radii).moved(*at)


def torus(radius: float, thickness: float, role: Role = Role.MAIN, *, segments: int = 20, around: int = 8) -> Part:
    """A torus about z: ring radius and half thickness."""
    angle = np.arange(around) * (2 * np.pi / around)
    profile = np.column_stack([radius + thickness * np.cos(angle), thickness * np.sin(angle)])
    return lathe(profile.tolist(), role, segments=segments, ring=True)


def tube(path: Sequence[Vector], radius: float | Sequence[float], role: Role = Role.MAIN, *, segments: int = 8) -> Part:
    """A round tube along a path of points in space, with flat ends; one radius or one for each point."""
    points = np.asarray(path, dtype=np.float64)
    radii = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(points))
    step = np.diff(points, axis=0)
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    tangent = np.concatenate([step[:1], step[:-1] + step[1:], step[-1:]])
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # the coordinate axis that is most across the path
    side = cross(tangent[0], np.eye(3)[np.argmin(np.abs(tangent[0]))])
    angle = np.arange(segments) * (2 * np.pi / segments)
    sections = []
    for point, direction, r in zip(points, tangent, radii, strict=True):
        # carried along and made perpendicular again: the tube does not twist, as it would with a fixed up-vector
        side = side - direction * (side @ direction)
        side /= np.linalg.norm(side)
        other = cross(direction, side)
        sections.append(point + r * (np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * other))
    return loft(np.stack(sections), role)


def arc(
    start: float, stop: float, steps: int, radius_a: float = 1.0, radius_b: float = 1.0
) -> list[tuple[float, float]]:
    """Points (radius_a cos, radius_b sin) for angles from start to stop in degrees, both included."""
    angle = np.deg2rad(np.linspace(start, stop, steps))
    return list(zip((radius_a * np.cos(angle)).tolist(), (radius_b * np.sin(angle)).tolist(), strict=True))


def rounded_outline(half_x: float, half_y: float, power: float = 4.0, points: int = 16) -> Array:
    """A superellipse outline [points, 2]: power 2 is an ellipse, larger ones come near a rectangle."""
    angle = (np.arange(points) + 0.5) * (2 * np.pi / points)
    x, y = np.cos(angle), np.sin(angle)
    scale = (np.abs(x) ** power + np.abs(y) ** power) ** (-1 / power)
    return np.column_stack([half_x * scale * x, half_y * scale * y])


def _cap(outline: Array) -> npt.NDArray[np.int64]:
    """Triangles over a flat outline [N, 3] in its own direction of turning: a fan if convex, else by cutting ears."""
    count = len(outline)
    following = np.concatenate([outline[1:], outline[:1]])
    # twice the area as a vector (Newell): right for concave outlines as well, where one corner's normal may point the
    # other way
    normal = np.sum(cross(outline, following), axis=0)
    length = np.linalg.norm(normal)
    if length < 1e-12:
        return np.array([[0, i, i + 1] for i in range(1, count - 1)])
    edge = following - outline
    turn = cross(np.concatenate([edge[-1:], edge[:-1]]), edge) @ (normal / length)
    if (turn >= -1e-9 * length).all():
        return np.array([[0, i, i + 1] for i in range(1, count - 1)])
    return _cut_ears(_flattened(outline, normal / length))


def _flattened(outline: Array, normal: Array) -> Array:
    first = cross(normal, np.eye(3)[np.argmin(np.abs(normal))])
    first /= np.linalg.norm(first)
    return outline @ np.column_stack([first, cross(normal, first)])


def _cut_ears(points: Array) -> npt.NDArray[np.int64]:
    """Triangulate a simple counter-clockwise polygon [N, 2]."""
    left = list(range(len(points)))
    triangles = []
    while len(left) > 3:
        for position in range(len(left)):
            a, b, c = left[position - 1], left[position], left[(position + 1) % len(left)]
            if _turn(points, a, b, c) > 1e-14 and not any(
                _inside(points, a, b, c, p) for p in left if p not in (a, b, c)
            ):
                break
        else:
            position = int(
                # no proper ear, by rounding or because the outline cuts itself: the sharpest corner is taken, so that
                # the loop ends
                np.argmax([_turn(points, left[i - 1], left[i], left[(i + 1) % len(left)]) for i in range(len(left))])
            )
        triangles.append([left[position - 1], left[position], left[(position + 1) % len(left)]])
        del left[position]
    return np.array([*triangles, left])


def _turn(points: Array, a: int, b: int, c: int) -> float:
    (ax, ay), (bx, by), (cx, cy) = points[a], points[b], points[c]
    return float((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))


def _inside(points: Array, a: int, b: int, c: int, p: int) -> bool:
    return min(_turn(points, a, b, p), _turn(points, b, c, p), _turn(points, c, a, p)) >= 0
