"""Colours and solid textures: functions of a point in the object frame, so no surface coordinates are needed."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Material:
    """A surface.

    Attributes:
        kind: "plain", "stripes", "checks", "noise" or "wood".
        colours: float32 [2, 3], RGB in [0, 1], mixed by the pattern.
        waves: float32 [3, 3], spatial frequencies in radians per unit length.
        phase: float32 [3], radians.
        gloss: strength of highlights in [0, 1].
        shininess: exponent of highlights.
    """

    kind: str
    colours: Floats
    waves: Floats
    phase: Floats
    gloss: float
    shininess: float

    def albedo(self, points: Floats) -> Floats:
        """Colours [N, 3] at points [N, 3]."""
        if self.kind == "plain":
            return np.broadcast_to(self.colours[0], points.shape)
        share = self._pattern(points)[:, None]
        mixed: Floats = self.colours[0] + share * (self.colours[1] - self.colours[0])
        return mixed

    def _pattern(self, points: Floats) -> Floats:
        # [N, 3]: the phase of three plane waves at each point
        angle = points @ self.waves.T + self.phase
        if self.kind == "stripes":
            return _hard(np.sin(angle[:, 0]))
        if self.kind == "checks":
            return _hard(np.sin(angle[:, 0]) * np.sin(angle[:, 1]))
        if self.kind == "noise":
            warped = np.sin(angle + 1.7 * np.sin(1.3 * angle[:, [1, 2, 0]]))
            noise: Floats = 0.5 + 0.5 * np.clip(warped.sum(axis=1) / 1.8, -1, 1)
            return noise
        rings = np.hypot(angle[:, 0], angle[:, 1]) + 0.6 * np.sin(0.5 * angle[:, 2])
        grain: Floats = 0.5 + 0.5 * np.sin(rings)
        return grain


def _hard(wave: Floats) -> Floats:
    hard: Floats = np.clip(0.5 + 3 * wave, 0, 1)
    return hard


def random_colour(rng: Generator, value: tuple[float, float] = (0.25, 0.95), grey: float = 0.4) -> Floats:
    """A colour of any hue; with probability `grey` nearly without colour, else as muted as real things mostly are."""
    saturation = rng.uniform(0.0, 0.14) if rng.random() < grey else rng.uniform(0.15, 0.75)
    return np.array(colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(*value)), dtype=np.float32)


def random_material(rng: Generator, colour: Floats, *, patterned: float = 0.4, scale: float = 1.0) -> Material:
    """A material with a main colour; with probability `patterned` it has a texture.

    Args:
        rng: random numbers.
        colour: RGB [3].
        patterned: probability of anything but plain.
        scale: size of the pattern relative to an object of unit diagonal.
    """
    kind = str(rng.choice(("stripes", "checks", "noise", "wood"))) if rng.random() < patterned else "plain"
    if kind in ("noise", "wood") or rng.random() < 0.7:
        other = np.clip(colour * rng.uniform(0.5, 0.85) if rng.random() < 0.6 else colour * 1.35 + 0.05, 0, 1)
    else:
        other = random_colour(rng)
    # three directions across each other, of any turn or along the axes, as stripes on made things mostly run
    directions = np.linalg.qr(rng.normal(size=(3, 3)))[0] if rng.random() < 0.5 else np.eye(3)[rng.permutation(3)]
    low, high = (8.0, 22.0) if kind == "noise" else (22.0, 60.0)
    waves = directions * rng.uniform(low, high) / scale
    if kind == "wood":
        waves = directions * np.array([[90.0], [60.0], [14.0]]) * rng.uniform(0.6, 1.2) / scale
    gloss = float(rng.uniform(0.0, 0.25) if rng.random() < 0.5 else rng.uniform(0.25, 0.8))
    return Material(
        kind=kind,
        colours=np.stack([colour, other]).astype(np.float32),
        waves=waves.astype(np.float32),
        phase=rng.uniform(0, 2 * np.pi, 3).astype(np.float32),
        gloss=gloss,
        shininess=float(rng.uniform(8, 60)),
    )
