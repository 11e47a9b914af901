"""Partial occlusion: pasting other things over a view until stated shares of object and background are hidden.

The levels are those of the Occluded-PASCAL3D+ generator: 20-40, 40-60 and 60-80 % of the object and 0-20, 20-40 and
40-60 % of the background. The text of the paper (section 4.1) states others (around 10, 30 and 50 % of the object, 30,
50 and 70 % of the background): `protocol="paper"`. Background means all of the view outside the object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from compnet3d.data.images import load_image, load_mask
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError

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
_ATTEMPTS = 150
_LARGEST_CUTOUT = 160  # pixels: occluders are kept small, they are scaled when pasted


@dataclass(frozen=True)
class Occluder:
    """Something to paste: uint8 pixels [h, w, 3], which of them belong to it, bool [h, w], and what it is."""

    image: np.ndarray
    mask: np.ndarray
    category: str | None = None


def occlude_view(
    image: np.ndarray,
    object_mask: np.ndarray,
    rng: np.random.Generator,
    level: Level,
    occluders: Sequence[Occluder] = (),
    *,
    category: str | None = None,
    protocol: Protocol = "generator",
) -> tuple[np.ndarray, float, float]:
    """Paste occluders over a view until the hidden shares of object and background lie in the level's ranges.

    Args:
        image: uint8 [H, W, 3]; it is not changed.
        object_mask: bool [H, W], the object's pixels.
        rng: the source of all randomness.
        level: "L1", "L2" or "L3".
        occluders: cut-outs to draw from (`cut_occluders`); coloured blobs where there are none.
        category: of the object in the view; cut-outs of the same category are not used.
        protocol: which ranges, see the module's text.

    Returns:
        The occluded view, and the measured shares of hidden object and hidden background pixels. A share is 0 where
        the view has no such pixels; objects of a few pixels may miss the range.

    Raises:
        CompNetError: if the level or the protocol is unknown.
    """
    if protocol not in RANGES or level not in RANGES[protocol]:
        raise CompNetError(f"Unknown occlusion {protocol!r} {level!r}; choose level L1, L2 or L3.")
    if image.shape[:2] != object_mask.shape:
        raise ValueError(f"a mask of shape {object_mask.shape} does not fit an image of shape {image.shape}")
    usable = [o for o in occluders if category is None or o.category != category]
    scene = _Scene(image.copy(), object_mask.astype(bool), np.zeros(object_mask.shape, dtype=bool))
    object_range, background_range = RANGES[protocol][level]
    _cover(scene, True, rng.uniform(*object_range), object_range, background_range[1], usable, rng)
    _cover(scene, False, rng.uniform(*background_range), background_range, object_range[1], usable, rng)
    return scene.image, scene.share(True), scene.share(False)


@dataclass
class _Scene:
    image: np.ndarray
    object_mask: np.ndarray
    hidden: np.ndarray

    def region(self, on_object: bool) -> np.ndarray:
        return self.object_mask if on_object else ~self.object_mask

    def share(self, on_object: bool, hidden: np.ndarray | None = None) -> float:
        region = self.region(on_object)
        total = int(region.sum())
        return int((region & (self.hidden if hidden is None else hidden)).sum()) / total if total else 0.0


def _cover(
    scene: _Scene,
    on_object: bool,
    target: float,
    allowed: Range,
    other_limit: float,
    occluders: Sequence[Occluder],
    rng: np.random.Generator,
) -> None:
    """Hide the object or the background up to `target`, within `allowed`, sparing the other beyond its limit."""
    total = int(scene.region(on_object).sum())
    shrink = 1.0
    for attempt in range(_ATTEMPTS if total else 0):
        share = scene.share(on_object)
        if share >= max(allowed[0], target - 0.02):
            return
        area = max(1.0, (target - share) * total * rng.uniform(0.4, 1.3) * shrink)
        free = np.flatnonzero((scene.region(on_object) & ~scene.hidden).reshape(-1))
        row, column = divmod(int(free[rng.integers(len(free))]), scene.hidden.shape[1])
        pixels, mask = _scaled(_pick(occluders, rng), area, rng)
        place = _Placement.centred(mask.shape, (row, column), scene.hidden.shape)
        if attempt >= _ATTEMPTS // 3:
            # No room without touching the other: from now on cut-outs pass behind it.
            mask = mask.copy()
            mask[place.source] &= scene.region(on_object)[place.target]
        hidden = scene.hidden.copy()
        hidden[place.target] |= mask[place.source]
        # A cut-out that hides too much, of the one or of the other, is tried again smaller and elsewhere.
        if scene.share(on_object, hidden) > allowed[1] or scene.share(not on_object, hidden) > other_limit:
            shrink = max(0.7 * shrink, 1.0 / total)
            continue
        scene.hidden = hidden
        np.copyto(scene.image[place.target], pixels[place.source], where=mask[place.source][..., None])


@dataclass(frozen=True)
class _Placement:
    """Which part of a cut-out lands where in the view."""

    source: tuple[slice, slice]
    target: tuple[slice, slice]

    @classmethod
    def centred(cls, size: tuple[int, ...], centre: tuple[int, int], limits: tuple[int, ...]) -> _Placement:
        source, target = [], []
        for extent, middle, limit in zip(size, centre, limits, strict=True):
            start = middle - extent // 2
            low, high = max(0, start), min(limit, start + extent)
            target.append(slice(low, high))
            source.append(slice(low - start, high - start))
        return cls((source[0], source[1]), (target[0], target[1]))


def _pick(occluders: Sequence[Occluder], rng: np.random.Generator) -> Occluder:
    return occluders[int(rng.integers(len(occluders)))] if occluders else make_blob(rng)


def _scaled(occluder: Occluder, area: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The cut-out scaled to about `area` object pixels, mirrored half of the time."""
    scale = math.sqrt(area / max(1, int(occluder.mask.sum())))
    height, width = occluder.mask.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    pixels = np.asarray(Image.fromarray(occluder.image).resize(size, Image.Resampling.BILINEAR))
    layer = Image.fromarray(occluder.mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    mask = np.asarray(layer) > 127
    if not mask.any():
        mask = np.ones_like(mask)
    if rng.random() < 0.5:
        pixels, mask = pixels[:, ::-1], mask[:, ::-1]
    return pixels, mask


def cut_occluders(samples: Sequence[Sample], count: int = 64, seed: int = 0) -> list[Occluder]:
    """Cut objects out of photographs by their masks, as evenly over the categories as they come.

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
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    cutout, layer = image.crop(box), Image.fromarray(mask.astype(np.uint8) * 255).crop(box)
    shrink = _LARGEST_CUTOUT / max(cutout.size)
    if shrink < 1.0:
        size = (max(1, round(cutout.width * shrink)), max(1, round(cutout.height * shrink)))
        cutout, layer = cutout.resize(size, Image.Resampling.BOX), layer.resize(size, Image.Resampling.BOX)
    return Occluder(np.asarray(cutout), np.asarray(layer) > 127, sample.category)


def make_blob(rng: np.random.Generator, size: int = 96) -> Occluder:
    """A blob with a wavy outline and a two-coloured pattern, for data sets without masks."""
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size * 2.0 - 1.0
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    outline = np.full_like(angle, 0.75)
    for wave in (2, 3, 5):
        outline += rng.uniform(0.0, 0.25) / wave * np.cos(wave * angle + rng.uniform(0.0, 2.0 * math.pi))
    turn, pitch = rng.uniform(0.0, math.pi), rng.uniform(2.0, 9.0)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    wiggle = rng.uniform(0.0, 2.0) * np.sin(rng.uniform(1.0, 5.0) * across + rng.uniform(0.0, 6.0))
    pattern = 0.5 + 0.5 * np.sin(pitch * along + wiggle)
    first, second = rng.integers(0, 256, (2, 3))
    pixels = pattern[..., None] * first + (1.0 - pattern[..., None]) * second
    pixels = pixels * (1.0 - 0.3 * radius[..., None].clip(0.0, 1.0)) + rng.normal(0.0, 6.0, (size, size, 1))
    return Occluder(np.clip(pixels, 0, 255).astype(np.uint8), radius < outline)
