"""Crops: the network's input cut out of an image by one similarity transform, with the pose kept true.

A crop is made by scaling by s, mirroring, turning by t and shifting the image in one resampling. For a pinhole
camera each of these has an exact effect on the annotation: the focal length is multiplied by s, the principal point
moves with the pixels, turning the image counter-clockwise adds t to theta, and mirroring maps A to 2 pi - A and T to
-T. The network's camera has one constant focal length F, so a focal length of s f at distance d is given as the
distance d' = F d / (s f), which looks the same up to perspective (exactly so where the two focal lengths agree).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import numpy as np
from PIL import Image
from torch import Tensor

from compnet3d.data.annotations import in_shares
from compnet3d.data.augment import NO_SOURCES, Augmentation, CropSources, GeometricDraw, augment_pixels
from compnet3d.data.images import load_mask
from compnet3d.data.sample import Sample
from compnet3d.data.warp import Border, invert_affine, longest_side, rotation_matrix, transform_points, warp_image
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera
from compnet3d.geometry.rotations import TWO_PI
from compnet3d.utils.settings import check_ranges, setting

CropMode = Literal["oracle", "box"]


@dataclass(frozen=True)
class InputConfig:
    """The network's input and its canonical camera.

    Attributes:
        height, width: of the input, in pixels.
        focal: of the canonical camera, in pixels; its principal point is the centre.
        distance: of the object from that camera after the oracle crop, in CAD units.
        box_fill: longest side of the bounding box over min(height, width) after the oracle crop, on average over the
            training samples; a box crop scales each object to it.
        fill: RGB colour of what lies outside the image.
        border: "constant" shows `fill` out there; "reflect" continues the image mirrored, so that straight dark
            edges do not show the network how far it was turned.
    """

    height: int = setting(most=4096)
    width: int = setting(most=4096)
    focal: float = setting(most=1e9)
    distance: float = setting(most=1e9)
    box_fill: float = setting(most=100)
    fill: tuple[int, int, int] = setting((0, 0, 0), least=0, most=255)
    border: Border = "constant"

    def __post_init__(self) -> None:
        check_ranges(self, "InputConfig.")
        for name in ("height", "width", "focal", "distance", "box_fill"):
            value = getattr(self, name)
            if not math.isfinite(value) or value <= 0:
                raise ValueError(f"InputConfig.{name} must be positive, not {value}")
        if len(self.fill) != 3 or not all(0 <= c <= 255 for c in self.fill):
            raise ValueError(f"InputConfig.fill must be three numbers in 0..255, not {self.fill}")
        if self.border not in ("constant", "reflect"):
            raise ValueError(f"InputConfig.border must be 'constant' or 'reflect', not {self.border!r}")
        # JSON gives a list, which could not be compared with a tuple
        object.__setattr__(self, "fill", tuple(int(c) for c in self.fill))

    def camera(self, principal_point: Tensor) -> Camera:
        """The canonical camera with other principal points [..., 2]."""
        focal = principal_point.new_tensor(self.focal).expand(principal_point.shape[:-1])
        return Camera(focal=focal, principal_point=principal_point, height=self.height, width=self.width)

    @classmethod
    def fitted(cls, samples: Sequence[Sample], height: int, width: int, fill: float = 0.7) -> InputConfig:
        """The input config whose oracle crop makes the objects as large as wanted.

        Args:
            samples: the training samples, at least one.
            height: of the input.
            width: of the input.
            fill: wanted mean of the bounding box's longest side over min(height, width).
        """
        if not samples:
            raise CompNetError("The input size cannot be fitted without training samples; check the lists.")
        # the median, as single annotations may have absurd distances
        distance = float(np.median([s.distance for s in samples]))
        # Longest side of each box for a camera of focal length 1 at distance 1.
        extent = float(np.mean([longest_side(s.bbox) * s.distance / s.focal for s in samples]))
        # an oracle crop at `distance` then shows a box of mean size `fill`
        focal = fill * min(height, width) * distance / extent
        return cls(height=height, width=width, focal=focal, distance=distance, box_fill=fill)

    @property
    def centre(self) -> tuple[float, float]:
        """The principal point of the canonical camera, (u, v)."""
        return self.width / 2, self.height / 2


@dataclass(frozen=True)
class Crop:
    """A network input with its annotation in the canonical camera.

    Attributes:
        image: uint8 [H, W, 3].
        azimuth, elevation, theta: radians; azimuth and theta in [0, 2 pi).
        distance: CAD units, for the focal length `focal`.
        principal_point: where the object's origin projects, in pixels of the crop.
        focal: of the canonical camera, in pixels.
        mirrored: whether the crop shows the image mirrored.
        rotation: how far the content was turned counter-clockwise, radians.
        scale: crop pixels per source pixel.
        matrix: float64 [2, 3], crop pixel (u, v, 1) to source pixel.
        source_size: (width, height) of the image in pixels of `matrix`.
        covered: pixels that the augmentation's erasing hides, bool [H, W].
    """

    image: np.ndarray
    azimuth: float
    elevation: float
    theta: float
    distance: float
    principal_point: tuple[float, float]
    focal: float
    mirrored: bool
    rotation: float
    scale: float
    matrix: np.ndarray
    source_size: tuple[int, int]
    covered: np.ndarray

    def valid(self) -> np.ndarray:
        """Which pixels of the crop show the image rather than the fill, bool [H, W]."""
        height, width = self.image.shape[:2]
        # pixel centres are at +0.5, here as everywhere
        v, u = np.mgrid[0:height, 0:width] + 0.5
        x, y = transform_points(self.matrix, np.stack([u, v], axis=-1)).transpose(2, 0, 1)
        return (x >= 0) & (x < self.source_size[0]) & (y >= 0) & (y < self.source_size[1])


def make_crop(
    image: Image.Image,
    sample: Sample,
    input_config: InputConfig,
    *,
    crop: CropMode,
    augmentation: Augmentation | None = None,
    rng: np.random.Generator | None = None,
    rotation: float = 0.0,
    sources: CropSources = NO_SOURCES,
) -> Crop:
    """Cut a crop of one object out of its image.

    `crop="oracle"` puts the true principal point at the centre and brings the object to `input_config.distance` (this
    uses ground truth: report it as such). `crop="box"` puts the bounding box's centre at the centre and scales its
    longest side to `input_config.box_fill`.

    Args:
        image: the image in RGB. If its size is not the annotated one, the annotation is scaled to it.
        sample: the object.
        input_config: the network's input.
        crop: see above.
        augmentation: random changes; none by default.
        rng: required with `augmentation`.
        rotation: turn the content counter-clockwise by this many radians, beside the augmentation's own.
        sources: of what the augmentation takes from outside the crop.

    Raises:
        CompNetError: if the image's proportions are not the annotated ones.
    """
    sample = match_image_size(sample, image.size)
    # the identity, where nothing is drawn
    draw, border = GeometricDraw(), input_config.border
    if augmentation is not None:
        if rng is None:
            raise ValueError("an augmentation needs a random generator")
        draw = augmentation.draw_geometry(rng)
        # drawn even where `reflect` is 0, so that switching it on changes no other draw
        border = "reflect" if rng.random() < augmentation.reflect else border
    forward, scale = crop_matrix(sample, input_config, crop, draw, rotation)
    matrix = invert_affine(forward)
    warp = partial(warp_image, matrix=matrix, size=(input_config.width, input_config.height), scale=scale)
    pixels = warp(image, fill=input_config.fill, border=border)
    covered = np.zeros(pixels.shape[:2], dtype=bool)
    if augmentation is not None and rng is not None:
        pixels, covered = augment_pixels(pixels, augmentation, rng, sources, warp)
    turn = draw.rotation + rotation
    # mirrored first, then turned, in the order of the matrix: A to 2 pi - A, T to - T + turn
    azimuth, theta = (-sample.azimuth, -sample.theta) if draw.mirror else (sample.azimuth, sample.theta)
    u, v = transform_points(forward, np.array(sample.principal_point))
    return Crop(
        image=pixels,
        azimuth=azimuth % TWO_PI,
        elevation=sample.elevation,
        theta=(theta + turn) % TWO_PI,
        # d' = F d / (s f), see above
        distance=input_config.focal * sample.distance / (sample.focal * scale),
        principal_point=(float(u), float(v)),
        focal=input_config.focal,
        mirrored=draw.mirror,
        rotation=turn,
        scale=scale,
        matrix=matrix,
        source_size=image.size,
        covered=covered,
    )


def crop_matrix(
    sample: Sample, input_config: InputConfig, crop: CropMode, draw: GeometricDraw, rotation: float = 0.0
) -> tuple[np.ndarray, float]:
    """The similarity from source pixels to crop pixels, float64 [2, 3], and its scale."""
    if crop == "oracle":
        anchor = np.array(sample.principal_point)
        # makes the scaled distance, F d / (s f), that of the canonical camera
        scale = (input_config.focal / input_config.distance) / (sample.focal / sample.distance)
    elif crop == "box":
        anchor, scale = _box_anchor(sample.bbox, input_config)
    else:
        raise CompNetError(f"Unknown crop {crop!r}; choose 'oracle' or 'box'.")
    scale *= draw.scale
    linear = scale * rotation_matrix(draw.rotation + rotation)
    if draw.mirror:
        # from the right: the mirror acts on the source, before the turn
        linear = linear @ np.diag([-1.0, 1.0])
    size = min(input_config.height, input_config.width)
    target = np.array(input_config.centre) + size * np.array(draw.shift)
    # the anchor lands on the target whatever the linear part does
    return np.concatenate([linear, (target - linear @ anchor)[:, None]], axis=1), scale


def reduction_of(sample: Sample, input_config: InputConfig, augmentation: Augmentation) -> int:
    """By how much a photograph may be reduced before its crops are cut (see `load_image`), a power of two up to 8.

    A crop of either mode takes a pixel of it or more for one of its own, however much the augmentation enlarges it.
    """
    largest = GeometricDraw(scale=augmentation.scale[1])
    scale = max(crop_matrix(sample, input_config, mode, largest)[1] for mode in get_args(CropMode))
    return next(reduction for reduction in (8, 4, 2, 1) if reduction == 1 or reduction * scale <= 1.0)


def _box_anchor(bbox: tuple[float, float, float, float], input_config: InputConfig) -> tuple[np.ndarray, float]:
    """Centre of a box, and the scale that brings its longest side to `input_config.box_fill`."""
    x1, y1, x2, y2 = bbox
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2]), input_config.box_fill * min(
        input_config.height, input_config.width
    ) / longest_side(bbox)


@dataclass(frozen=True)
class BoxCrop:
    """A network input cut from an image without annotation.

    Attributes:
        image: uint8 [H, W, 3].
        scale: crop pixels per image pixel.
        matrix: float64 [2, 3], crop pixel to image pixel.
        box: that was cut out, or the whole image, pixels of the image.
    """

    image: np.ndarray
    scale: float
    matrix: np.ndarray
    box: tuple[float, ...]


def crop_box(image: Image.Image, box: Sequence[float] | None, input_config: InputConfig) -> BoxCrop:
    """Cut out the object in a box as `crop="box"` does; without a box, fit the whole image into the input.

    Args:
        image: RGB.
        box: (x1, y1, x2, y2) in pixels, may reach beyond the image.
        input_config: the network's input.

    Raises:
        CompNetError: if the box is not four finite numbers, is empty, or lies outside the image.
    """
    if box is None:
        x1, y1, x2, y2 = 0.0, 0.0, float(image.width), float(image.height)
        anchor = np.array([x2 / 2, y2 / 2])
        scale = min(input_config.width / image.width, input_config.height / image.height)
    else:
        _check_box(box, image.size)
        x1, y1, x2, y2 = map(float, box)
        anchor, scale = _box_anchor((x1, y1, x2, y2), input_config)
    offset = anchor - np.array(input_config.centre) / scale
    matrix = np.array([[1 / scale, 0.0, offset[0]], [0.0, 1 / scale, offset[1]]])
    size = (input_config.width, input_config.height)
    pixels = warp_image(image, matrix, size, scale, input_config.fill, border=input_config.border)
    return BoxCrop(pixels, scale, matrix, (x1, y1, x2, y2))


def _check_box(box: Sequence[float], size: tuple[int, int]) -> None:
    """Refuse a box that shows nothing of an image of this (width, height), or next to nothing of it."""
    shortest, furthest = 2.0, 1e6  # pixels: of the longer side, and of its corners
    if len(box) != 4:
        raise CompNetError(f"the box {tuple(box)} does not have four numbers; give x1 y1 x2 y2 in pixels")
    try:
        finite = all(map(math.isfinite, box))
    except (TypeError, OverflowError):
        raise CompNetError(f"the box {str(tuple(box))[:80]} is not of numbers; give x1 y1 x2 y2 in pixels") from None
    if not finite or box[2] <= box[0] or box[3] <= box[1]:
        raise CompNetError(f"the box {tuple(box)} is empty; give x1 y1 x2 y2 in pixels with x1 < x2 and y1 < y2")
    shown, limits = " ".join(f"{x:g}" for x in box), f"the image of {size[0]} x {size[1]} pixels"
    if box[2] <= 0 or box[3] <= 0 or box[0] >= size[0] or box[1] >= size[1]:
        raise CompNetError(f"the box {shown} lies outside {limits}; give x1 y1 x2 y2 in pixels of it")
    # what a search finds in an image of one pixel is smaller than that
    if max(box[2] - box[0], box[3] - box[1]) < min(shortest, max(size) / 4):
        shares = "; it is in shares of the image" if in_shares(box) else ""
        raise CompNetError(
            f"the box {shown} is smaller than two pixels{shares}; give x1 y1 x2 y2 in pixels of {limits}"
        )
    if max(map(abs, box)) > furthest:
        raise CompNetError(f"the box {shown} does not fit {limits}; give x1 y1 x2 y2 in pixels of it")


def match_image_size(sample: Sample, size: tuple[int, int]) -> Sample:
    """The annotation for an image of another size (a resized copy of the annotated one).

    Raises:
        CompNetError: if the proportions differ by more than two pixels or 1 %.
    """
    if size == (sample.width, sample.height):
        return sample
    x, y = size[0] / sample.width, size[1] / sample.height
    # a resized copy has whole pixels, so that the two factors differ a little; one focal length can follow their mean
    # only
    scale = math.sqrt(x * y)
    tolerance = max(2.0, 0.01 * max(size))
    if abs(x / scale - 1.0) * size[0] > tolerance or abs(y / scale - 1.0) * size[1] > tolerance:
        raise CompNetError(
            f"{sample.image} is {size[0]} x {size[1]} pixels but its annotation says {sample.width} x "
            f"{sample.height}; restore the image that was annotated."
        )
    x1, y1, x2, y2 = sample.bbox
    return replace(
        sample,
        principal_point=(sample.principal_point[0] * x, sample.principal_point[1] * y),
        bbox=(x1 * x, y1 * y, x2 * x, y2 * y),
        focal=sample.focal * scale,
        width=size[0],
        height=size[1],
    )


@dataclass(frozen=True)
class SourcePose:
    """A pose in an image: angles in radians, distance for the image's focal length, principal point in pixels."""

    azimuth: float
    elevation: float
    theta: float
    distance: float
    principal_point: tuple[float, float]


