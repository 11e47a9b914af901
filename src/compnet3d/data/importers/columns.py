"""Tables (CSV, TSV, JSON lines) whose columns are found by their usual names."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compnet3d.data.importers.import_report import LeftOut
from compnet3d.errors import CompNetError
from compnet3d.utils.files import Json, read_bytes

# a line of a table: where it is, and its values by what they mean
Row = tuple[str, Json]

_ANGLES = {"azimuth": "azimuth az", "elevation": "elevation el", "theta": "theta roll inplane inplanerotation"}
_UNITS = {"deg": "deg degree degrees", "rad": "rad radian radians"}
# what a column means, and what it is usually called, in small letters and without _ - and spaces
USUAL = {
    "image": "image imagepath imagefile imagename path file filename img photo",
    "category": "category class label categoryname classname",
    "split": "split subset",
    "instance": "instance instanceid object objectid objectname",
    "cad_index": "cadindex cad cadid",
    "mask": "mask maskpath maskfile",
    "annotation_id": "annotationid annid",
    "image_id": "imageid",
    "x1": "x1 xmin left", "y1": "y1 ymin top", "x2": "x2 xmax right", "y2": "y2 ymax bottom",
    "x": "x bboxx boxx", "y": "y bboxy boxy", "w": "w bboxw boxw bboxwidth boxwidth",
    "h": "h bboxh boxh bboxheight boxheight",
    "box": "box bbox", "box_xyxy": "boxxyxy bboxxyxy", "box_xywh": "boxxywh bboxxywh",
    "rotation": "rotation rotationmatrix rotmat r camrm2c",
    "quaternion": "quaternion quat q", "quaternion_wxyz": "quaternionwxyz quatwxyz qwxyz",
    "quaternion_xyzw": "quaternionxyzw quatxyzw qxyzw",
    "qw": "qw", "qx": "qx", "qy": "qy", "qz": "qz",
    "convention": "convention",
    "translation": "translation t camtm2c", "tx": "tx", "ty": "ty", "tz": "tz",
    "distance": "distance dist",
    "camera": "camera cameramatrix intrinsics k camk", "fx": "fx", "fy": "fy", "cx": "cx", "cy": "cy",
    "focal": "focal focalpx focallength", "px": "px", "py": "py",
    "width": "width imagewidth imgwidth", "height": "height imageheight imgheight",
    "depth": "depth",
}  # fmt: skip
for _angle, _names in _ANGLES.items():
    USUAL[_angle] = _names
    for _unit, _words in _UNITS.items():
        USUAL[f"{_angle}_{_unit}"] = " ".join(name + word for name in _names.split() for word in _words.split())
for _row in range(3):
    for _column in range(3):
        # both are usual, and r11 is in both: the first where there is no r00
        USUAL[f"r{_row + 1}{_column + 1}"] = f"r{_row + 1}{_column + 1}"


def match_columns(header: Sequence[str], given: Sequence[str], path: Path) -> dict[str, str]:
    """What each column of a table means: the column's name by its meaning.

    Args:
        header: the columns' names.
        given: MEANING=COLUMN for columns that are called otherwise.
        path: the table, for errors.

    Raises:
        CompNetError: if a given column is not there or means nothing, or two columns mean the same.
    """
    found: dict[str, str] = {}
    for pair in given:
        meaning, equals, column = pair.partition("=")
        if not equals or meaning not in USUAL:
            raise CompNetError(f"--columns {pair}: write MEANING=COLUMN, where MEANING is one of {', '.join(USUAL)}")
        if column not in header:
            raise CompNetError(f"{path}: has no column {column!r} (--columns); it has {', '.join(header)}")
        found[meaning] = column
    names = {alias: meaning for meaning, aliases in USUAL.items() for alias in aliases.split()}
    if {"r00", "r22"} <= {_plain(column) for column in header}:  # counted from 0
        names |= {f"r{i}{j}": f"r{i + 1}{j + 1}" for i in range(3) for j in range(3)}
    for column in header:
        meaning_of = names.get(_plain(column))
        if meaning_of is None or column in found.values() or meaning_of in {pair.partition("=")[0] for pair in given}:
            continue
        if meaning_of in found:
            raise CompNetError(
                f"{path}: the columns {found[meaning_of]!r} and {column!r} both mean {meaning_of}; say which with "
                f"--columns {meaning_of}=COLUMN"
            )
        found[meaning_of] = column
    return found


def read_table(path: Path, given: Sequence[str] = ()) -> tuple[list[Row], list[LeftOut]]:
    """The lines of a table by what their columns mean, and what is no line.

    Raises:
        CompNetError: if it cannot be read, holds no line, or its columns cannot be told apart.
    """
    largest = 2**29  # bytes: some hundred for each image
    try:
        data = read_bytes(path, largest)
        # what Excel calls Unicode text, and PowerShell's >
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise CompNetError(f"{path}: is not in UTF-8 ({error.reason}); save it so") from None
    except OSError as error:
        raise CompNetError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    lines, left_out = _json_lines(text, path) if path.suffix.lower() in (".jsonl", ".ndjson") else _cells(text, path)
    if not lines and left_out:
        reason, where = left_out[0]
        raise CompNetError(f"{where}: {reason}, and so do all others; each line is an object in an image")
    if not lines:
        raise CompNetError(f"{path}: holds no line below its header; each line is an object in an image")
    header = list(dict.fromkeys(key for _, values in lines for key in values))
    meanings = {column: meaning for meaning, column in match_columns(header, given, path).items()}
    return [(where, _meant(values, meanings)) for where, values in lines], left_out


def _meant(values: Mapping[str, Any], meanings: Mapping[str, str]) -> Json:
    """The values that mean something; empty ones are none."""
    return {
        meanings[key]: value.strip() if isinstance(value, str) else value
        for key, value in values.items()
        if key in meanings and value is not None and not (isinstance(value, str) and not value.strip())
    }


def _json_lines(text: str, path: Path) -> tuple[list[Row], list[LeftOut]]:
    lines: list[Row] = []
    left_out: list[LeftOut] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            lines.append((f"{path}:{number}", value))
        else:
            left_out.append(("line is not a JSON object", f"{path}:{number}"))
    return lines, left_out


def _cells(text: str, path: Path) -> tuple[list[Row], list[LeftOut]]:
    # empty lines, and what tells Excel the delimiter, may come before the header
    whole = text
    text = re.sub(r"\A(?:\s*\n|sep=.[\r\n]+)+", "", whole)
    before = whole.count("\n") - text.count("\n")
    head = text.partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
    lines: list[Row] = []
    left_out: list[LeftOut] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        header = [name.strip() for name in next(reader, [])]
        if repeated := [name for name in header if name and header.count(name) > 1]:
            raise CompNetError(f"{path}: has two columns {repeated[0]!r}; rename one")
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                left_out.append(
                    ("line has another number of fields than the header", f"{path}:{before + reader.line_num}")
                )
                continue
            lines.append((f"{path}:{before + reader.line_num}", dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise CompNetError(f"{path}: is not a readable table ({error}); save it as CSV in UTF-8") from None
    return lines, left_out


def _plain(column: str) -> str:
    return re.sub(r"[\s_.-]", "", column).lower()


def meanings_of(rows: Iterable[Row]) -> set[str]:
    """What the columns of a table mean, all together."""
    return {meaning for _, values in rows for meaning in values}


def numbers_in(value: Any) -> Iterator[float]:
    """The numbers of a cell: a list, nested or not, or a text of them.

    Raises:
        ValueError: if something in it is none.
    """
    if isinstance(value, str):
        # with the brackets of lists as Python, JSON and numpy write them
        yield from (float(part) for part in re.split(r"[\s,;()\[\]]+", value) if part)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers_in(inner)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("not a number")
    else:
        yield float(value)
