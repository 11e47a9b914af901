"""Partial occlusion: pasting objects or blobs over an image until stated shares of object and background are hidden.

The levels are those of the Occluded-PASCAL3D+ generator: 20-40, 40-60 and 60-80 % of the object and 0-20, 20-40 and
40-60 % of the background. The text of the paper (section 4.1) states others (around 10, 30 and 50 % of the object, 30,
50 and 70 % of the background): `protocol="paper"`. Background means all of the image outside the object.

Occluders are pasted on the image, before any crop is cut out of it, so that a crop of a data set that was written
with occluders and one that is occluded while it is evaluated show the same pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from compnet3d.data.cutouts import OPAQUE, Cutout, mask_bounds
from compnet3d.data.images import load_mask
from compnet3d.data.placement import Placement
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError
from compnet3d.robustness.occluders import make_blob, same_category
from compnet3d.robustness.seeds import Purpose, sample_generator

Level = Literal["L1", "L2", "L3"]
Protocol = Literal["generator", "paper"]
Range = tuple[float, float]

# (share of the object, share of the background) that must be hidden
RANGES: dict[Protocol, dict[Level, tuple[Range, Range]]] = {
    "generator": {
        "L1": ((0.2, 0.4), (0.0, 0.2)),
        "L2": ((0.4, 0.6), (0.2, 0.4)),
        "L3": ((0.6, 0.8), (0.4, 0.6)),
    },
    "paper": {
        "L1": ((0.05, 0.15), (0.25, 0.35)),
        "L2": ((0.25, 0.35), (0.45, 0.55)),
        "L3": ((0.45, 0.55), (0.65, 0.75)),
    },
}
_BACKGROUND, _OBJECT = 0, 1


@dataclass(frozen=True)
class Occluded:
    """An occluded image and what was measured on it.

    Attributes:
        image: RGB.
        mask: the pixels that occluders hide, bool [H, W].
        hidden_object, hidden_background: shares of the object's and of all other pixels that are hidden, in [0, 1]; 0
            where the image has no such pixels.
    """

    image: Image.Image
    mask: np.ndarray
    hidden_object: float
    hidden_background: float


@dataclass(frozen=True)
class Occlusion:
    """Which occlusion: the same one always hides the same pixels of a sample, whatever else is evaluated.

    Attributes:
        level: "L1", "L2" or "L3".
        protocol: whose ranges, see the module's text.
        seed: of all draws, >= 0.
        occluders: cut-outs to draw from (`gather_occluders`); coloured blobs where there are none.
    """

    level: Level
    protocol: Protocol = "generator"
    seed: int = 0
    occluders: tuple[Cutout, ...] = ()

    def __post_init__(self) -> None:
        level_ranges(self.level, self.protocol)
        if self.seed < 0:
            raise CompNetError(f"the seed must be at least 0, not {self.seed}")

    def apply(self, image: Image.Image, sample: Sample) -> Occluded:
        """The sample's image with occluders; the draws depend on the seed and the sample's key alone.

        Raises:
            CompNetError: if the mask cannot be read, or every occluder is of the sample's own category.
        """
        # by the key and not by the place in the list: a subset of the images shows the same occluders
        rng = sample_generator(sample, self.seed, Purpose.OCCLUDERS)
        region = object_region(sample, image.size)
        return occlude(image, region, rng, self.level, self.occluders, category=sample.category, protocol=self.protocol)


def level_ranges(level: Level, protocol: Protocol = "generator") -> tuple[Range, Range]:
    """The shares of the object and of the background that a level asks for.

    Raises:
        CompNetError: if the level or the protocol is unknown.
    """
    if protocol not in RANGES:
        raise CompNetError(f"Unknown occlusion protocol {protocol!r}; choose generator or paper.")
    if level not in RANGES[protocol]:
        raise CompNetError(f"Unknown occlusion level {level!r}; choose L1, L2 or L3.")
    return RANGES[protocol][level]


def within_ranges(hidden: tuple[float, float], level: Level, protocol: Protocol = "generator") -> bool:
    """Whether measured shares (object, background) lie in the ranges of a level, ends included (up to rounding)."""
    ranges = level_ranges(level, protocol)
    return all(low - 1e-9 <= share <= high + 1e-9 for share, (low, high) in zip(hidden, ranges, strict=True))


def object_region(sample: Sample, size: tuple[int, int]) -> np.ndarray:
    """Where the object is in its image, bool [H, W]: its mask, or its box where there is none or it is empty.

    Args:
        sample: the object.
        size: (width, height) of the image, which may be a resized copy of the annotated one.

    Raises:
        CompNetError: if the mask cannot be read.
    """
    if sample.mask is not None:
        mask = load_mask(sample.mask, size=size)
        if mask.any():
            return mask
    return box_region(sample.bbox, size, annotated=(sample.width, sample.height))


def box_region(box: Sequence[float], size: tuple[int, int], annotated: tuple[int, int] | None = None) -> np.ndarray:
    """The pixels whose centres are in a box, bool [H, W].

    Args:
        box: x1, y1, x2, y2 in pixels of the annotated image.
        size: (width, height) of the image.
        annotated: (width, height) of the annotated image, if it is another.
    """
    (width, height), (x1, y1, x2, y2) = size, box
    u, v = np.arange(width) + 0.5, np.arange(height) + 0.5
    # pixel centres of the image, in pixels of the annotation: the box need not be rounded
    columns, rows = u * (annotated or size)[0] / width, v * (annotated or size)[1] / height
    return ((y1 <= rows) & (rows <= y2))[:, None] & ((x1 <= columns) & (columns <= x2))[None, :]


def occlude(
    image: Image.Image,
    object_mask: np.ndarray,
    rng: np.random.Generator,
    level: Level,
    occluders: Sequence[Cutout] = (),
    *,
    category: str | None = None,
    protocol: Protocol = "generator",
) -> Occluded:
    """Paste occluders over an image until the hidden shares of object and background lie in the level's ranges.

    Args:
        image: RGB; it is not changed.
        object_mask: bool [H, W], the object's pixels.
        rng: the source of all randomness.
        level: "L1", "L2" or "L3".
        occluders: cut-outs to draw from (`gather_occluders`); coloured blobs where there are none.
        category: of the object in the image; cut-outs of the same category (`same_category`) are not used.
        protocol: which ranges, see the module's text.

    Returns:
        The occluded image and the measured shares. Shares never exceed the ranges; objects of a few pixels, and
        images without object or without background, may fall short of them.

    Raises:
        CompNetError: if the level or the protocol is unknown, or every occluder is of the object's category.
    """
    object_range, background_range = level_ranges(level, protocol)
    if (image.height, image.width) != object_mask.shape:
        raise ValueError(f"a mask of shape {object_mask.shape} does not fit a {image.width} x {image.height} image")
    usable = [o for o in occluders if not same_category(o.category, category)]
    if occluders and not usable:
        raise CompNetError(f"every occluder is of the category {category} itself; use blobs, or cut-outs of others")
    scene = _Scene.of(image, object_mask.astype(bool))
    _cover(scene, _OBJECT, (background_range, object_range), rng.uniform(*object_range), usable, rng)
    # What is pasted on the background falls on the object too: to half of the way only, lest all shares end at the top.
    object_range = (object_range[0], (scene.share(_OBJECT) + object_range[1]) / 2)
    _cover(scene, _BACKGROUND, (background_range, object_range), rng.uniform(*background_range), usable, rng)
    return Occluded(scene.image, scene.hidden, scene.share(_OBJECT), scene.share(_BACKGROUND))


@dataclass
class _Scene:
    """The image so far, with counts that each paste updates, so that large images take no longer than the paste.

    `totals` and `hidden_counts` are numbers of pixels, (background, object). `window` holds the object, as
    (top, left, bottom, right).
    """

    image: Image.Image
    on_object: np.ndarray
    hidden: np.ndarray
    totals: tuple[int, int]
    hidden_counts: tuple[int, int]
    window: tuple[int, int, int, int]

    @classmethod
    def of(cls, image: Image.Image, on_object: np.ndarray) -> _Scene:
        count = int(np.count_nonzero(on_object))
        return cls(
            # pasted on in place, so this copy is the one that is changed
            image=image.copy(),
            on_object=on_object,
            hidden=np.zeros(on_object.shape, dtype=bool),
            totals=(on_object.size - count, count),
            hidden_counts=(0, 0),
            # where to look for a free pixel of the object; all of the image where there is none
            window=mask_bounds(on_object) or (0, 0, *on_object.shape),
        )

    def share(self, region: int) -> float:
        return self.hidden_counts[region] / self.totals[region] if self.totals[region] else 0.0

    def free_pixel(self, region: int, rng: np.random.Generator) -> tuple[int, int]:
        """A random pixel (row, column) of the region that nothing hides yet; there must be one."""
        candidates = 64
        top, left, bottom, right = self.window if region == _OBJECT else (0, 0, *self.hidden.shape)
        # a few tries at random find one as long as a fair part is free, whatever the image's size
        rows, columns = rng.integers(top, bottom, candidates), rng.integers(left, right, candidates)
        free = (self.on_object[rows, columns] == bool(region)) & ~self.hidden[rows, columns]
        if free.any():
            found = int(free.argmax())
            return int(rows[found]), int(columns[found])
        # hardly anything of it is left: look everywhere
        places = np.flatnonzero((self.on_object == bool(region)) & ~self.hidden)
        row, column = divmod(int(places[rng.integers(len(places))]), self.hidden.shape[1])
        return row, column

    def counts_with(self, fresh: np.ndarray, place: Placement) -> tuple[int, int]:
        """`hidden_counts` after hiding pixels that are not hidden yet, bool of the size of `place.target`."""
        on_object = int(np.count_nonzero(fresh & self.on_object[place.target]))
        on_background = int(np.count_nonzero(fresh)) - on_object
        return self.hidden_counts[_BACKGROUND] + on_background, self.hidden_counts[_OBJECT] + on_object


def _cover(
    scene: _Scene,
    region: int,
    limits: tuple[Range, Range],
    target: float,
    occluders: Sequence[Cutout],
    rng: np.random.Generator,
) -> None:
    """Hide the object or the background up to `target`, without hiding more of either than `limits` allow."""
    # refusals after which cut-outs go around the object (as if behind it), or stay within it (which looks less natural)
    patience = (4, 24)
    tries_per_occluder = 4
    attempts = 150
    total, low = scene.totals[region], limits[region][0]
    # in pixels, as `hidden_counts` is
    most = tuple(limit[1] * count for limit, count in zip(limits, scene.totals, strict=True))
    occluder, mirror, refused, shrink = None, False, 0, 1.0
    for _ in range(attempts if total else 0):
        share = scene.share(region)
        # near enough to the target, as a last sliver would be an occluder of a few pixels; or not one more pixel fits
        if share >= max(low, target - 0.02) or scene.hidden_counts[region] + 1 > most[region]:
            return
        # a long or large cut-out may not fit anywhere, so another one is tried after some refusals
        if occluder is None or refused % tries_per_occluder == 0:
            occluder, mirror = _pick(occluders, rng), rng.random() < 0.5
        # part of what is missing, so that several occluders share it; or a little more, since a part of them falls
        # outside
        area = max(1.0, (target - share) * total * rng.uniform(0.4, 1.3) * shrink)
        layer = _Layer.scaled(occluder, area, mirror, 2 * max(scene.hidden.shape))
        place = Placement.centred(layer.alpha.shape, scene.free_pixel(region, rng), scene.hidden.shape)
        alpha = layer.alpha[place.source]
        if refused >= patience[region]:
            # No room without touching the other.
            alpha = alpha * (scene.on_object[place.target] == bool(region))
        # pixels under an earlier occluder are counted already
        fresh = (alpha >= OPAQUE) & ~scene.hidden[place.target]
        counts = scene.counts_with(fresh, place)
        # A cut-out that hides too much, of the one or of the other, is tried again smaller and elsewhere.
        if counts[_BACKGROUND] > most[_BACKGROUND] or counts[_OBJECT] > most[_OBJECT]:
            refused, shrink = refused + 1, max(0.7 * shrink, 1.0 / total)
            continue
        scene.hidden[place.target] |= fresh
        scene.hidden_counts = counts
        # colours are scaled only here: most attempts are refused by their alpha alone
        layer.paste(scene.image, place, alpha)
        # not back to the start: where it was narrow before, it still is
        occluder, refused, shrink = None, refused // 2, min(1.0, 2.0 * shrink)


@dataclass(frozen=True)
class _Layer:
    """A cut-out at the size in which it is pasted: its alpha, uint8 [h, w]; its colours only when they are needed."""

    occluder: Cutout
    alpha: np.ndarray
    mirror: bool

    @classmethod
    def scaled(cls, occluder: Cutout, area: float, mirror: bool, longest: int) -> _Layer:
        """Scaled to hide about `area` pixels, but to no side longer than `longest` pixels."""
        height, width = occluder.alpha.shape
        scale = math.sqrt(area / max(1, int(np.count_nonzero(occluder.solid))))
        scale = min(scale, longest / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        alpha = _flipped(Image.fromarray(occluder.alpha).resize(size, Image.Resampling.BILINEAR), mirror)
        pixels = np.asarray(alpha)
        if pixels.max() < OPAQUE:  # a thin object may vanish when it shrinks
            pixels = np.full_like(pixels, 255)
        return cls(occluder, pixels, mirror)

    def paste(self, image: Image.Image, place: Placement, alpha: np.ndarray) -> None:
        """Blend the part `place.source` into the image, with `alpha` of that part's size."""
        size = (self.alpha.shape[1], self.alpha.shape[0])
        # Pillow weighs colours by alpha when it scales RGBA: nothing of what was around the cut-out leaks in.
        cutout = Image.fromarray(np.dstack([self.occluder.image, self.occluder.alpha]))
        colours = _flipped(cutout.resize(size, Image.Resampling.BILINEAR), self.mirror).convert("RGB")
        (rows, columns), (top, left) = place.source, (place.target[0].start, place.target[1].start)
        part = colours.crop((columns.start, rows.start, columns.stop, rows.stop))
        image.paste(part, (left, top), Image.fromarray(np.ascontiguousarray(alpha)))


def _flipped(image: Image.Image, mirror: bool) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else image


def _pick(occluders: Sequence[Cutout], rng: np.random.Generator) -> Cutout:
    return occluders[int(rng.integers(len(occluders)))] if occluders else make_blob(rng)