def crop_to_source_pose(
    crop: Crop,
    *,
    azimuth: float,
    elevation: float,
    theta: float,
    distance: float,
    principal_point: tuple[float, float] | None = None,
    source_focal: float,
) -> SourcePose:
    """The pose in the image that looks like a given pose in the crop's canonical camera.

    Args:
        crop: where the pose was predicted.
        azimuth: of the predicted pose, radians.
        elevation: likewise.
        theta: likewise.
        distance: likewise, CAD units.
        principal_point: the predicted principal point in the crop; the crop's centre by default.
        source_focal: focal length of the image in pixels, to give the distance for. The image of the projected
            object does not depend on it, but for perspective; `crop.focal / crop.scale` keeps that too.
    """
    if principal_point is None:
        principal_point = (crop.image.shape[1] / 2, crop.image.shape[0] / 2)
    # undone in the opposite order: the turn, then the mirror
    theta -= crop.rotation
    if crop.mirrored:
        azimuth, theta = -azimuth, -theta
    u, v = transform_points(crop.matrix, np.array(principal_point))
    return SourcePose(
        azimuth=azimuth % TWO_PI,
        elevation=elevation,
        theta=theta % TWO_PI,
        distance=source_focal * crop.scale * distance / crop.focal,
        principal_point=(float(u), float(v)),
    )


