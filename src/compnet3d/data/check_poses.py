"""Whether a category's poses fit better with a usual mistake undone: a wrong sign, a quarter turn, another axis up.

Each pose is drawn as annotated and with each mistake undone, and compared with the object's mask or, without one, with
its box. Over many objects the difference tells: it is the same objects, images and CAD models on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from compnet3d.data.check_masks import CELLS, Window, windows_of
from compnet3d.data.check_views import Views, outlines, placed_box_ious
from compnet3d.data.sample import Sample
from compnet3d.data.symmetry import sample_surface
from compnet3d.geometry.mesh import Mesh
from compnet3d.geometry.rotations import TWO_PI, angles_to_rotmat


@dataclass(frozen=True)
class Mistake:
    """A usual mistake.

    Attributes:
        name: what undoes it, as it completes "fits better with ...".
        undo: from the annotated azimuth, elevation and theta to what they should be.
        axes: from the CAD models' coordinates to what they should be, where these are wrong.
    """

    name: str
    undo: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]] = lambda *angles: angles
    axes: tuple[tuple[int, int, int], ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


# those that are made more often first: where several fit alike, the first one is named
MISTAKES = (
    Mistake("azimuth negated", lambda a, e, t: (-a, e, t)),
    Mistake("180 degrees added to azimuth", lambda a, e, t: (a + math.pi, e, t)),
    Mistake("90 degrees added to azimuth", lambda a, e, t: (a + math.pi / 2, e, t)),
    Mistake("90 degrees taken from azimuth", lambda a, e, t: (a - math.pi / 2, e, t)),
    Mistake("elevation negated", lambda a, e, t: (a, -e, t)),
    Mistake("theta negated", lambda a, e, t: (a, e, -t)),
    Mistake("azimuth and theta negated (a mirrored image)", lambda a, e, t: (-a, e, -t)),
    Mistake("180 degrees minus azimuth", lambda a, e, t: (math.pi - a, e, t)),
    Mistake("90 degrees minus azimuth", lambda a, e, t: (math.pi / 2 - a, e, t)),
    Mistake("270 degrees minus azimuth", lambda a, e, t: (-math.pi / 2 - a, e, t)),
    Mistake("90 degrees minus elevation (a polar angle)", lambda a, e, t: (a, math.pi / 2 - e, t)),
    Mistake("180 degrees added to theta (an image upside down)", lambda a, e, t: (a, e, t + math.pi)),
    Mistake("90 degrees added to theta (an image on its side)", lambda a, e, t: (a, e, t + math.pi / 2)),
    Mistake("90 degrees taken from theta (an image on its side)", lambda a, e, t: (a, e, t - math.pi / 2)),
    Mistake("CAD models whose y axis is up turned upright", axes=((1, 0, 0), (0, 0, -1), (0, 1, 0))),
    Mistake("CAD models whose -y axis is up turned upright", axes=((1, 0, 0), (0, 0, 1), (0, -1, 0))),
    Mistake("CAD models whose x axis is up turned upright", axes=((0, 0, -1), (0, 1, 0), (1, 0, 0))),
    Mistake("angles times 6.28 (turns for radians)", lambda *angles: tuple(TWO_PI * angle for angle in angles)),
    Mistake("angles times 57.3 (converted to radians twice)", lambda a, e, t: (a.rad2deg(), e.rad2deg(), t.rad2deg())),
    Mistake("azimuth times 6.28 (turns for radians)", lambda a, e, t: (TWO_PI * a, e, t)),
    Mistake("azimuth times 57.3 (converted to radians twice)", lambda a, e, t: (a.rad2deg(), e, t)),
)


@dataclass(frozen=True)
class Fits:
    """How well objects fit, as annotated and with each mistake undone, in [0, 1].

    Attributes:
        by: what they are compared with.
        values: [1 + number of mistakes, 2, N] of N objects: as they are placed, and moved and scaled onto the mask or
            box: distance and principal point may have been found with the wrong pose.
    """

    by: Literal["masks", "boxes"]
    values: np.ndarray

    @classmethod
    def cat(cls, parts: Sequence[Fits]) -> Fits:
        """Those of several groups, all by masks or all by boxes."""
        return cls(parts[0].by, np.concatenate([part.values for part in parts], axis=-1))


@dataclass(frozen=True)
class Better:
    """A mistake whose undoing fits better.

    Attributes:
        names: of the mistake, and of those that fit as well.
        by: what was compared with; before, after: the mean fits.
        count: of the objects; deviations: by how many standard errors the mean gain is above 0.
    """

    names: tuple[str, ...]
    by: str
    before: float
    after: float
    count: int
    deviations: float

    def __str__(self) -> str:
        others = f" (or with {', or '.join(self.names[1:])}, which fit alike)" if self.names[1:] else ""
        return (
            f"{self.by} fit better with {self.names[0]}{others}: IoU {self.after:.2f} instead of {self.before:.2f} "
            f"over {self.count} objects"
        )


def measure_fits(
    samples: Sequence[Sample],
    meshes: Mapping[int, Mesh],
    by: Literal["masks", "boxes"],
    windows: Sequence[Window | None] | None = None,
) -> Fits:
    """Compare objects of one category with their masks or boxes.

    Args:
        samples: at least one. By "masks" only those with a mask of their own are compared.
        meshes: CAD models by cad_index, at least one; an object whose index is not among them gets another one.
        windows: `windows_of` the samples, where they have been read already.
    """
    scorer: _MaskScorer | _BoxScorer
    if by == "masks":
        pairs = zip(samples, windows or windows_of(samples), strict=True)
        own = [(sample, window) for sample, window in pairs if window is not None]
        samples = [sample for sample, _ in own]
        scorer = _MaskScorer(samples, meshes, [window for _, window in own])
    else:
        scorer = _BoxScorer(samples, meshes)
    # small negative angles are near 2 pi in a sample, which matters where they are multiplied
    signed = ([math.remainder(getattr(s, name), TWO_PI) for s in samples] for name in ("azimuth", "elevation", "theta"))
    angles = [torch.tensor(values, dtype=torch.float64) for values in signed]
    rows = []
    for mistake in (Mistake(""), *MISTAKES):
        rotmat = angles_to_rotmat(*mistake.undo(*angles)).numpy() @ np.array(mistake.axes, dtype=float)
        with np.errstate(all="ignore"):  # of models that are a point from some side, or behind the camera
            rows.append(scorer.scores(rotmat))
    return Fits(by, np.nan_to_num(np.array(rows)))


def find_better(fits: Fits) -> Better | None:
    """The mistake whose undoing fits best, if it fits clearly better than what is annotated; else None.

    Clearly: by 0.02 on average and by four standard errors of the paired differences; over four objects at least.
    """
    mean, deviations, clear = _gains(fits, least_deviations=4.0)
    if fits.values.shape[-1] < 4 or not clear.any():
        return None
    # of the two views the one that tells more
    view = int(np.where(clear, deviations, -np.inf).max(axis=0).argmax())
    number = int(np.where(clear[:, view], mean[:, view], -np.inf).argmax())
    alike = [i for i in range(len(MISTAKES)) if clear[i, view] and mean[i, view] > mean[number, view] - 0.01]
    before, after = fits.values[0, view].mean(), fits.values[1 + number, view].mean()
    return Better(
        names=tuple(MISTAKES[i].name for i in alike),
        by=fits.by,
        before=float(before),
        after=float(after),
        count=fits.values.shape[-1],
        deviations=float(deviations[number, view]),
    )


def is_open(fits: Fits) -> bool:
    """Whether something fits a little better, so that more objects are worth a look."""
    return bool(_gains(fits, least_deviations=1.0)[2].any())


def _gains(fits: Fits, least_deviations: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each undone mistake gains, [number of mistakes, 2] each.

    The mean difference; this over its standard error, of which equal differences have a little too; and whether both
    are large enough.
    """
    gains = fits.values[1:] - fits.values[:1]
    mean, count = gains.mean(axis=-1), gains.shape[-1]
    deviations = mean / (gains.std(axis=-1, ddof=min(1, count - 1)) / math.sqrt(count) + 0.002)
    return mean, deviations, (mean > 0.02) & (deviations > least_deviations)


