"""From light to bytes in the style "photo": blur, exposure, colours, noise, resolution, compression."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from compnet3d.procedural.photo.photographs import Pixels
from compnet3d.rendering.materials import Floats


def expose(rng: Generator, light: Floats) -> Pixels:
    """An image, uint8 [S, S, 3], from linear light [S, S, 3] as cameras take it, with their faults."""
    size = len(light)
    light = _vignetted(rng, light * _gain(rng))
    if rng.random() < 0.12:
        light = _moved(light, rng.uniform(1.5, 5) * size / 160, rng.uniform(0, math.pi))
    # noise of photons grows with the root of the light, that of the electronics does not
    if rng.random() < 0.7:
        photons, electronics = rng.uniform(0, 0.035) ** 2, rng.uniform(0, 0.008)
        spread = np.sqrt(photons * np.maximum(light, 0) + electronics**2).astype(np.float32)
        light = light + spread * rng.standard_normal(light.shape, dtype=np.float32)
    image = Image.fromarray((_tone(rng, light) * 255 + 0.5).astype(np.uint8))
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3) * size / 160))
    if rng.random() < 0.2:
        less = max(16, int(size * rng.uniform(0.4, 0.9)))
        image = image.resize((less, less), Image.Resampling.BOX).resize((size, size), Image.Resampling.BICUBIC)
    if rng.random() < 0.12:
        image = image.filter(ImageFilter.UnsharpMask(1.2, int(rng.uniform(40, 160)), 0))
    if rng.random() < 0.6:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(rng.integers(25, 95)))
        image = Image.open(file)
    return np.asarray(image.convert("RGB"))


def _gain(rng: Generator) -> Floats:
    """Exposure and white balance, now and then far off."""
    stops = rng.normal(0, 0.3) if rng.random() < 0.85 else rng.uniform(-1.8, 1.3)
    spread = 0.06 if rng.random() < 0.75 else 0.2
    # in linear light
    gain: Floats = (2**stops * np.exp(rng.normal(0, spread, 3))).astype(np.float32)
    return gain


def _vignetted(rng: Generator, light: Floats) -> Floats:
    if rng.random() > 0.2:
        return light
    axis = np.linspace(-1, 1, len(light), dtype=np.float32)
    darker: Floats = 1 - np.float32(rng.uniform(0.05, 0.3)) * (axis[:, None] ** 2 + axis[None, :] ** 2)
    return light * darker[..., None]


def _moved(light: Floats, length: float, angle: float) -> Floats:
    """Mean over a straight motion of some pixels, about the middle, so that things stay where they are."""
    steps = max(3, 2 * round(length / 2) + 1)
    total = np.zeros_like(light)
    padded = np.pad(light, ((8, 8), (8, 8), (0, 0)), mode="edge")
    size = len(light)
    for share in np.linspace(-0.5, 0.5, steps):
        right, down = (int(np.clip(round(share * length * f), -8, 8)) for f in (math.cos(angle), math.sin(angle)))
        total += padded[8 + down : 8 + down + size, 8 + right : 8 + right + size]
    return total * np.float32(1 / steps)


def _tone(rng: Generator, light: Floats) -> Floats:
    """sRGB-like values in [0, 1]: clipped or with a soft shoulder, of more or less contrast and colour."""
    light = np.maximum(light, 0)
    if rng.random() < 0.5:
        # straight up to the knee, then ever flatter towards 1
        knee = np.float32(rng.uniform(0.5, 0.9))
        over = np.maximum(light - knee, 0)
        light = np.minimum(light, knee) + (1 - knee) * over / (over + 1 - knee)
    value = np.clip(light, 0, 1) ** np.float32(1 / rng.uniform(1.9, 2.5))
    if rng.random() < 0.5:
        bend = np.float32(rng.uniform(-0.3, 0.6))
        value = value + bend * (value * value * (3 - 2 * value) - value)
    saturation = np.float32(rng.uniform(0.6, 1.3)) if rng.random() < 0.93 else np.float32(0)
    grey = value.mean(axis=-1, keepdims=True)
    value = grey + saturation * (value - grey)
    if rng.random() < 0.1:
        # other colours altogether, so that shapes are learnt
        value = value[..., rng.permutation(3)]
    if rng.random() < 0.1:
        # haze and cheap lenses lift the black
        value = rng.uniform(0.05, 0.25) + value * 0.75
    result: Floats = np.clip(value, 0, 1).astype(np.float32)
    return result
