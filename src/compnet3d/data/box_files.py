"""Files that say where the objects are in images: COCO JSON, JSON, JSON lines, CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from compnet3d.errors import CompNetError
from compnet3d.utils.files import Json, read_bytes

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels


@dataclass(frozen=True)
class BoxFile:
    """The boxes of a file.

    Attributes:
        path: of the file.
        boxes: of each image by its name as the file has it, and by the frame of a video (None for every frame).
    """

    path: Path
    boxes: Mapping[tuple[str, int | None], tuple[Box, ...]]

    def of(self, image: str, frame: int | None = None) -> tuple[Box, ...]:
        """The boxes of an image. Its path and the file's may start at different folders: one is the end of the other.

        Raises:
            CompNetError: naming the image, if there are none, or if its path ends like several of the file's.
        """
        whole, alike = PurePath(image).as_posix(), self._by_file.get(PurePath(image).name, ())
        same = [whole] if whole in alike else [name for name in alike if _ends_alike(name, whole)]
        if len(same) > 1:
            raise CompNetError(
                f"{self.path}: {image} may be {same[0]} or {same[1]}; write its whole path there, as it is given here"
            )
        for key in [(name, number) for name in same for number in (frame, None)]:
            if key in self.boxes:
                return self.boxes[key]
        shown = image if frame is None else f"{image}, frame {frame}"
        raise CompNetError(f"{self.path}: has no box for {shown}; add it, or leave the image out")

    @cached_property
    def _by_file(self) -> dict[str, list[str]]:
        """The images by the name of their file alone, in order: each look-up goes through a few of many."""
        found: dict[str, list[str]] = {}
        for name in sorted({name for name, _ in self.boxes}):
            found.setdefault(PurePath(name).name, []).append(name)
        return found


def read_box_file(path: str | Path) -> BoxFile:
    """Read a file of boxes.

    - COCO JSON: `images` (id, file_name) and `annotations` (image_id, bbox as x, y, width, height).
    - JSON, a list of objects, or JSON lines, one object a line: `image`, and `box` (x1, y1, x2, y2) or `boxes`; `frame`
      for one frame of a video. What `predict --json` writes is read, too.
    - CSV with a header: image, x1, y1, x2, y2, and frame where there is one.

    Raises:
        CompNetError: naming the file and the entry, if it is none of these, or a box is not four finite numbers with
            x1 < x2 and y1 < y2.
    """
    path = Path(path)
    text = _text(path)
    found: dict[tuple[str, int | None], list[Box]] = {}
    for number, (image, frame, box) in enumerate(_entries(path, text), start=1):
        found.setdefault((PurePath(image).as_posix(), frame), []).append(_checked(path, number, image, box))
    if not found:
        raise CompNetError(f"{path}: holds no box; add one, or take another file")
    return BoxFile(path, {key: tuple(boxes) for key, boxes in found.items()})


def _ends_alike(one: str, other: str) -> bool:
    first, second = PurePath(one).parts[::-1], PurePath(other).parts[::-1]
    return all(a == b for a, b in zip(first, second, strict=False))


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise CompNetError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise CompNetError(f"{path}: is no text; give boxes as JSON, JSON lines or CSV") from None


def _entries(path: Path, text: str) -> Iterable[tuple[str, int | None, Any]]:
    """Image, frame and box of each entry."""
    if not text.lstrip().startswith(("{", "[")):
        return _of_csv(path, text)
    try:
        try:
            value = json.loads(text)
        except ValueError:
            # one object a line, or broken, which the message for a line tells better
            value = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise CompNetError(f"{path}: is not valid JSON ({error}); restore it or make it again") from None
    if isinstance(value, dict) and "annotations" in value:
        return _of_coco(path, value)
    return _of_json(path, [value] if isinstance(value, dict) else value)


def _of_csv(path: Path, text: str) -> Iterable[tuple[str, int | None, Any]]:
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    corners = ("x1", "y1", "x2", "y2")
    missing = [name for name in ("image", *corners) if name not in (rows.fieldnames or ())]
    if missing:
        raise CompNetError(f"{path}: has no column {missing[0]}; the first line is image,x1,y1,x2,y2")
    for number, row in enumerate(rows, start=2):
        if row["image"] is None:
            raise CompNetError(f"{path}, line {number}: has no image; give one")
        yield row["image"], _frame(path, row.get("frame")), [row[name] for name in corners]


def _of_json(path: Path, value: Any) -> Iterable[tuple[str, int | None, Any]]:
    for number, entry in enumerate(value, start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise CompNetError(f'{path}, entry {number}: has no "image"; give the name of a file')
        boxes = entry.get("boxes", [entry["box"]] if "box" in entry else None)
        if not isinstance(boxes, list):
            raise CompNetError(f'{path}, entry {number} ({entry["image"]}): has no "box"; give [x1, y1, x2, y2]')
        for box in boxes:
            yield entry["image"], _frame(path, entry.get("frame")), box


def _of_coco(path: Path, value: Json) -> Iterable[tuple[str, int | None, Any]]:
    try:
        names = {image["id"]: str(image["file_name"]) for image in value["images"]}
        for annotation in value["annotations"]:
            if annotation.get("iscrowd"):  # stands for many objects
                continue
            x, y, width, height = map(float, annotation["bbox"])
            yield names[annotation["image_id"]], None, (x, y, x + width, y + height)
    except KeyError as error:
        raise CompNetError(
            f"{path}: no image or annotation has {error}; COCO JSON has images (id, file_name) and annotations "
            "(image_id, bbox)"
        ) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise CompNetError(f"{path}: is not COCO JSON ({error}); bbox is [x, y, width, height]") from None


def _frame(path: Path, value: Any) -> int | None:
    if value in (None, ""):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise CompNetError(f"{path}: frame {value!r} is no whole number; frames count from 0") from None


def _checked(path: Path, number: int, image: str, box: Any) -> Box:
    try:
        if not isinstance(box, list | tuple):
            raise TypeError
        x1, y1, x2, y2 = map(float, box)
    except (TypeError, ValueError):
        raise CompNetError(f"{path}, box {number} ({image}): is not four numbers; give x1, y1, x2, y2") from None
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x1 >= x2 or y1 >= y2:
        raise CompNetError(
            f"{path}, box {number} ({image}): {x1:g} {y1:g} {x2:g} {y2:g} is empty; x1 < x2 and y1 < y2 are pixels "
            "from the top-left corner"
        )
    return x1, y1, x2, y2