def rotate_sample_image(
    image: Image.Image, sample: Sample, angle: float, *, border: Border = "reflect"
) -> tuple[Image.Image, Sample]:
    """A whole image turned about its centre, on a canvas that holds all of it, with the annotation turned too.

    The new bounding box is that of the turned mask where the sample has one, else that of the ellipse inscribed in the
    old box (the box of the turned corners would be far too large). The returned sample has no mask.

    Args:
        image: RGB, of the annotated size or a resized copy.
        sample: the object.
        angle: in degrees, counter-clockwise.
        border: what fills the corners of the canvas, see `InputConfig`; black if constant.
    """
    sample = match_image_size(sample, image.size)
    turn = rotation_matrix(math.radians(angle))
    extent = np.abs(turn) @ np.array(image.size, dtype=float)
    # turns by 90 degrees leave rounding errors, which must not add a row or column
    width, height = (max(1, math.ceil(x - 1e-9)) for x in extent)
    offset = np.array([width / 2, height / 2]) - turn @ np.array([image.width / 2, image.height / 2])
    forward = np.concatenate([turn, offset[:, None]], axis=1)
    backward = invert_affine(forward)
    turned = warp_image(image, backward, (width, height), 1.0, border=border)
    u, v = transform_points(forward, np.array(sample.principal_point))
    return Image.fromarray(turned), replace(
        sample,
        theta=(sample.theta + math.radians(angle)) % TWO_PI,
        principal_point=(float(u), float(v)),
        bbox=_turned_bbox(sample, image.size, forward, (width, height)),
        width=width,
        height=height,
        mask=None,
    )


def _turned_bbox(
    sample: Sample, source_size: tuple[int, int], forward: np.ndarray, size: tuple[int, int]
) -> tuple[float, float, float, float]:
    if sample.mask is not None:
        layer = Image.fromarray(load_mask(sample.mask, size=source_size).astype(np.uint8) * 255)
        mask = warp_image(layer, invert_affine(forward), size, 1.0, resample=Image.Resampling.NEAREST)
        # a mask may be empty; then the box serves as if there were none
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
    x1, y1, x2, y2 = sample.bbox
    u, v = transform_points(forward, np.array([(x1 + x2) / 2, (y1 + y2) / 2]))
    # half the extents of the image of an ellipse with half axes a and b under M: along each axis i, the length of the
    # row (M_i1 a, M_i2 b)
    half = np.hypot(*(forward[:, :2] * np.array([(x2 - x1) / 2, (y2 - y1) / 2])).T)
    return float(u - half[0]), float(v - half[1]), float(u + half[0]), float(v + half[1])
