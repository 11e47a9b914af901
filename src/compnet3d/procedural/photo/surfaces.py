"""What things are made of in the style "photo": paint, plastic, metal, glass, rubber, photographs, dirt, decals."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from compnet3d.data.backgrounds import window_of
from compnet3d.procedural.parts import Role
from compnet3d.procedural.photo.photographs import draw_photograph, to_linear
from compnet3d.rendering.materials import Floats, Material, random_colour, random_material

# the two axes that a texture lies along on faces that look along x, y or z
_ACROSS = np.array([[1, 2], [0, 2], [0, 1]])


@dataclass(frozen=True)
class Surface:
    """A surface in linear light.

    Attributes:
        pattern: gives the colour (sRGB) at a point, and the exponent of highlights.
        texture: float32 [T, T, 3] that replaces the pattern, or None.
        repeats: of the texture over a unit of length.
        metallic: 0 for paint and plastic; at 1 all light is reflected, in the surface's colour.
        reflectance: share of light reflected straight back, in [0, 1]; more at grazing angles.
        level: how blurred reflections are, a level of the environment.
        dirt: how much of it is covered by dirt, in [0, 1].
    """

    pattern: Material
    texture: Floats | None = None
    repeats: float = 1.0
    metallic: float = 0.0
    reflectance: float = 0.04
    level: int = 2
    dirt: float = 0.0

    def albedo(self, points: Floats, normals: Floats) -> Floats:
        """Colour in linear light [N, 3] at points [N, 3] with unit normals [N, 3]."""
        if self.texture is None:
            colour = self.pattern.albedo(points) ** np.float32(2.2)
        else:
            colour = _look_up(self.texture, points, normals, self.repeats)
        if self.dirt == 0:
            return colour
        angle = points @ (self.pattern.waves.T * np.float32(0.6)) + self.pattern.phase
        cloud = np.sin(angle + 2 * np.sin(1.7 * angle[:, [1, 2, 0]])).sum(axis=1) / 3
        share = np.float32(self.dirt) * np.clip(0.5 + cloud, 0, 1)[:, None]
        soiled: Floats = colour + share * (np.array([0.12, 0.10, 0.075], dtype=np.float32) - colour)
        return soiled


def _look_up(texture: Floats, points: Floats, normals: Floats, repeats: float) -> Floats:
    across = _ACROSS[np.abs(normals).argmax(axis=1)]
    place = np.take_along_axis(points, across, axis=1) * repeats
    # there and back, so that it has no seams
    cell = np.abs((place % 2.0) - 1.0) * (len(texture) - 1)
    column, row = cell.astype(np.int64).T
    return texture[row, column]


@dataclass(frozen=True)
class Decal:
    """A picture on the faces that look along one axis: a label, a number plate, a pair of lamps.

    Attributes:
        axis, side: which faces: 0, 1 or 2 for x, y or z, and -1 or 1.
        centre, half: [2] in the two other axes.
        picture: float32 [T, T, 3], linear light.
        round: an ellipse and no rectangle.
        paired: also its mirror image under x to -x.
    """

    axis: int
    side: int
    centre: tuple[float, float]
    half: tuple[float, float]
    picture: Floats
    round: bool
    paired: bool

    def apply(self, colour: Floats, points: Floats, normals: Floats) -> Floats:
        """Colours [N, 3] with the decal over them."""
        first, second = _ACROSS[self.axis]
        u = np.abs(points[:, first]) if self.paired and first == 0 else points[:, first]
        x, y = (u - self.centre[0]) / self.half[0], (points[:, second] - self.centre[1]) / self.half[1]
        inside = (x * x + y * y < 1) if self.round else np.maximum(np.abs(x), np.abs(y)) < 1
        chosen = np.flatnonzero(inside & (normals[:, self.axis] * self.side > 0.5))
        if len(chosen) == 0:
            return colour
        last = len(self.picture) - 1
        row, column = ((1 - y[chosen]) / 2 * last).astype(np.int64), ((1 + x[chosen]) / 2 * last).astype(np.int64)
        result = colour.copy()
        result[chosen] = self.picture[row, column]
        return result


def random_decals(rng: Generator, extent: Floats, folder: Path | None) -> list[Decal]:
    """None in half of the cases, else up to five, on a mesh with these half extents [3]."""
    decals = []
    for _ in range(int(rng.integers(1, 6)) if rng.random() < 0.5 else 0):
        axis = int(rng.choice(3, p=(0.35, 0.5, 0.15)))
        first, second = extent[_ACROSS[axis]]
        size = rng.uniform(0.06, 0.35)
        half = (size * first * rng.uniform(0.5, 1.5) + 1e-3, size * second * rng.uniform(0.4, 1.2) + 1e-3)
        centre = (rng.uniform(-0.85, 0.85) * first, rng.uniform(-0.85, 0.85) * second)
        paired = rng.random() < 0.5
        if not paired and rng.random() < 0.4:
            centre = (0.0, centre[1])
        if folder is not None and rng.random() < 0.5:
            picture = to_linear(window_of(draw_photograph(rng, folder), (32, 32), rng))
        else:
            picture = drawn_picture(rng, random_colour(rng, (0.05, 1.0)), random_colour(rng, (0.02, 1.0)))
        side, is_round = int(rng.choice((-1, 1))), rng.random() < 0.3
        if paired:
            centre = (abs(centre[0]), centre[1])
        decals.append(Decal(axis, side, centre, half, picture, is_round, paired))
    return decals


def drawn_picture(rng: Generator, paper: Floats, ink: Floats) -> Floats:
    """One colour (sRGB), or bars and dots of another on it like writing: linear light [24, 24, 3]."""
    size = 24
    picture = np.empty((size, size, 3), dtype=np.float32)
    picture[:] = paper ** np.float32(2.2)
    for _ in range(int(rng.integers(2, 10)) if rng.random() < 0.6 else 0):
        x, y = rng.integers(0, size - 2, 2)
        wide, tall = rng.integers(1, 9, 2)
        picture[y : y + tall, x : x + wide] = ink ** np.float32(2.2)
    return picture


def random_surfaces(rng: Generator, folder: Path | None) -> dict[Role, Surface]:
    """A surface for every role of one instance: any colours; dark and glass-like roles stay so in most cases.

    Args:
        rng: random numbers.
        folder: photographs for textures, or None.
    """
    surfaces = {Role.MAIN: _body(rng, folder), Role.SECOND: _body(rng, folder)}
    surfaces[Role.ACCENT] = _metal(rng) if rng.random() < 0.6 else _body(rng, folder)
    surfaces[Role.LIGHT] = _plain(rng, random_colour(rng, (0.7, 1.0), grey=0.7), reflectance=rng.uniform(0.03, 0.1))
    surfaces[Role.DARK] = _rubber(rng) if rng.random() < 0.95 else _body(rng, folder)
    surfaces[Role.GLASS] = _glass(rng) if rng.random() < 0.95 else _body(rng, folder)
    return surfaces


def _body(rng: Generator, folder: Path | None) -> Surface:
    # side of a texture in texels
    side = 96
    kind = rng.random()
    dirt = float(rng.uniform(0.05, 0.6)) if rng.random() < 0.25 else 0.0
    if kind < 0.5:
        # clear coat: sharp reflections over any colour
        return _plain(rng, _paint(rng), reflectance=rng.uniform(0.04, 0.14), level=int(rng.integers(0, 2)), dirt=dirt)
    if kind < 0.65:
        return _metal(rng, dirt)
    if kind < 0.75 and folder is not None:
        texture = to_linear(window_of(draw_photograph(rng, folder), (side, side), rng))
        surface = _plain(rng, _paint(rng), reflectance=rng.uniform(0.0, 0.08), dirt=dirt)
        return Surface(surface.pattern, texture, rng.uniform(0.8, 6.0), 0.0, surface.reflectance, surface.level, dirt)
    pattern = random_material(rng, random_colour(rng, (0.08, 1.0)), patterned=0.5, scale=rng.uniform(0.6, 2.5))
    return Surface(pattern, reflectance=float(rng.uniform(0.0, 0.06)), level=int(rng.integers(1, 3)), dirt=dirt)


def car_paint(rng: Generator) -> Surface:
    """Clear coat over plain or metallic paint, clean or dusty."""
    dirt = float(rng.uniform(0.05, 0.4)) if rng.random() < 0.2 else 0.0
    metallic = rng.uniform(0.1, 0.5) if rng.random() < 0.5 else 0.0
    reflectance = rng.uniform(0.05, 0.25)
    return _plain(rng, _paint(rng), reflectance, metallic=metallic, level=int(rng.integers(0, 2)), dirt=dirt)


def _paint(rng: Generator) -> Floats:
    """Half of all made things are white, grey or black; the rest has any hue, often a strong one."""
    if rng.random() < 0.5:
        return random_colour(rng, (0.03, 1.0), grey=1.0)
    colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.3, 1.0), rng.uniform(0.15, 1.0))
    return np.array(colour, dtype=np.float32)


def _plain(
    rng: Generator, colour: Floats, reflectance: float, *, metallic: float = 0.0, level: int = 1, dirt: float = 0.0
) -> Surface:
    pattern = random_material(rng, colour, patterned=0.0)
    return Surface(pattern, metallic=metallic, reflectance=float(reflectance), level=level, dirt=dirt)


def _metal(rng: Generator, dirt: float = 0.0) -> Surface:
    colour = random_colour(rng, (0.5, 0.95), grey=0.75)
    return _plain(rng, colour, 0.6, metallic=rng.uniform(0.6, 1.0), level=int(rng.integers(0, 3)), dirt=dirt)


def _rubber(rng: Generator) -> Surface:
    dirt = float(rng.uniform(0, 0.5)) if rng.random() < 0.4 else 0.0
    return _plain(rng, random_colour(rng, (0.04, 0.25), grey=0.9), rng.uniform(0.01, 0.05), level=2, dirt=dirt)


def _glass(rng: Generator) -> Surface:
    # what is behind it is mostly dark
    colour = random_colour(rng, (0.02, 0.3), grey=0.8)
    return _plain(rng, colour, rng.uniform(0.06, 0.3), level=0)
