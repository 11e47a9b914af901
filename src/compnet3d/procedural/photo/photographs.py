"""Photographs of a folder, read once in each process, and in linear light."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from PIL import Image

from compnet3d.data.backgrounds import find_photographs
from compnet3d.data.images import load_image
from compnet3d.rendering.materials import Floats

Pixels = npt.NDArray[np.uint8]

_find = lru_cache(maxsize=4)(find_photographs)


def draw_photograph(rng: Generator, folder: Path) -> Image.Image:
    """Any photograph of a folder.

    Raises:
        CompNetError: if there is none, or naming the file, if it cannot be read.
    """
    files = _find(folder)
    return _read(files[int(rng.integers(len(files)))])


# at most 200 MB in each process
@lru_cache(maxsize=256)
def _read(path: Path) -> Image.Image:
    # longer sides are shrunk to this: enough for any crop of a training image
    longest = 512
    image = load_image(path)
    image.thumbnail((longest, longest))
    return image


def to_linear(pixels: Pixels) -> Floats:
    """8 bits to linear light, float32 in [0, 1]."""
    return (np.arange(256, dtype=np.float32) / np.float32(255))[pixels] ** np.float32(2.2)
