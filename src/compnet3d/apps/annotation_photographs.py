"""Photographs that are annotated: their names in the data set, and what is noted beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from compnet3d.data.imagenet3d import is_image_name
from compnet3d.data.images import images_in
from compnet3d.errors import CompNetError
from compnet3d.utils.files import Json, is_clutter, is_file, is_taken, read_json, write_json


def is_data_set(folder: Path) -> bool:
    """Whether a folder holds a data set in our layout."""
    return (folder / "lists").is_dir() and (folder / "images").is_dir()


def notes_path(root: Path) -> Path:
    """Where an annotated data set keeps what its layout has no place for."""
    return root / "annotate.json"


def read_notes(root: Path) -> Json:
    """By category: the photographs' names, what was skipped and what was saved last."""
    path = notes_path(root)
    notes = read_json(path) if is_file(path) else {}
    if not isinstance(notes, dict) or not all(isinstance(entry, dict) for entry in notes.values()):
        raise CompNetError(f"{path}: is no file of `compnet3d annotate`; remove it or choose another --out")
    return notes


def name_photographs(folder: Path, root: Path, category: str) -> dict[str, Path]:
    """Names for the photographs in a folder and those in it, the same in every session.

    Raises:
        CompNetError: if there is none, or the data set's folder holds something else.
    """
    paths = [path for path in images_in(folder) if not path.is_relative_to(root)]
    if not paths:
        raise CompNetError(f"{folder}: holds no photograph; give a folder that does")
    if is_taken(root) and not is_data_set(root) and not is_file(notes_path(root)):
        raise CompNetError(f"{root}: holds something else; choose another --out")
    notes = read_notes(root)
    known: dict[str, str] = dict(notes.get(category, {}).get("photographs", {}))
    named: dict[str, Path] = {}
    for path in paths:
        # with its size: photographs of another folder may have the same names
        mark = f"{path.relative_to(folder).as_posix()} {path.stat().st_size}"
        if mark not in known:
            known[mark] = next(name for name in _names_for(path.relative_to(folder)) if name not in known.values())
        named[known[mark]] = path
    notes[category] = {**notes.get(category, {}), "photographs": known}
    write_json(notes_path(root), notes)
    return named


def _names_for(path: Path) -> Iterator[str]:
    plain = re.sub(r"[^\w.-]+", "_", "-".join(path.with_suffix("").parts)).strip(".")[:100]
    # not the names that tell instances apart, unless the user gave such
    base = plain if plain and is_image_name(plain) else "photograph"
    yield base
    for number in range(2, 10**6):
        yield f"{base}-{number}"


def left_out(folder: Path) -> list[str]:
    """Files of a folder of photographs that are none, by their names."""
    photographs = set(images_in(folder))
    files = [
        path.relative_to(folder) for path in sorted(folder.rglob("*")) if is_file(path) and path not in photographs
    ]
    return [str(path) for path in files if not is_clutter(path)]
