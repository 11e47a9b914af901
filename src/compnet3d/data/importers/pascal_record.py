"""The `.mat` records of PASCAL3D+, which ObjectNet3D and OOD-CV have, too, as our annotations.

Angles there are degrees. Pixel coordinates are taken as they are, as other readers do: MATLAB's, which are at most a
pixel off ours.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from compnet3d.data.annotations import (
    SHARES,
    Annotation,
    OtherLayoutError,
    SkipObject,
    annotation_dict,
    in_shares,
    plain_name,
)
from compnet3d.data.images import image_size
from compnet3d.data.importers.import_data import Record, Source
from compnet3d.data.importers.import_report import LeftOut
from compnet3d.data.mat_reader import MatReader
from compnet3d.errors import CompNetError
from compnet3d.utils.files import is_file

COARSE_ONLY = "distance = 0: a coarse label only"
Entries = list[tuple[str, Annotation]]


@dataclass
class Records:
    """Reads records one after another; starts the process that does so when it is first needed."""

    _reader: MatReader | None = field(default=None, init=False, repr=False)

    def read(self, path: Path) -> Annotation:
        """What is used of a record, as plain dicts and numbers; `objects` is always a list of dicts.

        Raises:
            CompNetError: naming the file, if it is missing, broken, or holds no such record.
        """
        if self._reader is None:
            self._reader = MatReader().__enter__()
        return self._reader.read(path)

    def close(self) -> None:
        """End the process."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def __getstate__(self) -> dict[str, object]:
        # each process has a reader of its own
        return {"_reader": None}


@dataclass
class RecordSource(Source):
    """A `Source` whose items have an image and a record, both paths.

    Attributes:
        records: reads the latter.
    """

    records: Records = field(default_factory=Records, init=False, repr=False)

    @abstractmethod
    def taken(self, item: Any, record: Annotation) -> tuple[Sequence[Record], Sequence[LeftOut]]:
        """What `read` gives of an item whose record could be read."""

    def read(self, item: Any) -> tuple[Sequence[Record], Sequence[LeftOut]]:
        """The item's records, if its image is there and its record can be read."""
        # before its record, so that what is missing is named
        if not is_file(item.image):
            return (), [("missing image", str(item.image))]
        try:
            record = self.records.read(item.record)
        except OtherLayoutError as error:
            return (), [(str(error), str(item.record))]
        except CompNetError:
            return (), [("unreadable annotation", str(item.record))]
        return self.taken(item, record)

    def close(self) -> None:
        """End the reader of records."""
        self.records.close()


def read_record(path: Path | str) -> Annotation:
    """One record, by a process started for it (see `Records.read`)."""
    with MatReader() as reader:
        return reader.read(path)


def entries_of(
    record: Annotation, path: Path, image: Path, category: str, *, only: Sequence[int] | None = None
) -> tuple[Entries, list[LeftOut]]:
    """The objects of one category in a record as our annotations, and why others could not be taken.

    Args:
        record: as it was read from `path`.
        path: where left-out objects are said to be.
        image: whose size is taken where the record does not tell.
        category: of the objects.
        only: the places of the objects to take, of those that are of the category; all by default.
    """
    own = [entry for entry in record["objects"] if plain_name(str(entry.get("class"))) == plain_name(category)]
    taken: Entries = []
    left_out: list[LeftOut] = []
    if not own:
        left_out.append(("no object of the category", str(path)))
    for place, entry in enumerate(own):
        if only is not None and place not in only:
            left_out.append(("not the image's first object", str(path)))
            continue
        try:
            taken.append((str(path), pascal3d_annotation(entry, category, record_size(record, image))))
        except SkipObject as reason:
            left_out.append((str(reason), str(path)))
    return taken, left_out


