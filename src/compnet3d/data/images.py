"""Turning whatever a user has (files, PIL images, arrays) into RGB images of 8 bits."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import torch
from PIL import Image, ImageChops, UnidentifiedImageError
from torch import Tensor

from compnet3d.data.conversion import as_rgb, finite, is_clear, is_deep, strips
from compnet3d.data.members import Member
from compnet3d.data.orientation import QUARTERS, are_alike, means_stored, stored_size, turn_of, undone
from compnet3d.errors import CompNetError
from compnet3d.utils.files import is_clutter, is_file, open_regular

# what images are called, in lower case
IMAGE_FILES = (".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")

# of those that are not read, the ones that people have
OTHER_IMAGES = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".svg", ".pdf", ".tga", ".pgm", ".ppm")

_MAX_PIXELS = 200_000_000  # the largest cameras have 150 megapixels

# images may be read by several threads, and the limit that is lifted below is the whole process's
_open_lock = threading.Lock()


def images_in(folder: str | Path) -> tuple[Path, ...]:
    """The images of a folder and of those in it, in the order of their names; what `is_clutter` knows is left out."""
    folder = Path(folder)
    inside = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_FILES)
    return tuple(sorted(path for path in inside if not is_clutter(path.relative_to(folder)) and is_file(path)))


def shrink(image: Image.Image, longest: int) -> Image.Image:
    """A copy of at most so many pixels a side."""
    copy = image.copy()
    copy.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return copy


def encode_preview(image: Image.Image, longest: int) -> bytes:
    """A JPEG file of at most so many pixels a side, to look at."""
    stream = io.BytesIO()
    shrink(image, longest).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def load_image(path: Path | str | Member, *, size: tuple[int, int] | None = None, reduction: int = 1) -> Image.Image:
    """Read an image file as an upright RGB image of 8 bits per channel.

    JPEG, PNG, WebP, TIFF, BMP and GIF (its first frame) are read. The EXIF orientation is applied, unless `size` says
    that the annotation was made without it. Grey, CMYK, palette, 16-bit and float images are converted (16 bits are
    scaled, not clipped); transparent pixels show neutral grey.
    At most 8 bytes of memory are held per pixel, besides the decoder's (6 for progressive JPEG, 12 for WebP).

    Args:
        path: the file, alone or in a shard.
        size: the (width, height) that an annotation states. Where the stored raster has that size, or is a resized copy
            of one that has, and the upright image is not, then the annotation was made on the raster, which is returned
            without turning it.
        reduction: 2, 4 or 8 for an image of half, a quarter or an eighth of `size`, which spares most of the decoding.
            Any file but a JPEG of just that size, whose sides can be divided so, comes whole.

    Raises:
        CompNetError: naming the file, if it is missing, no image, cut short, or larger than 200 megapixels.
    """
    with _explained(path), _open_file(path) as file:
        return _upright(*_decode(file, path, as_rgb, reduced=(size, reduction)), size=size)


def image_size(path: Path | str | Member) -> tuple[int, int]:
    """The (width, height) of the upright image that `load_image` would read, from the file's header alone.

    Raises:
        CompNetError: naming the file, if it is missing, no image, or larger than 200 megapixels.
    """
    with _explained(path), _open_file(path) as file, _open_unchecked(file) as image:
        _check_size(path, image, _MAX_PIXELS)
        stored = stored_size(image)
        return stored[::-1] if turn_of(image) in QUARTERS else stored


def load_stored(path: Path | str | Member) -> Image.Image:
    """`load_image` without turning anything: the raster as it is stored, whatever EXIF says."""
    with _explained(path), _open_file(path) as file:
        return _decode(file, path, as_rgb)[0]


def decode_image(data: bytes, name: str, *, max_pixels: int | None = None) -> Image.Image:
    """The image that a file's bytes hold, as `load_image` reads it.

    Args:
        data: all bytes of the file.
        name: what it is called in errors.
        max_pixels: a larger image is refused before its pixels are made; 200 megapixels if not given.

    Raises:
        CompNetError: with the name, if it is no image, cut short, or too large.
    """
    with _explained(name):
        return _upright(*_decode(io.BytesIO(data), name, as_rgb, max_pixels), size=None)


def load_rgba(path: Path | str) -> np.ndarray:
    """Read an image with transparency, uint8 [H, W, 4] with alpha last (0 clear, 255 opaque), upright.

    Raises:
        CompNetError: as `load_image`, or if the image has no transparency.
    """

    def as_rgba(image: Image.Image) -> Image.Image:
        if not is_clear(image):
            raise CompNetError(f"{path} has no transparency; cut the object out and save it as PNG or WebP with alpha.")
        return image.convert("RGBA")

    with _explained(path), _open_file(path) as file:
        image = _upright(*_decode(file, path, as_rgba), size=None)
        pixels = np.empty((image.height, image.width, 4), dtype=np.uint8)
        for top, strip in strips(image):
            pixels[top : top + strip.height] = np.asarray(strip)
        return pixels


@contextmanager
def _explained(path: Path | str | Member) -> Iterator[None]:
    """Whatever Pillow raises in here becomes a sentence that names the file."""
    try:
        yield
    except CompNetError:
        raise
    except FileNotFoundError as error:
        raise CompNetError(f"{path} does not exist; check the path or remove it from its list.") from error
    except IsADirectoryError as error:
        raise CompNetError(f"{path} is a folder, not an image; give the files in it.") from error
    except UnidentifiedImageError as error:
        # what telephones and browsers write
        advice = "convert it to JPEG" if str(path).lower().endswith(OTHER_IMAGES) else "replace it"
        raise CompNetError(f"{path} is not an image that can be read; {advice} or remove it from its list.") from error
    except Exception as error:
        # Pillow's decoders raise anything on damaged files, errors of their own programming among them.
        reason = str(error) or type(error).__name__
        raise CompNetError(f"{path} is damaged ({reason}); replace it or remove it from its list.") from error


def _open_file(path: Path | str | Member) -> BinaryIO:
    return io.BytesIO(path.read()) if isinstance(path, Member) else open_regular(path, limit=2 * 2**30)


def _decode(
    file: BinaryIO,
    path: Path | str | Member,
    convert: Callable[[Image.Image], Image.Image],
    max_pixels: int | None = None,
    reduced: tuple[tuple[int, int] | None, int] = (None, 1),
) -> tuple[Image.Image, Image.Transpose | None]:
    """What `convert` makes of the decoded image as it is stored, which is dropped, and what turns it upright."""
    with _open_unchecked(file) as image:
        _check_header(path, file, image, max_pixels)
        size, reduction = reduced
        # of other sides the last pixels would show less than the others, and annotations would be off by a part of one
        if size in (image.size, image.size[::-1]) and image.width % reduction == image.height % reduction == 0:
            image.draft(None, (image.width // reduction, image.height // reduction))
        turn = turn_of(image)
        image.load()
        decoded = convert(image)
        # Pillow turns a TIFF while decoding it, and takes the orientation out; here all formats are as they are stored
        return (decoded if turn_of(image) == turn else undone(decoded, turn)), turn


def _check_header(path: Path | str | Member, file: BinaryIO, image: Image.Image, max_pixels: int | None) -> None:
    """Refuse what would take too much memory or time. The header alone has been read by now."""
    _check_size(path, image, _MAX_PIXELS if max_pixels is None else max_pixels)
    if image.format in ("JPEG", "MPO"):
        _check_scans(path, file)


def _check_size(path: Path | str | Member, image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise CompNetError(
            f"{path} has {image.width} x {image.height} pixels, more than the limit of "
            f"{max_pixels / 10**6:g} megapixels; shrink it first."
        )


def _open_unchecked(file: BinaryIO) -> Image.Image:
    # What images of the real world are stored as. Pillow opens more, PostScript by starting another program. (MPO, of
    # cameras with two lenses, is a JPEG to it.)
    formats = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
    # Pillow refuses more than 179 megapixels through a global; ours is the limit that counts.
    with _open_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_scans(path: Path | str | Member, file: BinaryIO) -> None:
    """Refuse a JPEG that would be decoded for hours: every scan goes over the whole image, and a few bytes are one."""
    max_scans = 200  # progressive images have about 10
    position = file.tell()
    file.seek(0)
    scans = _count_scans(file.read())
    file.seek(position)
    if scans > max_scans:
        raise CompNetError(f"{path} has {scans} scans, more than the limit of {max_scans}; save it anew.")


def _count_scans(jpeg: bytes) -> int:
    """How often a JPEG goes over its image; what follows its end, such as a camera's film, does not count."""
    alone, start_of_scan, end = (0x01, 0xD8), 0xDA, 0xD9
    # not in the data of a scan, where 0 follows what looks like a marker, but for restarts (D0 to D7)
    marker = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
    position = scans = 0
    while (found := marker.search(jpeg, position)) and (kind := found[1][0]) != end:
        scans += kind == start_of_scan
        position = found.end()
        if kind not in alone:
            position += int.from_bytes(jpeg[position : position + 2], "big")
    return scans


