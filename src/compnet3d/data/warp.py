"""Affine maps between images, and resampling an image through one."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from PIL import Image

Border = Literal["constant", "reflect"]


def rotation_matrix(angle: float) -> np.ndarray:
    """Turns pixel coordinates (v downwards) so that the image turns counter-clockwise on screen, [2, 2]."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, s], [-s, c]])


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply an affine map [2, 3] to points [..., 2]."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def invert_affine(matrix: np.ndarray) -> np.ndarray:
    """The inverse of an affine map [2, 3]."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -(linear @ matrix[:, 2])[:, None]], axis=1)


def longest_side(bbox: tuple[float, float, float, float]) -> float:
    """The longer side of (x1, y1, x2, y2)."""
    return max(bbox[2] - bbox[0], bbox[3] - bbox[1])


def warp_image(
    image: Image.Image,
    matrix: np.ndarray,
    size: tuple[int, int],
    scale: float,
    fill: tuple[int, int, int] = (0, 0, 0),
    resample: Image.Resampling = Image.Resampling.BILINEAR,
    border: Border = "constant",
) -> np.ndarray:
    """Resample an image, with anti-aliasing where it shrinks.

    Args:
        image: RGB or L.
        matrix: float64 [2, 3], output pixel to source pixel (centres at +0.5).
        size: (width, height) of the output.
        scale: output pixels per source pixel.
        fill: colour outside the source; for an image in L its first number counts.
        resample: `Image.Resampling.NEAREST` for masks.
        border: see `InputConfig`.

    Returns:
        uint8 [height, width, 3], or [height, width] for an image in L.
    """
    # before the border is added: a large source is made small first, and the frame then costs little. Masks are not
    # averaged.
    if resample != Image.Resampling.NEAREST:
        image, matrix = _shrink_source(image, matrix, size, scale)
    if border == "reflect":
        image, matrix = _reflect_source(image, matrix, size)
    colour = fill if image.mode == "RGB" else fill[0]
    # Pillow, too, evaluates the map at pixel centres, output to source
    data = tuple(matrix.reshape(-1).tolist())
    warped = image.transform(size, Image.Transform.AFFINE, data, resample, fillcolor=colour)
    return np.asarray(warped)


def _shrink_source(
    image: Image.Image, matrix: np.ndarray, size: tuple[int, int], scale: float
) -> tuple[Image.Image, np.ndarray]:
    """Box-filter the used part of the source by a whole factor, and adapt the matrix to the smaller source."""
    # Pillow's bilinear transform reads four source pixels whatever the scale, which aliases where an image shrinks.
    # From 1.7 source pixels for each output pixel on it is made smaller first.
    # at most so that one cell is left: Pillow cannot hold larger numbers
    factor = min(int(1.0 / scale + 0.3), max(image.size))
    if factor < 2:
        return image, matrix
    # only what the crop shows, and two cells around it for the interpolation: large images take no longer than small
    # ones
    low, high = _source_window(matrix, size, margin=2 * factor)
    # on the grid of the whole image's cells: the same object has the same pixels in any window
    left, top = (int(x) // factor * factor for x in np.maximum(low, 0))
    right, bottom = (int(min(x, limit)) for x, limit in zip(high, image.size, strict=True))
    # the crop lies outside the image and will show the border alone
    if right <= left or bottom <= top:
        return image, matrix
    small = image.reduce(factor, box=(left, top, right, bottom))
    # The last cell of a row averages fewer pixels but stands for a whole one, so that this map is exact elsewhere.
    return small, (matrix - np.array([[0.0, 0.0, left], [0.0, 0.0, top]])) / factor


def _source_window(matrix: np.ndarray, size: tuple[int, int], margin: int) -> tuple[np.ndarray, np.ndarray]:
    """The box of source pixels that an output of this size shows: (left, top) and (right, bottom), int64 [2] each."""
    corners = transform_points(matrix, np.array([(x, y) for x in (0, size[0]) for y in (0, size[1])], dtype=float))
    # absurd annotations give corners that no integer holds
    corners = np.clip(corners, -1e9, 1e9)
    return np.floor(corners.min(0)).astype(int) - margin, np.ceil(corners.max(0)).astype(int) + margin


def _reflect_source(image: Image.Image, matrix: np.ndarray, size: tuple[int, int]) -> tuple[Image.Image, np.ndarray]:
    """Continue the source mirrored at its edges, as far as the output shows it (and at most two of its sizes)."""
    low, high = _source_window(matrix, size, margin=2)
    # an object far outside its image would otherwise ask for gigabytes of mirror images
    most = 2 * np.array(image.size)
    before = np.clip(-low, 0, most)
    after = np.clip(high - np.array(image.size), 0, most)
    if not before.any() and not after.any():
        return image, matrix
    width, height = zip(before.tolist(), after.tolist(), strict=True)
    pixels = np.asarray(image)
    padded = np.pad(pixels, (height, width, (0, 0))[: pixels.ndim], mode="symmetric")
    return Image.fromarray(padded), matrix + np.array([[0.0, 0.0, before[0]], [0.0, 0.0, before[1]]])
