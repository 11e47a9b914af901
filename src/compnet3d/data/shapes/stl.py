"""STL, binary and as text."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from compnet3d.data.shapes.soup import Soup
from compnet3d.errors import CompNetError
from compnet3d.geometry.off import read_text
from compnet3d.geometry.polygons import Doubles, Polygons

_HEADER, _TRIANGLE = 84, 50
_LAYOUT = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def read_stl(path: Path, data: bytes) -> Soup:
    """What an STL file holds; corners at one place become one vertex.

    Raises:
        CompNetError: naming the file, if it is cut short or holds another number of triangles than it promises.
    """
    promised = int.from_bytes(data[80:84], "little")
    held = (len(data) - _HEADER) / _TRIANGLE
    # first of all by the size: binary files may begin with "solid", too
    if len(data) >= _HEADER and held == promised:
        corners = np.frombuffer(data, _LAYOUT, promised, _HEADER)["corners"].astype(np.float64).reshape(-1, 3)
    elif data.lstrip(b"\xef\xbb\xbf \t\r\n")[:5].lower() == b"solid" and b"\0" not in data:
        corners = _as_text(path, data)
    elif data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        corners = _as_text(path, data)
    elif len(data) < _HEADER:
        raise CompNetError(f"{path}: is no STL file (it has {len(data)} bytes); export the model again")
    else:
        raise CompNetError(
            f"{path}: promises {promised} triangles, but its {len(data)} bytes hold {max(0, int(held))}; "
            "export the model again"
        )
    if not len(corners):
        raise CompNetError(f"{path}: holds no triangles; export the model again")
    vertices, inverse = np.unique(corners, axis=0, return_inverse=True)
    faces = inverse.reshape(-1).astype(np.int64)
    return Soup(Polygons(vertices, faces, np.full(len(faces) // 3, 3, dtype=np.int64)))


def _as_text(path: Path, data: bytes) -> Doubles:
    text = read_text(path, data)
    number, facets = r"\s+([-+.0-9einfatyEINFATY]+)", len(re.findall(r"\bfacet\s+normal\b", text, re.I))
    vertices = re.finditer(r"\bvertex\b" + 3 * number, text, re.I)
    found = len(re.findall(r"\bvertex\b", text, re.I))
    if not re.search(r"\bendsolid\b", text, re.I):
        raise CompNetError(f"{path}: cut short: it has no endsolid; export the model again")
    if found != 3 * facets:
        raise CompNetError(f"{path}: holds {facets} facets but {found} vertices, not three each; export it again")
    try:
        corners = np.fromiter((float(x) for match in vertices for x in match.groups()), np.float64)
    except ValueError as error:
        raise CompNetError(f"{path}: a vertex is not three numbers ({error}); export the model again") from None
    if len(corners) != 3 * found:
        raise CompNetError(f"{path}: {found - len(corners) // 3} vertices are not three numbers; export it again")
    return corners.reshape(-1, 3)
