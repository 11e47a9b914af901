"""Masks of objects, as `data check` compares CAD models with them: small, and read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from compnet3d.data.images import load_mask
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError

CELLS = 48  # of a mask, along the side of what is compared: half of it is the object's longer side


@dataclass(frozen=True)
class Window:
    """A mask in cells around its object.

    Attributes:
        box: x1, y1, x2, y2 of what the mask marks, in pixels.
        cells: bool [CELLS, CELLS].
        origin: the pixel where they begin, column first, [2]; cell: pixels per cell.
    """

    box: tuple[float, float, float, float]
    cells: np.ndarray
    origin: np.ndarray
    cell: float


def marked_mask(sample: Sample) -> np.ndarray | None:
    """The mask in the annotated size, bool [H, W]; None where there is none that can be read and marks anything."""
    if sample.mask is None:
        return None
    try:
        mask = load_mask(sample.mask, size=(sample.width, sample.height))
    except CompNetError:
        return None  # a finding of its own
    return mask if mask.any() else None


def marks_surroundings(mask: np.ndarray, bbox: Sequence[float]) -> bool:
    """Whether a mask [H, W] marks what is round a box x1, y1, x2, y2 rather than what is in it: black is the object."""
    x1, y1, x2, y2 = (max(0, round(value)) for value in bbox)
    inside = mask[y1:y2, x1:x2]
    outside = mask.size - inside.size
    most, least = 0.95, 0.02  # of the surroundings, that is marked; of the box, that is not
    if not inside.size or outside < least * mask.size or inside.mean() > 1 - least:
        return False
    return bool((mask.sum() - inside.sum()) / outside > most)


def windows_of(samples: Sequence[Sample]) -> list[Window | None]:
    """Each object's mask, where it says where that object alone is: it can be read, marks something, is not shared.

    It must leave something unmarked and mark no surroundings, too: others tell no pose.
    """
    crowded = {s.name for s in samples if s.object_index > 0}
    return [None if s.name in crowded else _window(s) for s in samples]


def _window(sample: Sample) -> Window | None:
    mask = marked_mask(sample)
    if mask is None or mask.all() or marks_surroundings(mask, sample.bbox):
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    low, high = np.array([columns[0], rows[0]]), np.array([columns[-1] + 1, rows[-1] + 1])
    cell = float((high - low).max()) / (CELLS / 2)
    origin = (low + high - cell * CELLS) / 2
    layer = Image.fromarray(mask).convert("L")
    matrix = (cell, 0.0, origin[0], 0.0, cell, origin[1])
    cells = np.asarray(layer.transform((CELLS, CELLS), Image.Transform.AFFINE, matrix)) > 127
    return Window((*low.astype(float).tolist(), *high.astype(float).tolist()), cells, origin, cell)
