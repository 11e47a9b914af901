"""What is pasted over an object: blobs, objects cut out of other images, a folder of cut-outs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from compnet3d.data.annotations import plain_name
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.images import load_cutout, load_image, load_mask
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
_LARGEST_CUTOUT = 256  # pixels: occluders are kept small, they are scaled when pasted
OPAQUE = 128  # a pixel counts as hidden where at least half of what is seen is the occluder


@dataclass(frozen=True)
class Occluder:
    """Something to paste.

    Attributes:
        image: uint8 [h, w, 3].
        alpha: how opaque each pixel is, uint8 [h, w], 0 (clear) to 255; some pixel has at least 128.
        category: what it is, None if nobody knows.
    """

    image: np.ndarray
    alpha: np.ndarray
    category: str | None = None

    @property
    def solid(self) -> np.ndarray:
        """The pixels that hide what is behind them, bool [h, w]."""
        return self.alpha >= OPAQUE


def same_category(one: str | None, other: str | None) -> bool:
    """Whether two names, of data sets that may spell or call it differently, are of one category; None is of none."""
    return None not in (one, other) and _usual_name(str(one)) == _usual_name(str(other))


def _usual_name(category: str) -> str:
    name = plain_name(category)
    return next((usual for usual, others in ALSO_CALLED.items() if name in others), name)


def gather_occluders(
    occluders: str | Path, samples: Sequence[Sample], count: int = 64, seed: int = 0
) -> tuple[Occluder, ...]:
    """What "blobs", "objects" or a folder of cut-outs stands for.

    Args:
        occluders: "blobs" (nothing is gathered: each is drawn when it is pasted), "objects" (cut out of `samples` by
            their masks), or a folder of images with transparency.
        samples: where objects are cut out (`occluder_samples`).
        count: how many cut-outs at most.
        seed: of the choice.

    Raises:
        CompNetError: if no sample has a mask, or as `load_occluders`.
    """
    if occluders == "blobs":
        return ()
    if occluders != "objects":
        return tuple(load_occluders(occluders, count, seed))
    found = cut_occluders(samples, count, seed)
    if not found:
        raise CompNetError(
            "no object can be cut out as an occluder: the data set has no masks/CATEGORY/NAME.png; "
            "use blobs, or a folder of RGBA cut-outs"
        )
    return tuple(found)


def occluder_samples(dataset: ImageNet3D, split: str) -> list[Sample]:
    """The objects that may be cut out as occluders for a split: the train list, so that no test object is pasted.

    A data set without training images lends the objects of the split itself.
    """
    trained = any(dataset.names(category, "train") for category in dataset.categories)
    return dataset.samples("train" if trained else split)


def cut_occluders(samples: Sequence[Sample], count: int = 64, seed: int = 0) -> list[Occluder]:
    """Cut objects out of images by their masks, as evenly over the categories as they come.

    Args:
        samples: where to cut; those without a mask are passed over.
        count: how many cut-outs at most.
        seed: of the choice.

    Raises:
        CompNetError: naming the file, if an image or a mask cannot be read.
    """
    rng = np.random.default_rng(seed)
    by_category: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.mask is not None:
            by_category.setdefault(sample.category, []).append(sample)
    shuffled = [[members[i] for i in rng.permutation(len(members))] for _, members in sorted(by_category.items())]
    rounds = [members[i] for i in range(max(map(len, shuffled), default=0)) for members in shuffled if i < len(members)]
    found: list[Occluder] = []
    for sample in rounds:
        if len(found) == count:
            break
        occluder = _cut(sample)
        if occluder is not None:
            found.append(occluder)
    return found


def _cut(sample: Sample) -> Occluder | None:
    assert sample.mask is not None
    image = load_image(sample.image, size=(sample.width, sample.height))
    mask = load_mask(sample.mask, size=image.size)
    return _trimmed(np.dstack([np.asarray(image), mask.astype(np.uint8) * 255]), sample.category)


def load_occluders(folder: str | Path, count: int = 64, seed: int = 0) -> list[Occluder]:
    """Occluders from a folder of images with transparency (.png, .webp), folders in it included.

    An image's category is the name of the folder that holds it; directly in `folder` it has none, and is pasted on
    objects of every category.

    Args:
        folder: where the images are; other files are passed over.
        count: how many at most; if there are more, `seed` chooses.
        seed: of the choice.

    Raises:
        CompNetError: if there is no such folder or no image in it; naming the file, if an image cannot be read, has
            no transparency, or is nowhere opaque.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CompNetError(f"{folder} is not a folder; give one of RGBA cut-outs (.png, .webp), or blobs or objects")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".webp") and p.is_file())
    if not paths:
        raise CompNetError(f"{folder} holds no occluder; put cut-outs with transparency (.png, .webp) there")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(paths))[:count])
    return [_load_occluder(paths[i], None if paths[i].parent == folder else paths[i].parent.name) for i in chosen]


