"""One annotation file of the ImageNet3D raw layout: reading, checking and writing its objects."""

from __future__ import annotations

import io
import math
import os
import pickle
import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compnet3d.data.members import Member
from compnet3d.data.sample import Sample, parse_instance
from compnet3d.data.unpickle import MissingKey, load_npz_objects
from compnet3d.errors import CompNetError
from compnet3d.geometry.rotations import TWO_PI
from compnet3d.utils.files import Json

# one object as the files hold it
Annotation = Json
ANGLES = ("azimuth", "elevation", "theta")
# reasons to leave an object out that tell of a mistake with all of them
DEGREES = "an angle is beyond 2 pi: degrees in the place of radians?"
SHARES = "the box is in 0..1: shares of the image in the place of pixels?"
EMPTY_BOX = "empty bbox"


class OtherLayoutError(CompNetError):
    """A file of another layout of annotations; the message says of which."""


class SkipObject(Exception):
    """An object that the reader leaves out; the message is the reason."""


def read_annotation(path: Path | str) -> list[Annotation]:
    """The objects in one annotation file, as plain dicts; safe against hostile pickles.

    Raises:
        CompNetError: naming the file, if it is missing, broken, or holds anything but plain data.
        OtherLayoutError: if it has another layout that is known.
    """
    try:
        objects = load_npz_objects(path, "annotations")
    except MissingKey as error:
        if {"azimuth", "elevation", "distance"} <= error.keys:
            raise OtherLayoutError("annotation is of the processed layout: see `data import`") from None
        if {"occluder_mask", "mask"} <= error.keys:
            raise OtherLayoutError("annotation is of Occluded-PASCAL3D+: see `data import`") from None
        raise
    # a file of one object may hold it without the list around it
    if isinstance(objects, dict):
        objects = [objects]
    if not isinstance(objects, list) or not all(isinstance(entry, dict) for entry in objects):
        raise CompNetError(f"{path} must hold a list of dicts, one per object, under the key 'annotations'.")
    return objects


def parse_object(
    entry: Annotation,
    *,
    image: Path | Member,
    category: str,
    name: str,
    mask: Path | Member | None = None,
    object_index: int = 0,
) -> Sample:
    """One annotation dict as a `Sample`.

    Numbers that are in another unit are refused: angles beyond 2 pi, which are degrees, and boxes in 0..1, which are
    shares of the image. So are those that no camera and no image have, since geometry in single precision does not hold
    there: numbers beyond 10^6, distances and focal lengths next to zero.

    Raises:
        SkipObject: if the object cannot be used; the message is the reason to count.
    """
    numbers = ("azimuth", "elevation", "theta", "distance", "focal", "viewport", "px", "py", "height", "width")
    required = (*numbers, "bbox", "cad_index", "object_status")
    for key in required:
        if key not in entry:
            raise SkipObject(f"missing key {key}")
    label = entry.get("class", category)
    # the length first: names of files are short, and this text may have millions of characters
    if not isinstance(label, str) or len(label) > 255 or plain_name(label) != plain_name(category):
        raise SkipObject("object of another class")
    # the data set's own tools leave these out, and objects of no distance
    if _number(entry.get("ignore", 0), "ignore") > 0:
        raise SkipObject("marked ignore")
    values = {key: _number(entry[key], key) for key in numbers}
    if any(beyond_a_turn(values[key]) for key in ANGLES):
        raise SkipObject(DEGREES)
    if values["distance"] <= 0:
        raise SkipObject("distance <= 0")
    if values["distance"] < 1e-6:
        raise SkipObject("distance is out of range")
    # viewport is pixels per unit of the sensor, 3000 or 2000; from here on the focal length is in pixels
    focal = values["viewport"] * values["focal"]
    if focal <= 0:
        raise SkipObject("viewport * focal <= 0")
    if not 1e-3 <= focal <= 1e9:
        raise SkipObject("viewport * focal is out of range")
    if values["width"] < 1 or values["height"] < 1:
        raise SkipObject("image size < 1")
    return Sample(
        image=image,
        category=category,
        name=name,
        azimuth=values["azimuth"] % TWO_PI,
        # files wrap all angles to [0, 2 pi), where an elevation of -5 degrees is 355; here it is the small negative
        # angle again
        elevation=math.remainder(values["elevation"], TWO_PI),
        theta=values["theta"] % TWO_PI,
        distance=values["distance"],
        focal=focal,
        principal_point=(values["px"], values["py"]),
        bbox=_parse_bbox(entry["bbox"]),
        width=int(values["width"]),
        height=int(values["height"]),
        cad_index=int(_number(entry["cad_index"], "cad_index")),
        mask=mask,
        instance=parse_instance(name),
        object_index=object_index,
        hidden=_parse_hidden(entry),
    )


def _parse_hidden(entry: Annotation) -> tuple[float, float] | None:
    keys = ("hidden_object", "hidden_background")
    if not all(key in entry for key in keys):
        return None
    on_object, on_background = (_number(entry[key], key, 1.0) for key in keys)
    return on_object, on_background


def beyond_a_turn(angle: float) -> bool:
    """Whether an angle is more than a whole turn, which none in radians has to be."""
    return abs(angle) > TWO_PI + 1e-6  # rounding in single precision


