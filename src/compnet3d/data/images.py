"""Turning whatever a user has (files, PIL images, arrays) into RGB images of 8 bits."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.utils.files import is_file, open_regular

# what images are called, in lower case
IMAGE_FILES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")

_MAX_PIXELS = 200_000_000  # the largest cameras have 150 megapixels

# images may be read by several threads, and the limit that is lifted below is the whole process's
_open_lock = threading.Lock()


def images_in(folder: str | Path) -> tuple[Path, ...]:
    """The images of a folder and of those in it, in the order of their names; hidden ones are left out."""
    folder = Path(folder)
    inside = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_FILES)
    # hidden are .thumbnails, and the ._ files that macOS leaves
    shown = (path for path in inside if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return tuple(sorted(path for path in shown if is_file(path)))


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


def load_image(path: Path | str, *, size: tuple[int, int] | None = None) -> Image.Image:
    """Read an image file as an upright RGB image of 8 bits per channel.

    JPEG, PNG, WebP, TIFF, BMP and GIF (its first frame) are read. The EXIF orientation is applied; grey, CMYK, palette,
    16-bit and float images are converted (16 bits are scaled, not clipped); transparent pixels show neutral grey.
    At most 8 bytes of memory are held per pixel, besides the decoder's (6 for progressive JPEG, 12 for WebP).

    Args:
        path: the file.
        size: the (width, height) that an annotation states. Where the stored raster has exactly that size and the
            upright image has not, the annotation was made on the raster, which is then returned without turning it.

    Raises:
        CompNetError: naming the file, if it is missing, no image, cut short, or larger than 200 megapixels.
    """
    with _explained(path), _open_file(path) as file:
        return _upright(*_decode(file, path, as_rgb), size=size)


def image_size(path: Path | str) -> tuple[int, int]:
    """The (width, height) of the upright image that `load_image` would read, from the file's header alone.

    Raises:
        CompNetError: naming the file, if it is missing, no image, or larger than 200 megapixels.
    """
    with _explained(path), _open_file(path) as file, _open_unchecked(file) as image:
        _check_size(path, image, _MAX_PIXELS)
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF's Orientation: by a quarter
        return (image.height, image.width) if turned else (image.width, image.height)


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
        if not _is_clear(image):
            raise CompNetError(f"{path} has no transparency; cut the object out and save it as PNG or WebP with alpha.")
        return image.convert("RGBA")

    with _explained(path), _open_file(path) as file:
        image = _upright(*_decode(file, path, as_rgba), size=None)
        pixels = np.empty((image.height, image.width, 4), dtype=np.uint8)
        for top, strip in _strips(image):
            pixels[top : top + strip.height] = np.asarray(strip)
        return pixels


@contextmanager
def _explained(path: Path | str) -> Iterator[None]:
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
        raise CompNetError(
            f"{path} is not an image that can be read; replace it or remove it from its list."
        ) from error
    except Exception as error:
        # Pillow's decoders raise anything on damaged files, errors of their own programming among them.
        reason = str(error) or type(error).__name__
        raise CompNetError(f"{path} is damaged ({reason}); replace it or remove it from its list.") from error


def _open_file(path: Path | str) -> BinaryIO:
    return open_regular(path, limit=2 * 2**30)


def _decode(
    file: BinaryIO, path: Path | str, convert: Callable[[Image.Image], Image.Image], max_pixels: int | None = None
) -> tuple[Image.Image, object]:
    """What `convert` makes of the decoded image, which is dropped, and how the camera was held (1 if nothing says)."""
    with _open_unchecked(file) as image:
        # the header alone has been read by now: the pixels of a decompression bomb are never made
        _check_size(path, image, _MAX_PIXELS if max_pixels is None else max_pixels)
        if image.format in ("JPEG", "MPO"):
            _check_scans(path, file)
        image.load()
        return convert(image), image.getexif().get(0x0112, 1)  # EXIF's Orientation


def _check_size(path: Path | str, image: Image.Image, max_pixels: int) -> None:
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


def _check_scans(path: Path | str, file: BinaryIO) -> None:
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


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The image in pieces, each with its first row, so that what is made on the way takes little memory."""
    rows = max(1, 2**18 // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _strip_by_strip(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The image in RGB, as `convert` makes it of each strip."""
    converted = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        converted.paste(convert(strip), (0, top))
    return converted


def _upright(image: Image.Image, orientation: object, size: tuple[int, int] | None) -> Image.Image:
    operations = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    # damaged files have anything there
    operation = operations.get(orientation) if isinstance(orientation, int) else None
    if operation is None:
        return image
    turned = image.transpose(operation)
    return image if size is not None and image.size == size != turned.size else turned


def read_rgb(image: Path | str | Image.Image | np.ndarray | Tensor) -> Image.Image:
    """Any image, in a file (`load_image`) or in memory (`as_rgb`), as a PIL image in RGB.

    Raises:
        CompNetError: as these.
    """
    return load_image(image) if isinstance(image, str | Path) else as_rgb(image)


def image_tensor(image: np.ndarray) -> Tensor:
    """An image uint8 [H, W, 3] as networks take it, [3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def as_rgb(image: Image.Image | np.ndarray | Any) -> Image.Image:
    """Any image in memory as a PIL image in RGB.

    Args:
        image: a PIL image of any mode, or an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (alpha last) of uint8,
            uint16 (0..65535), bool, or floats in 0..1; or a tensor [3, H, W] of these, channels first. The EXIF
            orientation of a PIL image is left alone.

    Raises:
        CompNetError: if the shape, the type or the range is none of these.
    """
    if isinstance(image, Tensor):
        if image.ndim != 3 or len(image) not in (1, 3):
            raise CompNetError(f"An image tensor must be 3 x H x W, not {'x'.join(map(str, image.shape))}.")
        # numpy has no bfloat16
        pixels = image.detach().cpu()
        image = (pixels.float() if pixels.is_floating_point() else pixels).permute(1, 2, 0).numpy()
    if isinstance(image, np.ndarray):
        return as_rgb(_array_to_pil(image))
    if not isinstance(image, Image.Image):
        raise CompNetError(
            f"An image must be a file name, a PIL image, a numpy array or a tensor, not {type(image).__name__}."
        )
    if image.mode == "RGB":
        return image
    # Pillow would clip these to 255 instead of scaling them
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_to_rgb(image)
    if _is_clear(image):
        return _strip_by_strip(image, _over_neutral)
    return image.convert("RGB")


def _is_clear(image: Image.Image) -> bool:
    """Whether some of its pixels may be transparent."""
    # "a" is premultiplied alpha; palette images and some RGB ones keep theirs in `info`
    return "A" in image.mode or "a" in image.mode or "transparency" in image.info


def _over_neutral(image: Image.Image) -> Image.Image:
    """An image with transparency in RGB: grey shows through it."""
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, (128, 128, 128, 255)), layer).convert("RGB")


def _deep_to_rgb(image: Image.Image) -> Image.Image:
    """One channel of more than 8 bits: 16-bit integers over their full range, others over the range they use."""
    kind = np.asarray(image.crop((0, 0, 1, 1))).dtype
    if kind == np.uint16:
        full = 65535.0
    else:
        highest = max(float(_finite(strip).max(initial=0.0)) for _, strip in _strips(image))
        ranges = (1.0, 255.0, 65535.0) if np.issubdtype(kind, np.floating) else (255.0, 65535.0)
        # 32-bit integers, which some 16-bit files are opened as, do not tell their range; the values have to
        full = next((limit for limit in ranges if highest <= limit), highest)

    def to_rgb(strip: Image.Image) -> Image.Image:
        levels = np.clip(np.rint(_finite(strip) * (255.0 / full)), 0, 255).astype(np.uint8)
        return Image.fromarray(levels).convert("RGB")

    return _strip_by_strip(image, to_rgb)


def _finite(image: Image.Image) -> np.ndarray:
    """The numbers of an image of one channel, float64 [H, W]; what is not finite is 0."""
    with np.errstate(invalid="ignore"):  # a NaN of any kind is one
        return np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _array_to_pil(array: np.ndarray) -> Image.Image:
    shape = "x".join(map(str, array.shape))
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        hint = " (channels come last: transpose it)" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise CompNetError(f"An image array must be H x W, H x W x 3 or H x W x 4, not {shape}{hint}.")
    if array.size == 0:
        raise CompNetError(f"An image array must not be empty, but its shape is {shape}.")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        # 257 = 65535 / 255; 32 bits, or the sum would overflow
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0.0 or array.max() > 1.0:
            raise CompNetError("A floating-point image must hold values in 0..1; scale it, or use uint8 for 0..255.")
        array = np.rint(array * 255.0).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise CompNetError(f"An image array must be uint8, uint16 or floats in 0..1, not {array.dtype}; convert it.")
    return Image.fromarray(np.ascontiguousarray(array))


def load_mask(path: Path | str, *, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a segmentation mask as bool [H, W]: True where the file is not black.

    Args:
        path: an image file of one channel.
        size: the (width, height) of its image; a mask of another size is scaled to it.

    Raises:
        CompNetError: as `load_image`.
    """
    # masks may be palette images or in colour
    image = ImageOps.grayscale(load_image(path))
    if size is not None and image.size != size:
        # nearest: mixed values would count as object, and the mask would grow
        image = image.resize(size, Image.Resampling.NEAREST)
    return np.asarray(image) > 0


def hidden_shares(occluders: np.ndarray, object_mask: np.ndarray) -> tuple[float, float]:
    """Shares of the object's and of all other pixels that bool [H, W] `occluders` hide; 0 where there are none."""
    if occluders.shape != object_mask.shape:
        raise ValueError(f"masks of shapes {occluders.shape} and {object_mask.shape} do not fit each other")
    on_object, on_background = (
        float(occluders[region].mean()) if region.any() else 0.0 for region in (object_mask, ~object_mask)
    )
    return on_object, on_background
