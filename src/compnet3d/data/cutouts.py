"""Objects cut out of images, to be pasted over other images: by the augmentation, and as occluders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from compnet3d.data.images import images_in, load_image, load_mask, load_rgba
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError

OPAQUE = 128  # a pixel counts as hidden where at least half of what is seen is the cut-out


@dataclass(frozen=True)
class Cutout:
    """Something to paste.

    Attributes:
        image: uint8 [h, w, 3].
        alpha: how opaque each pixel is, uint8 [h, w], 0 (clear) to 255; some pixel has at least 128.
        category: of the object; None if it is not known.
    """

    image: np.ndarray
    alpha: np.ndarray
    category: str | None = None

    @classmethod
    def of_mask(cls, image: np.ndarray, mask: np.ndarray, category: str | None = None) -> Cutout:
        """The pixels of a mask, bool [h, w], in an image, uint8 [h, w, 3]."""
        return cls(image, mask.astype(np.uint8) * 255, category)

    @classmethod
    def trimmed(cls, pixels: np.ndarray, category: str | None = None) -> Cutout | None:
        """The part of an RGBA image, uint8 [H, W, 4], that is not clear, shrunk if it is large; None if nothing is."""
        largest_side = (
            256  # pixels: cut-outs that are kept in memory are small, since they are scaled when they are pasted
        )
        window = mask_bounds(pixels[..., 3] >= OPAQUE)
        if window is None:
            return None
        top, left, bottom, right = window
        cutout = Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))
        shrink = largest_side / max(cutout.size)
        if shrink < 1.0:
            size = (max(1, round(cutout.width * shrink)), max(1, round(cutout.height * shrink)))
            # Pillow weighs colours by alpha here: what is clear does not darken the edge
            cutout = cutout.resize(size, Image.Resampling.BOX)
        kept = np.asarray(cutout)
        if kept[..., 3].max() < OPAQUE:  # thin lines fade when they shrink
            kept = np.dstack([kept[..., :3], np.where(kept[..., 3] > 0, 255, 0).astype(np.uint8)])
        return cls(kept[..., :3], kept[..., 3], category)

    @property
    def solid(self) -> np.ndarray:
        """The pixels that hide what is behind them, bool [h, w]."""
        return self.alpha >= OPAQUE


def mask_bounds(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """The box (top, left, bottom, right) of the pixels that are True, None if none is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1) if len(rows) else None


def cut_object(image: Image.Image, sample: Sample) -> Cutout:
    """A sample's object at its full size, by its mask or, where it has none, as an ellipse in its box."""
    mask = None if sample.mask is None else load_mask(sample.mask, size=image.size)
    bounds = None if mask is None else mask_bounds(mask)
    if mask is not None and bounds is not None:
        top, left, bottom, right = bounds
        mask = mask[top:bottom, left:right]
    else:
        left, top, right, bottom = _whole_pixels(sample, image.size)
        width, height = right - left, bottom - top
        # an ellipse has no corners of background, which a box would paste along
        y, x = np.mgrid[0:height, 0:width] + 0.5
        mask = (x / width - 0.5) ** 2 + (y / height - 0.5) ** 2 <= 0.25
    # pasted instead of cropped: Pillow crops no more pixels than it would open by itself
    part = Image.new("RGB", (right - left, bottom - top))
    part.paste(image, (-left, -top))
    return Cutout.of_mask(np.asarray(part), mask, sample.category)


def cut_objects(samples: Sequence[Sample], count: int = 64, seed: int = 0) -> list[Cutout]:
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
    # sorted by name: the draw must not depend on which category the list has first
    shuffled = [[members[i] for i in rng.permutation(len(members))] for _, members in sorted(by_category.items())]
    # one of each category in turn, so that any number of cut-outs is spread over all
    rounds = [members[i] for i in range(max(map(len, shuffled), default=0)) for members in shuffled if i < len(members)]
    found: list[Cutout] = []
    for sample in rounds:
        if len(found) == count:
            break
        cutout = _cut(sample)
        # an empty mask gives none, and the next sample takes its place
        if cutout is not None:
            found.append(cutout)
    return found


def load_cutouts(folder: str | Path, count: int = 64, seed: int = 0) -> list[Cutout]:
    """Cut-outs from a folder of images with transparency (.png, .webp), folders in it included.

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
    paths = [path for path in images_in(folder) if path.suffix.lower() in (".png", ".webp")]
    if not paths:
        raise CompNetError(f"{folder} holds no occluder; put cut-outs with transparency (.png, .webp) there")
    # in the order of the names again: with room for all of them, the seed changes nothing
    chosen = np.sort(np.random.default_rng(seed).permutation(len(paths))[:count])
    return [_load(paths[i], None if paths[i].parent == folder else paths[i].parent.name) for i in chosen]


def _cut(sample: Sample) -> Cutout | None:
    assert sample.mask is not None
    image = load_image(sample.image, size=(sample.width, sample.height))
    mask = load_mask(sample.mask, size=image.size)
    return Cutout.trimmed(np.dstack([np.asarray(image), mask.astype(np.uint8) * 255]), sample.category)


def _load(path: Path, category: str | None) -> Cutout:
    cutout = Cutout.trimmed(load_rgba(path), category)
    if cutout is None:
        raise CompNetError(f"{path} is transparent: no pixel is at least half opaque; remove it from the occluders")
    return cutout


def _whole_pixels(sample: Sample, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A sample's box in whole pixels of its image, at least one of each."""
    x1, y1, x2, y2 = sample.bbox
    # the image may be a resized copy of the annotated one
    across, down = size[0] / sample.width, size[1] / sample.height
    left, top = min(max(0, int(x1 * across)), size[0] - 1), min(max(0, int(y1 * down)), size[1] - 1)
    right, bottom = min(size[0], round(x2 * across)), min(size[1], round(y2 * down))
    return left, top, max(left + 1, right), max(top + 1, bottom)
