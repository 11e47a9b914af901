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
from PIL import Image
from torch import Tensor

from compnet3d.data.images import load_mask
from compnet3d.data.sample import Sample
from compnet3d.data.symmetry import sample_surface
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh
from compnet3d.geometry.rotations import TWO_PI, angles_to_rotmat

_CELLS = 48  # of a mask, along the side of what is compared: half of it is the object's longer side


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


def measure_fits(samples: Sequence[Sample], meshes: Mapping[int, Mesh], by: Literal["masks", "boxes"]) -> Fits:
    """Compare objects of one category with their masks or boxes.

    Args:
        samples: at least one; by "masks" each has one that can be read and is not empty (see `with_masks`).
        meshes: CAD models by cad_index, at least one; an object whose index is not among them gets another one.
    """
    scorer = _MaskScorer(samples, meshes) if by == "masks" else _BoxScorer(samples, meshes)
    # small negative angles are near 2 pi in a sample, which matters where they are multiplied
    signed = ([math.remainder(getattr(s, name), TWO_PI) for s in samples] for name in ("azimuth", "elevation", "theta"))
    angles = [torch.tensor(values, dtype=torch.float64) for values in signed]
    rows = []
    for mistake in (Mistake(""), *MISTAKES):
        rotmat = angles_to_rotmat(*mistake.undo(*angles)).numpy() @ np.array(mistake.axes, dtype=float)
        with np.errstate(all="ignore"):  # of models that are a point from some side, or behind the camera
            rows.append(scorer.scores(rotmat))
    return Fits(by, np.nan_to_num(np.array(rows)))


def with_masks(samples: Sequence[Sample]) -> list[Sample]:
    """Those of the objects whose mask says where they alone are: it can be read, holds something and is not shared."""
    crowded = {s.name for s in samples if s.object_index > 0}
    return [s for s in samples if s.name not in crowded and _mask_of(s) is not None]


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


class _Scorer:
    """Objects of a category at other rotations, in the annotated cameras."""

    def __init__(self, samples: Sequence[Sample], meshes: Mapping[int, Mesh], points: Mapping[int, np.ndarray]) -> None:
        self.samples = samples
        indices = [s.cad_index if s.cad_index in meshes else min(meshes) for s in samples]
        self.points = np.stack([points[i] for i in indices])
        self.focal, self.distance = (np.array([[getattr(s, n)] for s in samples]) for n in ("focal", "distance"))
        self.principal_point = np.array([[s.principal_point] for s in samples])
        self.size = np.array([[s.width, s.height] for s in samples], dtype=float)

    def project(self, rotmat: np.ndarray) -> np.ndarray:
        """Pixels [N, P, 2] of the points at rotations [N, 3, 3]; NaN behind the camera."""
        turned = self.points @ rotmat.transpose(0, 2, 1)
        depth = self.distance - turned[..., 2]
        depth = np.where(depth > 1e-3 * self.distance, depth, np.nan)[..., None]
        return self.principal_point + self.focal[..., None] * turned[..., :2] * [1.0, -1.0] / depth


class _BoxScorer(_Scorer):
    def __init__(self, samples: Sequence[Sample], meshes: Mapping[int, Mesh]) -> None:
        super().__init__(samples, meshes, _same_count({i: outermost(mesh) for i, mesh in meshes.items()}))
        self.boxes = np.array([s.bbox for s in samples])

    def scores(self, rotmat: np.ndarray) -> np.ndarray:
        pixels = self.project(rotmat)
        low, high = np.fmin.reduce(pixels, axis=1), np.fmax.reduce(pixels, axis=1)
        projected, limits = np.concatenate([low, high], axis=1), np.tile(self.size, 2)
        placed = box_ious(projected, self.boxes)
        # annotators differ in whether boxes follow an object out of the image
        cut = box_ious(np.clip(projected, 0.0, limits), np.clip(self.boxes, 0.0, limits))
        sides, annotated = high - low, self.boxes[:, 2:] - self.boxes[:, :2]
        # of two boxes with one centre and one width or height: the ratio of their proportions
        proportions = np.log(sides[:, 0] / sides[:, 1]) - np.log(annotated[:, 0] / annotated[:, 1])
        return np.stack([np.fmax(placed, cut), np.exp(-np.abs(proportions))])


class _MaskScorer(_Scorer):
    def __init__(self, samples: Sequence[Sample], meshes: Mapping[int, Mesh]) -> None:
        count = 3000  # points: several for each cell that an object covers
        super().__init__(samples, meshes, {i: _surface(mesh, count) for i, mesh in meshes.items()})
        windows = [_window(mask) for mask in map(_mask_of, samples) if mask is not None]
        self.masks = np.stack([mask for mask, _, _ in windows])
        self.origins = np.array([[origin] for _, origin, _ in windows])
        self.cells = np.array([[[cell]] for _, _, cell in windows])
        self.centres, self.lengths = _moments(self.masks)

    def scores(self, rotmat: np.ndarray) -> np.ndarray:
        pixels = self.project(rotmat)
        inside = ((pixels >= 0) & (pixels <= self.size[:, None])).all(axis=-1, keepdims=True)
        placed = _drawn(np.where(inside, (pixels - self.origins) / self.cells, np.nan))
        # the silhouette alone in the middle, then of the mask's area at the mask's centre
        low, high = (best.reduce(pixels, axis=1, keepdims=True) for best in (np.fmin, np.fmax))  # NaN is left out
        longest = (high - low).max(axis=-1, keepdims=True)
        alone = (pixels - (low + high) / 2) / longest * (_CELLS / 2) + _CELLS / 2
        centres, lengths = _moments(_drawn(alone))
        moved = (alone - centres) * (self.lengths / lengths) + self.centres
        return np.stack([_mask_ious(placed, self.masks), _mask_ious(_drawn(moved), self.masks)])


