"""PLY, as text and binary of either byte order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compnet3d.data.shapes.siblings import Siblings
from compnet3d.data.shapes.soup import Soup
from compnet3d.errors import CompNetError
from compnet3d.geometry.off import numbers
from compnet3d.geometry.polygons import Integers, Polygons

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8", "int64": "i8", "uint64": "u8",
}  # fmt: skip


@dataclass
class _Element:
    """A kind of thing in the file: its properties in order, of lists with the type of their lengths."""

    name: str
    count: int
    properties: dict[str, tuple[str, str | None]] = field(default_factory=dict)


# a list property as all its values one after the other, and how many there are of each element
_Lists = tuple[npt.NDArray[Any], Integers]


@dataclass
class _Table:
    """An element's values: [N] of each property, and those of lists."""

    element: _Element
    single: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    lists: dict[str, _Lists] = field(default_factory=dict)


def read_ply(path: Path, data: bytes) -> Soup:
    """What a PLY file holds: faces, or strips of triangles, and colours or a picture.

    Raises:
        CompNetError: naming the file and what is wrong: the header, fewer or more values than promised, no faces.
    """
    elements, order, picture, body = _header(path, data)
    tables = _text_tables(path, elements, body) if order is None else _binary_tables(path, elements, body, order)
    vertex = tables.get("vertex")
    if vertex is None or not {"x", "y", "z"} <= set(vertex.single):
        raise CompNetError(f"{path}: has no vertices with x, y and z; export the model again")
    vertices = np.stack([vertex.single[axis].astype(np.float64) for axis in "xyz"], axis=1)
    corners, counts = _faces(path, tables)
    polygons = Polygons(vertices, corners, counts)
    if len(corners) and not 0 <= corners.min() <= corners.max() < len(vertices):
        return Soup(polygons)  # which is refused, with the place
    return _coloured(path, polygons, tables, picture)


def _header(path: Path, data: bytes) -> tuple[list[_Element], str | None, str, bytes]:
    """Elements, byte order (None for text), the picture's name, and what follows the header."""
    longest = 64 * 1024
    end = data[:longest].find(b"end_header")
    if data[:3] != b"ply" or end < 0:
        raise CompNetError(f"{path}: is no PLY file, or its header does not end; export the model again")
    after = data[end + len(b"end_header") :]
    body = after[2:] if after[:2] == b"\r\n" else after[1:]
    elements: list[_Element] = []
    order, picture = "", ""
    for line in data[:end].decode("utf-8", errors="replace").splitlines()[1:]:
        words = line.split()
        match words:
            case ["format", kind, *_]:
                order = {"ascii": "text", "binary_little_endian": "<", "binary_big_endian": ">"}.get(kind, "")
            case ["comment", "TextureFile" | "texturefile" | "TEXTUREFILE", *name]:
                picture = " ".join(name)
            case ["element", name, count] if count.isdecimal() and len(count) < 18:
                elements.append(_Element(name, int(count)))
            case ["property", "list", lengths, kind, name] if elements and {lengths, kind} <= set(_TYPES):
                elements[-1].properties[name] = (_TYPES[kind], _TYPES[lengths])
            case ["property", kind, name] if elements and kind in _TYPES:
                elements[-1].properties[name] = (_TYPES[kind], None)
            case [] | ["comment" | "obj_info", *_]:
                pass
            case _:
                raise CompNetError(f"{path}: its header has a line that means nothing: {line[:40]!r}; export it again")
    if not order:
        raise CompNetError(f"{path}: its header does not say whether it is text or binary; export the model again")
    return elements, None if order == "text" else order, picture, body


def _text_tables(path: Path, elements: list[_Element], body: bytes) -> dict[str, _Table]:
    words = body.decode("ascii", errors="replace").split()
    values = numbers(words)
    if values is None:
        bad = next(word for word in words if numbers([word]) is None)
        raise CompNetError(f"{path}: {bad[:30]!r} is not a number; export the model again")
    tables, place = {}, 0
    for element in elements:
        # a row has at least one value for each property
        if element.count * max(1, len(element.properties)) > len(values) - place:
            raise _short(path, element)
        table = _Table(element)
        place = _take_rows(path, table, place, _TextRows(values))
        tables[element.name] = table
    if place != len(values):
        promise = ", ".join(f"{element.count} of {element.name}" for element in elements)
        raise CompNetError(f"{path}: holds {len(values) - place} values more than it promises ({promise})")
    return tables


