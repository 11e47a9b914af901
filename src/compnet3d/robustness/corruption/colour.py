"""Brightness, contrast and saturation, and what storing does to images: large pixels, JPEG; the elastic transform."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from compnet3d.robustness.corruption.strengths import Strengths


def brightness(image: np.ndarray, severity: int) -> np.ndarray:
    """Raise the value of HSV in uint8 [H, W, 3], hue and saturation staying; float in grey levels."""
    value, saturation, depth = split_hsv(image)
    value = np.minimum(value + Strengths.BRIGHTNESS[severity - 1], 1.0)
    return 255.0 * join_hsv(value, saturation, depth)


def saturate(image: np.ndarray, severity: int) -> np.ndarray:
    """Change the saturation of HSV, hue and value staying: paler in severities 1 and 2; float in grey levels."""
    value, saturation, depth = split_hsv(image)
    factor, offset = Strengths.SATURATE[severity - 1]
    return 255.0 * join_hsv(value, np.clip(saturation * factor + offset, 0.0, 1.0), depth)


def split_hsv(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HSV of uint8 [H, W, 3] without the detour over angles.

    Returns:
        Value and saturation, each float64 [H, W, 1] in 0..1, and in place of the hue the depth of each channel,
        float64 [H, W, 3]: 0 for the strongest one, 1 for the weakest, linear in between. A grey pixel has the hue of
        red, as is usual.
    """
    pixels = image / 255.0
    value = pixels.max(axis=-1, keepdims=True)
    spread = value - pixels.min(axis=-1, keepdims=True)
    saturation = np.divide(spread, value, out=np.zeros_like(value), where=value > 0.0)
    red = np.broadcast_to(np.array([0.0, 1.0, 1.0]), pixels.shape).copy()
    return value, saturation, np.divide(value - pixels, spread, out=red, where=spread > 0.0)


def join_hsv(value: np.ndarray, saturation: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """RGB float64 [H, W, 3] in 0..1 from what `split_hsv` returns."""
    return value * (1.0 - saturation * depth)


def contrast(image: np.ndarray, severity: int) -> np.ndarray:
    """Draw every channel towards its mean over the image; float in grey levels."""
    pixels = image / 255.0
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return 255.0 * ((pixels - mean) * Strengths.CONTRAST[severity - 1] + mean)


def pixelate(image: np.ndarray, severity: int) -> np.ndarray:
    """Show large pixels: shrink by averaging, enlarge by repeating; uint8."""
    height, width = image.shape[:2]
    scale = Strengths.PIXELATE[severity - 1]
    small = (max(1, int(width * scale)), max(1, int(height * scale)))
    shrunk = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.asarray(shrunk.resize((width, height), Image.Resampling.NEAREST))


def jpeg_compression(image: np.ndarray, severity: int) -> np.ndarray:
    """Write as a JPEG of low quality (colours at half the resolution) and read it again; uint8."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=Strengths.JPEG_COMPRESSION[severity - 1])
    with Image.open(file, formats=["JPEG"]) as decoded:
        return np.asarray(decoded.convert("RGB"))


def elastic_transform(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Pull pixels about by a smooth random field; float in grey levels.

    Displacements are uniform in +- 0.5 % of the height, smoothed by a Gaussian of 1 % of the image's size and then
    made larger. This is the reference package's form; the data set of 2019 also sheared the image.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    height, width = image.shape[:2]
    limit, sigma = 0.005 * height, (0.01 * height, 0.01 * width)
    right, down = (
        Strengths.ELASTIC_TRANSFORM[severity - 1]
        * gaussian_filter(rng.uniform(-limit, limit, size=(height, width)), sigma, mode="reflect", truncate=3.0)
        for _ in range(2)
    )
    places = np.arange(height)[:, None] + down, np.arange(width) + right
    pixels = image.astype(np.float32)
    channels = [map_coordinates(pixels[..., c], places, order=1, mode="reflect") for c in range(3)]
    return np.stack(channels, axis=-1)
