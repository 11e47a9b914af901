"""Images of any mode, and arrays, in RGB of 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from compnet3d.errors import CompNetError


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The image in pieces, each with its first row, so that what is made on the way takes little memory."""
    rows = max(1, 2**18 // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _strip_by_strip(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The image in RGB, as `convert` makes it of each strip."""
    converted = Image.new("RGB", image.size)
    for top, strip in strips(image):
        converted.paste(convert(strip), (0, top))
    return converted


def is_deep(image: Image.Image) -> bool:
    """Whether an image has one channel of more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


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
        try:
            pixels = image.detach().cpu()
            # numpy has no bfloat16
            image = (pixels.float() if pixels.is_floating_point() else pixels).permute(1, 2, 0).numpy()
        except (TypeError, RuntimeError) as error:  # sparse, quantised, or on the device of no numbers
            raise CompNetError(f"An image tensor must be dense and of plain numbers; convert it ({error}).") from None
    if isinstance(image, np.ndarray):
        return as_rgb(_array_to_pil(image))
    if not isinstance(image, Image.Image):
        raise CompNetError(
            f"An image must be a file name, a PIL image, a numpy array or a tensor, not {type(image).__name__}."
        )
    if 0 in image.size:
        raise CompNetError(f"An image must not be empty, but its size is {image.width}x{image.height}.")
    try:
        image.load()
        if image.mode == "La":  # which Pillow converts to this alone
            image = image.convert("LA")
    except (OSError, SyntaxError, ValueError) as error:  # the rest of its file is damaged, or closed by now
        raise CompNetError(f"The image cannot be decoded ({error}); open a good copy of it again.") from None
    if image.mode == "RGB":
        return image
    # Pillow would clip these to 255 instead of scaling them
    if is_deep(image):
        return _deep_to_rgb(image)
    if is_clear(image):
        return _strip_by_strip(image, _over_neutral)
    return image.convert("RGB")


def is_clear(image: Image.Image) -> bool:
    """Whether some pixels of an image may be transparent."""
    # "a" is premultiplied alpha; palette images and some RGB ones keep theirs in `info`
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


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
        highest = max(float(finite(strip).max(initial=0.0)) for _, strip in strips(image))
        ranges = (1.0, 255.0, 65535.0) if np.issubdtype(kind, np.floating) else (255.0, 65535.0)
        # 32-bit integers, which some 16-bit files are opened as, do not tell their range; the values have to
        full = next((limit for limit in ranges if highest <= limit), highest)

    def to_rgb(strip: Image.Image) -> Image.Image:
        levels = np.clip(np.rint(finite(strip) * (255.0 / full)), 0, 255).astype(np.uint8)
        return Image.fromarray(levels).convert("RGB")

    return _strip_by_strip(image, to_rgb)


def finite(image: Image.Image) -> np.ndarray:
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