def box_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersections over unions [N] of boxes x1, y1, x2, y2 [N, 4]; 0 where both are empty or one is NaN."""
    overlap = np.clip(np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2]), 0, None)
    shared = overlap.prod(axis=1)
    union = (first[:, 2:] - first[:, :2]).prod(axis=1) + (second[:, 2:] - second[:, :2]).prod(axis=1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _mask_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first & second).sum(axis=(1, 2)) / (first | second).sum(axis=(1, 2)).clip(1)


def marked_mask(sample: Sample) -> np.ndarray | None:
    """The mask in the annotated size, bool [H, W]; None where there is none that can be read and marks anything."""
    if sample.mask is None:
        return None
    try:
        mask = load_mask(sample.mask, size=(sample.width, sample.height))
    except CompNetError:
        return None  # a finding of its own
    return mask if mask.any() else None


def _mask_of(sample: Sample) -> np.ndarray | None:
    """The same, of masks that leave something unmarked and mark no surroundings: others tell no pose."""
    mask = marked_mask(sample)
    return None if mask is None or mask.all() or marks_surroundings(mask, sample.bbox) else mask


def marks_surroundings(mask: np.ndarray, bbox: Sequence[float]) -> bool:
    """Whether a mask [H, W] marks what is round a box x1, y1, x2, y2 rather than what is in it: black is the object."""
    x1, y1, x2, y2 = (max(0, round(value)) for value in bbox)
    inside = mask[y1:y2, x1:x2]
    outside = mask.size - inside.size
    most, least = 0.95, 0.02  # of the surroundings, that is marked; of the box, that is not
    if not inside.size or outside < least * mask.size or inside.mean() > 1 - least:
        return False
    return bool((mask.sum() - inside.sum()) / outside > most)


def mask_box(sample: Sample) -> tuple[float, float, float, float] | None:
    """The box x1, y1, x2, y2 of an object's mask; None where there is none, or where others share it."""
    mask = None if sample.object_index > 0 else _mask_of(sample)
    if mask is None:
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _window(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """A mask in cells around its object, bool [_CELLS, _CELLS]; the pixel where they begin, and pixels per cell."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    low, high = np.array([columns[0], rows[0]]), np.array([columns[-1] + 1, rows[-1] + 1])
    cell = float((high - low).max()) / (_CELLS / 2)
    origin = (low + high - cell * _CELLS) / 2
    layer = Image.fromarray(mask).convert("L")
    matrix = (cell, 0.0, origin[0], 0.0, cell, origin[1])
    return np.asarray(layer.transform((_CELLS, _CELLS), Image.Transform.AFFINE, matrix)) > 127, origin, cell


def _drawn(places: np.ndarray) -> np.ndarray:
    """Cells [N, _CELLS, _CELLS] in which there is a point of [N, P, 2], column first; those outside are left out."""
    inside = np.all((places >= 0) & (places < _CELLS), axis=-1)  # False for NaN
    whole = np.where(inside[..., None], places, 0.0).astype(np.int64)
    number = (np.arange(len(places))[:, None] * _CELLS + whole[..., 1]) * _CELLS + whole[..., 0]
    cells = np.zeros(len(places) * _CELLS * _CELLS, dtype=bool)
    cells[number[inside]] = True
    return cells.reshape(-1, _CELLS, _CELLS)


def _moments(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centre [N, 1, 2] and the root of the area [N, 1, 1] of each mask, in cells."""
    area = masks.sum(axis=(1, 2)).clip(1)
    middle = np.arange(_CELLS) + 0.5
    centre = np.stack([masks.sum(axis=1) @ middle, masks.sum(axis=2) @ middle], axis=-1) / area[:, None]
    return centre[:, None], np.sqrt(area)[:, None, None]


def _surface(mesh: Mesh, count: int) -> np.ndarray:
    points = sample_surface(mesh, count)
    # a mesh without area still has corners
    return points if len(points) else np.resize(mesh.vertices.double().numpy(), (count, 3))


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


def _same_count(meshes: Mapping[int, Mesh]) -> dict[int, np.ndarray]:
    """Each model's vertices, repeated up to the number of the largest."""
    most = max(len(mesh.vertices) for mesh in meshes.values())
    return {index: np.resize(mesh.vertices.double().numpy(), (most, 3)) for index, mesh in meshes.items()}
