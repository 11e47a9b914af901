"""What is pasted over an object: blobs, objects cut out of other images, a folder of cut-outs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from compnet3d.data.annotations import plain_name
from compnet3d.data.cutouts import Cutout, cut_objects, load_cutouts
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError

# what data sets call the categories that are drawn as occluders, as `plain_name` writes them
ALSO_CALLED = {
    "aeroplane": ("airplane", "plane"),
    "boat": ("ship",),
    "desklamp": ("lamp", "tablelamp"),
    "diningtable": ("table",),
    "iron": ("flatiron",),
    "motorbike": ("motorcycle",),
    "mug": ("cup", "coffeemug", "coffeecup"),
    "pan": ("fryingpan", "skillet"),
    "powerdrill": ("drill",),
    "sofa": ("couch",),
    "tv": ("tvmonitor", "television", "monitor"),
    "washingmachine": ("washer",),
}


def same_category(one: str | None, other: str | None) -> bool:
    """Whether two names, of data sets that may spell or call it differently, are of one category; None is of none."""
    return None not in (one, other) and _usual_name(str(one)) == _usual_name(str(other))


def _usual_name(category: str) -> str:
    name = plain_name(category)
    # the paper covers objects with things that the model does not know; a mug over a cup would be a second object of
    # its category
    return next((usual for usual, others in ALSO_CALLED.items() if name in others), name)


def gather_occluders(
    occluders: str | Path, samples: Sequence[Sample], count: int = 64, seed: int = 0
) -> tuple[Cutout, ...]:
    """What "blobs", "objects" or a folder of cut-outs stands for.

    Args:
        occluders: "blobs" (nothing is gathered: each is drawn when it is pasted), "objects" (cut out of `samples` by
            their masks), or a folder of images with transparency.
        samples: where objects are cut out (`occluder_samples`).
        count: how many cut-outs at most.
        seed: of the choice.

    Raises:
        CompNetError: if no sample has a mask, or as `load_cutouts`.
    """
    if occluders == "blobs":
        return ()
    if occluders != "objects":
        return tuple(load_cutouts(occluders, count, seed))
    found = cut_objects(samples, count, seed)
    if not found:
        raise CompNetError(
            "no object can be cut out as an occluder: the data set has no masks/CATEGORY/NAME.png; "
            "use blobs, or a folder of RGBA cut-outs"
        )
    return tuple(found)


def occluder_samples(dataset: ImageNet3D, split: str) -> list[Sample]:
    """The objects that may be cut out as occluders for a split: the train list, so that no test object is pasted.

    Of a data set without training images they are those of the split itself.
    """
    trained = any(dataset.names(category, "train") for category in dataset.categories)
    return dataset.samples("train" if trained else split)


def make_blob(rng: np.random.Generator, size: int = 96) -> Cutout:
    """A blob with a wavy, slightly soft outline and a two-coloured pattern, for data sets without masks."""
    x, y, angle, radius = _blob_grid(size)
    # a radius over the angle: whole waves meet where the circle closes
    outline = np.full_like(angle, 0.75)
    for wave in (2, 3, 5):
        outline += rng.uniform(0.0, 0.25) / wave * np.cos(wave * angle + np.float32(rng.uniform(0.0, 2.0 * math.pi)))
    turn, pitch = rng.uniform(0.0, math.pi), rng.uniform(2.0, 9.0)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    wiggle = rng.uniform(0.0, 2.0) * np.sin(rng.uniform(1.0, 5.0) * across + rng.uniform(0.0, 6.0))
    pattern = 0.5 + 0.5 * np.sin(pitch * along + wiggle)
    first, second = rng.integers(0, 256, (2, 3)).astype(np.float32)
    shade = 1.0 - 0.3 * radius.clip(0.0, 1.0)
    # a perfectly smooth surface would be told from a real image by that alone
    noise = 6.0 * rng.standard_normal((size, size), dtype=np.float32)
    pixels = (pattern * shade)[..., None] * (first - second) + shade[..., None] * second + noise[..., None]
    inside = (outline - radius) * size / 2  # distance from the outline in pixels, roughly
    alpha = np.rint(255.0 * (inside + 0.5).clip(0.0, 1.0))
    return Cutout(pixels.clip(0.0, 255.0).astype(np.uint8), alpha.astype(np.uint8))


# an image takes several blobs, all made at one size
@lru_cache(maxsize=4)
def _blob_grid(size: int) -> tuple[np.ndarray, ...]:
    """x, y, angle and radius of the pixels of a square from -1 to 1, float32 [size, size] each; not to be changed."""
    y, x = ((np.mgrid[0:size, 0:size] + 0.5) / size * 2.0 - 1.0).astype(np.float32)
    return x, y, np.arctan2(y, x), np.hypot(x, y)
