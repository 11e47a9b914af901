"""The OFF format in all its dialects: which numbers are where.

Facts: the numbers are free of lines, but for the colours of faces, which end with theirs. A vertex is a position and,
by the letters in the header, a colour (C), a normal (N), texture coordinates (ST), or has a fourth coordinate (4).
Geomview wants these letters in one order, MeshLab writes them in another; a position comes first in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compnet3d.errors import CompNetError
from compnet3d.geometry.off_binary import OffLayout, parse_binary_off
from compnet3d.geometry.polygons import Doubles, Polygons

_Row = list[str]


@dataclass(frozen=True)
class _Body:
    """What follows the header.

    Attributes:
        position, width: how many numbers a vertex's position and a whole vertex have.
        vertices, faces: how many are promised.
        rows: the words of each line after that.
    """

    position: int
    width: int
    vertices: int
    faces: int
    rows: list[_Row]


def parse_off(path: Path, data: bytes) -> Polygons:
    """What an OFF file holds; colours, normals and texture coordinates are passed over.

    Raises:
        CompNetError: naming the file and the place, if it is not OFF, or holds other than it promises.
    """
    binary = re.match(rb"(?P<letters>(?:ST|C|N|4)*)OFF[ \t]+BINARY[ \t]*\r?\n", data, re.I)
    if binary is not None:
        return parse_binary_off(path, data[binary.end() :], OffLayout.of(binary["letters"].decode()))
    text = read_text(path, data)
    if not text:
        raise CompNetError(f"{path}: the file is empty; an OFF file starts with the word OFF")
    # the word may be left out: then the file begins with its counts
    word = re.match(r"(?P<letters>(?:ST|C|N|4)*)OFF|(?=[0-9]+\s+[0-9]+\s)", text, re.I)
    if word is None:
        raise CompNetError(
            f"{path}: not an OFF file (it starts with {text[:20].split()[0]!r}); convert it to ASCII OFF"
        )
    layout = OffLayout.of(word["letters"] or "")
    rows = [row for row in (line.split() for line in text[word.end() :].split("\n")) if row]
    if layout.states_dimension:
        dimension, rows = _taken(rows, 1)
        if dimension != ["3"]:
            raise CompNetError(f"{path}: its vertices have {_shown(dimension)} dimensions, not 3; export it in 3")
    bodies = list(_bodies(path, layout.position, layout.width, rows))
    for body in bodies:
        for vertex_rows, face_rows, least in _splits(body):
            vertices, faces = _vertices(vertex_rows, layout.position), _faces(face_rows, body.faces, least)
            if vertices is not None and faces is not None:
                return Polygons(vertices, *faces)
    raise _problem(path, bodies[0])


def read_text(path: Path, data: bytes) -> str:
    """The text of a model file, without a byte order mark, comments (#), and space at its ends.

    Raises:
        CompNetError: naming the file, if it is no text.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16", errors="replace")
    else:
        # a comment in another encoding does no harm; a broken number is found later, with its place
        text = data.decode("utf-8-sig", errors="replace")
    if "\0" in text:
        raise CompNetError(f"{path}: is no text (it holds zero bytes); save the model as text (ASCII)")
    return re.sub(r"#[^\n]*", "", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def numbers(words: Sequence[str]) -> Doubles | None:
    """Words as float64 [N], or None if one is no number."""
    # Python reads 1_0 as a number, which no program has written as one
    if any("_" in word for word in words):
        return None
    try:
        return np.fromiter(map(float, words), np.float64, len(words))
    except ValueError:
        return None


def whole(word: str) -> int | None:
    """A word as a whole number, or None."""
    return int(word) if re.fullmatch(r"[+-]?[0-9]{1,18}", word) else None


def _bodies(path: Path, position: int, width: int, rows: list[_Row]) -> Iterator[_Body]:
    """With the number of edges, which nobody needs, and, where it may be missing, without."""
    words, _ = _taken(rows, 2)
    counts = [whole(word) for word in words]
    if len(counts) < 2 or counts[0] is None or counts[1] is None:
        raise CompNetError(f"{path}: the line after OFF must give the numbers of vertices and faces")
    if counts[0] < 0 or counts[1] < 0:
        raise CompNetError(f"{path}: promises {counts[0]} vertices and {counts[1]} faces; export the model again")
    # a line of these two alone has no third, one of three has; where all is on one line, the numbers must tell
    for size in {2: (2,), 3: (3,)}.get(len(rows[0]), (3, 2)):
        yield _Body(position, width, counts[0], counts[1], _taken(rows, size)[1])


def _splits(body: _Body) -> Iterator[tuple[list[_Row], list[_Row], int]]:
    """The lines of vertices, one each, those of faces, and the fewest corners of a face.

    First as the file has them, then free of lines: there points would let nearly any numbers pass as faces.
    """
    if body.vertices * body.position + body.faces > sum(map(len, body.rows)):
        return
    by_line = body.rows[: body.vertices]
    # the first line may have all of them; what follows a position is a normal, a colour, or both
    if len(by_line) == body.vertices and {len(row) - body.position for row in by_line} <= {0, 2, 3, 4, 5, 6, 7, 9}:
        yield by_line, body.rows[body.vertices :], 1
    if _is_by_line(body):
        return  # a number too few in a line would be made up for by the next one's
    words, rest = _taken(body.rows, body.vertices * body.width)
    yield [words[i : i + body.width] for i in range(0, len(words), body.width)], rest, 3


def _is_by_line(body: _Body) -> bool:
    """Whether most vertices and most faces have a line each, and there are as many lines as both together."""
    vertices, faces = body.rows[: body.vertices], _faces_by_line(body.rows[body.vertices :])
    fitting = sum(len(row) == body.width for row in vertices)
    return len(vertices) + len(faces) == body.vertices + body.faces and (
        2 * fitting > body.vertices and 2 * sum(map(bool, faces)) > body.faces
    )


def _taken(rows: list[_Row], count: int) -> tuple[list[str], list[_Row]]:
    """The first so many words, or all if there are fewer, and the lines after them."""
    words: list[str] = []
    for number, row in enumerate(rows):
        wanted = count - len(words)
        if wanted < len(row):
            return [*words, *row[:wanted]], [row[wanted:], *rows[number + 1 :]]
        words += row
    return words, []


def _vertices(rows: list[_Row], position: int) -> Doubles | None:
    """Positions [V, 3], or None if one is not so many numbers."""
    if any(len(row) < position for row in rows):
        return None
    flat = numbers([word for row in rows for word in row[:position]])
    if flat is None:
        return None
    vertices = flat.reshape(-1, position)
    with np.errstate(divide="ignore", invalid="ignore"):  # refused later, as not finite
        return vertices if position == 3 else vertices[:, :3] / vertices[:, 3:]


def _faces(rows: list[_Row], promised: int, least: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Corners and counts of as many faces as promised: one a line, maybe with a colour, else free of lines."""
    alike = _faces_alike(rows)
    if alike is not None and len(alike) == promised and alike.shape[1] >= least:
        return alike.reshape(-1), np.full(len(alike), alike.shape[1], dtype=np.int64)
    for read in (_faces_by_line, lambda rows: _faces_of([word for row in rows for word in row])):
        faces = read(rows)
        if len(faces) == promised and all(len(face) >= least for face in faces):
            corners = np.array([corner for face in faces for corner in face], dtype=np.int64)
            return corners, np.array([len(face) for face in faces], dtype=np.int64)
    return None


def _faces_alike(rows: list[_Row]) -> np.ndarray | None:
    """`_faces_by_line` where each has the same number of corners and no colour, as most files do, at once."""
    size = len(rows[0]) - 1 if rows else 0
    if size < 1 or any(len(row) != size + 1 for row in rows):
        return None
    words = [word for row in rows for word in row]
    if not re.fullmatch(r"(?:[+-]?[0-9]{1,18} )+", " ".join(words) + " "):
        return None
    table = np.fromiter(map(int, words), np.int64, len(words)).reshape(-1, size + 1)
    return table[:, 1:] if (table[:, 0] == size).all() else None


def _faces_by_line(rows: list[_Row]) -> list[list[int]]:
    """A face for each line, empty where the line is none; after its corners may be a colour: 1, 3 or 4 numbers."""
    faces = []
    for row in rows:
        face, rest = _face(row)
        faces.append(face if len(rest) in (0, 1, 3, 4) and numbers(rest) is not None else [])
    return faces


def _faces_of(words: list[str]) -> list[list[int]]:
    """Faces without colours, one after the other; the last is empty where the words do not go on as faces."""
    faces, place = [], 0
    while place < len(words):
        size = whole(words[place])
        face, _ = _face(words[place : place + 1 + max(0, size or 0)])
        faces.append(face)
        if len(face) < 3:
            faces[-1] = []
            break
        place += 1 + len(face)
    return faces


def _face(words: list[str]) -> tuple[list[int], list[str]]:
    """The corners that a count and so many numbers name, and the words after them; no corners if these are none."""
    size = whole(words[0])
    if size is None or not 0 < size < len(words):
        return [], []
    corners = [whole(word) for word in words[1 : 1 + size]]
    known = [corner for corner in corners if corner is not None]
    return (known, words[1 + size :]) if len(known) == size else ([], [])


def _problem(path: Path, body: _Body) -> CompNetError:
    """Why a file cannot be read: the line that is wrong, where each vertex and face has one; else what is promised."""
    vertices, rest = body.rows[: body.vertices], body.rows[body.vertices :]
    by_line = _faces_by_line(rest)
    if len(body.rows) != body.vertices + body.faces:
        return _broken_promise(path, body)
    lengths = [len(row) for row in vertices]
    usual = max(sorted(set(lengths)), key=lengths.count, default=0)
    for number, row in enumerate(vertices):
        if len(row) < body.position or numbers(row) is None:
            amount = "three" if body.position == 3 else "four"
            return CompNetError(f"{path}: vertex {number} is not {amount} numbers: {_shown(row)}")
        if len(row) - body.position in (1, 8) or len(row) - body.position > 9:
            more = "" if len(row) == usual else f", and others {usual}"
            return CompNetError(
                f"{path}: vertex {number} has {len(row)} numbers{more}; it must have {body.position}, or a normal or "
                "colour more on every line"
            )
    number = next((i for i, face in enumerate(by_line) if not face), 0)
    return CompNetError(f"{path}: face {number} is not a count and so many vertex numbers: {_shown(rest[number])}")


def _broken_promise(path: Path, body: _Body) -> CompNetError:
    """What is promised, and what is there instead: faces or vertices where the lines tell, else so many lines."""
    faces = _faces_by_line(body.rows[body.vertices :])
    last = body.rows[max(0, len(body.rows) - body.faces) :]
    before = body.rows[: len(body.rows) - len(last)]
    beyond = _taken(body.rows, body.vertices * body.width)[1] if len(body.rows) == 1 else []
    streamed = _faces_of(beyond[0]) if beyond else []
    if _all_vertices(body, body.rows[: body.vertices]) and faces and all(faces):
        found = f"{len(faces)} faces"
    elif len(last) == body.faces and all(_faces_by_line(last)) and _all_vertices(body, before):
        found = f"{len(before)} vertices"
    elif streamed and all(streamed):
        found = f"{len(streamed)} faces"
    else:
        words = sum(map(len, body.rows))
        found = f"{len(body.rows)} lines after that" if len(body.rows) != 1 else f"{words} numbers after that"
    few = sum(map(len, body.rows)) < body.vertices * body.position + body.faces
    kind = "cut short: it " if few or 1 < len(body.rows) < body.vertices + body.faces else ""
    return CompNetError(
        f"{path}: {kind}promises {body.vertices} vertices and {body.faces} faces, but holds {found}; correct the "
        "numbers, or export the model again"
    )


def _all_vertices(body: _Body, rows: list[_Row]) -> bool:
    return len({len(row) for row in rows}) == 1 and _vertices(rows, body.position) is not None


def _shown(words: list[str]) -> str:
    return repr(" ".join(words[:8])[:40])
