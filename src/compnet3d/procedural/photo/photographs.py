"""Photographs of a folder: read, cropped, and laid on surfaces."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from PIL import Image

from compnet3d.data.images import load_image
from compnet3d.errors import CompNetError
from compnet3d.rendering.materials import Floats

Pixels = npt.NDArray[np.uint8]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
# longer sides are shrunk to this: enough for any crop of a training image
_LONGEST = 512


@lru_cache(maxsize=4)
def photograph_files(folder: Path) -> tuple[Path, ...]:
    """The images of a folder in the order of their names.

    Raises:
        CompNetError: if it is missing or holds no image.
    """
    if not folder.is_dir():
        raise CompNetError(f"{folder} is not a folder; give one that holds photographs.")
    files = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES))
    if not files:
        raise CompNetError(f"{folder} holds no photograph ({', '.join(_SUFFIXES)}).")
    return files


# at most 200 MB in each process
@lru_cache(maxsize=256)
def read_photograph(path: Path) -> Pixels:
    """A photograph, uint8 [h, w, 3], shrunk if it is large.

    Raises:
        CompNetError: naming the file, if it cannot be read.
    """
    image = load_image(path)
    image.thumbnail((_LONGEST, _LONGEST))
    return np.asarray(image)


def draw_photograph(rng: Generator, folder: Path) -> Pixels:
    """Any photograph of a folder."""
    files = photograph_files(folder)
    return read_photograph(files[int(rng.integers(len(files)))])


def random_crop(rng: Generator, photograph: Pixels, size: int, least: float = 0.45) -> Pixels:
    """A square part, uint8 [size, size, 3], mirrored in half of the cases.

    Args:
        rng: random numbers.
        photograph: uint8 [h, w, 3].
        size: of the result.
        least: side of the smallest part, of the photograph's shorter side.
    """
    height, width = photograph.shape[:2]
    side = rng.uniform(least, 1.0) * min(height, width)
    x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
    mirrored = rng.random() < 0.5
    box = (x, y, x + side, y + side)
    crop = np.asarray(Image.fromarray(photograph).resize((size, size), Image.Resampling.BILINEAR, box=box))
    return crop[:, ::-1] if mirrored else crop


def to_linear(pixels: Pixels) -> Floats:
    """8 bits to linear light, float32 in [0, 1]."""
    return (np.arange(256, dtype=np.float32) / np.float32(255))[pixels] ** np.float32(2.2)