def _upright(image: Image.Image, operation: Image.Transpose | None, size: tuple[int, int] | None) -> Image.Image:
    if operation is None:
        return image
    turned_size = image.size[::-1] if operation in QUARTERS else image.size
    return image if size is not None and means_stored(image.size, turned_size, size) else image.transpose(operation)


@dataclass(frozen=True)
class ImageFacts:
    """What a file says of its image.

    Attributes:
        size: (width, height) of what `load_image` gives for the annotated size.
        turned: whether EXIF's orientation says that the stored raster is not upright.
        settled: whether the annotated size tells which of the two was annotated; where nothing is turned it does.
    """

    size: tuple[int, int]
    turned: bool
    settled: bool


def image_facts(path: Path | str | Member, annotated: tuple[int, int]) -> ImageFacts:
    """What a file says of its image. All of the file is gone through, so that a damaged one is found.

    Args:
        path: the file; annotated: the (width, height) that its annotation states.

    Raises:
        CompNetError: as `load_image`.
    """
    with _explained(path), _open_file(path) as file, _open_unchecked(file) as image:
        whole = stored_size(image)
        _check_header(path, file, image, None)
        image.draft(
            "L", (max(1, whole[0] // 8), max(1, whole[1] // 8))
        )  # all of a JPEG, but few of its pixels are made
        operation = turn_of(image)
        image.load()
    upright = whole[::-1] if operation in QUARTERS else whole
    stored = operation is not None and means_stored(whole, upright, annotated)
    settled = operation is None or are_alike(whole, annotated) != are_alike(upright, annotated)
    return ImageFacts(whole if stored else upright, operation is not None, settled)


def read_rgb(image: Path | str | Image.Image | np.ndarray | Tensor) -> Image.Image:
    """Any image, in a file (`load_image`) or in memory (`as_rgb`), as a PIL image in RGB.

    Raises:
        CompNetError: as these.
    """
    return load_image(image) if isinstance(image, str | Path) else as_rgb(image)


def image_tensor(image: np.ndarray) -> Tensor:
    """An image uint8 [H, W, 3] as networks take it, [3, H, W]."""
    return torch.from_numpy(np.stack(cv2.split(image)))


def load_mask(path: Path | str | Member, *, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a segmentation mask as bool [H, W]: True where the object is.

    That is where the file is opaque, if some of it is clear and some opaque; else where it is not black: grey or in
    colour, with a palette, of 1, 8, 16 or 32 bits, so that any label but 0 counts. JPEG and lossy WebP hold no exact
    black, and soft edges and probabilities are no labels: what is brighter than half of the brightest pixel counts.

    Args:
        path: an image file, upright or stored as its image is.
        size: the (width, height) of its image; a mask of another size and the same proportions is scaled to it.

    Raises:
        CompNetError: as `load_image`, or if the proportions differ.
    """
    with _explained(path), _open_file(path) as file:
        lossy = _is_lossy(file)
        mask = _upright(*_decode(file, path, lambda image: _as_mask(image, lossy)), size=size)
    if size is not None and mask.size != size:
        _check_proportions(path, mask.size, size)
        # nearest: mixed values would count as object, and the mask would grow
        mask = mask.resize(size, Image.Resampling.NEAREST)
    return np.asarray(mask) > 0


def _is_lossy(file: BinaryIO) -> bool:
    """Whether a file is JPEG or lossy WebP, which keep no exact values."""
    head = file.read(2**16)
    file.seek(0)
    return head.startswith(b"\xff\xd8") or (head[8:12] == b"WEBP" and b"VP8 " in head)


def _is_soft(image: Image.Image) -> bool:
    """Whether a mask's levels are shares of an object, not labels: many greys up to white, or parts of 1."""
    if image.mode == "F":
        levels = finite(image)
        return bool((levels != np.rint(levels)).any())
    if is_deep(image) or image.mode in ("1", "P"):
        return False
    red, *others = (image if image.mode == "L" else image.convert("RGB")).split()
    if any(ImageChops.difference(red, other).getbbox() for other in others):  # segments in colours
        return False
    # labels count up from 1, and few are in one image
    most_labels, light = 16, 200
    counts = np.array(red.histogram())
    return bool(np.count_nonzero(counts) > most_labels and counts[light:].any())


def _as_mask(image: Image.Image, lossy: bool) -> Image.Image:
    """White where the object is, black elsewhere, in L; of a lossy file no level is exact."""
    solid = 128  # of alpha: at least half opaque
    if not is_deep(image) and is_clear(image):
        layer = image.convert("RGBA")
        alpha = layer.getchannel("A")
        opaque = alpha.point([255 * (level >= solid) for level in range(256)])
        if opaque.getextrema() == (0, 255):
            return opaque
        image = layer.convert("RGB")  # all of it is equally opaque, which says nothing
    if image.mode == "P" and len(set(image.getextrema())) > 1 and image.convert("RGB").getcolors(1) is not None:
        image = Image.fromarray(np.asarray(image))  # a palette of one colour: the labels are its numbers
    mask = Image.new("L", image.size)
    soft = lossy or _is_soft(image)
    darkest = max(_brightest(strip).max() for _, strip in strips(image)) / 2 if soft else 0.0
    for top, strip in strips(image):
        mask.paste(Image.fromarray(_brightest(strip) > darkest).convert("L"), (0, top))
    return mask


def _brightest(image: Image.Image) -> np.ndarray:
    """The largest channel of each pixel, [H, W]; what is not finite is 0."""
    if is_deep(image):
        return np.abs(finite(image))
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    # channel by channel: numpy takes many times as long over an axis of three
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    return np.maximum(np.maximum(red, green), blue)


def _check_proportions(path: Path | str | Member, mask: tuple[int, int], image: tuple[int, int]) -> None:
    """Refuse a mask that is not a resized copy of its image's: stretched, it would lie beside the object."""
    if not are_alike(mask, image):
        turned = "; turned as the image is, it would fit" if image == mask[::-1] else ""
        raise CompNetError(
            f"{path} is {mask[0]} x {mask[1]} pixels, but its image is {image[0]} x {image[1]}{turned}; "
            "save the mask of the whole image, upright as the image is."
        )


def hidden_shares(occluders: np.ndarray, object_mask: np.ndarray) -> tuple[float, float]:
    """Shares of the object's and of all other pixels that bool [H, W] `occluders` hide; 0 where there are none."""
    if occluders.shape != object_mask.shape:
        raise ValueError(f"masks of shapes {occluders.shape} and {object_mask.shape} do not fit each other")
    on_object, on_background = (
        float(occluders[region].mean()) if region.any() else 0.0 for region in (object_mask, ~object_mask)
    )
    return on_object, on_background
