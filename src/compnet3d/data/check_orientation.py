"""Which way round images are meant whose EXIF orientation the annotated size does not settle, as masks tell."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from compnet3d.data.images import load_image, load_mask, load_stored
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError


def upright_by_masks(samples: Sequence[Sample]) -> bool | None:
    """Whether masks lie on the edges of the upright images rather than of the stored ones; None where nothing tells.

    By three standard errors over the images, of which there must be four.

    Args:
        samples: with an orientation that is not settled; those without a mask are passed over.
    """
    deviations, enough, most = 3.0, 4, 40
    gains = []
    for sample in [s for s in samples if s.mask is not None][:most]:
        try:
            gains.append(_gain(sample))
        except CompNetError:
            continue  # a finding of its own
    if len(gains) < enough:
        return None
    noise = float(np.std(gains, ddof=1)) / math.sqrt(len(gains)) + 1e-3
    mean = float(np.mean(gains))
    return mean > 0 if abs(mean) > deviations * noise else None


def _gain(sample: Sample) -> float:
    """How much more edge there is along the mask's outline in the upright image than in the stored one."""
    assert sample.mask is not None
    upright, stored = load_image(sample.image), load_stored(sample.image)
    return _edges(upright, load_mask(sample.mask, size=upright.size)) - _edges(
        stored, load_mask(sample.mask, size=stored.size)
    )


def _edges(image: Image.Image, mask: np.ndarray) -> float:
    """The mean slope of an image's brightness along a mask's outline, over that of the whole image."""
    longest = 128
    scale = min(1.0, longest / max(image.size))
    size = (max(2, round(scale * image.width)), max(2, round(scale * image.height)))
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), dtype=np.float32)
    inside = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), dtype=np.float32)
    slope, outline = (np.hypot(*np.gradient(layer)) for layer in (grey, inside))
    return float((slope * outline).sum() / max(1e-6, outline.sum()) / max(1e-6, slope.mean()))
