"""Clouds: the plasma fractal that fog is made of and ice is thick and thin by."""

from __future__ import annotations

import numpy as np


def cloud_over(height: int, width: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """A corner of a cloud, float64 [height, width] in 0..1; see `make_cloud`.

    The cloud is the smallest one that covers the image, and never smaller than 4, as in the published code.
    """
    return make_cloud(max(4, 1 << (max(height, width) - 1).bit_length()), decay, rng)[:height, :width]


def make_cloud(size: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """A plasma fractal by the diamond-square method on a torus, float64 [size, size], stretched to 0..1.

    Starting from one point, each level doubles the resolution: the middle of every square, then of every edge, is the
    mean of its four neighbours and a random offset. Offsets are uniform in +- amplitude ** 2, where the amplitude
    starts at 100 and is divided by `decay` from level to level.

    Args:
        size: a power of two, at least 2.
        decay: above 1; the larger, the smoother the cloud.
        rng: the source of all randomness.
    """
    # all sums below wrap around: on a torus every point has four neighbours, and no border needs a case of its own
    heights = np.zeros((1, 1))
    amplitude = 100.0
    while len(heights) < size:
        shape = heights.shape
        pairs = heights + np.roll(heights, -1, axis=0)
        squares = (pairs + np.roll(pairs, -1, axis=1)) / 4.0 + amplitude * rng.uniform(-amplitude, amplitude, shape)
        level = heights + np.roll(heights, -1, axis=1), squares + np.roll(squares, 1, axis=0)
        upright = heights + np.roll(heights, -1, axis=0), squares + np.roll(squares, 1, axis=1)
        finer = np.empty((2 * shape[0], 2 * shape[1]))
        finer[0::2, 0::2], finer[1::2, 1::2] = heights, squares
        finer[0::2, 1::2] = sum(level) / 4.0 + amplitude * rng.uniform(-amplitude, amplitude, shape)
        finer[1::2, 0::2] = sum(upright) / 4.0 + amplitude * rng.uniform(-amplitude, amplitude, shape)
        heights, amplitude = finer, amplitude / decay
    heights -= heights.min()
    return heights / heights.max()
