"""Wavefront OBJ, with its materials (.mtl)."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from compnet3d.data.shapes.siblings import Siblings
from compnet3d.data.shapes.soup import Soup
from compnet3d.errors import CompNetError
from compnet3d.geometry.off import numbers, read_text, whole
from compnet3d.geometry.polygons import Doubles, Polygons


@dataclass
class _Model:
    """What has been read so far; places of corners count from 0, -1 for no place in the picture."""

    path: Path
    points: array[float] = field(default_factory=lambda: array("d"))
    tints: array[float] = field(default_factory=lambda: array("d"))
    places: array[float] = field(default_factory=lambda: array("d"))
    corners: array[int] = field(default_factory=lambda: array("q"))
    corner_places: array[int] = field(default_factory=lambda: array("q"))
    counts: array[int] = field(default_factory=lambda: array("q"))
    lines: array[int] = field(default_factory=lambda: array("q"))
    materials: array[int] = field(default_factory=lambda: array("q"))
    names: list[str] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)


def read_obj(path: Path, data: bytes) -> Soup:
    """What an OBJ file holds: faces of any number of corners, counted from 1 or backwards from the last vertex (-1).

    Raises:
        CompNetError: naming the file and the line, if a vertex or a face is broken.
    """
    model = _Model(path)
    readers = {"v": _vertex, "vt": _place, "f": _face, "fo": _face}
    current = -1
    for number, line in enumerate(_lines(read_text(path, data)), start=1):
        words = line.split()
        if not words:
            continue
        if words[0] in readers:
            readers[words[0]](model, number, words[1:])
            if words[0] in ("f", "fo") and len(model.counts) > len(model.materials):
                model.materials.append(current)
        elif words[0] == "usemtl":
            name = " ".join(words[1:])
            if name not in model.names:
                model.names.append(name)
            current = model.names.index(name)
        elif words[0] == "mtllib":
            model.libraries.append(line.split(None, 1)[1].strip() if len(words) > 1 else "")
    return _soup(model)


def _lines(text: str) -> list[str]:
    # a line may go on after a backslash
    return text.replace("\\\n", " ").split("\n")


def _vertex(model: _Model, line: int, words: list[str]) -> None:
    values = numbers(words)
    if values is None or len(values) < 3:
        raise CompNetError(f"{model.path}: line {line}: a vertex is not three numbers: {' '.join(words)[:40]!r}")
    model.points.extend(values[:3])
    # a fourth number is a weight, which surfaces of triangles have no use for
    model.tints.extend(values[-3:] if len(values) in (6, 7) else (np.nan,) * 3)


def _place(model: _Model, line: int, words: list[str]) -> None:
    values = numbers(words)
    if values is None or not len(values):
        raise CompNetError(f"{model.path}: line {line}: vt is not two numbers: {' '.join(words)[:40]!r}")
    model.places.extend((values[0], values[1] if len(values) > 1 else 0.0))


def _face(model: _Model, line: int, words: list[str]) -> None:
    corners, places = [], []
    for word in words:
        parts = word.split("/")
        corner = _counted(parts[0], len(model.points) // 3)
        if corner is None:
            raise CompNetError(
                f"{model.path}: line {line}: a face names vertex {word[:20]!r}; vertices are counted from 1, or from "
                "-1 backwards"
            )
        place = _counted(parts[1], len(model.places) // 2) if len(parts) > 1 and parts[1] else None
        corners.append(corner)
        places.append(-1 if place is None else place)
    # lines and points are nothing to draw
    if len(corners) >= 3:
        model.corners.extend(corners)
        model.corner_places.extend(places)
        model.counts.append(len(corners))
        model.lines.append(line)


def _counted(word: str, so_far: int) -> int | None:
    """A number that counts from 1, or backwards from the last (-1), from 0 on; None if it is no such number."""
    number = whole(word)
    if number is None or number == 0 or number < -so_far:
        return None
    return number - 1 if number > 0 else so_far + number


def _soup(model: _Model) -> Soup:
    counts = np.array(model.counts, dtype=np.int64)
    corners = np.array(model.corners, dtype=np.int64)
    vertices = np.array(model.points, dtype=np.float64).reshape(-1, 3)
    outside = np.flatnonzero(corners >= len(vertices))
    if len(outside):
        face = int(np.searchsorted(np.cumsum(counts), outside[0], side="right"))
        raise CompNetError(
            f"{model.path}: line {model.lines[face]}: a face names vertex {corners[outside[0]] + 1}, but the file has "
            f"{len(vertices)}; export the model again"
        )
    polygons = Polygons(vertices, corners, counts)
    if not len(counts):
        raise CompNetError(f"{model.path}: holds no faces (f) of three corners; export the model as a mesh")
    siblings = Siblings(model.path)
    materials = _materials(model, siblings)
    tints = np.array(model.tints, dtype=np.float32).reshape(-1, 3)
    if np.nanmax(tints, initial=0.0) > 1.0:  # some write 0 to 255
        tints = tints / np.float32(255)
    colours = np.clip(tints, 0, 1)[corners]
    owner = np.repeat(np.array(model.materials, dtype=np.int64), counts)
    places = np.array(model.places, dtype=np.float64).reshape(-1, 2)
    uv, picture = _uv(model, places), np.full(len(counts), -1, dtype=np.int64)
    for number, name in enumerate(model.names):
        colour, image = materials.get(name, (None, -1))
        mine = owner == number
        if image >= 0:
            colours[mine] = 1.0
            picture[np.array(model.materials) == number] = image
        elif colour is not None:
            unsaid = mine & np.isnan(colours).any(axis=1)
            colours[unsaid] = colour
    colours = colours.astype(np.float32)
    return Soup(polygons, colours, uv, picture, siblings.pictures, None, siblings.notes, siblings.files)


def _uv(model: _Model, places: Doubles) -> np.ndarray:
    index = np.array(model.corner_places, dtype=np.int64)
    known = (index >= 0) & (index < len(places))
    uv = np.zeros((len(index), 2), dtype=np.float32)
    uv[known] = places[index[known]]
    return uv


def _materials(model: _Model, siblings: Siblings) -> dict[str, tuple[np.ndarray | None, int]]:
    """Colour and picture of each material that is used."""
    found: dict[str, tuple[np.ndarray | None, int]] = {}
    for library in model.libraries if model.names else ():
        try:
            data = siblings.read(library)
        except CompNetError as error:
            siblings.notes.append(f"{error} (drawn without its colours)")
            continue
        name = ""
        for line in read_text(model.path.parent / library, data).split("\n"):
            words = line.split()
            key = words[0].lower() if words else ""
            if key == "newmtl":
                name = " ".join(words[1:])
                found[name] = (None, -1)
            elif key == "kd" and name in found:
                colour = numbers(words[1:4])
                if colour is not None and len(colour) == 3:
                    found[name] = (np.clip(np.nan_to_num(colour), 0, 1), found[name][1])
            elif key == "map_kd" and name in model.names:
                found[name] = (found[name][0], siblings.picture(_file_name(line)))
    return found


def _file_name(line: str) -> str:
    """The name at the end of a line like `map_Kd -s 1 1 1 wood.png`, which may have spaces."""
    words = line.split()[1:]
    if not words or not words[0].startswith("-"):
        return line.strip().split(None, 1)[1].strip() if words else ""
    while words and words[0].startswith("-"):
        words = words[1:]
        while len(words) > 1 and (numbers(words[:1]) is not None or words[0] in ("on", "off")):
            words = words[1:]
    return " ".join(words)
