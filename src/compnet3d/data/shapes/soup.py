"""What a reader of one format gives: polygons, and colours at their corners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compnet3d.data.shapes.siblings import Siblings
from compnet3d.geometry.frame import Frame
from compnet3d.geometry.polygons import Integers, Polygons
from compnet3d.rendering.materials import Floats
from compnet3d.rendering.skin import Skin


@dataclass(frozen=True)
class Soup:
    """A model as its file has it.

    Attributes:
        polygons: in the file's frame.
        colours: float32 [C, 3] (sRGB) of the polygons' corners, NaN where nothing is said; None for nothing at all.
        uv: float32 [C, 2], or None; picture: int64 [P] of each polygon, -1 for none, or None; pictures: see `Skin`.
        frame: the axes that the format or the file states, None for nothing.
        notes: what could not be read of its looks, one sentence each.
        files: that it names, by where they lie relative to it.
    """

    polygons: Polygons
    colours: Floats | None = None
    uv: Floats | None = None
    picture: Integers | None = None
    pictures: Sequence[npt.NDArray[np.uint8]] = ()
    frame: Frame | None = None
    notes: Sequence[str] = field(default=())
    files: Mapping[str, Path] = field(default_factory=dict)

    def skin(self, places: Integers, owner: Integers) -> Skin | None:
        """The colours of triangles: of the corners at `places` [T, 3], of the polygons `owner` [T]."""
        if self.colours is None:
            return None
        uv = np.zeros((*places.shape, 2), dtype=np.float32) if self.uv is None else self.uv[places]
        picture = np.full(len(owner), -1, dtype=np.int64) if self.picture is None else self.picture[owner]
        skin = Skin(self.colours[places], uv, picture, self.pictures)
        return skin if skin.known.any() else None


def join_soups(parts: Sequence[Soup], frame: Frame | None, siblings: Siblings) -> Soup:
    """Several parts of a scene, placed already, as one; pictures are shared by all parts."""
    notes, files = siblings.notes, siblings.files
    offsets = np.cumsum([0] + [len(part.polygons.vertices) for part in parts])
    corners = [part.polygons.corners + offset for part, offset in zip(parts, offsets, strict=False)]
    polygons = Polygons(
        np.concatenate([part.polygons.vertices for part in parts]) if parts else np.zeros((0, 3)),
        np.concatenate(corners) if parts else np.zeros(0, dtype=np.int64),
        np.concatenate([part.polygons.counts for part in parts]) if parts else np.zeros(0, dtype=np.int64),
    )
    if all(part.colours is None for part in parts):
        return Soup(polygons, frame=frame, notes=notes, files=files)
    colours, uv, picture = [], [], []
    for part in parts:
        count = len(part.polygons.corners)
        colours.append(part.colours if part.colours is not None else np.full((count, 3), np.nan, dtype=np.float32))
        uv.append(part.uv if part.uv is not None else np.zeros((count, 2), dtype=np.float32))
        picture.append(part.picture if part.picture is not None else np.full(len(part.polygons.counts), -1))
    return Soup(
        polygons,
        np.concatenate(colours),
        np.concatenate(uv),
        np.concatenate(picture).astype(np.int64),
        parts[0].pictures,
        frame,
        notes,
        files,
    )