class _BoxScorer(Views):
    def __init__(self, samples: Sequence[Sample], meshes: Mapping[int, Mesh]) -> None:
        super().__init__(samples, outlines(meshes))
        self.boxes = np.array([s.bbox for s in samples])

    def scores(self, rotmat: np.ndarray) -> np.ndarray:
        u, v = _in_front(self, rotmat)
        low, high = (np.stack([best.reduce(u, axis=1), best.reduce(v, axis=1)], axis=1) for best in (np.fmin, np.fmax))
        placed = placed_box_ious(np.concatenate([low, high], axis=1), self.boxes, self.size)
        sides, annotated = high - low, self.boxes[:, 2:] - self.boxes[:, :2]
        # of two boxes with one centre and one width or height: the ratio of their proportions
        proportions = np.log(sides[:, 0] / sides[:, 1]) - np.log(annotated[:, 0] / annotated[:, 1])
        return np.stack([placed, np.exp(-np.abs(proportions))])


class _MaskScorer(Views):
    def __init__(self, samples: Sequence[Sample], meshes: Mapping[int, Mesh], windows: Sequence[Window]) -> None:
        count = 3000  # points: several for each cell that an object covers
        super().__init__(samples, {i: _surface(mesh, count) for i, mesh in meshes.items()})
        self.masks = np.stack([window.cells for window in windows])
        self.left, self.top = np.array([window.origin for window in windows]).T[..., None]
        self.cells = np.array([[window.cell] for window in windows])
        self.centres, self.lengths = _moments(self.masks)

    def scores(self, rotmat: np.ndarray) -> np.ndarray:
        u, v = _in_front(self, rotmat)
        width, height = self.size.T[..., None]
        inside = (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
        placed = _drawn((u - self.left) / self.cells, (v - self.top) / self.cells, inside)
        # the silhouette alone in the middle, then of the mask's area at the mask's centre
        (left, right), (top, bottom) = (  # NaN is left out
            [best.reduce(side, axis=1, keepdims=True) for best in (np.fmin, np.fmax)] for side in (u, v)
        )
        longest, half = np.maximum(right - left, bottom - top), CELLS / 2
        column = (u - (left + right) / 2) / longest * half + half
        row = (v - (top + bottom) / 2) / longest * half + half
        centres, lengths = _moments(_drawn(column, row))
        scale = self.lengths / lengths
        moved = _drawn(
            *((side - old) * scale + new for side, old, new in zip((column, row), centres, self.centres, strict=True))
        )
        return np.stack([_mask_ious(placed, self.masks), _mask_ious(moved, self.masks)])


def _in_front(views: Views, rotmat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows [N, P] of the points at rotations [N, 3, 3]; NaN behind the camera."""
    u, v, depth = views.project(rotmat)
    behind = ~(depth > 1e-3 * views.distance)
    if behind.any():
        u[behind] = v[behind] = np.nan
    return u, v


def _mask_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first & second).sum(axis=(1, 2)) / (first | second).sum(axis=(1, 2)).clip(1)


def _drawn(column: np.ndarray, row: np.ndarray, inside: np.ndarray | bool = True) -> np.ndarray:
    """Cells [N, CELLS, CELLS] in which there is a point [N, P]; those outside are left out, as are those of NaN."""
    inside = (column >= 0) & (column < CELLS) & (row >= 0) & (row < CELLS) & inside
    number = np.arange(len(column))[:, None] * CELLS + row.astype(np.int64)
    number *= CELLS
    number += column.astype(np.int64)
    cells = np.zeros(len(column) * CELLS * CELLS, dtype=bool)
    cells[number[inside]] = True
    return cells.reshape(-1, CELLS, CELLS)


def _moments(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centre, column and row, [2, N, 1] and the root of the area [N, 1] of each mask, in cells."""
    area = masks.sum(axis=(1, 2)).clip(1)
    middle = np.arange(CELLS) + 0.5
    centre = np.stack([masks.sum(axis=1) @ middle, masks.sum(axis=2) @ middle]) / area
    return centre[..., None], np.sqrt(area)[:, None]


def _surface(mesh: Mesh, count: int) -> np.ndarray:
    points = sample_surface(mesh, count)
    # a mesh without area still has corners
    return points if len(points) else np.resize(mesh.vertices.double().numpy(), (count, 3))
