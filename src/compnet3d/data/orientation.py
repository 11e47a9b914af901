"""How the camera was held when it took an image (EXIF's Orientation), and sizes before and after the turn."""

from __future__ import annotations

from PIL import Image, TiffImagePlugin

QUARTERS = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What turns an image upright that is as it is stored; None for nothing. Asked before a TIFF is decoded."""
    operations = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    orientation = image.getexif().get(0x0112, 1)
    # damaged files have anything there
    return operations.get(orientation) if isinstance(orientation, int) else None


def undone(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    """An image before it was turned so."""
    if turn is None:
        return image
    quarters = {
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    }
    # a half turn and mirror images are their own opposites
    return image.transpose(quarters.get(turn, turn))


def stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of the raster in the file; of a TIFF, Pillow may say that of the upright image."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    return image.size


def means_stored(stored: tuple[int, int], upright: tuple[int, int], annotated: tuple[int, int]) -> bool:
    """Whether an annotated size is that of the stored raster or of a resized copy, and not of the upright image."""
    return are_alike(stored, annotated) and not are_alike(upright, annotated)


def are_alike(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one size is that of a resized copy of the other, which has whole pixels."""
    across, down = other[0] / size[0], other[1] / size[1]
    return abs(across - down) <= 0.02 * max(across, down) + 2.0 * max(across / size[0], down / size[1])
