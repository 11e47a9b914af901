"""Which surface the pieces of a CAD model have: drawn for each instance, from what their shapes tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from compnet3d.procedural.cad import alike_pieces, connected_pieces, face_areas
from compnet3d.procedural.model import Model
from compnet3d.procedural.parts import Role
from compnet3d.procedural.photo.shading import Openness

# the smallest group that is told from its neighbours, as a share of the surface
_SMALLEST = 0.002


@dataclass(frozen=True)
class Pieces:
    """Connected pieces of a model, those alike in size together in one of G groups.

    Attributes:
        group: int64 [F], the group of each face, from the largest to the smallest.
        share: float64 [G], of the surface.
        wheel: bool [G], round, flat and standing on the ground at least twice.
        inside: bool [G], hardly open to the surroundings.
        height: float32 [F], of the faces' middles, 0 at the floor and 1 at the top.
    """

    group: npt.NDArray[np.int64]
    share: npt.NDArray[np.float64]
    wheel: npt.NDArray[np.bool_]
    inside: npt.NDArray[np.bool_]
    height: npt.NDArray[np.float32]

    @classmethod
    def of(cls, model: Model, openness: Openness) -> Pieces:
        """The pieces of a model."""
        vertices, faces = model.mesh.vertices.double().numpy(), model.mesh.faces.numpy()
        piece = connected_pieces(vertices, faces)
        area = face_areas(vertices, faces)
        kind = alike_pieces(np.bincount(piece, weights=area).astype(np.float64))
        group = kind[piece]
        total = np.bincount(group, area)
        order = np.argsort(-total, kind="stable")
        group = np.argsort(order)[group]
        middle = vertices[faces].mean(axis=1).astype(np.float32)
        # both sides: which is outside is not known of a CAD model
        normal = model.normals.mean(axis=1)
        normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
        opened = np.maximum(openness.at(middle, normal), openness.at(middle, -normal))
        opened = np.bincount(group, opened * area) / np.maximum(np.bincount(group, area), 1e-20)
        low, high = vertices[:, 2].min(), vertices[:, 2].max()
        return cls(
            group=group,
            share=total[order] / area.sum(),
            wheel=_wheels(vertices, faces, piece, group, len(order)),
            inside=opened < 0.35,
            height=((middle[:, 2] - low) / max(high - low, 1e-9)).astype(np.float32),
        )

    def random_roles(self, rng: Generator) -> npt.NDArray[np.int64]:
        """A role for each face [F].

        The largest group is MAIN, wheels are mostly DARK, so is what is inside, and all small groups have one role. A
        model that is nearly one piece is often cut into bands at random heights, as bottles have caps and labels.
        """
        others = np.array([Role.MAIN, Role.SECOND, Role.ACCENT, Role.DARK, Role.LIGHT, Role.GLASS])
        roles = rng.choice(others, size=len(self.share), p=(0.3, 0.25, 0.13, 0.15, 0.07, 0.1))
        roles[self.share < _SMALLEST] = rng.choice(others)
        roles[self.inside & (rng.random(len(roles)) < 0.6)] = Role.DARK
        roles[0] = Role.MAIN
        if rng.random() < 0.85:
            roles[self.wheel] = Role.DARK
        result: npt.NDArray[np.int64] = roles[self.group]
        if self.share[0] > 0.85 and rng.random() < 0.6:
            cuts = np.sort(rng.uniform(0.05, 0.98, int(rng.integers(1, 4))))
            bands = rng.choice(others, size=len(cuts) + 1, p=(0.35, 0.25, 0.15, 0.1, 0.1, 0.05))
            first = np.flatnonzero(self.group == 0)
            result[first] = bands[np.searchsorted(cuts, self.height[first])]
        return result


def _wheels(
    vertices: npt.NDArray[np.float64],
    faces: npt.NDArray[np.int64],
    piece: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64],
    groups: int,
) -> npt.NDArray[np.bool_]:
    count = int(piece.max()) + 1
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    for corner in range(3):
        np.minimum.at(low, piece, vertices[faces[:, corner]])
        np.maximum.at(high, piece, vertices[faces[:, corner]])
    extent = np.sort(high - low, axis=1)
    height = vertices[:, 2].max() - vertices[:, 2].min()
    on_ground = low[:, 2] < vertices[:, 2].min() + 0.05 * height
    disc = (extent[:, 1] > 0.85 * extent[:, 2]) & (extent[:, 0] < 0.7 * extent[:, 2]) & on_ground
    # wheels stand: as high as long
    disc &= (high - low)[:, 2] > 0.8 * extent[:, 2]
    disc &= extent[:, 2] > 0.08 * height
    of_piece = np.zeros(count, dtype=np.int64)
    of_piece[piece] = group
    whole = np.bincount(of_piece, minlength=groups)
    found: npt.NDArray[np.bool_] = (np.bincount(of_piece, disc, groups) >= 0.8 * whole) & (disc.sum() >= 2)
    return found
