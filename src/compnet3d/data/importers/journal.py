"""What an unfinished import has written so far, so that a second run goes on where the first one stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from compnet3d.data.importers.import_report import LeftOut
from compnet3d.errors import CompNetError
from compnet3d.utils.files import Json, is_taken, read_bytes

JOURNAL_FILE = "import-unfinished.jsonl"


@dataclass(frozen=True)
class Written:
    """One image that was written, with its objects.

    Attributes:
        category, name: of it; splits: the lists that name it.
        objects: how many.
        files: what was written, relative to the data set, and the size of each in bytes.
    """

    category: str
    name: str
    splits: tuple[str, ...]
    objects: int
    files: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Outcome:
    """What has become of one item of the source."""

    written: tuple[Written, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def as_json(self) -> Json:
        """As files have it."""
        return {"written": [asdict(entry) for entry in self.written], "left_out": self.left_out}

    @classmethod
    def of_json(cls, values: Json) -> Outcome:
        """From a file; KeyError, TypeError or ValueError if it is none."""
        written = tuple(
            Written(
                str(entry["category"]),
                str(entry["name"]),
                tuple(entry["splits"]),
                int(entry["objects"]),
                tuple((str(name), int(size)) for name, size in entry["files"]),
            )
            for entry in values["written"]
        )
        return cls(written, tuple((str(why), str(where)) for why, where in values["left_out"]))


class Journal:
    """The file in a data set's folder that says what was written; its first line has the settings.

    It stands for an unfinished import: a data set is one when it has its lists, which come last. Lines are added as
    images are done. One that was cut short when the process was killed is not counted, and what it was about is written
    again.
    """

    def __init__(self, folder: Path, settings: Json, path: Path | None = None) -> None:
        """Begin, or go on with, the import with these settings.

        Args:
            folder: the data set's; settings: of the import.
            path: the journal's file; by default one in the folder, which must then be empty at the beginning.

        Raises:
            CompNetError: if the folder holds an import with other settings, or something else.
        """
        self._folder, self._path = folder, path or folder / JOURNAL_FILE
        self._done: dict[str, Outcome] = {}
        # as they would be read back: tuples as lists
        plain = json.loads(json.dumps(settings))
        lines = self._lines()
        self.is_new = not lines
        if lines:
            if lines[0].get("settings") != plain:
                raise CompNetError(f"{folder}: {_difference(lines[0].get('settings'), plain)}")
            self._done = dict(filter(None, map(_parse, lines[1:])))
        elif path is None and is_taken(folder) and not self._path.exists():
            raise CompNetError(
                f"{folder} exists and is not an empty folder; choose another output folder or remove it first."
            )
        else:
            self._path.write_text(json.dumps({"settings": plain}) + "\n", encoding="utf-8")
        self._file: IO[str] = self._path.open("a", encoding="utf-8")

    def done(self, item: object) -> Outcome | None:
        """What was written of an item, if all of it was and its files are still there.

        What was left out is looked at again: it may have been mended.
        """
        outcome = self._done.get(_key(item))
        if outcome is None or outcome.left_out:
            return None
        files = (file for written in outcome.written for file in written.files)
        return outcome if all(_has_size(self._folder / name, size) for name, size in files) else None

    def add(self, item: object, outcome: Outcome) -> None:
        """Note that an item is done."""
        self._file.write(json.dumps({"key": _key(item), **outcome.as_json()}) + "\n")

    def close(self) -> None:
        """Write what is not written yet."""
        self._file.close()

    def remove(self) -> None:
        """Of an import that is finished, or has come to nothing."""
        self._file.close()
        self._path.unlink()

    def _lines(self) -> list[Json]:
        if not self._path.exists():
            return []
        largest = 2**30  # bytes: a few hundred for each image
        whole, end, _ = read_bytes(self._path, largest).rpartition(b"\n")
        # a line that was cut short must not be continued
        os.truncate(self._path, len(whole + end))
        found = []
        for line in whole.split(b"\n"):
            with suppress(ValueError):
                value = json.loads(line)
                found.append(value if isinstance(value, dict) else {})
        return found


def _key(item: object) -> str:
    """What tells an item of a source from all others; items are data classes, whose text says all of them."""
    return hashlib.blake2b(repr(item).encode(errors="surrogatepass"), digest_size=12).hexdigest()


def _parse(line: Json) -> tuple[str, Outcome] | None:
    try:
        return str(line["key"]), Outcome.of_json(line)
    except (KeyError, TypeError, ValueError):
        return None


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _difference(earlier: Any, settings: Json) -> str:
    names: Iterable[str] = (
        [name for name in settings if earlier.get(name) != settings[name]] if isinstance(earlier, dict) else []
    )
    return (
        f"holds an import with other settings ({', '.join(names) or 'not its own'}); "
        "choose another output folder or remove it first"
    )


def refuse_other(folder: Path, earlier: Json, settings: Json) -> None:
    """Check that a finished import is the one that is asked for.

    Raises:
        CompNetError: if it is another one.
    """
    plain = json.loads(json.dumps(settings))
    if earlier != plain:
        raise CompNetError(f"{folder}: {_difference(earlier, plain)}")
