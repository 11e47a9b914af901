"""Files that a model names: only those in its own folder, or in one of it, are read."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from compnet3d.data.images import decode_image, shrink
from compnet3d.errors import CompNetError
from compnet3d.utils.files import is_file, read_bytes


@dataclass
class Siblings:
    """What a model's file names, and its pictures.

    Attributes:
        path: of the model.
        files: those read so far, by where they lie relative to the model.
        pictures: likewise, uint8 [H, W, 3].
        notes: what could not be read, one sentence each.
    """

    path: Path
    files: dict[str, Path] = field(default_factory=dict)
    pictures: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _numbers: dict[object, int] = field(default_factory=dict)

    def read(self, name: str, limit: int = 128 * 2**20) -> bytes:
        """The bytes of a file that the model names.

        Raises:
            CompNetError: naming both, if it lies elsewhere, is missing, or too large.
        """
        folder = self.path.parent.resolve()
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", name):
            raise CompNetError(f"{self.path}: names {name[:60]!r}, which is not in its folder; put the file beside it")
        # names from other systems, and those in URLs
        for written in (name, unquote(name)):
            try:
                place = (folder / written.strip().replace("\\", "/")).resolve()
                inside = place.is_relative_to(folder)
                found = inside and is_file(place)
            except (OSError, ValueError, RuntimeError):  # a name that no file can have, or links in a circle
                inside, found = True, False
            if not inside:
                raise CompNetError(
                    f"{self.path}: names {name[:60]!r}, which lies outside its folder and is not read; put the file "
                    "beside the model"
                )
            if found:
                try:
                    data = read_bytes(place, limit)
                except OSError as error:
                    raise CompNetError(f"{place}: cannot be read ({error.strerror}); fix its permissions") from None
                self.files[_relative(written, place, folder)] = place
                return data
        raise CompNetError(f"{self.path}: names {name[:60]!r}, which is not there; put the file beside the model")

    def picture(self, name: str) -> int:
        """The number of a picture in a file, -1 (and a note) if it cannot be read."""
        if name not in self._numbers:
            try:
                self._numbers[name] = self._decoded(self.read(name), f"{self.path}: its picture {name[:60]!r}")
            except CompNetError as error:
                self.notes.append(str(error))
                self._numbers[name] = -1
        return self._numbers[name]

    def packed_picture(self, key: int, data: bytes) -> int:
        """The number of a picture that is in the model's own file, -1 (and a note) if it cannot be read."""
        if key not in self._numbers:
            try:
                self._numbers[key] = self._decoded(data, f"{self.path}: its picture {key}")
            except CompNetError as error:
                self.notes.append(str(error))
                self._numbers[key] = -1
        return self._numbers[key]

    def _decoded(self, data: bytes, name: str) -> int:
        # more than any image of the object shows; and what decoding may take
        most_side, most_pixels = 512, 2**25
        image = shrink(decode_image(data, name, max_pixels=most_pixels), most_side)
        self.pictures.append(np.asarray(image))
        return len(self.pictures) - 1


def _relative(name: str, place: Path, folder: Path) -> str:
    """Where a file lies that a model calls so: as written, since a folder may be a link, if that is inside."""
    written = os.path.normpath(name.strip().replace("\\", "/"))
    inside = not os.path.isabs(written) and written.split(os.sep)[0] != os.pardir
    return written if inside else str(place.relative_to(folder))
