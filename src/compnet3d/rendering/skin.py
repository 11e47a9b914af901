"""The colours of a model's own: of its vertices, its materials and its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compnet3d.rendering.materials import Floats


@dataclass(frozen=True)
class Skin:
    """What a file says of the colours of F faces.

    Attributes:
        colours: float32 [F, 3, 3], sRGB in [0, 1] at each corner of each face; it tints the picture, where there is
            one. NaN where the file says nothing.
        uv: float32 [F, 3, 2], places in the picture: from left to right and from bottom to top, repeating each unit.
        picture: int64 [F], which one, -1 for none.
        pictures: uint8 [H, W, 3] each, sRGB.
    """

    colours: Floats
    uv: Floats
    picture: npt.NDArray[np.int64]
    pictures: Sequence[npt.NDArray[np.uint8]] = ()

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which faces have a colour [F]."""
        return np.asarray(np.isfinite(self.colours).all(axis=(1, 2)))

    def of(self, faces: npt.NDArray[np.int64]) -> Skin:
        """The skin of some of the faces."""
        return Skin(self.colours[faces], self.uv[faces], self.picture[faces], self.pictures)

    def turned_round(self) -> Skin:
        """The skin of the faces with their corners in the other order."""
        return Skin(self.colours[:, ::-1].copy(), self.uv[:, ::-1].copy(), self.picture, self.pictures)

    def at(self, face: npt.NDArray[np.int64], weight: Floats) -> Floats:
        """Colours [N, 3] (sRGB) of faces [N] at barycentric coordinates [N, 3]; NaN where nothing is known."""
        colours: Floats = np.einsum("nk,nkd->nd", weight, self.colours[face]).astype(np.float32)
        place = np.einsum("nk,nkd->nd", weight, self.uv[face])
        for number, pixels in enumerate(self.pictures):
            chosen = np.flatnonzero(self.picture[face] == number)
            if len(chosen):
                colours[chosen] *= _look_up(pixels, place[chosen])
        return colours

    def over(self, albedo: Floats, face: npt.NDArray[np.int64], weight: Floats) -> Floats:
        """Colours [N, 3] (sRGB), replaced where the skin has its own."""
        own = self.at(face, weight)
        return np.where(np.isfinite(own), own, albedo)


def _look_up(pixels: npt.NDArray[np.uint8], uv: Floats) -> Floats:
    """Colours [N, 3] in [0, 1] of a repeating picture at places [N, 2], between four of its pixels."""
    height, width = pixels.shape[:2]
    # the first row is the top one; pixel centres are at +0.5; what is not finite has no place
    x = np.nan_to_num(uv[:, 0] % 1.0) * width - 0.5
    y = np.nan_to_num((1.0 - uv[:, 1]) % 1.0) * height - 0.5
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    across, down = (x - column)[:, None].astype(np.float32), (y - row)[:, None].astype(np.float32)
    total = np.zeros((len(uv), 3), dtype=np.float32)
    for i, part_down in ((0, 1 - down), (1, down)):
        for j, part_across in ((0, 1 - across), (1, across)):
            total += part_down * part_across * pixels[(row + i) % height, (column + j) % width]
    return total / np.float32(255)
