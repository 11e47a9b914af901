"""One HTML page of all tables and figures of a study."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from compnet3d.errors import CompNetError
from compnet3d.reporting.page import page
from compnet3d.reporting.tables import read_tables
from compnet3d.reproduce.runner import FIGURES, TABLES
from compnet3d.utils.files import read_bytes, read_json, write_text

CAPTIONS = {
    "figure1": "Figure 1: accuracy of category and pose (pi/6, predicted category), clean, occluded and corrupted.",
    "figure2": "Figure 2: time of a loss step over the number of categories.",
    "figure4": "Figure 4: the grouping weights omega during training.",
    "figure5": "Figure 5: categories that the model was not trained on.",
    "figure8": "Figure 8: the categories that are confused most.",
    "figure10": "Figure 10: images under occlusion and corruption, with the model at the estimated pose.",
}


def write_page(out: Path, path: Path) -> None:
    """One HTML page of all tables and figures that a study's folder holds.

    Raises:
        CompNetError: if it holds none.
    """
    sections = []
    for name in (*TABLES, *FIGURES, "times"):
        if (out / f"{name}.json").is_file():
            tables, settings = read_tables(out / f"{name}.json")
            body = "".join(table.html() for table in tables)
            made = _unbroken_words("; ".join(_origin_parts(settings)))
            heading = f"Table {name.removeprefix('table').replace('-', ', ')}" if name in TABLES else "Time"
            sections.append(f"<section><h2>{heading}</h2>{body}<p><code>{made}</code></p></section>")
        elif (out / f"{name}.png").is_file():
            uri = base64.b64encode(read_bytes(out / f"{name}.png")).decode("ascii")
            image = f'<img src="data:image/png;base64,{uri}" alt="{html.escape(CAPTIONS[name])}">'
            heading = f"Figure {name.removeprefix('figure')}"
            sections.append(
                f"<section><h2>{heading}</h2><figure>{image}"
                f"<figcaption>{html.escape(CAPTIONS[name])}</figcaption></figure></section>"
            )
    if not sections:
        raise CompNetError(f"{out}: holds no table and no figure; run `compnet3d reproduce` with --out {out} first")
    write_text(path, page(f"The paper's experiments: {_title(out)}", "\n".join(sections)))


def _origin_parts(settings: dict[str, str]) -> list[str]:
    """What a table's file says of its origin, as it is read."""
    said = {"version": "compnet3d {}", "evaluated": "evaluated {}"}
    return [said.get(key, "{}").format(value) for key, value in settings.items()]


def _unbroken_words(text: str) -> str:
    """HTML whose lines end between words alone, and not at the hyphens of a command's options."""
    return " ".join(f'<span class="word">{html.escape(word)}</span>' for word in text.split())


def _title(out: Path) -> str:
    path = out / "study.json"
    if not path.exists():
        return out.name
    values = read_json(path)
    recipe = values.get("recipe") if isinstance(values, dict) else None
    name, data = (recipe.get("name"), values.get("data")) if isinstance(recipe, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(data, str):
        raise CompNetError(
            f"{path}: holds no study (its recipe's name and data); delete it, `compnet3d reproduce` makes it again"
        )
    return f"{name} on {Path(data).name}"
