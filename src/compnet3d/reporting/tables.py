"""Tables of a study: values with their spread, as Markdown, HTML and JSON."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any, NamedTuple

from compnet3d.utils.files import Json


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
    def from_dict(cls, values: Json) -> Table:
        """From JSON."""
        rows = tuple(Row(row["label"], tuple(_cell(c) for c in row["cells"].values())) for row in values["rows"])
        return cls(
            values["name"], values["title"], tuple(values["columns"]), rows, tuple(values["notes"]), values["key"]
        )


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
    return Spread(tuple(value["values"])) if isinstance(value, dict) else value
