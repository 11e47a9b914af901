"""What bodies on wheels have beside their pieces: windows, rims, lamps, a grille and number plates.

Most CAD models of cars have their windows in the body's piece, painted or not. Photographs of cars are told by dark
windows, rims and lamps, from which the front is told from the back, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from compnet3d.procedural.parts import Role
from compnet3d.procedural.photo.surfaces import Decal, drawn_picture
from compnet3d.rendering.materials import Floats, random_colour


@dataclass(frozen=True)
class Vehicle:
    """Windows and rims of one instance.

    Attributes:
        axle: float32 [F, 3], y, z and radius of the wheel that a face belongs to, radius 0 for others.
        belt, top: heights (z) between which windows are.
        pillars: y of the pillars between windows at the sides.
        pillar: half their width.
        rim: radius of the rim, of the wheel's.
        spokes: number of them; 0 for a full disc.
        gap: of the angle between two spokes, how much is open.
    """

    axle: Floats
    belt: float
    top: float
    pillars: tuple[float, ...]
    pillar: float
    rim: float
    spokes: int
    gap: float

    def roles(
        self, face: npt.NDArray[np.int64], points: Floats, normals: Floats, roles: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Roles [N] at points [N, 3] of faces [N], from those of the faces."""
        glass = self._glass(points, normals) & (roles == Role.MAIN)
        axle = self.axle[face]
        y, z = points[:, 1] - axle[:, 0], points[:, 2] - axle[:, 1]
        rim = np.hypot(y, z) < self.rim * axle[:, 2]
        if self.spokes:
            share = (np.arctan2(z, y) / (2 * np.pi) * self.spokes) % 1.0
            # none near the hub
            rim &= (share > self.gap) | (np.hypot(y, z) < 0.3 * axle[:, 2])
        wheel = axle[:, 2] > 0
        result: npt.NDArray[np.int64] = np.where(wheel & rim, Role.ACCENT, np.where(wheel, Role.DARK, roles))
        return np.where(glass, Role.GLASS, result)

    def _glass(self, points: Floats, normals: Floats) -> npt.NDArray[np.bool_]:
        across, along, up = np.abs(normals).T
        at_side = (across > 0.7) & (up < 0.7)
        for y in self.pillars:
            at_side &= np.abs(points[:, 1] - y) > self.pillar
        # between front and side, pillars look both ways; roof and bonnet look up
        at_end = (across < 0.4) & (along > 0.3) & (up < 0.95)
        height = points[:, 2]
        glass: npt.NDArray[np.bool_] = (height > self.belt) & (height < self.top) & (at_side | at_end)
        return glass


def random_vehicle(rng: Generator, axle: Floats, extent: Floats) -> Vehicle:
    """Windows and rims for a model with these axles [F, 3] and half extents [3]."""
    belt, top = rng.uniform(0.5, 0.68), rng.uniform(0.88, 0.98)
    first, step = rng.uniform(-0.25, 0.05), rng.uniform(0.25, 0.45)
    pillars = tuple(float(extent[1] * (first + k * step)) for k in range(int(rng.integers(1, 4))))
    return Vehicle(
        axle=axle,
        belt=float(extent[2] * (2 * belt - 1)),
        top=float(extent[2] * (2 * top - 1)),
        pillars=pillars,
        pillar=float(extent[1] * rng.uniform(0.01, 0.04)),
        rim=float(rng.uniform(0.55, 0.8)),
        spokes=int(rng.integers(4, 13)) if rng.random() < 0.8 else 0,
        gap=float(rng.uniform(0.2, 0.65)),
    )


def vehicle_decals(rng: Generator, extent: Floats) -> list[Decal]:
    """Lamps, grille and plates, most of them, on the ends of a body with these half extents [3]; the front faces -y."""
    x, z = float(extent[0]), float(extent[2])

    def at_height(share: float) -> float:
        return z * (2 * share - 1)

    def decal(side: int, centre: tuple[float, float], half: tuple[float, float], picture: Floats) -> Decal:
        return Decal(1, side, (centre[0] * x, at_height(centre[1])), (half[0] * x, half[1] * z), picture, False, True)

    level = rng.uniform(0.38, 0.52)
    decals = []
    if rng.random() < 0.75:
        half = (rng.uniform(0.2, 0.5), rng.uniform(0.05, 0.22))
        decals.append(decal(-1, (0.0, level - rng.uniform(0, 0.1)), half, _bars(rng)))
    for side, hue in ((-1, _white(rng)), (1, _red(rng))):
        if rng.random() < 0.9:
            half = (rng.uniform(0.1, 0.25), rng.uniform(0.05, 0.15))
            decals.append(decal(side, (rng.uniform(0.65, 0.85), level + rng.uniform(-0.03, 0.1)), half, hue))
        if rng.random() < 0.7:
            picture = drawn_picture(rng, random_colour(rng, (0.7, 1.0), grey=0.8), np.full(3, 0.1, dtype=np.float32))
            decals.append(decal(side, (0.0, rng.uniform(0.25, 0.42)), (rng.uniform(0.18, 0.3), 0.05), picture))
    return decals


def _white(rng: Generator) -> Floats:
    """A lamp of clear glass: bright with a dark rim."""
    picture = np.full((16, 16, 3), rng.uniform(0.02, 0.6), dtype=np.float32)
    picture[2:14, 2:14] = rng.uniform(0.4, 1.0) * (1 + rng.uniform(-0.1, 0.1, 3))
    return np.minimum(picture, 1)


def _red(rng: Generator) -> Floats:
    picture = np.empty((16, 16, 3), dtype=np.float32)
    picture[:] = (rng.uniform(0.25, 0.8), rng.uniform(0.0, 0.06), rng.uniform(0.0, 0.05))
    # an indicator or a reversing lamp in it
    low = int(rng.integers(0, 12))
    picture[low : low + 4] = (0.8, rng.uniform(0.2, 0.8), rng.uniform(0.0, 0.7))
    return picture


def _bars(rng: Generator) -> Floats:
    """Dark, with bright bars along or across."""
    dark, bright = rng.uniform(0.0, 0.06), rng.uniform(0.05, 0.7)
    count = int(rng.integers(2, 7))
    bar = (np.arange(24) * count // 12) % 2 == 0
    picture = np.broadcast_to(np.where(bar, dark, bright)[:, None, None], (24, 24, 3)).astype(np.float32)
    return picture if rng.random() < 0.6 else np.ascontiguousarray(picture.transpose(1, 0, 2))
