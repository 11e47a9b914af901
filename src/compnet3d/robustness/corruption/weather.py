"""Snow, frost and fog."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from compnet3d.robustness.corruption.cloud import cloud_over
from compnet3d.robustness.corruption.filters import enlarge_middle, motion_blur, resize_bicubic
from compnet3d.robustness.corruption.ice import make_ice
from compnet3d.robustness.corruption.strengths import Strengths


def fog(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add a cloud to uint8 [H, W, 3] and scale back to the image's brightest value; float in grey levels."""
    thickness, decay = Strengths.FOG[severity - 1]
    height, width = image.shape[:2]
    cloud = cloud_over(height, width, decay, rng)[..., None]
    pixels = image / 255.0
    brightest = float(pixels.max())
    return 255.0 * ((pixels + thickness * cloud) * (brightest / (brightest + thickness)))


def frost(
    image: np.ndarray, severity: int, rng: np.random.Generator, textures: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """Add ice, a random part of a random texture, or procedural ice without textures; float in grey levels."""
    of_image, of_ice = Strengths.FROST[severity - 1]
    height, width = image.shape[:2]
    ice = choose_ice(textures, height, width, rng) if len(textures) else make_ice(height, width, rng)
    return of_image * image + of_ice * ice


def choose_ice(textures: Sequence[np.ndarray], height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A random part of a random texture, uint8 [height, width, 3]; textures that are too small are enlarged.

    Every texture is enlarged by 1.1, beyond what it needs to cover the image, as in the reference package.
    """
    margin = 1.1  # a frost texture is this much larger than need be, so that there is something to choose
    texture = textures[int(rng.integers(len(textures)))]
    scale = margin * max(1.0, height / texture.shape[0], width / texture.shape[1])
    size = (math.ceil(texture.shape[0] * scale), math.ceil(texture.shape[1] * scale))
    top = int(rng.integers(0, size[0] - height))
    left = int(rng.integers(0, size[1] - width))
    window = range(top, top + height), range(left, left + width)
    ice = resize_bicubic(texture.astype(np.float64), size, *window)
    return np.clip(np.rint(ice), 0.0, 255.0).astype(np.uint8)


def snow(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Whiten the image and let flakes fall over it, twice, once from either side; float in grey levels."""
    luma = np.array([0.299, 0.587, 0.114])
    mean, deviation, size, least, radius, sigma, kept = Strengths.SNOW[severity - 1]
    flakes = enlarge_middle(rng.normal(mean, deviation, size=image.shape[:2]), size)
    flakes = np.clip(np.where(flakes < least, 0.0, flakes), 0.0, 1.0)
    flakes = np.rint(255.0 * motion_blur(flakes, radius, sigma, rng.uniform(-135.0, -45.0)))
    # enlarging gives a few pixels too many
    flakes = flakes[: image.shape[0], : image.shape[1], None]
    pale = np.maximum(image, 1.5 * (image @ luma)[..., None] + 127.5)
    # the same flakes turned by 180 degrees are the second layer, as in the published code
    return kept * image + (1.0 - kept) * pale + flakes + flakes[::-1, ::-1]
