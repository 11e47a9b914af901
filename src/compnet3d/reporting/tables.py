"""Tables of a study: values with their spread, as Markdown, HTML and JSON."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from compnet3d.errors import CompNetError
from compnet3d.utils.files import Json, read_json
from compnet3d.utils.settings import known, read, setting, shown


class Origin(NamedTuple):
    """Where an evaluation comes from; empty where its file does not say it.

    Attributes:
        command: what was typed; machine: of which class; date: YYYY-MM-DD.
    """

    command: str = ""
    machine: str = ""
    date: str = ""


@dataclass(frozen=True)
class Spread:
    """A metric measured with several seeds.

    Attributes:
        values: of the seeds.
        origins: of the evaluations that they were read from.
    """

    values: tuple[float, ...]
    # the same numbers are the same, wherever they were measured
    origins: frozenset[Origin] = field(default=frozenset(), compare=False)

    @property
    def mean(self) -> float:
        """Its mean."""
        return mean(self.values)

    @property
    def deviation(self) -> float | None:
        """Its sample standard deviation; None for one seed."""
        return stdev(self.values) if len(self.values) > 1 else None

    def over(self, other: Spread) -> Spread:
        """By how much this is ahead of another one, seed by seed."""
        values = tuple(ours - theirs for ours, theirs in zip(self.values, other.values, strict=True))
        return Spread(values, self.origins | other.origins)

    def to_dict(self) -> Json:
        """For JSON."""
        return {"mean": self.mean, "deviation": self.deviation, "values": list(self.values)}


Cell = Spread | float | str | None


@dataclass(frozen=True)
class Row:
    """One row: what it is of, and a cell for each column."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table of accuracies (shares of 1, shown in percent) or of texts.

    Attributes:
        name: of the paper's table, such as "table4".
        title: what it shows.
        columns: names, the first of them that of the labels.
        rows: see `Row`.
        notes: sentences below it.
        key: distinguishes several tables of one experiment.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    key: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns) - 1:
                raise ValueError(f"{self.name}: the row {row.label} has {len(row.cells)} cells for {self.columns}")

    @property
    def origins(self) -> frozenset[Origin]:
        """Of all evaluations whose metrics are in it."""
        spreads = [cell for row in self.rows for cell in row.cells if isinstance(cell, Spread)]
        return frozenset().union(*(spread.origins for spread in spreads))

    def markdown(self) -> str:
        """As Markdown, the title in bold above it."""
        lines = [f"**{self.title}**", "", "| " + " | ".join(self.columns) + " |"]
        lines.append("|---" + "|---:" * (len(self.columns) - 1) + "|")
        lines += ["| " + " | ".join([row.label, *map(show, row.cells)]) + " |" for row in self.rows]
        return "\n".join(lines + ["", *self.notes]).rstrip() + "\n"

    def html(self) -> str:
        """As HTML."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            f"<tr><th>{html.escape(row.label)}</th>"
            + "".join(f"<td>{html.escape(show(cell))}</td>" for cell in row.cells)
            + "</tr>"
            for row in self.rows
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return (
            f'<h3>{html.escape(self.title)}</h3><div class="scroll"><table><tr>{head}</tr>{body}</table></div>{notes}'
        )

    def to_dict(self) -> Json:
        """For JSON."""
        names = self.columns[1:]
        return {
            "name": self.name,
            "title": self.title,
            "key": self.key,
            "columns": list(self.columns),
            "rows": [
                {"label": row.label, "cells": {n: _plain(cell) for n, cell in zip(names, row.cells, strict=True)}}
                for row in self.rows
            ],
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, values: Any) -> Table:
        """From JSON.

        Raises:
            ValueError: naming an entry that is missing or of another type.
        """
        written = read(_Written, known(_Written, values))
        rows = tuple(Row(row.label, tuple(map(_cell, row.cells.values()))) for row in written.rows)
        return cls(written.name, written.title, written.columns, rows, written.notes, written.key)


@dataclass(frozen=True)
class _WrittenRow:
    """A row as JSON has it: cells by their column."""

    label: str
    cells: Json


@dataclass(frozen=True)
class _Written:
    """A table as JSON has it; see `Table`."""

    name: str
    title: str
    key: str
    columns: tuple[str, ...]
    rows: tuple[_WrittenRow, ...]
    notes: tuple[str, ...]


def read_tables(path: Path) -> tuple[list[Table], dict[str, str]]:
    """The tables in a study's JSON file, and what it says of their origin.

    Raises:
        CompNetError: naming the file and the entry that is missing or of another type.
    """
    values = read_json(path)
    try:
        settings = {str(name): str(value)[:1000] for name, value in values["settings"].items()}
        return [Table.from_dict(table) for table in values["tables"]], settings
    except KeyError as error:
        reason = f"has no {error}"
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        reason = f"holds no tables of a study ({error})"
    raise CompNetError(f"{path}: {reason}; delete it, `compnet3d reproduce` makes it again")


def show(cell: Cell) -> str:
    """A cell's text: accuracies in percent, with the standard deviation over the seeds."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Spread):
        deviation = cell.deviation
        return f"{100 * cell.mean:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")
    return f"{100 * cell:.1f}"


def _plain(cell: Cell) -> Any:
    return cell.to_dict() if isinstance(cell, Spread) else cell


def _cell(value: Any) -> Cell:
    if isinstance(value, dict):
        spread = read(_Values, known(_Values, value))
        return Spread(spread.values)
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise ValueError(f"a cell must be a number, a text or null, not {shown(value)}")
    if isinstance(value, int | float) and not abs(value) < 1e300:
        raise ValueError(f"a cell must be a finite number, not {shown(value)}")
    return value


@dataclass(frozen=True)
class _Values:
    """The values of a spread as JSON has them, at least one."""

    values: tuple[float, ...] = setting(least=-1e9, most=1e9)

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("values must not be empty")
