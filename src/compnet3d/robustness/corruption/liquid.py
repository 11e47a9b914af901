"""Spatter: drops of water on the lens (severities 1 to 3), or mud (4 and 5)."""

from __future__ import annotations

import numpy as np

from compnet3d.robustness.corruption.filters import smooth
from compnet3d.robustness.corruption.strengths import Strengths


def spatter(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Spatter uint8 [H, W, 3] with a liquid; float in grey levels."""
    first_mud = 4
    mud = np.array([63.0, 42.0, 20.0])
    water = np.array([175.0, 238.0, 238.0])
    mean, deviation, sigma, least, strength = Strengths.SPATTER[severity - 1]
    thickness = smooth(rng.normal(mean, deviation, size=image.shape[:2]), sigma)
    if severity >= first_mud:
        cover = smooth((thickness > least).astype(np.float32), strength)
        cover = np.where(cover < 0.8, 0.0, cover)[..., None]
        return image * (1.0 - cover) + mud * cover
    drops = (255.0 * np.where(thickness < least, 0.0, thickness)).astype(np.uint8)
    light = drops * shade_drops(drops).astype(np.float32)
    brightest = float(light.max())
    # an image without any drop stays as it is
    return image + water * (strength / brightest * light)[..., None] if brightest > 0.0 else image


def shade_drops(drops: np.ndarray) -> np.ndarray:
    """Light on drops of thickness uint8 [H, W], as if it came from the side: uint8 [H, W].

    Distances from the drops' edges, smoothed and stretched to all grey levels, are embossed and smoothed again.
    """
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    farthest = 20.0  # distances from the drops' edges count up to this, in pixels
    from scipy.ndimage import correlate

    distance = np.minimum(chamfer_distance(canny_edges(drops)), farthest)
    levels = equalise(_mean_3x3(distance).astype(np.float32).astype(np.uint8))
    embossed = correlate(levels.astype(np.int64), emboss, mode="mirror").clip(0, 255)
    return np.rint(_mean_3x3(embossed.astype(np.float64))).astype(np.uint8)


def _mean_3x3(image: np.ndarray) -> np.ndarray:
    from scipy.ndimage import correlate1d

    ones = np.ones(3)
    return correlate1d(correlate1d(image, ones, 0, mode="mirror"), ones, 1, mode="mirror") / 9.0


def canny_edges(image: np.ndarray, weak: float = 50, strong: float = 150) -> np.ndarray:
    """Canny's edges of uint8 [H, W], bool [H, W], as OpenCV finds them.

    Gradients are Sobel's of 3 x 3 pixels, their size |dx| + |dy|. A pixel is on an edge if it is a maximum across the
    nearest of four directions and above `strong`, or above `weak` and connected with such a pixel.
    """
    from scipy.ndimage import correlate1d, label

    pixels = image.astype(np.int64)
    difference, blur = np.array([-1, 0, 1]), np.array([1, 2, 1])
    dx = correlate1d(correlate1d(pixels, difference, 1, mode="nearest"), blur, 0, mode="nearest")
    dy = correlate1d(correlate1d(pixels, difference, 0, mode="nearest"), blur, 1, mode="nearest")
    size = np.abs(dx) + np.abs(dy)
    candidates = (size > weak) & _is_maximum(dx, dy, size)
    labels, count = label(candidates, structure=np.ones((3, 3)))
    # label 0 is what is no candidate; it stays False
    kept = np.zeros(count + 1, dtype=bool)
    kept[labels[candidates & (size > strong)]] = True
    return kept[labels]


def _is_maximum(dx: np.ndarray, dy: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Where the gradient is largest along its own direction; of two equal neighbours along an axis, the first is."""
    tangent = 13573 / 32768  # of 22.5 degrees, in the fixed point of OpenCV
    padded = np.pad(size, 1)

    def neighbour(down: int, right: int) -> np.ndarray:
        return padded[1 + down : padded.shape[0] - 1 + down, 1 + right : padded.shape[1] - 1 + right]

    across = (size > neighbour(0, -1)) & (size >= neighbour(0, 1))
    upright = (size > neighbour(-1, 0)) & (size >= neighbour(1, 0))
    falling = (size > neighbour(-1, -1)) & (size > neighbour(1, 1))
    rising = (size > neighbour(-1, 1)) & (size > neighbour(1, -1))
    x, y = np.abs(dx), np.abs(dy)
    diagonal = np.where((dx < 0) == (dy < 0), falling, rising)
    return np.where(y < x * tangent, across, np.where(y > x * (tangent + 2.0), upright, diagonal))


def chamfer_distance(edges: np.ndarray) -> np.ndarray:
    """Distance of every pixel from the nearest edge, bool [H, W]: float64 [H, W], infinite where there is none.

    Paths go over steps of 1 (to the side), 1.4 (diagonal) and 2.1969 (the knight's move), as in OpenCV's distance
    transform with a 5 x 5 mask. One sweep down and one up find the shortest ones.
    """
    distance = np.where(edges, 0.0, np.inf)
    for order in (slice(None), slice(None, None, -1)):
        distance = _sweep_down(distance[order, order])[order, order]
    return distance


def _sweep_down(distance: np.ndarray) -> np.ndarray:
    """Shortest paths that come from above or from the left."""
    height, width = distance.shape
    # a frame of infinity as wide as a knight's move, so that no step needs to ask for the border
    found = np.full((height + 2, width + 4), np.inf)
    found[2:, 2:-2] = distance
    column = np.arange(width)
    steps = ((1, -1, 1.4), (1, 0, 1.0), (1, 1, 1.4), (1, -2, 2.1969), (1, 2, 2.1969), (2, -1, 2.1969), (2, 1, 2.1969))
    for row in range(2, height + 2):
        best = found[row, 2:-2]
        for up, right, length in steps:
            np.minimum(best, found[row - up, 2 + right : 2 + right + width] + length, out=best)
        # steps to the right within the row, all at once: the least of distance + columns passed is a running minimum
        best[:] = np.minimum.accumulate(best - column) + column
    return found[2:, 2:-2]


def equalise(image: np.ndarray) -> np.ndarray:
    """Equalise the histogram of uint8 [H, W]: the lowest level that occurs becomes 0, the highest 255."""
    counts = np.bincount(image.reshape(-1), minlength=256)
    first = int(np.flatnonzero(counts)[0])
    others = image.size - int(counts[first])
    if not others:
        return image
    counts[first] = 0
    return np.rint(np.cumsum(counts) * (255.0 / others)).astype(np.uint8)[image]
