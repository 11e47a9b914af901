"""The four noises: every value of every channel is disturbed by itself."""

from __future__ import annotations

import numpy as np

from compnet3d.robustness.corruption.strengths import Strengths


def gaussian_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise of one strength to uint8 [H, W, 3]; float in grey levels."""
    return image + 255.0 * rng.normal(scale=Strengths.GAUSSIAN_NOISE[severity - 1], size=image.shape)


def shot_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Count photons: Poisson noise, the stronger the fewer of them white is made of; float in grey levels."""
    photons = Strengths.SHOT_NOISE[severity - 1]
    return rng.poisson(image / 255.0 * photons) / photons * 255.0


def impulse_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Replace some values, each channel by itself, by 0 or 255 with equal probability ("salt and pepper")."""
    hit = rng.random(image.shape) <= Strengths.IMPULSE_NOISE[severity - 1]
    salt = rng.random(image.shape) <= 0.5
    return np.where(hit, np.where(salt, np.uint8(255), np.uint8(0)), image)


def speckle_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise in proportion to each value; float in grey levels."""
    return image + image * rng.normal(scale=Strengths.SPECKLE_NOISE[severity - 1], size=image.shape)
