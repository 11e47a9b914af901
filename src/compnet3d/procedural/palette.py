"""Which materials the parts of an instance have.

Like real ones, the parts of a category mostly have about the same colours, and now and then any other.
"""

from __future__ import annotations

import colorsys
import zlib

import numpy as np
from numpy.random import Generator

from compnet3d.procedural.parts import Role
from compnet3d.rendering.materials import Material, random_colour, random_material


def typical_colours(name: str) -> dict[Role, tuple[float, float, float]]:
    """Hue, saturation and value that the parts of a category mostly have, from the category's name alone.

    Real categories have them too (tyres are dark, screens bluish, washing machines white); which ones is made up here.
    """
    # not the data set's seed: a category has its colours in every data set, in training and in test images
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    hue, step = rng.random(), rng.choice([-1, 1]) * rng.uniform(0.25, 0.4)
    return {
        Role.MAIN: (hue, rng.uniform(0.1, 0.7), rng.uniform(0.35, 0.9)),
        Role.SECOND: (hue + step, rng.uniform(0.1, 0.7), rng.uniform(0.3, 0.9)),
        Role.ACCENT: (hue + 2 * step, rng.uniform(0.5, 0.9), rng.uniform(0.6, 0.95)),
        Role.DARK: (rng.random(), rng.uniform(0.0, 0.3), rng.uniform(0.08, 0.25)),
        Role.LIGHT: (rng.random(), rng.uniform(0.0, 0.3), rng.uniform(0.75, 1.0)),
        Role.GLASS: (rng.uniform(0.5, 0.65), rng.uniform(0.1, 0.5), rng.uniform(0.15, 0.45)),
    }


def random_palette(rng: Generator, name: str, typical: float = 0.75) -> dict[Role, Material]:
    """A material for every role of one instance of a category.

    Args:
        rng: random numbers.
        name: the category, which has typical colours.
        typical: probability that a role has about its typical colour rather than any.
    """
    usual = {}
    for role, (hue, saturation, value) in typical_colours(name).items():
        shifted = (
            (hue + rng.normal(0, 0.03)) % 1.0,
            float(np.clip(saturation + rng.uniform(-0.15, 0.15), 0, 1)),
            float(np.clip(value + rng.uniform(-0.15, 0.15), 0.04, 1)),
        )
        known = rng.random() < typical
        usual[role] = np.array(colorsys.hsv_to_rgb(*shifted), dtype=np.float32) if known else random_colour(rng)
    palette = {}
    for role, colour in usual.items():
        patterned = {Role.MAIN: 0.2, Role.SECOND: 0.2, Role.ACCENT: 0.1}.get(role, 0.05)
        palette[role] = random_material(rng, colour, patterned=patterned)
    glass = palette[Role.GLASS]
    # windows and screens shine and have no pattern
    palette[Role.GLASS] = Material("plain", glass.colours, glass.waves, glass.phase, 0.9, 60.0)
    return palette
