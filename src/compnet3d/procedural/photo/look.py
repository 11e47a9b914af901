"""What one instance looks like in the style "photo"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from compnet3d.procedural.model import Hits, Model
from compnet3d.procedural.parts import Role
from compnet3d.procedural.photo.pieces import Pieces
from compnet3d.procedural.photo.surfaces import Decal, Surface, car_paint, random_decals, random_surfaces
from compnet3d.procedural.photo.vehicle import Vehicle, random_vehicle, vehicle_decals
from compnet3d.rendering.materials import Floats
from compnet3d.rendering.skin import Skin


@dataclass(frozen=True)
class Look:
    """What an instance looks like.

    Attributes:
        roles: int64 [F], which surface each face has.
        surfaces: by role.
        decals: pictures on it.
        vehicle: windows and rims, of a body on wheels.
        skin: colours of the model's own, which hide those of surfaces and decals.
    """

    roles: npt.NDArray[np.int64]
    surfaces: dict[Role, Surface]
    decals: Sequence[Decal]
    vehicle: Vehicle | None = None
    skin: Skin | None = None

    def roles_at(self, hits: Hits) -> npt.NDArray[np.int64]:
        """The role of each hit [N]."""
        roles = self.roles[hits.face]
        return roles if self.vehicle is None else self.vehicle.roles(hits.face, hits.points, hits.normals, roles)

    def over(self, albedo: Floats, hits: Hits, chosen: npt.NDArray[np.int64]) -> Floats:
        """Colours [N, 3] in linear light at some of the hits, replaced by the model's own where it has them."""
        if self.skin is None:
            return albedo
        own = self.skin.at(hits.face[chosen], hits.weight[chosen]) ** np.float32(2.2)
        return np.where(np.isfinite(own), own, albedo)


def random_look(rng: Generator, model: Model, pieces: Pieces | None, folder: Path | None) -> Look:
    """Surfaces, decals, and for most vehicles windows and rims.

    Args:
        rng: random numbers.
        model: gives the roles, where there are no pieces.
        pieces: of a CAD model, whose roles are drawn; None for built-in categories, which have roles.
        folder: photographs for textures, or None.
    """
    surfaces = random_surfaces(rng, folder)
    extent = model.mesh.vertices.abs().amax(dim=0).numpy()
    decals = random_decals(rng, extent, folder)
    if pieces is None:
        return Look(model.roles, surfaces, decals, skin=model.skin)
    roles = pieces.random_roles(rng)
    if not pieces.vehicle or rng.random() > 0.85:
        return Look(roles, surfaces, decals, skin=model.skin)
    if rng.random() < 0.75:
        surfaces[Role.MAIN] = car_paint(rng)
    vehicle = random_vehicle(rng, pieces.axle, extent)
    return Look(roles, surfaces, [*vehicle_decals(rng, extent), *decals], vehicle, model.skin)
