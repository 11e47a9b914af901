"""A table (CSV, TSV or JSON lines) with a line for each object: its image, category, box and pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from compnet3d.data.importers.columns import read_table
from compnet3d.data.importers.import_report import LeftOut
from compnet3d.data.importers.posed_row import RowForm
from compnet3d.data.importers.posed_rows import PosedRows, RowItem, RowSource
from compnet3d.data.importers.shapes import Shapes


@dataclass
class Table(RowSource):
    """A table of objects with poses.

    Attributes:
        root: the file; images and masks are relative to `images`, by default to its folder.
        form: how its numbers are to be understood; shapes: where the categories' shapes come from.
        columns: MEANING=COLUMN where a column has no usual name.
        category: of all lines, where the table has none.
    """

    format: ClassVar[str] = "table"
    root: Path
    form: RowForm = RowForm()
    shapes: Shapes = Shapes()
    images: Path | None = None
    columns: tuple[str, ...] = ()
    category: str | None = None

    def __post_init__(self) -> None:
        folder = self.root.parent if self.images is None else self.images
        self.rows = PosedRows(self.form, self.shapes, folder, self.category)

    def items(self) -> tuple[Sequence[RowItem], list[LeftOut], list[str]]:
        """The lines by their images."""
        lines, left_out = read_table(self.root, self.columns)
        items, more, notes = self.rows.items(lines, self.root)
        return items, [*left_out, *more], notes
