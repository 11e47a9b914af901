"""`compnet3d data show`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from compnet3d.cli.options import Count, File, Names, at_least, require_folder


@dataclass(frozen=True)
class DataShow:
    """Draw annotations on their images, those that fit worst first, so that a wrong sign is seen at once."""

    data: Annotated[Positional[Path], arg(metavar="DIR")]
    """The data set, in the ImageNet3D layout."""
    out: File = None
    """The page to write, one HTML file that needs no network; NAME-annotations.html here for DIR of that name by
    default, unless --sheet is given."""
    sheet: File = None
    """Write the objects that fit worst onto one picture too (.png or .jpg)."""
    images: Count = None
    """Images of each category and split, drawn at random; 12 by default, fewer where there are many categories."""
    categories: Names = ()
    """Only these categories."""
    shape: Literal["mesh", "cuboid"] = "mesh"
    """What is drawn: the CAD model that the annotation names, or the cuboid of all of the category."""
    seed: int = 0
    """Seed of the draw."""

    def run(self) -> None:
        """Measure, draw, print, write."""
        at_least(1, images=self.images)
        at_least(0, seed=self.seed)
        require_folder(self.data, "DIR")
        from compnet3d.reporting import data_show
        from compnet3d.utils.progress import tracked

        shown = data_show.examine(
            self.data,
            images=self.images,
            categories=self.categories or None,
            shape=self.shape,
            seed=self.seed,
            progress=True,
        )
        pictures = [data_show.draw(entry) for entry in tracked(shown, "drawing", enabled=True)]
        data_show.print_fits(shown)
        out = self.out
        if out is None and self.sheet is None:
            out = Path(f"{self.data.resolve().name}-annotations.html")
        if out is not None:
            data_show.write_page(out, self.data, shown, pictures)
            print(f"wrote {out}")
        if self.sheet is not None:
            data_show.write_sheet(self.sheet, shown, pictures)
            print(f"wrote {self.sheet}")
