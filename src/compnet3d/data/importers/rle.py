"""Segmentations of COCO as masks: polygons, and run lengths as numbers or as a text.

Run lengths go down the columns, beginning with those of the background. In a text each is a number of 5 bits a
character, the lowest first, from character 48 on; bit 5 says that more follow, bit 4 of the last is the sign; from the
fourth number on it is the difference to the one two before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from compnet3d.data.annotations import SkipObject
from compnet3d.data.importers.columns import numbers_in


def mask_of(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """The mask bool [H, W] of an image of this size (width, height).

    Raises:
        SkipObject: if the segmentation is broken, or of an image of another size.
    """
    try:
        if isinstance(segmentation, Mapping):
            return _from_runs(segmentation, size)
        if isinstance(segmentation, list):
            return _from_polygons(segmentation, size)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        pass
    raise SkipObject("unreadable segmentation")


def _from_polygons(polygons: Sequence[Any], size: tuple[int, int]) -> np.ndarray:
    most_numbers = 100_000
    if polygons and not isinstance(polygons[0], list):
        polygons = [polygons]
    image = Image.new("1", size)
    draw = ImageDraw.Draw(image)
    for polygon in polygons:
        corners = [*numbers_in(polygon)]
        if len(corners) < 6 or len(corners) % 2 or len(corners) > most_numbers or not np.isfinite(corners).all():
            raise ValueError("no polygon")
        draw.polygon([min(max(corner, -1e6), 1e6) for corner in corners], fill=1)
    if not polygons:
        raise ValueError("no polygon")
    return np.asarray(image)


def _from_runs(segmentation: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    width, height = size
    if [int(side) for side in segmentation["size"]] != [height, width]:
        raise ValueError("of another size")
    counts = segmentation["counts"]
    runs = _decoded(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if len(runs) > width * height + 1 or min(runs, default=-1) < 0 or sum(runs) != width * height:
        raise ValueError("not as many pixels as the image has")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def _decoded(text: str) -> list[int]:
    runs: list[int] = []
    number = shift = 0
    for character in text.encode("ascii"):
        bits = character - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("not a text of run lengths")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number = shift = 0
    if shift:
        raise ValueError("cut short")
    return runs