def record_size(record: Annotation, image: Path) -> tuple[int, int]:
    """(width, height) as annotated (`imgsize` also has the number of channels), else that of the image.

    Raises:
        SkipObject: if neither tells.
    """
    # ravel: MATLAB knows no scalars and no vectors, and what comes back may have any number of dimensions
    largest = 65535  # what annotations can state
    size = np.ravel(record.get("imgsize", ()))
    if len(size) >= 2 and all(1 <= side <= largest for side in size[:2]):
        return int(size[0]), int(size[1])
    try:
        width, height = image_size(image)
    except (CompNetError, OSError):
        raise SkipObject("unknown image size") from None
    if max(width, height) > largest:
        raise SkipObject("image size is out of range")
    return width, height


def pascal3d_annotation(entry: Annotation, category: str, size: tuple[int, int]) -> Annotation:
    """One object of a record as our annotation: radians instead of degrees, the rest as it is.

    The data set's annotation tool writes a full pose into azimuth_coarse and elevation_coarse; they are taken where the
    other two are absent or empty. A distance above 0 tells that there is a pose.

    Args:
        entry: an element of `record["objects"]`.
        category: of the object.
        size: (width, height) of the image.

    Raises:
        SkipObject: if the object has no viewpoint or a coarse one only, or a number is missing, not finite, or one that
            no camera and no image have.
    """
    viewpoint = entry.get("viewpoint")
    if not isinstance(viewpoint, dict):
        raise SkipObject("no viewpoint")
    # before the numbers are checked: of an object with a coarse label alone they mean nothing
    if not np.size(viewpoint.get("distance", ())) and np.size(viewpoint.get("azimuth_coarse", ())):
        raise SkipObject("no distance: a coarse label only")
    if "distance" in viewpoint and np.size(viewpoint["distance"]) and not np.any(viewpoint["distance"]):
        raise SkipObject(COARSE_ONLY)
    for key in ("azimuth", "elevation"):
        if not np.size(viewpoint.get(key, ())) and np.size(viewpoint.get(f"{key}_coarse", ())):
            viewpoint = {**viewpoint, key: viewpoint[f"{key}_coarse"]}
    keys = ("azimuth", "elevation", "theta", "distance", "focal", "viewport", "px", "py")
    largest = dict.fromkeys(("azimuth", "elevation", "theta"), math.degrees(1000.0))
    view = {key: _number(viewpoint, key, largest.get(key, 1e6)) for key in keys}
    if view["viewport"] < 1:
        raise SkipObject("viewport < 1")
    box = np.ravel(entry.get("bbox", ()))
    if len(box) != 4 or box.dtype.kind not in "buif":
        raise SkipObject("missing key bbox")
    if in_shares(box.tolist()):
        raise SkipObject(SHARES)
    names = ("occluded", "truncated", "difficult")
    flags = {name: int(_number(entry, name)) if np.size(entry.get(name, ())) else 0 for name in names}
    # ImageNet3D's word for both; reports tell them apart by the flags, which are kept
    partial = flags["occluded"] or flags["truncated"]
    made = annotation_dict(
        category=category,
        azimuth=math.radians(view["azimuth"] % 360.0),
        elevation=math.radians(view["elevation"] % 360.0),
        theta=math.radians(view["theta"] % 360.0),
        distance=view["distance"],
        focal=view["focal"] * view["viewport"],
        principal_point=(view["px"], view["py"]),
        bbox=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        width=size[0],
        height=size[1],
        cad_index=int(_number(entry, "cad_index")),
        status="status_partially" if partial else "status_good",
        viewport=int(view["viewport"]),
    )
    return made | flags


def _number(values: Annotation, key: str, largest: float = 1e6) -> float:
    value = np.ravel(values.get(key, ()))
    if len(value) != 1 or value.dtype.kind not in "buif":
        raise SkipObject(f"missing key {key}")
    if not math.isfinite(value[0]):
        raise SkipObject(f"{key} is not finite")
    if abs(value[0]) > largest:
        raise SkipObject(f"{key} is out of range")
    return float(value[0])
