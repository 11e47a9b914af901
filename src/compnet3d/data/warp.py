"""Affine maps between images, and resampling an image through one."""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
from PIL import Image

Border = Literal["constant", "reflect"]

# A process that is forked does not get OpenCV's threads along, and would wait for them for ever. What is parallel here
# are processes.
cv2.setNumThreads(0)


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
    # masks are not averaged
    if resample != Image.Resampling.NEAREST:
        image, matrix = _shrink_source(image, matrix, size, scale)
    pixels, matrix = _used_part(np.asarray(image), matrix, size)
    # OpenCV has pixel centres at whole numbers
    linear = matrix[:, :2]
    shifted = np.concatenate([linear, (matrix[:, 2] + linear @ (0.5, 0.5) - 0.5)[:, None]], axis=1)
    kind = cv2.INTER_NEAREST if resample == Image.Resampling.NEAREST else cv2.INTER_LINEAR
    edge = cv2.BORDER_REFLECT if border == "reflect" else cv2.BORDER_REPLICATE
    warped = cv2.warpAffine(pixels, shifted, size, flags=kind | cv2.WARP_INVERSE_MAP, borderMode=edge)
    low, high = _source_window(matrix, size, margin=0)
    if border == "constant" and (low.min() < 0 or (high > pixels.shape[1::-1]).any()):
        # painted over afterwards: as OpenCV's own border the fill would be mixed into the image's outermost pixels
        whole = np.ones(pixels.shape[:2], dtype=np.uint8)
        inside = cv2.warpAffine(whole, shifted, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
        warped[inside == 0] = fill if warped.ndim == 3 else fill[0]
    return warped


def _used_part(pixels: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Of an image with longer sides than OpenCV takes, the part that the output shows, and the matrix for it."""
    most = 2**15 - 2
    if max(pixels.shape[:2]) <= most:
        return pixels, matrix
    low, high = _source_window(matrix, size, margin=2)
    limits = np.array(pixels.shape[1::-1])
    low = np.minimum(np.clip(low, 0, None), limits - 1)
    high = np.maximum(np.minimum(high, limits), low + 1)
    # beyond that many pixels a crop of the usual size shows nothing that could be told apart
    high = np.minimum(high, low + most)
    return pixels[low[1] : high[1], low[0] : high[0]], matrix - np.array([[0.0, 0.0, low[0]], [0.0, 0.0, low[1]]])


def _shrink_source(
    image: Image.Image, matrix: np.ndarray, size: tuple[int, int], scale: float
) -> tuple[Image.Image, np.ndarray]:
    """Box-filter the used part of the source by a whole factor, and adapt the matrix to the smaller source."""
    # Linear interpolation reads four source pixels whatever the scale, which aliases where an image shrinks. From 1.7
    # source pixels for each output pixel on it is made smaller first.
    # at most so that one cell is left
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
