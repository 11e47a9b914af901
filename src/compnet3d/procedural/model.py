"""A mesh ready to be drawn, and what of it a camera sees."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from compnet3d.geometry.mesh import Mesh
from compnet3d.procedural.parts import Part, cross
from compnet3d.procedural.shadow import footprint
from compnet3d.procedural.view import View
from compnet3d.rendering.materials import Floats
from compnet3d.rendering.raster import rasterize
from compnet3d.rendering.skin import Skin

# cells along each side of a pixel: the coverage of borders comes in steps of a quarter
_SUPERSAMPLING = 2


@dataclass(frozen=True)
class Hits:
    """Where the rays of an image's cells meet a surface; N of the (2 S)^2 cells do.

    Attributes:
        size: S, side of the image in pixels.
        cell: int64 [N], row-major number of the cell.
        face: int64 [N].
        weight: float32 [N, 3], barycentric.
        points: float32 [N, 3], object frame.
        normals: float32 [N, 3], unit, turned towards the camera: thin parts are seen from inside, and CAD models are
            wound either way.
        towards: float32 [N, 3], unit vectors to the camera.
    """

    size: int
    cell: npt.NDArray[np.int64]
    face: npt.NDArray[np.int64]
    weight: Floats
    points: Floats
    normals: Floats
    towards: Floats

    def layer(self, colour: Floats) -> tuple[Floats, Floats]:
        """Premultiplied colour [S, S, 3] and coverage [S, S] from the hits' colours [N, 3]."""
        count = self.size * _SUPERSAMPLING
        cells = np.zeros((count * count, 4), dtype=np.float32)
        cells[self.cell, :3], cells[self.cell, 3] = colour, 1.0
        # [S, 2, S, 2, 4]: the four cells of a pixel on axes 1 and 3
        fine = cells.reshape(self.size, _SUPERSAMPLING, self.size, _SUPERSAMPLING, 4)
        corners_of_pixel = [fine[:, i, :, j] for i in range(_SUPERSAMPLING) for j in range(_SUPERSAMPLING)]
        pixels = sum(corners_of_pixel[1:], corners_of_pixel[0]) * np.float32(1 / _SUPERSAMPLING**2)
        return pixels[..., :3], pixels[..., 3]

    def on(self, other: Model) -> Hits:
        """The same places on another shape of the same faces, from which all else is as here."""
        points, normals = other.at(self.face, self.weight)
        return replace(self, points=points, normals=_turned(normals, self.normals))


@dataclass(frozen=True)
class Model:
    """A mesh ready to be drawn.

    Attributes:
        mesh: unit diagonal, centred.
        roles: int64 [F], which material each face has.
        normals: float32 [F, 3, 3], unit normal at each corner of each face, smooth over blunt edges.
        footprint: float32 [G, G], how much stands above the ground over [-0.75, 0.75]^2 (rows along y).
        skin: colours of its own, which go before those of materials; None for none.
    """

    mesh: Mesh
    roles: npt.NDArray[np.int64]
    normals: Floats
    footprint: Floats
    skin: Skin | None = None

    @property
    def floor(self) -> float:
        """Height of the lowest point."""
        return float(self.mesh.vertices[:, 2].min())

    def at(self, face: npt.NDArray[np.int64], weight: Floats) -> tuple[Floats, Floats]:
        """Points and normals (not normalised) [N, 3] of faces [N] at barycentric coordinates [N, 3]."""
        corners = self.mesh.vertices.numpy()[self.mesh.faces.numpy()]
        points: Floats = np.einsum("nk,nkd->nd", weight, corners[face])
        return points, np.einsum("nk,nkd->nd", weight, self.normals[face])

    def seen(self, view: View) -> Hits:
        """What a camera sees of the surface."""
        pose, camera = view.pose(), view.camera()
        raster = rasterize(
            pose.object_to_camera(self.mesh.vertices.double()),
            self.mesh.faces,
            focal=camera.focal,
            principal_point=camera.principal_point,
            height=view.size * _SUPERSAMPLING,
            width=view.size * _SUPERSAMPLING,
            stride=1 / _SUPERSAMPLING,
        )
        face_map = raster.face_index[0].numpy().reshape(-1)
        cell = np.flatnonzero(face_map >= 0)
        face = face_map[cell]
        weight = raster.barycentric[0].numpy().reshape(-1, 3)[cell].astype(np.float32)
        points, normals = self.at(face, weight)
        towards = pose.camera_centre()[0].numpy().astype(np.float32) - points
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        normals = _turned(normals, towards)
        return Hits(view.size, cell, face, weight, points, normals, towards)


def prepare(part: Part) -> Model:
    """Normals and footprint of a normalised part."""
    mesh = part.mesh()
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()
    return Model(mesh, part.roles, corner_normals(vertices, faces), footprint(mesh), part.skin)


def corner_normals(vertices: Floats, faces: npt.NDArray[np.int64]) -> Floats:
    """Unit normals [F, 3, 3]: at each corner the mean over the faces around it that bend by less than the crease angle.

    Corners are matched by position; faces that turn the other way round are flipped first, so that the winding of the
    mesh does not matter.
    """
    # sharper edges stay edges; the sides of a 16-sided cylinder, 22.5 degrees apart, become round
    crease = math.cos(math.radians(42))
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    # unnormalised: large faces count for more in the mean
    area = cross(b - a, c - a)
    unit = area / np.maximum(np.linalg.norm(area, axis=1, keepdims=True), 1e-20)
    # primitives and CAD files repeat vertices at seams, which would otherwise be seen as creases
    _, welded = np.unique(np.round(vertices, 6), axis=0, return_inverse=True)
    corner_vertex = welded.reshape(-1)[faces].reshape(-1)
    # Corners [3 F] sorted by place; those of place p are order[start[p] : start[p] + count[p]]. Below, each corner is
    # paired with all corners at its place, itself included: `corner` and `other` run over these pairs, `other` as
    # faces.
    order = np.argsort(corner_vertex, kind="stable")
    count = np.bincount(corner_vertex)
    start = np.cumsum(count) - count
    share = count[corner_vertex]
    corner = np.repeat(np.arange(len(corner_vertex)), share)
    within = np.arange(len(corner)) - np.repeat(np.cumsum(share) - share, share)
    other = order[start[corner_vertex][corner] + within] // 3
    alike = np.einsum("ij,ij->i", unit[corner // 3], unit[other])
    # a face wound the other way counts with its normal turned round
    weight = np.where(np.abs(alike) > crease, np.sign(alike), 0.0)
    total = np.stack([np.bincount(corner, weight * area[other, k], len(corner_vertex)) for k in range(3)], axis=1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    # degenerate faces and normals that cancel out fall back on the face's own
    total = np.where(length > 1e-20, total / np.maximum(length, 1e-20), np.repeat(unit, 3, axis=0))
    return total.reshape(-1, 3, 3).astype(np.float32)


def _turned(normals: Floats, towards: Floats) -> Floats:
    """Unit normals [N, 3] on the side of other vectors [N, 3]."""
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    sign = np.where(np.einsum("nd,nd->n", normals, towards) < 0, -1, 1)[:, None].astype(np.float32)
    turned: Floats = normals * sign
    return turned