def in_shares(box: Sequence[float]) -> bool:
    """Whether a box is in shares of the image instead of pixels: all of it would lie in the first pixel."""
    return min(box) >= 0.0 and max(box) <= 1.0


def plain_name(label: str) -> str:
    """A category's name without its case, spaces, underscores and hyphens, for comparing names of different sources."""
    return re.sub(r"[\s_-]", "", label).lower()


def _number(value: Any, key: str, largest: float = 1e6) -> float:
    if isinstance(value, np.ndarray) and value.size == 1:
        # numbers may come as arrays of one element, as converters from MATLAB leave them
        value = value.reshape(-1)[0]
    # float() would take all of these but complex numbers, and make a number of what was none
    if isinstance(value, bool | np.bool_ | complex | np.complexfloating | str | bytes):
        raise SkipObject(f"wrong type of {key}")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise SkipObject(f"wrong type of {key}") from None
    if not math.isfinite(number):
        raise SkipObject(f"{key} is not finite")
    if abs(number) > largest:
        raise SkipObject(f"{key} is out of range")
    return number


def _parse_bbox(value: Any) -> tuple[float, float, float, float]:
    smallest_side = 0.01  # pixels, of the longer one
    # the length before the numbers: a few kilobytes can unpack to millions of them
    counted = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)
    if not counted or len(value) != 4:
        raise SkipObject("wrong type of bbox")
    x1, y1, x2, y2 = (_number(x, "bbox") for x in value)
    if x2 <= x1 or y2 <= y1 or max(x2 - x1, y2 - y1) < smallest_side:
        raise SkipObject(EMPTY_BOX)
    if in_shares((x1, y1, x2, y2)):
        raise SkipObject(SHARES)
    return x1, y1, x2, y2


def annotation_dict(
    *,
    category: str,
    azimuth: float,
    elevation: float,
    theta: float,
    distance: float,
    focal: float,
    principal_point: tuple[float, float],
    bbox: tuple[float, float, float, float],
    width: int,
    height: int,
    cad_index: int = 1,
    status: str = "status_good",
    viewport: int = 3000,
) -> Annotation:
    """One object as ImageNet3D writes it: angles (radians) wrapped to [0, 2 pi), `focal` (pixels) over `viewport`.

    Raises:
        CompNetError: if an angle is not finite or beyond 2 pi, or the box is in 0..1 instead of pixels.
    """
    for name, angle in zip(ANGLES, (azimuth, elevation, theta), strict=True):
        if not math.isfinite(angle) or beyond_a_turn(angle):
            hint = f"did you mean degrees? Give math.radians({angle:g})" if math.isfinite(angle) else "give a number"
            raise CompNetError(f"{name} = {angle:g} is not an angle in radians; {hint}.")
    if in_shares(bbox):
        raise CompNetError(f"the box {tuple(bbox)} is in shares of the image; give x1, y1, x2, y2 in pixels.")
    return {
        "azimuth": float(azimuth) % TWO_PI,
        "elevation": float(elevation) % TWO_PI,
        "theta": float(theta) % TWO_PI,
        "distance": float(distance),
        "focal": float(focal) / viewport,
        "viewport": int(viewport),
        "principal": np.array(principal_point, dtype=np.float64),
        "px": float(principal_point[0]),
        "py": float(principal_point[1]),
        "cad_index": int(cad_index),
        # the type that the data set's own files have, as all keys here
        "height": np.uint16(height),
        "width": np.uint16(width),
        "bbox": np.array(bbox, dtype=np.float64),
        "object_status": status,
        "dense": "dense_no",
        "ignore": 0,
        "class": category,
    }


def write_annotation(path: Path | str, objects: Sequence[Annotation]) -> None:
    """Write one annotation file in the raw layout; equal objects give equal bytes (with one version of numpy).

    `numpy.load(path, allow_pickle=True)["annotations"]` reads it too. The file appears whole or not at all.
    """
    path = Path(path)
    # filled one by one: numpy would look into the entries of a list and might make more dimensions of them
    cells = np.empty(len(objects), dtype=object)
    for i, entry in enumerate(objects):
        # Pickle writes an object that it has seen as a reference, and knows it by identity. Interned, equal texts are
        # one object, so that the bytes follow from the values alone and not from how the entries were made.
        # str() because numpy's strings, which annotations of others may hold, cannot be interned
        cells[i] = {sys.intern(str(k)): sys.intern(str(v)) if isinstance(v, str) else v for k, v in entry.items()}
    stream = io.BytesIO()
    # header and pickle by hand: numpy.save chooses the pickle's protocol by its own version
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(cells))
    pickle.dump(cells, stream, protocol=4)
    # A ZipInfo of our own: numpy.savez would leave its time stamps and permissions to the platform.
    info = zipfile.ZipInfo("annotations.npy", date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, 0o644 << 16
    # beside the file, since a rename is whole or not at all within one file system only
    temporary = path.with_name(f".{path.name}.new-{os.getpid()}")
    # not compressed: the bytes would depend on the version of zlib
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(info, stream.getvalue())
    os.replace(temporary, path)
