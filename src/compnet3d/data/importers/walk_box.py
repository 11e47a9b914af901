"""Where the object stands that somebody has walked round: its box, from the cameras and the points that they saw.

Cameras look at the object, it stands on something, and its points hold together. The box stands upright on the ground;
its front is the side that a chosen camera sees. All lengths are in the reconstruction's own unit, which nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compnet3d.errors import CompNetError

Floats = npt.NDArray[np.float64]

# of the cameras' median distance from where they look
_GROUND_TOLERANCE = 0.01
_ABOVE_GROUND = 0.025
_REACH = 0.6
_GAP = 0.05


@dataclass(frozen=True)
class UprightBox:
    """A box in the world of a reconstruction.

    Attributes:
        centre: [3].
        axes: the object's x (right, for someone who sees the front), y (backward) and z (up) as rows, [3, 3].
        size: along these axes, [3].
    """

    centre: Floats
    axes: Floats
    size: Floats

    def corners(self) -> Floats:
        """The 8 corners in the world, [8, 3]."""
        signs = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3, indexing="ij"), axis=-1).reshape(8, 3)
        return self.centre + (signs * self.size) @ self.axes

    def adjusted(
        self, *, turn: float, shift: tuple[float, float, float], scale: tuple[float, float, float]
    ) -> UprightBox:
        """Turned about its vertical axis (radians, counter-clockwise seen from above), then moved and resized.

        Args:
            turn: of the axes; shift: along the new axes, in the box's diagonals; scale: of the sides.
        """
        cos, sin = np.cos(turn), np.sin(turn)
        axes = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ self.axes
        diagonal = float(np.linalg.norm(self.size))
        return UprightBox(self.centre + diagonal * np.array(shift) @ axes, axes, self.size * np.array(scale))


def find_box(rotations: Floats, centres: Floats, points: Floats, front: int) -> UprightBox:
    """The upright box of the object in the middle.

    Args:
        rotations: world to camera in OpenCV's axes, [N, 3, 3], N >= 3.
        centres: of the cameras in the world, [N, 3].
        points: that the cameras saw, [P, 3].
        front: number of the camera that sees the front best.

    Raises:
        CompNetError: if the cameras do not look at one place, or there are too few points there.
    """
    target = looked_at(rotations, centres)
    radius = float(np.median(np.linalg.norm(centres - target, axis=1)))
    up, height = _ground(points, centres, -rotations[:, 1].mean(axis=0), target, radius)
    seen = _held_together(points, target, up, height, radius)
    axes = _frame(up, _turn_of_least_area(seen, up))
    axes = facing(axes, centres[front] - target)
    along = seen @ axes.T
    low, high = np.percentile(along, (1, 99), axis=0)
    low[2] = height  # it stands on the ground, which hides its lowest points
    return UprightBox((low + high) / 2 @ axes, axes, high - low)


def looked_at(rotations: Floats, centres: Floats) -> Floats:
    """The point that is nearest to all viewing axes, [3].

    Raises:
        CompNetError: if the axes are parallel, or meet behind the cameras.
    """
    axes = rotations[:, 2]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    system = across.mean(axis=0)
    if np.linalg.eigvalsh(system)[0] < 1e-3:
        raise CompNetError("the cameras do not look at one place from different sides; walk round the object")
    target: Floats = np.linalg.solve(system, (across @ centres[:, :, None]).mean(axis=0)[:, 0])
    if np.mean(((target - centres) * axes).sum(axis=1) > 0) < 0.8:
        raise CompNetError("the cameras look away from one another; walk round the object and keep it in the middle")
    return target


def facing(axes: Floats, direction: Floats) -> Floats:
    """The axes turned about z by quarters so that -y points most nearly in a direction, [3, 3]."""
    x, y, z = axes
    sides = [(x, y), (y, -x), (-x, -y), (-y, x)]
    right, back = max(sides, key=lambda side: float(-side[1] @ direction))
    return np.stack([right, back, z])


def _frame(up: Floats, x: Floats) -> Floats:
    return np.stack([x, np.cross(up, x), up])


def _ground(points: Floats, centres: Floats, roughly_up: Floats, target: Floats, radius: float) -> tuple[Floats, float]:
    """The upward normal and the height along it of what the object stands on."""
    roughly_up = roughly_up / np.linalg.norm(roughly_up)
    near = points[np.linalg.norm(points - target, axis=1) < 1.5 * radius]
    tolerance = _GROUND_TOLERANCE * radius
    rng = np.random.default_rng(0)
    best: tuple[int, Floats] | None = None
    for _ in range(1000 if len(near) >= 20 else 0):
        a, b, c = near[rng.choice(len(near), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        length = float(np.linalg.norm(normal))
        if length < 1e-12 * radius**2:
            continue
        normal *= np.sign(normal @ roughly_up) / length
        # cameras are held upright within a third of a right angle
        if normal @ roughly_up < np.cos(np.radians(30)):
            continue
        height = (near - a) @ normal
        on_it = np.abs(height) < tolerance
        # the top of the object is a plane, too, with points below it, and no camera is under the ground
        if np.mean(height < -2 * tolerance) > 0.05 or np.mean((centres - a) @ normal < 0) > 0.05:
            continue
        if best is None or on_it.sum() > best[0]:
            best = int(on_it.sum()), near[on_it]
    if best is not None and best[0] >= max(10, 0.05 * len(near)):
        middle = best[1].mean(axis=0)
        normal = np.linalg.svd(best[1] - middle, full_matrices=False)[2][2]
        normal = normal * np.sign(normal @ roughly_up)
        return normal, float(middle @ normal)
    # nothing under it was seen: it reaches down to its own lowest points
    return roughly_up, float(np.percentile(near @ roughly_up, 2)) if len(near) else 0.0


def _held_together(points: Floats, target: Floats, up: Floats, height: float, radius: float) -> Floats:
    """The points of the object: above the ground, near where the cameras look, and not far from one another."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    offset = points - target
    level = offset - (offset @ up)[:, None] * up
    above = points @ up > height + _ABOVE_GROUND * radius
    close = points[above & (np.linalg.norm(level, axis=1) < _REACH * radius)]
    if len(close) < 20:
        raise CompNetError(
            f"only {len(close)} points were found where the cameras look; take sharper photographs, of an object with "
            "something to see on it"
        )
    pairs = cKDTree(close).query_pairs(_GAP * radius, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(close), len(close)))
    labels = connected_components(graph, directed=False)[1]
    counts = np.bincount(labels)
    # many and near: a wall behind has many points, a speck of dust is near
    distance = np.array([np.linalg.norm(close[labels == k].mean(axis=0) - target) for k in range(len(counts))])
    found = close[labels == int(np.argmax(counts * np.exp(-((distance / (0.3 * radius)) ** 2))))]
    return found if len(found) >= 8 else close


def _turn_of_least_area(points: Floats, up: Floats) -> Floats:
    """The horizontal direction of one side of the smallest upright box round most of the points, [3]."""
    # any horizontal pair of axes to start with
    first = np.cross(up, np.eye(3)[int(np.argmin(np.abs(up)))])
    first /= np.linalg.norm(first)
    second = np.cross(up, first)
    angles = np.radians(np.arange(0.0, 90.0, 0.5))
    sides = np.cos(angles)[:, None] * first + np.sin(angles)[:, None] * second
    others = np.cross(up, sides)
    widths = [np.diff(np.percentile(points @ axis.T, (1, 99), axis=0), axis=0)[0] for axis in (sides, others)]
    direction: Floats = sides[int(np.argmin(widths[0] * widths[1]))]
    return direction
