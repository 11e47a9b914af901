"""`compnet3d data symmetry`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from compnet3d.cli.options import Flag, require_folder
from compnet3d.errors import CompNetError


@dataclass(frozen=True)
class DataSymmetry:
    """Measure on CAD models which turns about the vertical axis and which mirror change nothing."""

    data: Annotated[Positional[Path], arg(metavar="DIR")]
    """A data set, or a folder with one folder of CAD models for each category."""
    write: Flag = False
    """Add what was found to DIR/symmetry.json; what it says already stays."""
    replace: Flag = False
    """With --write, also change what symmetry.json says otherwise."""
    table: Annotated[Literal["pascal3d", "imagenet3d"] | None, arg(metavar="pascal3d|imagenet3d")] = None
    """Take what is known beyond doubt of this data set's categories, whatever its few CAD models look like."""

    def run(self) -> None:
        """Measure, print, write."""
        require_folder(self.data, "DIR")
        if self.replace and not self.write:
            raise CompNetError("--replace changes symmetry.json: give --write as well")
        from compnet3d.data.symmetry import Symmetry
        from compnet3d.data.symmetry_measure import KNOWN, category_folders, measure_category, write_measured
        from compnet3d.reporting.terminal import new_table, terminal
        from compnet3d.utils.progress import tracked
        from compnet3d.utils.text import printable

        known = KNOWN[self.table] if self.table is not None else {}
        shown = new_table(
            "symmetry about the vertical axis and in the mirror x",
            ["category", "turns", "mirror"],
            ["models", "residual", "next", "mirror distance"],
            "residual: how much the turns found change, as a share of the tolerance; next: the same of the best other "
            "turn; where both are near 1, look at the models",
        )
        found: dict[str, Symmetry] = {}
        folders = category_folders(self.data)
        for name in tracked(list(folders), "measuring", enabled=True):
            measured = measure_category(folders[name])
            symmetry = measured.symmetry()
            if name in known:
                symmetry = Symmetry(known[name].order, symmetry.mirror)
            found[name] = symmetry
            turns = {0: "continuous", 1: "none"}.get(symmetry.order, f"{symmetry.order}-fold")
            turns += " (known)" if name in known else ""
            beyond = "-" if math.isinf(measured.rejected) else f"{measured.rejected:.1f}"
            mirrored = "yes" if symmetry.mirror else "no"
            numbers = [str(measured.models), f"{measured.residual:.2f}", beyond, f"{measured.mirror:.3f}"]
            shown.add_row(printable(name), turns, mirrored, *numbers)
        terminal().print(shown)
        if self.write:
            changed = write_measured(self.data, found, replace=self.replace)
            print(f"{self.data / 'symmetry.json'}: {len(changed)} of {len(found)} categories changed")
