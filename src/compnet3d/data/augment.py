"""Random changes of a crop.

The geometric ones are drawn here and applied by the crop's one resampling; the photometric ones and the erasing (a
crude occlusion) work on the finished pixels and leave the pose alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from PIL import Image

from compnet3d.data.backgrounds import swap_background
from compnet3d.data.cutouts import Cutout
from compnet3d.data.dead_leaves import scatter_dead_leaves
from compnet3d.data.placement import Placement
from compnet3d.utils.settings import setting


@dataclass(frozen=True)
class GeometricDraw:
    """One draw: rotation in radians (counter-clockwise), scale factor, shift as a fraction of min(H, W), mirroring."""

    rotation: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    mirror: bool = False


@dataclass(frozen=True)
class CropSources:
    """What an augmentation takes from outside a crop; what is None is not to be had.

    Attributes:
        cut_out: draws an object to cover with, for `copy_paste`.
        object_layer: the image in L that is white where the object is (see `object_layer`), for `background_swap`.
        background: draws a background of a (width, height), uint8 [H, W, 3], for `background_swap`.
    """

    cut_out: Callable[[np.random.Generator], Cutout] | None = None
    object_layer: Image.Image | None = None
    background: Callable[[tuple[int, int], np.random.Generator], np.ndarray] | None = None


NO_SOURCES = CropSources()


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; the defaults change nothing.

    Attributes:
        rotation: in the plane, uniform in +- this many degrees (theta changes with it).
        scale: size factor, log-uniform between the two (the distance changes inversely).
        shift: of the object, uniform in +- this fraction of min(H, W) on each axis (the principal point moves).
        mirror: probability of mirroring; for mirror-symmetric categories only (see `CropDataset`).
        reflect: probability of continuing the image mirrored beyond its border instead of with the fill colour,
            so that the border's direction does not betray the in-plane rotation.
        box_crop: probability that a crop is cut out by the bounding box, as `crop="box"` of an evaluation does, and not
            by the annotated distance and principal point: objects seen end-on are shown larger then.
        background_swap: probability that a crop gets another background, where it is known which pixels are the
            object's (see `Scenery`).
        brightness, contrast, saturation: relative, uniform in 1 +- this.
        colour_jitter: relative gain of each colour channel, uniform in 1 +- this (tints the light).
        tone_curve: probability of bending the tones of each colour channel by a random curve, which can take markings
            away, or turn light and dark round (see `bend_tones`).
        gamma: exponent, log-uniform between 1 / (1 + this) and 1 + this.
        grey: probability of losing the colour.
        blur: probability of a Gaussian blur of 0.3 to `blur_radius` pixels.
        blur_radius: largest standard deviation of the blur, in pixels.
        noise: largest standard deviation of added Gaussian noise, in grey levels of 255.
        noise_probability: of adding noise at all.
        erasing: probability of covering parts of the crop.
        erasing_count: largest number of patches or objects.
        erasing_area: (least, most) area of one patch or object as a fraction of the crop's.
        dead_leaves: probability that a crop is covered by random shapes (see `scatter_dead_leaves`), not by patches or
            objects.
        dead_leaves_area: (least, most) share of the crop that these aim at together.
        copy_paste: probability that what else covers a crop is an object cut out of an image of the data set (see
            `Cutout`), and not patches of noise, one colour or another part of the crop.
    """

    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    mirror: float = 0.0
    reflect: float = 0.0
    box_crop: float = 0.0
    background_swap: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    colour_jitter: float = 0.0
    tone_curve: float = 0.0
    gamma: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    blur_radius: float = setting(1.2, least=0.3, most=100)
    noise: float = 0.0
    noise_probability: float = 0.5
    erasing: float = 0.0
    erasing_count: int = setting(3, least=1, most=100)
    erasing_area: tuple[float, float] = (0.02, 0.15)
    dead_leaves: float = 0.0
    dead_leaves_area: tuple[float, float] = (0.05, 0.65)
    copy_paste: float = 0.0

    def __post_init__(self) -> None:
        for name in (
            "mirror",
            "reflect",
            "box_crop",
            "background_swap",
            "tone_curve",
            "grey",
            "blur",
            "noise_probability",
            "erasing",
            "dead_leaves",
            "copy_paste",
        ):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"Augmentation.{name} is a probability, not {getattr(self, name)}")
        for name in ("scale", "erasing_area", "dead_leaves_area"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high:
                raise ValueError(f"Augmentation.{name} must be (low, high) with 0 < low <= high")
            # YAML gives lists and whole numbers; as tuples of floats, recipes read from files equal those in code
            object.__setattr__(self, name, (float(low), float(high)))
        if self.dead_leaves_area[1] > 1.0:
            raise ValueError(
                f"Augmentation.dead_leaves_area are shares of the crop, at most 1, not {self.dead_leaves_area[1]}"
            )

    def draw_geometry(self, rng: np.random.Generator) -> GeometricDraw:
        """Draw rotation, scale, shift and mirroring; always uses five random numbers."""
        # all five even where nothing is asked for, so that a setting changes no draw but its own
        turn, size, right, down, flip = rng.random(5)
        low, high = math.log(self.scale[0]), math.log(self.scale[1])
        return GeometricDraw(
            rotation=math.radians(self.rotation) * (2.0 * turn - 1.0),
            # log-uniform: half as large is as likely as twice as large
            scale=math.exp(low + (high - low) * size),
            shift=(self.shift * (2.0 * right - 1.0), self.shift * (2.0 * down - 1.0)),
            mirror=bool(flip < self.mirror),
        )


def augment_pixels(
    pixels: np.ndarray,
    augmentation: Augmentation,
    rng: np.random.Generator,
    sources: CropSources = NO_SOURCES,
    alpha: Callable[[Image.Image], np.ndarray] = np.asarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Another background, tone curves, other colours, blur, noise and erasing, in this order.

    Args:
        pixels: of the crop, uint8 [H, W, 3], not changed in place; augmentation: the settings; rng: the source of all
            randomness.
        sources: of backgrounds and of objects to cover with.
        alpha: cuts the crop out of `sources.object_layer`, uint8 [H, W].

    Returns:
        The pixels, and which of them the erasing covered, bool [H, W].
    """
    covered = np.zeros(pixels.shape[:2], dtype=bool)
    # nothing is drawn for what is switched off: other settings keep their random numbers
    layer, background = sources.object_layer, sources.background
    if layer is not None and background is not None and rng.random() < augmentation.background_swap:
        size = (pixels.shape[1], pixels.shape[0])
        pixels = swap_background(pixels, alpha(layer), background(size, rng), rng)
    if augmentation.tone_curve > 0 and rng.random() < augmentation.tone_curve:
        pixels = bend_tones(pixels, rng)
    pixels = _change_colours(pixels, augmentation, rng)
    if rng.random() < augmentation.blur:
        radius = rng.uniform(min(0.3, augmentation.blur_radius), augmentation.blur_radius)
        pixels = cv2.GaussianBlur(pixels, (0, 0), radius, borderType=cv2.BORDER_REPLICATE)
    if augmentation.noise > 0 and rng.random() < augmentation.noise_probability:
        pixels = _add_noise(pixels, rng.uniform(0.0, augmentation.noise), rng)
    if rng.random() < augmentation.erasing:
        most, area = augmentation.erasing_count, augmentation.erasing_area
        if augmentation.dead_leaves > 0 and rng.random() < augmentation.dead_leaves:
            pixels, covered = scatter_dead_leaves(pixels, augmentation.dead_leaves_area, rng)
        elif augmentation.copy_paste > 0 and sources.cut_out is not None and rng.random() < augmentation.copy_paste:
            pixels, covered = paste_cutouts(pixels, sources.cut_out(rng), most, area, rng)
        else:
            pixels, covered = erase_patches(pixels, most, area, rng)
    return pixels, covered


def paste_cutouts(
    pixels: np.ndarray, cutout: Cutout, most: int, area: tuple[float, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paste 1 to `most` copies of an object, of different sizes and at random places; otherwise as `erase_patches`."""
    pixels = pixels.copy()
    covered = np.zeros(pixels.shape[:2], dtype=bool)
    height, width = pixels.shape[:2]
    solid = cutout.solid
    for _ in range(int(rng.integers(1, max(1, most) + 1))):
        # by the area of the object's own pixels, not of its box
        scale = math.sqrt(rng.uniform(*area) * height * width / max(1, int(solid.sum())))
        scale = min(scale, 2 * max(height, width) / max(solid.shape))  # thin objects have long boxes
        size = (max(1, round(solid.shape[1] * scale)), max(1, round(solid.shape[0] * scale)))
        content = np.asarray(Image.fromarray(cutout.image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
        # hard edges: each pixel is covered or not, which is what the queries need to know
        inside = np.asarray(Image.fromarray(solid).resize(size, Image.Resampling.NEAREST))
        if rng.random() < 0.5:
            content, inside = content[:, ::-1], inside[:, ::-1]
        centre = int(rng.integers(0, height)), int(rng.integers(0, width))
        place = Placement.centred(inside.shape, centre, covered.shape)
        np.copyto(pixels[place.target], content[place.source], where=inside[place.source][..., None])
        covered[place.target] |= inside[place.source]
    return pixels, covered


def _change_colours(pixels: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    # always the same eight numbers, as in `draw_geometry`
    bright, contrast, saturation, gamma, grey = rng.random(5)
    gains = 1.0 + augmentation.colour_jitter * (2.0 * rng.random(3) - 1.0)
    gains = gains * (1.0 + augmentation.brightness * (2.0 * bright - 1.0))
    slope = 1.0 + augmentation.contrast * (2.0 * contrast - 1.0)
    # log-uniform between 1 / (1 + gamma) and 1 + gamma
    exponent = (1.0 + augmentation.gamma) ** (2.0 * gamma - 1.0)
    colour = 1.0 + augmentation.saturation * (2.0 * saturation - 1.0)
    colour = 0.0 if grey < augmentation.grey else colour
    if colour != 1.0:
        # between the grey image (weights of ITU-R 601-2) and this one; beyond 1, past the image, away from grey
        grey_of = np.broadcast_to([0.299, 0.587, 0.114], (3, 3))
        pixels = cv2.transform(pixels, (colour * np.eye(3) + (1.0 - colour) * grey_of).astype(np.float32))
    if exponent == 1.0 and slope == 1.0 and np.all(gains == 1.0):
        return pixels
    # Contrast turns about the crop's own mean (thinned: a few hundred pixels are enough), as PIL's ImageEnhance does.
    mean = float(pixels[::8, ::8].mean()) / 255.0
    ramp = (np.arange(256) / 255.0) ** exponent
    ramp = (ramp[None] - mean) * slope + mean
    # gamma, contrast, gains and rounding in one table of 256 entries for each channel: one pass over the pixels
    table = np.clip(ramp * gains[:, None] * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
    return _look_up(pixels, table)


def bend_tones(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Map the tones of each colour channel of uint8 [H, W, 3] by a random curve, anywhere between none and all of it.

    A curve is linear between five random values. Those of the three channels have at least half in common, so that
    shapes keep their edges and shading while colours and markings lose their meaning.
    """
    common, own = rng.random(5), rng.random((3, 5))
    share, strength = 0.5 * rng.random(), rng.random()
    tones = np.arange(256) / 255.0
    curves = [np.interp(tones, np.linspace(0.0, 1.0, 5), knots) for knots in (1.0 - share) * common + share * own]
    table = ((1.0 - strength) * tones + strength * np.stack(curves)) * 255.0 + 0.5
    return _look_up(pixels, table.astype(np.uint8))


def _look_up(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Map each channel of uint8 [H, W, 3] by its row of a table, uint8 [3, 256]."""
    return cv2.LUT(pixels, np.ascontiguousarray(table.T)[None])


@cache
def _normal_quantiles() -> np.ndarray:
    """65,536 numbers, the middles of parts of the normal distribution that are equally likely, float32."""
    from scipy.special import ndtri

    return ndtri((np.arange(2**16) + 0.5) / 2**16).astype(np.float32)


def _add_noise(pixels: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    # Pixels are whole numbers, so that the noise may be rounded before it is added. Looked up by 16 random bits it
    # costs a quarter of drawing normal numbers.
    noise = np.rint(deviation * _normal_quantiles()).astype(np.int16)
    drawn = np.frombuffer(rng.bytes(2 * pixels.size), dtype="<u2")
    return cv2.add(pixels, np.take(noise, drawn).reshape(pixels.shape), dtype=cv2.CV_8U)


def erase_patches(
    pixels: np.ndarray, most: int, area: tuple[float, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cover 1 to `most` random rectangles or ellipses with noise, one colour, or another part of the crop.

    Args:
        pixels: uint8 [H, W, 3].
        most: largest number of patches.
        area: least and most area of one patch, as a fraction of the crop's.
        rng: the source of all randomness.

    Returns:
        The pixels, and which of them are covered, bool [H, W].
    """
    pixels = pixels.copy()
    covered = np.zeros(pixels.shape[:2], dtype=bool)
    height, width = pixels.shape[:2]
    for _ in range(int(rng.integers(1, max(1, most) + 1))):
        # sides at most 2.5 to 1
        share, aspect = rng.uniform(*area), math.exp(rng.uniform(-0.9, 0.9))
        h = min(height, max(1, round(math.sqrt(share * height * width * aspect))))
        w = min(width, max(1, round(math.sqrt(share * height * width / aspect))))
        top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        content = _patch_content(pixels, h, w, rng)
        target = pixels[top : top + h, left : left + w]
        if rng.random() < 0.5:
            target[...] = content
            covered[top : top + h, left : left + w] = True
        else:
            y, x = np.ogrid[0:h, 0:w]
            inside = ((x + 0.5) / w - 0.5) ** 2 + ((y + 0.5) / h - 0.5) ** 2 <= 0.25
            np.copyto(target, content, where=inside[..., None])
            covered[top : top + h, left : left + w] |= inside
    return pixels, covered


def _patch_content(pixels: np.ndarray, h: int, w: int, rng: np.random.Generator) -> np.ndarray:
    kind = rng.integers(0, 3)
    if kind == 0:
        return rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    if kind == 1:
        # a read-only array over three numbers; it is only read
        return np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (h, w, 3))
    top = int(rng.integers(0, pixels.shape[0] - h + 1))
    left = int(rng.integers(0, pixels.shape[1] - w + 1))
    # a copy: the target may overlap it
    return pixels[top : top + h, left : left + w].copy()
