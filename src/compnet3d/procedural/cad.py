"""CAD models as parts: normalised, with roles given to their connected pieces."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compnet3d.data.shapes.read import SUFFIXES, degenerate, find_shapes, load_shape
from compnet3d.errors import CompNetError
from compnet3d.geometry.frame import Frame
from compnet3d.procedural.parts import Part, Role
from compnet3d.utils.files import folders_in


@dataclass(frozen=True)
class CadFolder:
    """A folder with one folder of CAD models for each category, and how these are taken; see `CadFile`."""

    path: str | Path
    frame: Frame | None = None
    own_colours: bool = True


@dataclass(frozen=True)
class CadFile:
    """A CAD model's file and how it is taken.

    Attributes:
        path: the file.
        frame: its axes, None for what the format states.
        own_colours: whether colours and pictures of the file are drawn.
    """

    path: Path
    frame: Frame | None = None
    own_colours: bool = True


@dataclass(frozen=True)
class Cad:
    """A CAD model that was read.

    Attributes:
        part: centred, unit diagonal, without degenerate faces.
        frame: the file's axes; stated: whether it, its format or the caller states them.
        notes: what was left out, one sentence each.
    """

    part: Part
    frame: Frame
    stated: bool
    notes: tuple[str, ...]


def load_cad(file: CadFile) -> Cad:
    """A CAD file as a part: centred (in double precision), unit diagonal, degenerate faces dropped.

    Connected pieces get roles in the order of their area (the largest is MAIN); a model of one piece gets them by
    height and by which way its faces look.

    Raises:
        CompNetError: naming the file, if it is absent, empty, broken or without area.
    """
    shape = load_shape(file.path, file.frame)
    flat = degenerate(shape.vertices, shape.faces)
    if flat.all():
        raise CompNetError(f"{file.path}: the model has no surface (all faces are degenerate); export the model again.")
    # vertices of no face would count in the box, and move and shrink the model
    kept, inverse = np.unique(shape.faces[~flat], return_inverse=True)
    vertices, faces = shape.vertices[kept], inverse.reshape(-1, 3).astype(np.int64)
    part = Part(vertices, faces, np.zeros(len(faces), dtype=np.int64)).normalised()
    roles = piece_roles(part.vertices, faces, zlib.crc32(file.path.name.encode()))
    skin = shape.skin.of(np.flatnonzero(~flat)) if shape.skin is not None and file.own_colours else None
    count = int(flat.sum())
    notes = (f"{file.path}: {count} face{'s' * (count > 1)} without area left out",) if count else ()
    part = Part(part.vertices, faces, roles, skin)
    return Cad(part, shape.frame, shape.stated or file.frame is not None, (*shape.notes, *notes))


def find_models(cad: CadFolder) -> dict[str, list[CadFile]]:
    """CAD files of every category folder in alphabetical order.

    Raises:
        CompNetError: if the folder is missing, holds no category, or a category holds no model, or two files for one.
    """
    folder = Path(cad.path)
    if not folder.is_dir():
        raise CompNetError(f"{folder} is not a folder; give one that holds CATEGORY/01.off files.")
    found = {}
    for child in folders_in(folder):
        paths = find_shapes(child)
        if not paths:
            raise CompNetError(
                f"{child} holds no CAD model; put at least one there as 01.off (or {', '.join(SUFFIXES[1:])}) "
                "or remove the folder."
            )
        found[child.name] = [CadFile(path, cad.frame, cad.own_colours) for path in paths]
    if not found:
        raise CompNetError(f"{folder} holds no category folder; it needs CATEGORY/01.off files.")
    return found


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
