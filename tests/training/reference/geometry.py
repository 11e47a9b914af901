"""Where a box's vertices are seen, and what a ray meets: one vertex and one ray at a time, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Shape:
    """A category's box: lower and upper corner [2, 3] and the lattice's vertices [K, 3]."""

    bounds: Array
    vertices: Array

    @property
    def diagonal(self) -> float:
        """Its longest distance."""
        return math.dist(self.bounds[0], self.bounds[1])


@dataclass(frozen=True)
class Camera:
    """The network's input: pixels, focal length, the object's usual distance, pixels per cell."""

    height: int
    width: int
    focal: float
    distance: float
    stride: int

    @property
    def cells(self) -> list[tuple[float, float]]:
        """Where the cells' centres are, (u, v), row by row."""
        rows, columns = self.height // self.stride, self.width // self.stride
        return [((j + 0.5) * self.stride, (i + 0.5) * self.stride) for i in range(rows) for j in range(columns)]


@dataclass(frozen=True)
class Pose:
    """Object-to-camera rotation [3, 3] and distance."""

    rotation: Array
    distance: float

    @property
    def centre(self) -> Array:
        """Where the camera stands in the object's frame."""
        return self.rotation.T @ np.array([0.0, 0.0, self.distance])


def rotation(azimuth: float, elevation: float, theta: float) -> Array:
    """Rz(theta) Rx(elevation - pi / 2) Rz(-azimuth)."""
    return turn_about_z(theta) @ turn_about_x(elevation - math.pi / 2) @ turn_about_z(-azimuth)


def turn_about_z(angle: float) -> Array:
    """Counter-clockwise, seen from above."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def turn_about_x(angle: float) -> Array:
    """Counter-clockwise, seen from the right."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def angle_between(first: Array, second: Array, order: int) -> float:
    """Smallest angle between two rotations over the turns about z that the object does not show (0: any turn)."""
    if order == 0:
        return math.acos(min(1.0, max(-1.0, float(first[:, 2] @ second[:, 2]))))
    angles = []
    for n in range(order):
        relative = (first @ turn_about_z(2 * math.pi * n / order)).T @ second
        angles.append(math.acos(min(1.0, max(-1.0, (float(np.trace(relative)) - 1) / 2))))
    return min(angles)


def visible_vertices(
    shape: Shape, pose: Pose, camera: Camera, principal_point: Array, occluded: Array
) -> list[tuple[int, float, float]]:
    """Vertices on a face that looks at the camera, inside the image and not occluded: (k, u, v) of each."""
    seen, centre = [], pose.centre
    for k, vertex in enumerate(shape.vertices):
        on_a_seen_face = False
        for axis in range(3):
            lower, upper = shape.bounds[:, axis]
            close = 1e-5 * (upper - lower)
            on_a_seen_face |= abs(vertex[axis] - lower) < close and centre[axis] < lower
            on_a_seen_face |= abs(vertex[axis] - upper) < close and centre[axis] > upper
        x, y, z = pose.rotation @ (vertex - centre)  # the camera looks along -z
        if not on_a_seen_face or -z <= 0:
            continue
        u, v = principal_point[0] + camera.focal * x / -z, principal_point[1] - camera.focal * y / -z
        if 0 <= u < camera.width and 0 <= v < camera.height and not occluded[int(v), int(u)]:
            seen.append((k, u, v))
    return seen


def hit(
    shape: Shape, pose: Pose, camera: Camera, principal_point: Array, u: float, v: float
) -> dict[int, float] | None:
    """What the ray through a pixel meets first: up to four vertices of the box with their weights; None past it."""
    in_camera = np.array([(u - principal_point[0]) / camera.focal, -(v - principal_point[1]) / camera.focal, -1.0])
    origin, direction = pose.centre, pose.rotation.T @ in_camera
    enter, leave, face, level = -math.inf, math.inf, 0, 0.0
    for axis in range(3):
        along = direction[axis] or 1e-12  # a ray may lie within the plane
        times = [(limit - origin[axis]) / along for limit in shape.bounds[:, axis]]
        if min(times) > enter:
            enter, face, level = min(times), axis, float(shape.bounds[int(times[1] < times[0]), axis])
        leave = min(leave, max(times))
    if not 0 < enter < leave:
        return None
    return lattice_weights(shape, origin + enter * direction, face, level)


def lattice_weights(shape: Shape, point: Array, face: int, level: float) -> dict[int, float]:
    """Bilinear weights of the four lattice vertices around a point of a face."""
    sides = []
    for axis in range(3):
        if axis == face:
            sides.append([(level, 1.0)])
            continue
        lines = np.unique(shape.vertices[:, axis].round(5))
        after = min(max(1, int(np.searchsorted(lines, point[axis]))), len(lines) - 1)
        share = min(1.0, max(0.0, (point[axis] - lines[after - 1]) / (lines[after] - lines[after - 1])))
        sides.append([(float(lines[after - 1]), 1 - share), (float(lines[after]), share)])
    weights = {}
    for x, in_x in sides[0]:
        for y, in_y in sides[1]:
            for z, in_z in sides[2]:
                apart = np.abs(shape.vertices - np.array([x, y, z])).max(axis=1)
                assert apart.min() < 1e-4
                weights[int(apart.argmin())] = in_x * in_y * in_z
    return weights
