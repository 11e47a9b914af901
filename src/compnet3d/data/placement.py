"""Where an image that is pasted over another lands, and which part of it is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """Which part of a cut-out (`source`) lands where in the image (`target`), both (rows, columns).

    Both are empty where the cut-out lies outside the image.
    """

    source: tuple[slice, slice]
    target: tuple[slice, slice]

    @classmethod
    def at(cls, start: Sequence[int], size: Sequence[int], limits: Sequence[int]) -> Placement:
        """By the cut-out's first row and column, its (height, width) and those of the image."""
        source, target = [], []
        for first, extent, limit in zip(start, size, limits, strict=True):
            # bounded at both ends: a cut-out that lies wholly outside gets two empty slices, on whichever side it is
            low = min(max(0, first), limit)
            high = max(low, min(limit, first + extent))
            target.append(slice(low, high))
            source.append(slice(low - first, high - first))
        return cls((source[0], source[1]), (target[0], target[1]))

    @classmethod
    def centred(cls, size: Sequence[int], centre: Sequence[int], limits: Sequence[int]) -> Placement:
        """By the pixel that the cut-out's middle lands on."""
        return cls.at([middle - extent // 2 for middle, extent in zip(centre, size, strict=True)], size, limits)
