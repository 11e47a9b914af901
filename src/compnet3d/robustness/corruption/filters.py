"""Filters that several corruptions share: smoothing, enlarging the middle, motion blur, bicubic resizing.

Images are float [H, W] or [H, W, C] of any size; values keep their range, and nothing is changed in place.
"""

from __future__ import annotations

import math

import numpy as np


def smooth(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of standard deviation `sigma` pixels, cut off at 4 sigma, the border continued by its pixels."""
    from scipy.ndimage import gaussian_filter

    # channels are not mixed
    sigmas = (sigma, sigma, *(0.0 for _ in image.shape[2:]))
    return gaussian_filter(image, sigmas, mode="nearest", truncate=4.0)


def enlarge_middle(image: np.ndarray, factor: float) -> np.ndarray:
    """The middle 1/factor of an image, enlarged linearly to the image's own size or a few pixels more.

    The first pixel stays on the first and the last on the last.
    """
    rows, columns = (_middle(extent, factor) for extent in image.shape[:2])
    return _stretch(_stretch(image[rows, columns], factor, 0), factor, 1)


def _middle(extent: int, factor: float) -> slice:
    kept = math.ceil(extent / factor)
    start = (extent - kept) // 2
    return slice(start, start + kept)


def _stretch(image: np.ndarray, factor: float, axis: int) -> np.ndarray:
    """Linear interpolation along one axis at round(factor * extent) places from the first pixel to the last."""
    extent = image.shape[axis]
    count = round(extent * factor)
    if count == extent:
        return image
    place = np.arange(count) * ((extent - 1) / max(count - 1, 1))
    # the last place lies on the last pixel and is reached from the one before it; a single pixel is its own neighbour
    lower = np.minimum(place.astype(np.int64), max(extent - 2, 0))
    share = (place - lower).astype(image.dtype)
    share = share.reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    first, second = np.take(image, lower, axis), np.take(image, np.minimum(lower + 1, extent - 1), axis)
    return first + (second - first) * share


def motion_blur(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """Blur along a line: a weighted mean of copies shifted further and further, the border continued by its pixels.

    Args:
        image: float [H, W] or [H, W, C].
        radius: 2 radius + 1 copies are taken, each one pixel further than the one before.
        sigma: their weights are those of a Gaussian's one half, in pixels.
        angle: of the line, in degrees; 0 smears to the left, 90 upwards.

    Copies that are shifted by more than the image's size show its border; the reference package leaves them out, which
    darkens images of fewer than 2 radius + 1 pixels.
    """
    steps = np.arange(2 * radius + 1)
    # not by np.exp, whose last bit depends on the processor: it decides where a flat area's value is whole, and so
    # whether the area is a grey level darker
    gaussian = np.array([math.exp(-(step**2) / (2.0 * sigma**2)) for step in steps.tolist()])
    weights = gaussian / (math.sqrt(2.0 * math.pi) * sigma)
    weights = weights / weights.sum()
    turn = math.radians(angle)
    # rounded, halves down, as in the reference package
    down = np.ceil(steps * math.sin(turn) - 0.5).astype(int)
    right = np.ceil(steps * math.cos(turn) - 0.5).astype(int)
    (top, bottom), (before, behind) = _reach(down), _reach(right)
    padding = [(top, bottom), (before, behind), *((0, 0) for _ in image.shape[2:])]
    padded = np.pad(image, padding, mode="edge")
    height, width = image.shape[:2]
    # a sum of shifted windows: as few operations as weights, whatever the direction
    blurred = np.zeros(image.shape)
    for weight, dy, dx in zip(weights, down + top, right + before, strict=True):
        blurred += weight * padded[dy : dy + height, dx : dx + width]
    return blurred


def _reach(offsets: np.ndarray) -> tuple[int, int]:
    return max(0, -int(offsets.min())), max(0, int(offsets.max()))


def resize_bicubic(image: np.ndarray, size: tuple[int, int], rows: range, columns: range) -> np.ndarray:
    """A window of an image resized by Keys' cubic convolution with a = -0.75 (OpenCV's), the border continued.

    Args:
        image: float [H, W, C].
        size: (height, width) of the whole resized image.
        rows, columns: the window of it that is wanted.

    Returns:
        float [len(rows), len(columns), C]; cubic weights overshoot, so that it may leave the image's range.
    """
    return _interpolate(_interpolate(image, size[0], rows, 0), size[1], columns, 1)


def _interpolate(image: np.ndarray, count: int, wanted: range, axis: int) -> np.ndarray:
    extent = image.shape[axis]
    place = (np.arange(wanted.start, wanted.stop) + 0.5) * (extent / count) - 0.5
    base = np.floor(place).astype(np.int64)
    shape = [-1 if a == axis else 1 for a in range(image.ndim)]
    total: np.ndarray | float = 0.0
    for tap in (-1, 0, 1, 2):
        weight = _cubic(np.abs(place - base - tap)).reshape(shape)
        total = total + weight * np.take(image, np.clip(base + tap, 0, extent - 1), axis)
    return np.asarray(total)


def _cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    near = ((a + 2.0) * distance - (a + 3.0)) * distance**2 + 1.0
    far = a * (((distance - 5.0) * distance + 8.0) * distance - 4.0)
    return np.where(distance <= 1.0, near, np.where(distance < 2.0, far, 0.0))
