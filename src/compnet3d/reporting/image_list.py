"""The images of an evaluation as a list that can be sorted and filtered, each with a link to its file."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from compnet3d.data.members import Member
from compnet3d.data.sample import Sample
from compnet3d.evaluation.result import Record
from compnet3d.reporting.listing import Item, Order, Value, rows

Link = Callable[[Record], str]


def image_links(samples: Sequence[Sample], folder: Path) -> Link:
    """What makes of a record the name of its image, as a link from a page in a folder."""

    def link(record: Record) -> str:
        sample = samples[record.index]
        name = html.escape(f"{sample.category}/{sample.name}")
        if isinstance(sample.image, Member):  # no browser looks into a shard
            return name
        image = sample.image.resolve()
        try:
            # relative, so that data and page can be moved together
            target = quote(Path(os.path.relpath(image, folder.resolve())).as_posix())
        except ValueError:  # on another drive
            target = image.as_uri()
        return f'<a href="{html.escape(target)}">{name}</a>'

    return link


def image_list(records: Sequence[Record], link: Link) -> str:
    """The section: a row for each image, or for those that went worst where there are very many."""
    most = 3000  # rows: a browser sorts more of them slowly
    worst = sorted(records, key=_badness, reverse=True)[:most]
    text = "A click on a name opens the image. Errors are of the pose of the predicted category and symmetry-aware."
    if len(worst) < len(records):
        text = f"The {len(worst)} of {len(records)} images that went worst. {text}"
    filters = {"outcome": "outcome", "category": "category", "predicted": "predicted"}
    orders = [
        Order("worst first", "badness", largest_first=True),
        Order("largest pose error first", "error", largest_first=True),
        Order("least confident first", "confidence"),
        Order("most confident first", "confidence", largest_first=True),
        Order("by name", "name"),
    ]
    columns = dict.fromkeys(("image", "outcome", "category", "predicted"), "name")
    columns |= {"confidence [%]": "", "pose error [°]": ""}
    table = rows([_row(record, link) for record in worst], columns, filters, orders)
    return f"<section><h2>All images</h2><p>{text}</p>{table}</section>"


def outcome(record: Record) -> str:
    """In two words: "right", or what is wrong."""
    if not record.correct:
        return "wrong category"
    if record.symmetric_error_predicted_category <= math.pi / 6:
        return "right"
    return "flipped pose" if record.flipped else "wrong pose"


def _badness(record: Record) -> float:
    """Misclassified images first, the most confident of them at the top; then by the error of the pose."""
    if not record.correct:
        return 1000 + record.confidence
    return math.degrees(record.symmetric_error_predicted_category)


def _row(record: Record, link: Link) -> Item:
    error, sure = math.degrees(record.symmetric_error_predicted_category), 100 * record.confidence
    what = outcome(record)
    style = "name" if what == "right" else "name bad"
    words = (
        (link(record), "name"),
        (what, style),
        *((html.escape(n), "name") for n in (record.category, record.predicted)),
    )
    cells = "".join(f'<td class="{kind}">{word}</td>' for word, kind in words)
    values: dict[str, Value] = {
        "outcome": what,
        "category": record.category,
        "predicted": record.predicted,
        "confidence": round(sure, 2),
        "error": round(error, 2),
        "badness": round(_badness(record), 4),
        "name": record.name,
    }
    return Item(f"{cells}<td>{sure:.1f}</td><td>{error:.1f}</td>", values)
