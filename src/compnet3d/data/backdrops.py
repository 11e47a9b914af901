"""Drawn backdrops: a gradient, cloudy noise, a pattern, or blurred patches."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from compnet3d.rendering.materials import Floats, random_colour, random_material


def flat_backdrop(rng: Generator, size: int) -> Floats:
    """An image [S, S, 3] in [0, 1]: gradient, cloudy noise, a pattern, or blurred patches."""
    kind = int(rng.choice(4, p=(0.35, 0.35, 0.1, 0.2)))
    if kind == 0:
        return _gradient(rng, size)
    if kind == 1:
        return _clouds(rng, size)
    if kind == 2:
        return _pattern(rng, size)
    return _patches(rng, size)


def _grid(size: int) -> tuple[Floats, Floats]:
    axis = np.linspace(-1 + 1 / size, 1 - 1 / size, size).astype(np.float32)
    return axis[None, :], axis[:, None]


def _gradient(rng: Generator, size: int) -> Floats:
    x, y = _grid(size)
    if rng.random() < 0.7:
        angle = rng.normal(math.pi / 2, 0.6)
        share = 0.5 + 0.4 * (np.cos(angle) * x + np.sin(angle) * y)
    else:
        share = np.hypot(x - rng.uniform(-0.5, 0.5), y - rng.uniform(-0.5, 0.5)) / 1.5
    first, second = random_colour(rng, (0.2, 1.0), grey=0.5), random_colour(rng, (0.2, 1.0), grey=0.5)
    result: Floats = (first + np.clip(share, 0, 1)[..., None] * (second - first)).astype(np.float32)
    return result


def _clouds(rng: Generator, size: int) -> Floats:
    share = np.zeros((size, size), dtype=np.float32)
    for cells in (3, 7, 17):
        if rng.random() < 0.8:
            grid = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
            share += np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC)) * (1.2 / math.sqrt(cells))
    first, second = random_colour(rng, (0.15, 1.0), grey=0.4), random_colour(rng, (0.15, 1.0), grey=0.4)
    result: Floats = first + np.clip(0.5 + 0.5 * share, 0, 1)[..., None] * (second - first)
    return result


def _pattern(rng: Generator, size: int) -> Floats:
    x, y = np.broadcast_arrays(*_grid(size))
    points = np.stack([x.reshape(-1), y.reshape(-1), np.zeros(size * size, dtype=np.float32)], axis=1)
    material = random_material(rng, random_colour(rng, grey=0.4), patterned=1.0, scale=rng.uniform(1.5, 5.0))
    canvas = material.albedo(points.astype(np.float32)).reshape(size, size, 3)
    return blurred(canvas, rng.uniform(0, 2.5) * size / 128)


def _patches(rng: Generator, size: int) -> Floats:
    small = 32
    canvas = np.empty((small, small, 3), dtype=np.float32)
    canvas[:] = random_colour(rng, grey=0.5)
    for _ in range(int(rng.integers(4, 14))):
        x, y = rng.integers(-6, small, 2)
        w, h = rng.integers(4, 18, 2)
        canvas[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)] = random_colour(rng, grey=0.4)
    image = Image.fromarray((canvas * 255).astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 5.0) * size / 128))
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def blurred(canvas: Floats, radius: float) -> Floats:
    """A Gaussian blur of an image [H, W, 3] in [0, 1], radius in pixels; none under 0.3."""
    if radius < 0.3:
        return canvas
    image = Image.fromarray((np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / np.float32(255)