def _load_occluder(path: Path, category: str | None) -> Occluder:
    occluder = _trimmed(load_cutout(path), category)
    if occluder is None:
        raise CompNetError(f"{path} is transparent: no pixel is at least half opaque; remove it from the occluders")
    return occluder


def _trimmed(pixels: np.ndarray, category: str | None) -> Occluder | None:
    """The part of an RGBA image, uint8 [H, W, 4], that is not clear, shrunk if it is large; None if nothing is."""
    window = opaque_bounds(pixels[..., 3] >= OPAQUE)
    if window is None:
        return None
    top, left, bottom, right = window
    cutout = Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))
    shrink = _LARGEST_CUTOUT / max(cutout.size)
    if shrink < 1.0:
        size = (max(1, round(cutout.width * shrink)), max(1, round(cutout.height * shrink)))
        cutout = cutout.resize(size, Image.Resampling.BOX)
    kept = np.asarray(cutout)
    if kept[..., 3].max() < OPAQUE:  # thin lines fade when they shrink
        kept = np.dstack([kept[..., :3], np.where(kept[..., 3] > 0, 255, 0).astype(np.uint8)])
    return Occluder(kept[..., :3], kept[..., 3], category)


def opaque_bounds(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """The box (top, left, bottom, right) of the pixels that are True, None if none is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1) if len(rows) else None


def make_blob(rng: np.random.Generator, size: int = 96) -> Occluder:
    """A blob with a wavy, slightly soft outline and a two-coloured pattern, for data sets without masks."""
    x, y, angle, radius = _blob_grid(size)
    outline = np.full_like(angle, 0.75)
    for wave in (2, 3, 5):
        outline += rng.uniform(0.0, 0.25) / wave * np.cos(wave * angle + np.float32(rng.uniform(0.0, 2.0 * math.pi)))
    turn, pitch = rng.uniform(0.0, math.pi), rng.uniform(2.0, 9.0)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    wiggle = rng.uniform(0.0, 2.0) * np.sin(rng.uniform(1.0, 5.0) * across + rng.uniform(0.0, 6.0))
    pattern = 0.5 + 0.5 * np.sin(pitch * along + wiggle)
    first, second = rng.integers(0, 256, (2, 3)).astype(np.float32)
    shade = 1.0 - 0.3 * radius.clip(0.0, 1.0)
    noise = 6.0 * rng.standard_normal((size, size), dtype=np.float32)
    pixels = (pattern * shade)[..., None] * (first - second) + shade[..., None] * second + noise[..., None]
    inside = (outline - radius) * size / 2  # distance from the outline in pixels, roughly
    alpha = np.rint(255.0 * (inside + 0.5).clip(0.0, 1.0))
    return Occluder(pixels.clip(0.0, 255.0).astype(np.uint8), alpha.astype(np.uint8))


@lru_cache(maxsize=4)
def _blob_grid(size: int) -> tuple[np.ndarray, ...]:
    """x, y, angle and radius of the pixels of a square from -1 to 1, float32 [size, size] each; not to be changed."""
    y, x = ((np.mgrid[0:size, 0:size] + 0.5) / size * 2.0 - 1.0).astype(np.float32)
    return x, y, np.arctan2(y, x), np.hypot(x, y)
