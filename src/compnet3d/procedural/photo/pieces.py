"""Which surface the pieces of a CAD model have: drawn for each instance, from what their shapes tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from compnet3d.procedural.cad import alike_pieces, connected_pieces, face_areas
from compnet3d.procedural.model import Model
from compnet3d.procedural.parts import Role
from compnet3d.procedural.photo.openness import Openness


@dataclass(frozen=True)
class Pieces:
    """Connected pieces of a model, those alike in size together in one of G groups.

    Attributes:
        group: int64 [F], the group of each face, from the largest to the smallest.
        share: float64 [G], of the surface.
        wheel: bool [G], whether they are wheels: round, upright and flat, on the ground, and not alone.
        axle: float32 [F, 3], y, z and radius of the wheel that a face belongs to, radius 0 for others.
        vehicle: whether there are wheels at both sides of a body.
        inside: bool [G], hardly open to the surroundings.
        height: float32 [F], of the faces' middles, 0 at the floor and 1 at the top.
    """

    group: npt.NDArray[np.int64]
    share: npt.NDArray[np.float64]
    wheel: npt.NDArray[np.bool_]
    axle: npt.NDArray[np.float32]
    vehicle: bool
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
        axles = _wheel_axles(vertices, faces, piece)
        return cls(
            group=group,
            share=total[order] / area.sum(),
            wheel=np.bincount(group, axles[piece, 3] > 0) >= 0.8 * np.bincount(group),
            axle=axles[piece, 1:].astype(np.float32),
            vehicle=_is_vehicle(axles, vertices),
            inside=opened < 0.35,
            height=((middle[:, 2] - low) / max(high - low, 1e-9)).astype(np.float32),
        )

    def random_roles(self, rng: Generator) -> npt.NDArray[np.int64]:
        """A role for each face [F].

        The largest group is MAIN, wheels are mostly DARK, so is what is inside, and all small groups have one role. A
        model that is nearly one piece is often cut into bands at random heights, as bottles have caps and labels.
        """
        # the smallest group that is told from its neighbours, as a share of the surface
        smallest = 0.002
        others = np.array([Role.MAIN, Role.SECOND, Role.ACCENT, Role.DARK, Role.LIGHT, Role.GLASS])
        roles = rng.choice(others, size=len(self.share), p=(0.3, 0.25, 0.13, 0.15, 0.07, 0.1))
        roles[self.share < smallest] = rng.choice(others)
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


def _wheel_axles(
    vertices: npt.NDArray[np.float64], faces: npt.NDArray[np.int64], piece: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """x, y, z and radius of each piece [P, 4] that is round, upright, flat and on the ground; else radius 0."""
    count = int(piece.max()) + 1
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    for corner in range(3):
        np.minimum.at(low, piece, vertices[faces[:, corner]])
        np.maximum.at(high, piece, vertices[faces[:, corner]])
    x, y, z = (high - low).T
    floor, height = vertices[:, 2].min(), np.ptp(vertices[:, 2])
    wheel = (np.abs(y - z) < 0.15 * z) & (x < 0.7 * z) & (z > 0.08 * height) & (low[:, 2] < floor + 0.05 * height)
    if wheel.sum() < 2:
        wheel[:] = False
    return np.concatenate([(low + high) / 2, np.where(wheel, z / 2, 0)[:, None]], axis=1)


def _is_vehicle(axles: npt.NDArray[np.float64], vertices: npt.NDArray[np.float64]) -> bool:
    wheels = axles[axles[:, 3] > 0]
    if len(wheels) < 3:
        return False
    side, height = 0.4 * np.abs(vertices[:, 0]).max(), np.ptp(vertices[:, 2])
    both = (wheels[:, 0] > side).any() and (wheels[:, 0] < -side).any()
    return bool(both and 2 * wheels[:, 3].max() < 0.7 * height)
