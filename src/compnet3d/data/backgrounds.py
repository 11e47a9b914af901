"""Other backgrounds behind objects: what is put there, and how the object is set into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from compnet3d.data.backdrops import flat_backdrop
from compnet3d.data.dead_leaves import scatter_dead_leaves
from compnet3d.data.images import IMAGE_FILES, images_in
from compnet3d.errors import CompNetError


def find_photographs(folder: str | Path) -> tuple[Path, ...]:
    """The images of a folder and of those in it, in the order of their names.

    Raises:
        CompNetError: if there is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CompNetError(f"{folder} is not a folder; give one that holds photographs to serve as backgrounds")
    found = images_in(folder)
    if not found:
        raise CompNetError(f"{folder} holds no photograph ({', '.join(IMAGE_FILES)}); put some there as backgrounds")
    return found


def set_before(pixels: np.ndarray, alpha: np.ndarray, background: np.ndarray) -> np.ndarray:
    """An object before another background: uint8 [H, W, 3].

    Args:
        pixels: with the object, uint8 [H, W, 3]; alpha: how much of each pixel is the object, uint8 [H, W];
        background: uint8 [H, W, 3].
    """
    object_, scene = Image.fromarray(pixels), Image.fromarray(background)
    return np.asarray(Image.composite(object_, scene, Image.fromarray(alpha)))


def swap_background(
    pixels: np.ndarray, alpha: np.ndarray, background: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """`set_before` as training does it: the edge more or less soft, the colours at the outline matched now and then.

    The outline itself moves by up to a pixel, so that no rim of the old background tells where the object is.
    """
    # always four numbers
    inwards, softness, match, strength = rng.random(4).tolist()
    edge = Image.fromarray(alpha)
    if inwards < 0.5:
        edge = edge.filter(ImageFilter.MinFilter(3))
    edge = edge.filter(ImageFilter.GaussianBlur(1.2 * softness))
    if match < 0.3:
        background = _matched(pixels, np.asarray(edge), background, strength)
    return set_before(pixels, np.asarray(edge), background)


def window_of(image: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A random part of an image, mirrored or not, as uint8 [H, W, 3] of `size` (width, height).

    The part has the proportions of `size` and 40 to 100 % of the largest extent that fits; small images are enlarged.
    """
    share, right, down, flip = rng.random(4).tolist()
    largest = min(image.width / size[0], image.height / size[1])
    width, height = ((0.4 + 0.6 * share) * largest * extent for extent in size)
    left, top = right * (image.width - width), down * (image.height - height)
    box = (left, top, left + width, top + height)
    part = image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    pixels = np.asarray(part)
    return np.ascontiguousarray(pixels[:, ::-1]) if flip < 0.5 else pixels


def beside(image: Image.Image, bbox: tuple[float, float, float, float], least: int = 32) -> Image.Image | None:
    """The largest of the four strips of an image beside a box (x1, y1, x2, y2); None if it is narrower than `least`."""
    width, height = image.size
    left, top, right, bottom = (round(x) for x in bbox)
    strips = [(0, 0, left, height), (right, 0, width, height), (0, 0, width, top), (0, bottom, width, height)]
    sides = [(max(0, min(c, width) - max(0, a)), max(0, min(d, height) - max(0, b))) for a, b, c, d in strips]
    best = max(range(4), key=lambda i: min(sides[i]))
    if min(sides[best]) < least:
        return None
    a, b, c, d = strips[best]
    return image.crop((max(0, a), max(0, b), min(c, width), min(d, height)))


def drawn_background(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A drawn backdrop, or dead leaves all over one: uint8 [H, W, 3] of `size` (width, height)."""
    backdrop = flat_backdrop(rng, max(size))[: size[1], : size[0]]
    pixels = np.clip(backdrop * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
    return scatter_dead_leaves(pixels, (0.5, 1.0), rng)[0] if rng.random() < 0.5 else pixels


def _matched(pixels: np.ndarray, alpha: np.ndarray, background: np.ndarray, strength: float) -> np.ndarray:
    """The background with its colours moved towards those of the object where the two meet."""
    width = 9  # pixels
    layer = Image.fromarray(alpha)
    inner = (alpha >= 128) & (np.asarray(layer.filter(ImageFilter.MinFilter(width))) < 128)
    outer = (alpha < 128) & (np.asarray(layer.filter(ImageFilter.MaxFilter(width))) >= 128)
    if not inner.any() or not outer.any():
        return background
    gap = pixels[inner].mean(axis=0) - background[outer].mean(axis=0)
    return np.clip(background + strength * gap + 0.5, 0.0, 255.0).astype(np.uint8)