def _binary_tables(path: Path, elements: list[_Element], body: bytes, order: str) -> dict[str, _Table]:
    tables, place = {}, 0
    for element in elements:
        least = sum(np.dtype(lengths or kind).itemsize for kind, lengths in element.properties.values())
        if element.count * max(1, least) > len(body) - place:
            raise _short(path, element)
        table = _Table(element)
        place = _take_rows(path, table, place, _BinaryRows(body, order))
        tables[element.name] = table
    # some writers end with a line break, or fill up with zeros
    if more := len(body[place:].strip(b"\0\r\n ")):
        promise = ", ".join(f"{element.count} of {element.name}" for element in elements)
        raise CompNetError(f"{path}: holds {more} bytes more than it promises ({promise}); export the model again")
    return tables


def _short(path: Path, element: _Element) -> CompNetError:
    return CompNetError(f"{path}: cut short: it promises {element.count} of {element.name}; export the model again")


class _TextRows:
    """Where values stand among all numbers of a text."""

    def __init__(self, values: npt.NDArray[np.float64]) -> None:
        self.values = values

    def many(self, kind: str, place: int, count: int) -> tuple[npt.NDArray[Any], int]:
        """So many values of a type from a place on, fewer at the end, and the place after them."""
        return self.values[place : place + count], place + count

    def grid(self, widths: list[tuple[str, int]], place: int, count: int) -> tuple[list[npt.NDArray[Any]], int] | None:
        """Columns of so many rows alike, and the place after them; None where the rest is too short."""
        width = sum(amount for _, amount in widths)
        block = self.values[place : place + count * width]
        if len(block) < count * width:
            return None
        edges = np.cumsum([0] + [amount for _, amount in widths])
        rows = block.reshape(count, width)
        return [rows[:, a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)], place + count * width


