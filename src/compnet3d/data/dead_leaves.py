"""Dead leaves: random shapes in random colours, thrown over training crops as occluders that no data set has to hold.

After the dead leaves model of natural images (Matheron; Lee, Mumford and Huang, IJCV 2001): shapes of many sizes cover
each other and what is behind them. Here some lie together like the parts of a thing.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from compnet3d.data.placement import Placement


def scatter_dead_leaves(
    pixels: np.ndarray, area: tuple[float, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Throw things of one to five shapes over a crop until a random share of it is covered.

    Args:
        pixels: uint8 [H, W, 3], not changed in place.
        area: least and most share of the crop to cover, at most 1; the last thing may cover more, and after 30 things
            the rest stays bare.
        rng: the source of all randomness.

    Returns:
        The pixels, and which of them are covered, bool [H, W].
    """
    least_side = 4  # pixels
    # what is typical of a crop, as fractions of its shorter side; its shapes' sides are 0.33 to 3.3 times as long
    sizes = (0.12, 0.4)
    # leaves take colours from the crop as it was, not from leaves below them
    source, pixels = pixels, pixels.copy()
    height, width = pixels.shape[:2]
    covered = np.zeros((height, width), dtype=bool)
    enough = rng.uniform(*area) * covered.size
    # one scale for each crop: a few large things on one, many small ones on another
    typical = math.exp(rng.uniform(*np.log(sizes))) * min(height, width)
    for _ in range(30):
        if np.count_nonzero(covered) >= enough:
            break
        centre = rng.uniform(0.0, (height, width))
        size = typical * math.exp(rng.uniform(-0.6, 0.6))
        # the shapes of one thing lie around one centre, as parts do
        for _ in range(int(rng.integers(1, 6))):
            side = max(least_side, int(size * rng.uniform(0.6, 1.8)))
            corner = (centre + 0.4 * size * rng.standard_normal(2) - side / 2).astype(int)
            place = Placement.at(corner.tolist(), (side, side), covered.shape)
            if not covered[place.target].size:
                continue
            shape = _leaf_shape(side, rng)[place.source]
            colours = _leaf_colours(side, source, rng)[place.source]
            np.copyto(pixels[place.target], colours, where=shape[..., None])
            covered[place.target] |= shape
    return pixels, covered


def _leaf_shape(side: int, rng: np.random.Generator) -> np.ndarray:
    """An ellipse, a polygon, a rectangle or a bar, flattened and turned at random: bool [side, side]."""
    angle: np.ndarray
    kind = rng.random()
    if kind < 0.3:
        angle, radius = np.arange(24) * (math.pi / 12), np.ones(24)
    elif kind < 0.65:
        corners = int(rng.integers(3, 9))
        angle, radius = np.sort(rng.uniform(0.0, 2.0 * math.pi, corners)), rng.uniform(0.45, 1.0, corners)
    else:
        angle, radius = (np.arange(4) + 0.5) * (math.pi / 2), np.ones(4)
    # bars, such as poles and fences
    flat = 0.12 if kind >= 0.85 else math.exp(rng.uniform(-1.2, 0.0))
    turn = rng.uniform(0.0, 2.0 * math.pi)
    x, y = radius * np.cos(angle), flat * radius * np.sin(angle)
    corner = np.stack([math.cos(turn) * x - math.sin(turn) * y, math.sin(turn) * x + math.cos(turn) * y], axis=1)
    image = Image.new("1", (side, side))
    ImageDraw.Draw(image).polygon([(u, v) for u, v in (side / 2 * (1.0 + corner)).tolist()], fill=1)
    return np.asarray(image)


def _leaf_colours(side: int, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One colour, stripes or a part of the crop, recoloured; shaded, sometimes noisy: uint8 [side, side, 3]."""
    turn = rng.uniform(0.0, 2.0 * math.pi)
    place = np.arange(side, dtype=np.float32) / side - 0.5
    ramp = math.cos(turn) * place[None, :] + math.sin(turn) * place[:, None]
    kind = rng.random()
    grey = rng.random() < 0.3
    # grey things are common, and differ from the background by brightness alone
    colour = rng.uniform(0.0, 255.0, 1 if grey else 3) * np.ones(3)
    if kind < 0.15:
        height, width = (min(side, extent) for extent in pixels.shape[:2])
        top = int(rng.integers(0, pixels.shape[0] - height + 1))
        left = int(rng.integers(0, pixels.shape[1] - width + 1))
        view = Image.fromarray(pixels[top : top + height, left : left + width]).resize((side, side))
        colours = np.asarray(view)[..., rng.permutation(3)] * rng.uniform(0.6, 1.3, 3)
    elif kind < 0.3:
        stripes = np.sin(rng.uniform(15.0, 90.0) * ramp) > 0
        colours = np.where(stripes[..., None], colour, rng.uniform(0.0, 255.0, 3))
    else:
        colours = colour
    colours = colours * (1.0 + rng.uniform(0.0, 1.4) * ramp)[..., None]
    if rng.random() < 0.3:
        colours = colours + rng.uniform(2.0, 25.0) * rng.standard_normal((side, side, 1), dtype=np.float32)
    return np.clip(colours, 0.0, 255.0).astype(np.uint8)
