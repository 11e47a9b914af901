"""CAD models as parts: normalised, with roles given to their connected pieces."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import load_off
from compnet3d.procedural.parts import Part, Role


def load_cad_part(path: str | Path) -> Part:
    """A CAD file as a part: centred, unit diagonal, degenerate faces dropped.

    Connected pieces get roles in the order of their area (the largest is MAIN); a model of one piece gets them by
    height and by which way its faces look.

    Raises:
        CompNetError: naming the file, if it is absent, empty, broken or without area.
    """
    mesh = load_off(path)
    vertices, faces = mesh.vertices.double().numpy(), mesh.faces.numpy()
    area = face_areas(vertices, faces)
    used = vertices[np.unique(faces)]
    diagonal = float(np.linalg.norm(used.max(axis=0) - used.min(axis=0)))
    if not diagonal > 0 or not (area > 1e-12 * diagonal**2).any():
        raise CompNetError(f"{path}: the model has no surface (all faces are degenerate); export the model again.")
    faces = faces[area > 1e-12 * diagonal**2]
    # vertices of no face would count in the box, and move and shrink the model
    kept, inverse = np.unique(faces, return_inverse=True)
    vertices, faces = vertices[kept], inverse.reshape(-1, 3).astype(np.int64)
    part = Part(vertices, faces, np.zeros(len(faces), dtype=np.int64)).normalised()
    return Part(part.vertices, part.faces, piece_roles(part.vertices, faces, zlib.crc32(Path(path).name.encode())))


def face_areas(vertices: npt.NDArray[np.float64], faces: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Area of each face [F]."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    areas: npt.NDArray[np.float64] = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    return areas


def piece_roles(
    vertices: npt.NDArray[np.float64], faces: npt.NDArray[np.int64], salt: int = 0
) -> npt.NDArray[np.int64]:
    """A role for each face [F], the same for all faces of a connected piece (vertices are joined by position)."""
    piece = connected_pieces(vertices, faces)
    share = np.bincount(piece, face_areas(vertices, faces)).astype(np.float64)
    # one piece, perhaps with a few screws: by pieces the object would have one colour
    if share.max() > 0.97 * share.sum():
        return _banded_roles(vertices, faces)
    order = np.argsort(-share, kind="stable")
    rest = np.array([Role.SECOND, Role.ACCENT, Role.DARK, Role.LIGHT, Role.GLASS])
    roles = np.empty(len(share), dtype=np.int64)
    # the salt, of the file's name, lets models of one category differ in which piece has which colour
    roles[order] = np.concatenate([[Role.MAIN], rest[(np.arange(len(order) - 1) + salt) % len(rest)]])
    alike = alike_pieces(share)
    _, first = np.unique(alike, return_index=True)
    roles = roles[first][alike]
    return roles[piece]


def connected_pieces(vertices: npt.NDArray[np.float64], faces: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The number of the connected piece that each face [F] belongs to; vertices are joined by position."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    _, welded = np.unique(np.round(vertices, 5), axis=0, return_inverse=True)
    corners = welded.reshape(-1)[faces]
    count = int(corners.max()) + 1
    # two edges connect all three corners
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    piece: npt.NDArray[np.int64] = label[corners[:, 0]].astype(np.int64)
    return piece


def alike_pieces(areas: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """A number from 0 on for each piece [P], the same for pieces alike in area, such as four wheels."""
    steps = np.round(np.log(np.maximum(areas, 1e-12)) / 0.02).astype(np.int64)
    alike: npt.NDArray[np.int64] = np.unique(steps, return_inverse=True)[1].reshape(-1)
    return alike


def _banded_roles(vertices: npt.NDArray[np.float64], faces: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    bands = 4
    height = vertices[faces][:, :, 2].mean(axis=1)
    low, high = vertices[:, 2].min(), vertices[:, 2].max()
    band = np.floor((height - low) / max(high - low, 1e-9) * bands).clip(0, bands - 1).astype(np.int64)
    choices = np.array([Role.DARK, Role.MAIN, Role.MAIN, Role.SECOND])
    roles: npt.NDArray[np.int64] = choices[band]
    return roles
