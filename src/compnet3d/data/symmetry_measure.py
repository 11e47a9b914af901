"""Symmetries measured on CAD models: turns about the vertical axis, and the mirror in x."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compnet3d.data.shapes.read import find_shapes, load_shape
from compnet3d.data.symmetry import (
    FILE_NAME,
    MIRROR_TOLERANCE,
    Symmetry,
    load_symmetry,
    mirror_distance,
    sample_surface,
)
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh, float_mesh
from compnet3d.utils.files import Json, folders_in, read_json, write_json

HIGHEST_ORDER = 12


@dataclass(frozen=True)
class Measured:
    """Of a category's models together.

    Attributes:
        models: how many.
        order: of the turns about z that change none of them: 0 continuous, 1 none.
        residual: how far the worst of them lies from itself after such a turn, as a share of its tolerance: at most 1.
        rejected: the same for the best turn by 360 / n degrees that is no symmetry; inf where all are.
        mirror: the mean distance of the worst from its mirror image, in diagonals.
    """

    models: int
    order: int
    residual: float
    rejected: float
    mirror: float

    def symmetry(self) -> Symmetry:
        """As `symmetry.json` states it."""
        return Symmetry(self.order, self.mirror < MIRROR_TOLERANCE)


# What is beyond doubt: only turns, and only where every object of the category has them, up to its print. Bottle, bowl
# and can are scored so by NOCS (Wang et al., CVPR 2019, section 5); the models of plates that ObjectNet3D has are round
# (`data symmetry` measures them); a bowling pin is a body of revolution by the rules of the sport, as is a glass with a
# stem by how it is made. Not here: what some have a handle, a spout or corners of (cup, jar, beaker, funnel, lamp,
# bucket), and what lies on its side (bat, pen, barbell).
KNOWN: Mapping[str, Mapping[str, Symmetry]] = {
    "pascal3d": {"bottle": Symmetry(order=0)},
    "imagenet3d": dict.fromkeys(("bottle", "bowl", "bowling_pin", "can", "plate", "wine_glass"), Symmetry(order=0)),
}


class TurnedSurface:
    """How far a surface lies from itself after turns about the vertical axis through the middle of its area."""

    def __init__(self, mesh: Mesh, samples: int = 2000) -> None:
        from scipy.spatial import cKDTree

        reference = sample_surface(mesh, 20 * samples, seed=0)
        if not len(reference):
            raise CompNetError("the model has no surface; export it again")
        # of symmetric shapes it lies on the axis, which the middle of the box does not for three sides
        self._axis = np.append(reference[:, :2].mean(axis=0), 0.0)
        self._tree = cKDTree(reference - self._axis)
        self._points = sample_surface(mesh, samples, seed=1) - self._axis
        self._diagonal = float(np.linalg.norm(np.ptp(reference, axis=0)))
        # what sampling alone gives
        self._floor = self._figures(self._points)

    def residual(self, degrees: float) -> float:
        """After one turn: the larger of mean and 98th percentile of the distances, each as a share of its tolerance."""
        # Of the diagonal: how far a turned surface may lie from itself on average, and all but 2 % of it. Prisms of
        # eight sides and more are about round by these; a mug's handle is a larger part than 2 %.
        mean_tolerance, most_tolerance = 0.008, 0.02
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        mean, most = self._figures(self._points @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]).T)
        return max((mean - self._floor[0]) / mean_tolerance, (most - self._floor[1]) / most_tolerance, 0.0)

    def residuals(self) -> npt.NDArray[np.float64]:
        """For each order [13]: 0 any turn (the worst of several), 1 none, n a turn by 360 / n degrees."""
        # turns in degrees that no n-fold symmetry up to 12 shares
        any_turns = (7.3, 16.9, 23.7, 40.3, 52.1, 77.7, 100.3, 133.9, 161.3)
        anyhow = max(self.residual(turn) for turn in any_turns)
        return np.array([anyhow, 0.0, *(self.residual(360 / n) for n in range(2, HIGHEST_ORDER + 1))])

    def _figures(self, points: npt.NDArray[np.float64]) -> tuple[float, float]:
        distance = np.asarray(self._tree.query(points)[0]) / self._diagonal
        return float(distance.mean()), float(np.quantile(distance, 0.98))


def measure(meshes: Sequence[Mesh]) -> Measured:
    """The symmetry that all of a category's models have.

    Args:
        meshes: at least one.

    Raises:
        CompNetError: if one has no surface.
    """
    # by how much, in tolerances, two turns of one symmetry may differ
    alike = 0.25
    # share of what any turn changes that a turn of an n-fold symmetry may change
    clearly_less = 0.4
    worst = np.max([TurnedSurface(mesh).residuals() for mesh in meshes], axis=0)
    # of what is nearly round, every turn changes little; its own turns change much less
    limit = min(1.0, clearly_less * float(worst[0]), float(worst[2:].min()) + alike)
    order = 0 if worst[0] <= 1.0 else next(n for n in range(HIGHEST_ORDER, 0, -1) if worst[n] <= limit)
    others = [n for n in range(2, HIGHEST_ORDER + 1) if order and order % n]
    rejected = min((float(worst[n]) for n in others), default=math.inf)
    return Measured(len(meshes), order, float(worst[order]), rejected, max(map(mirror_distance, meshes)))


def category_folders(root: Path) -> dict[str, Path]:
    """The folders of CAD models of a data set (in its CAD/), or of a folder of CAD models, by category.

    Raises:
        CompNetError: if there is none.
    """
    folder = root / "CAD" if (root / "CAD").is_dir() else root
    found = {path.name: path for path in folders_in(folder) if find_shapes(path)}
    if not found:
        raise CompNetError(f"{folder}: holds no CAD models; it needs CATEGORY/01.off or the like")
    return found


def measure_category(folder: Path) -> Measured:
    """`measure` of the models in a folder.

    Raises:
        CompNetError: naming the file, if one is broken.
    """
    meshes = []
    for path in find_shapes(folder):
        shape = load_shape(path)
        # turns are about the model's own middle, but the mirror is in the plane x = 0 of its origin
        meshes.append(float_mesh(path, shape.vertices, shape.faces))
    return measure(meshes)


def write_measured(root: Path, found: Mapping[str, Symmetry], *, replace: bool = False) -> list[str]:
    """Add to `root/symmetry.json` what it does not say.

    Args:
        root: the data set's folder; found: of each category; replace: also what it says otherwise.

    Returns:
        The categories whose entries have changed.

    Raises:
        CompNetError: if the file is malformed, or cannot be written.
    """
    load_symmetry(root)  # refuses what is malformed
    path = root / FILE_NAME
    table: Json = read_json(path) if path.exists() else {}
    changed = []
    for category, symmetry in found.items():
        before = table.get(category, {})
        entry: Json = {} if replace else dict(before)
        if symmetry.order != 1:
            entry.setdefault("z", "continuous" if symmetry.order == 0 else symmetry.order)
        if symmetry.mirror is not None:
            entry.setdefault("mirror", symmetry.mirror)
        if entry != before:
            changed.append(category)
            table[category] = entry
    if changed:
        write_json(path, dict(sorted(table.items())))
    return changed
