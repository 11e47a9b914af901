"""One job in several shards: each does its share of the items, at any time and on any machine, for one folder."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compnet3d.errors import CompNetError
from compnet3d.utils.exclusive import building, locked, making, refuse_taken, require_empty
from compnet3d.utils.files import Json, explain_filling, is_taken, lock_in, read_json, write_json, write_text


@dataclass(frozen=True)
class Shard:
    """Which share of a job is to be done: `index` of `count`, counted from 1; all of it by default.

    Raises:
        CompNetError: if there is no such share.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise CompNetError(f"there is no shard {self.index} of {self.count}; give I/N with I from 1 to N")

    @classmethod
    def parse(cls, text: str | None) -> Shard:
        """A shard from `I/N`, such as 2/8 for the second of eight; all from None."""
        if text is None:
            return cls()
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if found is None:
            raise CompNetError(f"--shard takes I/N, such as 2/8 for the second of eight, not {text!r}")
        return cls(int(found[1]), int(found[2]))

    def of(self, items: Sequence[Any]) -> Sequence[Any]:
        """This share of the items: neighbours, so that the shares one after the other are all of them."""
        first, end = (len(items) * number // self.count for number in (self.index - 1, self.index))
        return items[first:end]

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def require_free(out: str | Path, shard: Shard) -> None:
    """Check that a folder can be made here, before anything slow starts.

    Raises:
        CompNetError: see `build_in_shards`.
    """
    # other shards may be at work, so that no lock is looked at
    refuse_taken(Path(out)) if shard.count > 1 else require_empty(out)


def build_in_shards(
    out: str | Path,
    shard: Shard,
    settings: Json,
    work: Callable[[Path], Sequence[Any]],
    finish: Callable[[Path, Sequence[Any]], None],
) -> None:
    """Do one shard's share of a folder; the one that ends last finishes the folder and gives it its name.

    Until then everything lies in the folder `.NAME.shards` beside it, where all shards write. One that was stopped is
    given again and does its share anew; one that is done already does nothing. The last two may end at the same moment:
    they wait for each other. What is needed is a file system that all shards see, with locks (see `exclusive`).

    Args:
        out: the folder to make; it must not exist or be empty.
        shard: which share; all of it is made at once, as by `building`.
        settings: what must be the same for all shards.
        work: writes the share's files into the folder that it gets, none that another share writes, and returns what
            `finish` needs to know of them, as JSON has it.
        finish: writes what belongs to all shares together; gets what they returned, one after the other. It may be
            called again after a crash, over what it wrote before.

    Raises:
        CompNetError: if `out` holds something, the same shard is at work already, other shards have other settings, or
            files cannot be written.
    """
    if shard.count == 1:
        with building(out) as root:
            finish(root, work(root))
        return
    folder = shards_folder(out)
    try:
        _build_share(Path(out), folder, shard, settings, work, finish)
    except OSError as error:
        raise CompNetError(explain_filling(error, Path(out), folder)) from None


def _build_share(
    out: Path,
    folder: Path,
    shard: Shard,
    settings: Json,
    work: Callable[[Path], Sequence[Any]],
    finish: Callable[[Path, Sequence[Any]], None],
) -> None:
    with locked(out, _lock_of(folder, "all"), wait=True):
        if not (folder / "data").exists() and out.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed after it had made `out`
        refuse_taken(out)
        _claim(folder, {"shards": shard.count, **settings})
    with locked(Path(f"{out} (shard {shard})"), _lock_of(folder, str(shard.index))):
        result = folder / f"{shard.index}.json"
        if not result.exists():
            _do(folder, result, work)
        with locked(out, _lock_of(folder, "all"), wait=True):
            # not there if another shard, which ended at the same time, has seen this one's result and finished
            if folder.is_dir() and not missing_shards(out):
                _complete(out, folder, shard.count, finish)


def shards_folder(out: str | Path) -> Path:
    """Where shards write a folder that is not complete yet, beside it."""
    out = Path(out)
    place = out.resolve() if out.is_symlink() else out
    return place.with_name(f".{place.name}.shards")


def missing_shards(out: str | Path) -> list[Shard]:
    """The shards that are still to be done before a folder is made; none once it is there."""
    folder = shards_folder(out)
    if not folder.is_dir() or is_taken(Path(out)):
        return []
    count = int(read_json(folder / "settings.json")["shards"])
    return [Shard(index, count) for index in range(1, count + 1) if not (folder / f"{index}.json").is_file()]


def _lock_of(folder: Path, what: str) -> Path:
    # beside the folder, which goes while others still wait for the lock
    return folder.with_name(f"{folder.name}-{what}{lock_in(folder).name}")


def _claim(folder: Path, settings: Json) -> None:
    """Note what shards must agree on, or check that this one does."""
    plain = json.loads(json.dumps(settings, default=str))
    path = folder / "settings.json"
    if not path.exists():
        write_json(path, plain)
        return
    earlier = read_json(path)
    other = [name for name in {**earlier, **plain} if earlier.get(name) != plain.get(name)]
    if other:
        raise CompNetError(
            f"{folder}: holds shards of a run with other settings ({', '.join(other)}); "
            "remove it, or choose another output folder"
        )


def _do(folder: Path, result: Path, work: Callable[[Path], Sequence[Any]]) -> None:
    root = folder / "data"
    root.mkdir(exist_ok=True)
    entries = list(work(root))
    # before the result says that all is there
    getattr(os, "sync", int)()  # Windows has no such call
    write_text(result, json.dumps(entries))


def _complete(out: Path, folder: Path, count: int, finish: Callable[[Path, Sequence[Any]], None]) -> None:
    root = folder / "data"
    entries = [entry for index in range(1, count + 1) for entry in read_json(folder / f"{index}.json", limit=2**30)]
    for path in root.rglob(".*.new-*"):  # what killed shards left half-written; nobody else is at work any more
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    finish(root, entries)
    getattr(os, "sync", int)()
    with making(out) as place:
        if place.exists():  # empty
            place.rmdir()
        root.rename(place)
    shutil.rmtree(folder, ignore_errors=True)
