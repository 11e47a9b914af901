"""The four noises: every value of every channel is disturbed by itself."""

from __future__ import annotations

import numpy as np

GAUSSIAN = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation, of 1
SHOT = (60.0, 25.0, 12.0, 5.0, 3.0)  # photons that white is made of
IMPULSE = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of the values that are replaced
SPECKLE = (0.15, 0.2, 0.35, 0.45, 0.6)  # standard deviation, relative to the value


def gaussian_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise of one strength to uint8 [H, W, 3]; float in grey levels."""
    return image + 255.0 * rng.normal(scale=GAUSSIAN[severity - 1], size=image.shape)


def shot_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Count photons: Poisson noise, the stronger the fewer of them white is made of; float in grey levels."""
    photons = SHOT[severity - 1]
    return rng.poisson(image / 255.0 * photons) / photons * 255.0


def impulse_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Replace some values, each channel by itself, by 0 or 255 with equal probability ("salt and pepper")."""
    hit = rng.random(image.shape) <= IMPULSE[severity - 1]
    salt = rng.random(image.shape) <= 0.5
    return np.where(hit, np.where(salt, np.uint8(255), np.uint8(0)), image)


def speckle_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise in proportion to each value; float in grey levels."""
    return image + image * rng.normal(scale=SPECKLE[severity - 1], size=image.shape)
