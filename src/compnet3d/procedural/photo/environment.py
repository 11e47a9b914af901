"""The light around an object as a map of radiance over all directions, from a photograph or drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from PIL import Image

from compnet3d.procedural.photo.photographs import to_linear
from compnet3d.rendering.materials import Floats, random_colour

# rows of the radiance map; twice as many columns
_ROWS = 64
# rows of the map that the irradiance is fitted to: it has no finer detail
_COARSE = 16


@dataclass(frozen=True)
class Environment:
    """Radiance over all directions, in linear light.

    Attributes:
        levels: float32 [H, 2 H, 3] each, from sharp to blurred. Rows run from straight up to straight down, columns
            once around the vertical axis.
        ambient: float32 [9, 3], what a white surface looks like by its normal, in real spherical harmonics of order 2
            (Ramamoorthi and Hanrahan, SIGGRAPH 2001).
        turn: radians about the vertical axis between the map and the object.
    """

    levels: tuple[Floats, ...]
    ambient: Floats
    turn: float

    @classmethod
    def from_map(cls, radiance: Floats, turn: float, brightness: float) -> Environment:
        """From a radiance map [64, 128, 3], scaled so that a white surface has this brightness on average."""
        coarse = _shrunk(radiance, _COARSE)
        directions, weight = _sphere(_COARSE)
        # the integral over the sphere; the cosine lobe has the factors 1, 2/3 and 1/4 after division by pi
        lobe = np.array([1, *[2 / 3] * 3, *[1 / 4] * 5], dtype=np.float32)
        ambient = lobe[:, None] * (_harmonics(directions).T @ (weight[:, None] * coarse.reshape(-1, 3)))
        scale = np.float32(brightness / max(float(ambient[0].mean()) * 0.2820948, 1e-6))
        levels = [radiance, _shrunk(radiance, 32), _shrunk(radiance, 12)]
        return cls(tuple(level * scale for level in levels), (ambient * scale).astype(np.float32), turn)

    def diffuse(self, normals: Floats) -> Floats:
        """Light [N, 3] that a white surface with these normals [N, 3] sends back, without anything in the way."""
        light: Floats = np.maximum(_harmonics(self._turned(normals)) @ self.ambient, 0)
        return light

    def reflected(self, directions: Floats, level: int) -> Floats:
        """Radiance [N, 3] from unit directions [N, 3], bilinear in a level of the map."""
        radiance = self.levels[level]
        height, width = radiance.shape[:2]
        x, y, z = self._turned(directions).T
        column = (np.arctan2(y, x) / np.float32(2 * np.pi) + np.float32(0.5)) * width - np.float32(0.5)
        row = np.arccos(z.clip(-1, 1)) * np.float32(height / np.pi) - np.float32(0.5)
        left, upper = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
        across, down = (column - left)[:, None].astype(np.float32), (row - upper)[:, None].astype(np.float32)
        flat = radiance.reshape(-1, 3)
        first, second = (left % width), ((left + 1) % width)
        above, below = upper.clip(0, height - 1) * width, (upper + 1).clip(0, height - 1) * width
        top = flat[above + first] * (1 - across) + flat[above + second] * across
        bottom = flat[below + first] * (1 - across) + flat[below + second] * across
        light: Floats = top * (1 - down) + bottom * down
        return light

    def brightest(self) -> tuple[Floats, Floats]:
        """Unit direction [3] of the brightest place above the horizon, and its hue (RGB [3] of mean 1)."""
        coarse = _shrunk(self.levels[-1], _COARSE)
        directions, _ = _sphere(_COARSE)
        flat = coarse.reshape(-1, 3)
        best = int(np.argmax(flat.mean(axis=1) * (directions[:, 2] > 0.15)))
        hue = flat[best] / max(float(flat[best].mean()), 1e-6)
        x, y, z = directions[best]
        cosine, sine = math.cos(self.turn), math.sin(self.turn)
        # the inverse of `_turned`
        return np.array([cosine * x + sine * y, -sine * x + cosine * y, z], dtype=np.float32), hue.astype(np.float32)

    def _turned(self, directions: Floats) -> Floats:
        cosine, sine = np.float32(math.cos(self.turn)), np.float32(math.sin(self.turn))
        x, y, z = directions.T
        return np.stack([cosine * x - sine * y, sine * x + cosine * y, z], axis=1)


def photograph_environment(rng: Generator, photograph: Image.Image) -> Environment:
    """A photograph around the object: its upper border is the zenith, and its mirror image closes the circle.

    Args:
        rng: decides the turn and the brightness.
        photograph: RGB.
    """
    half = np.asarray(photograph.resize((_ROWS, _ROWS), Image.Resampling.BOX))
    light = to_linear(half)
    # a photograph ends at white; what is white in it was mostly brighter, as lamps and the sky are
    light = light * (1 + rng.uniform(0, 6) * light.mean(axis=-1, keepdims=True) ** 3).astype(np.float32)
    radiance = np.concatenate([light, light[:, ::-1]], axis=1)
    return Environment.from_map(radiance, rng.uniform(0, 2 * math.pi), rng.uniform(0.35, 0.9))


def drawn_environment(rng: Generator) -> Environment:
    """A sky over a floor, things at the horizon, and now and then lamps."""
    height = np.linspace(1, -1, _ROWS, dtype=np.float32)[:, None, None]
    zenith, horizon = random_colour(rng, (0.3, 1.0), grey=0.6), random_colour(rng, (0.6, 1.0), grey=0.7)
    floor = random_colour(rng, (0.1, 0.6), grey=0.7)
    above = horizon + np.clip(height, 0, 1) * (zenith - horizon)
    below = floor * (1 + 0.6 * np.clip(1 + height, 0, 1))
    column = np.where(height > 0, above, below)
    radiance = np.broadcast_to(column, (_ROWS, 2 * _ROWS, 3)).astype(np.float32) ** np.float32(2.2)
    for _ in range(int(rng.integers(0, 14))):
        width, tall = int(rng.integers(3, 20)), int(rng.integers(3, 14))
        x = int(rng.integers(0, 2 * _ROWS - width))
        radiance[_ROWS // 2 - tall : _ROWS // 2 + 2, x : x + width] = random_colour(rng, (0.05, 0.8)) ** 2.2
    for _ in range(int(rng.integers(1, 6)) if rng.random() < 0.5 else 0):
        width, tall = int(rng.integers(2, 24)), int(rng.integers(2, 8))
        x, y = int(rng.integers(0, 2 * _ROWS - width)), int(rng.integers(2, _ROWS // 2))
        radiance[y : y + tall, x : x + width] = rng.uniform(2, 8) * (1 + rng.uniform(-0.15, 0.15, 3))
    return Environment.from_map(radiance, rng.uniform(0, 2 * math.pi), rng.uniform(0.35, 0.9))


def _shrunk(radiance: Floats, rows: int) -> Floats:
    channels = [
        Image.fromarray(np.ascontiguousarray(radiance[..., k])).resize((2 * rows, rows), Image.Resampling.BOX)
        for k in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


@lru_cache(maxsize=4)
def _sphere(rows: int) -> tuple[Floats, Floats]:
    """Directions [N, 3] and solid angles [N] of the cells of a map."""
    polar = (np.arange(rows) + 0.5) / rows * math.pi
    around = ((np.arange(2 * rows) + 0.5) / (2 * rows) - 0.5) * 2 * math.pi
    polar, around = (a.reshape(-1) for a in np.meshgrid(polar, around, indexing="ij"))
    directions = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], axis=1)
    weight = np.sin(polar) * (math.pi / rows) ** 2
    return directions.astype(np.float32), weight.astype(np.float32)


def _harmonics(directions: Floats) -> Floats:
    """Real spherical harmonics up to order 2 at unit directions [N, 3]: [N, 9]."""
    x, y, z = directions.T
    one = np.full_like(x, 0.2820948)
    first = [0.4886025 * y, 0.4886025 * z, 0.4886025 * x]
    second = [1.0925484 * x * y, 1.0925484 * y * z, 0.3153916 * (3 * z * z - 1), 1.0925484 * x * z]
    return np.stack([one, *first, *second, 0.5462742 * (x * x - y * y)], axis=1).astype(np.float32)
