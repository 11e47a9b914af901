"""What varies between the images of a drawn data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compnet3d.errors import CompNetError

Style = Literal["plain", "photo"]


@dataclass(frozen=True)
class Variation:
    """How the images of a data set differ.

    Attributes:
        views: images of each instance, >= 1.
        style: "plain", or "photo": strong variation of material, light, camera and sensor, and things in front.
        backgrounds: folder of photographs, for the style "photo": as backgrounds, as light, and cut to pieces.
        elevation: least and most, degrees; None for -10 to 60, mostly 0 to 40.
        tilt: largest theta to either side, degrees; small ones are more frequent.
        deform: how much the lengths of an instance change along each axis, as a share in [0, 0.5]. The CAD models that
            are written stay as they are: their silhouettes differ from the images, as from those of real things.

    Raises:
        CompNetError: if a value is out of range or does not fit the others.
    """

    views: int = 1
    style: Style = "plain"
    backgrounds: Path | None = None
    elevation: tuple[float, float] | None = None
    tilt: float = 25.0
    deform: float = 0.0

    def __post_init__(self) -> None:
        if self.views < 1:
            raise CompNetError(f"views must be at least 1, not {self.views}.")
        if self.style not in ("plain", "photo"):
            raise CompNetError(f"style must be plain or photo, not {self.style!r}.")
        if self.backgrounds is not None and self.style == "plain":
            raise CompNetError("backgrounds are for the style photo: choose it, or give no backgrounds.")
        if self.elevation is not None and not -90 <= self.elevation[0] <= self.elevation[1] <= 90:
            low, high = self.elevation
            raise CompNetError(f"elevation must be two numbers from -90 to 90, the lesser first, not {low} {high}.")
        if not 0 <= self.tilt <= 180:
            raise CompNetError(f"tilt must be from 0 to 180 degrees, not {self.tilt}.")
        if not 0 <= self.deform <= 0.5:
            raise CompNetError(f"deform must be from 0 to 0.5, not {self.deform}.")


PLAIN = Variation()