class _BinaryRows:
    """Where values stand among bytes; see `_TextRows`."""

    def __init__(self, data: bytes, order: str) -> None:
        self.data, self.order = data, order

    def many(self, kind: str, place: int, count: int) -> tuple[npt.NDArray[Any], int]:
        """As in text."""
        size = np.dtype(kind).itemsize
        held = max(0, min(count, (len(self.data) - place) // size))
        return np.frombuffer(self.data, self.order + kind, held, place if held else 0), place + count * size

    def grid(self, widths: list[tuple[str, int]], place: int, count: int) -> tuple[list[npt.NDArray[Any]], int] | None:
        """As in text."""
        row = np.dtype([(str(i), self.order + kind, (amount,)) for i, (kind, amount) in enumerate(widths)])
        if place + count * row.itemsize > len(self.data):
            return None
        block = np.frombuffer(self.data, row, count, place)
        return [block[str(i)] for i in range(len(widths))], place + count * row.itemsize


def _take_rows(path: Path, table: _Table, place: int, rows: _TextRows | _BinaryRows) -> int:
    """Fill a table; the place after its rows. Rows alike are taken at once, others one by one."""
    element = table.element
    if not element.count or not element.properties:
        return place
    sizes, spot, widths = {}, place, []
    for name, (kind, lengths) in element.properties.items():
        if lengths is not None:
            length, spot = rows.many(lengths, spot, 1)
            sizes[name] = _length(path, element, length)
            widths.append((lengths, 1))
        widths.append((kind, sizes.get(name, 1)))
        spot = rows.many(kind, spot, sizes.get(name, 1))[1]
    taken = rows.grid(widths, place, element.count) if sum(amount for _, amount in widths) < 4096 else None
    if taken is None or not _fill(table, sizes, iter(taken[0]).__next__):
        return _take_one_by_one(path, table, place, rows)
    return taken[1]


def _fill(table: _Table, sizes: dict[str, int], column: Callable[[], npt.NDArray[Any]]) -> bool:
    """Whether all lists have the length of the first row's."""
    for name, (_, lengths) in table.element.properties.items():
        if lengths is None:
            table.single[name] = column()[:, 0]
            continue
        if (column()[:, 0] != sizes[name]).any():
            return False
        counts = np.full(table.element.count, sizes[name], dtype=np.int64)
        table.lists[name] = (column().reshape(-1), counts)
    return True


def _take_one_by_one(path: Path, table: _Table, place: int, rows: _TextRows | _BinaryRows) -> int:
    element = table.element
    pieces: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in element.properties}
    for _ in range(element.count):
        for name, (kind, lengths) in element.properties.items():
            size = 1
            if lengths is not None:
                length, place = rows.many(lengths, place, 1)
                size = _length(path, element, length)
            values, place = rows.many(kind, place, size)
            if len(values) < size:
                raise _short(path, element)
            pieces[name].append(values)
    for name, (_, lengths) in element.properties.items():
        values = np.concatenate(pieces[name])
        if lengths is None:
            table.single[name] = values
        else:
            table.lists[name] = (values, np.array([len(piece) for piece in pieces[name]], dtype=np.int64))
    return place


def _length(path: Path, element: _Element, value: npt.NDArray[Any]) -> int:
    if not len(value):
        raise _short(path, element)
    if not 0 <= value[0] < 2**31 or value[0] % 1:
        raise CompNetError(f"{path}: a list of {element.name} has {value[0]:g} values; export the model again")
    return int(value[0])


def _faces(path: Path, tables: dict[str, _Table]) -> tuple[Integers, Integers]:
    """Corners and counts."""
    for name, table in tables.items():
        for key in ("vertex_indices", "vertex_index"):
            if key in table.lists and name in ("face", "tristrips"):
                values, counts = table.lists[key]
                if not np.isfinite(values).all() or (values % 1).any():
                    raise CompNetError(f"{path}: a face names a vertex by no whole number; export the model again")
                corners = values.astype(np.int64)
                return (corners, counts) if name == "face" else _from_strips(corners)
    raise CompNetError(f"{path}: holds points but no faces; export the model as a mesh")


def _from_strips(strip: Integers) -> tuple[Integers, Integers]:
    """Triangles of strips that -1 ends; every other one is wound the other way."""
    if len(strip) < 3:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    triangles = np.stack([strip[:-2], strip[1:-1], strip[2:]], axis=1)
    begins = np.maximum.accumulate(np.where(strip == -1, np.arange(1, len(strip) + 1), 0))[:-2]
    odd = (np.arange(len(triangles)) - begins) % 2 == 1
    triangles[odd] = triangles[odd][:, [1, 0, 2]]
    triangles = triangles[(triangles >= 0).all(axis=1)]
    return triangles.reshape(-1), np.full(len(triangles), 3, dtype=np.int64)


def _coloured(path: Path, polygons: Polygons, tables: dict[str, _Table], picture: str) -> Soup:
    """With the colours of faces, else of vertices, or with a picture."""
    siblings, vertex, face = Siblings(path), tables["vertex"], tables.get("face")
    corners, counts = polygons.corners, polygons.counts
    names = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"))
    uv = next(
        (np.stack([vertex.single[a], vertex.single[b]], axis=1)[corners] for a, b in names if a in vertex.single
         and b in vertex.single), None
    )  # fmt: skip
    if face is not None and "texcoord" in face.lists:
        values, lengths = face.lists["texcoord"]
        uv = values.reshape(-1, 2) if (lengths == 2 * counts).all() else uv
    number = siblings.picture(picture) if picture and uv is not None else -1
    if number >= 0 and uv is not None:
        white = np.ones((len(corners), 3), dtype=np.float32)
        chosen = np.full(len(counts), number, dtype=np.int64)
        return Soup(polygons, white, uv.astype(np.float32), chosen, siblings.pictures, notes=siblings.notes)
    of_faces = None if face is None or len(counts) != face.element.count else _colours(face)
    of_vertices = _colours(vertex)
    if of_faces is not None:
        return Soup(polygons, np.repeat(of_faces, counts, axis=0), notes=siblings.notes)
    return Soup(polygons, None if of_vertices is None else of_vertices[corners], notes=siblings.notes)


def _colours(table: _Table) -> npt.NDArray[np.float32] | None:
    for prefix in ("", "diffuse_"):
        names = [f"{prefix}{name}" for name in ("red", "green", "blue")]
        if set(names) <= set(table.single):
            values = np.stack([table.single[name].astype(np.float64) for name in names], axis=1)
            kind = table.element.properties[names[0]][0]
            full = 1.0 if kind.startswith("f") else float(np.iinfo(kind).max)
            return np.clip(np.nan_to_num(values / full), 0, 1).astype(np.float32)
    return None
