"""Reads packed data sets: from a folder, from shards by a pattern, from any URL that fsspec reads."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import platformdirs

from compnet3d.data.annotations import SkipObject, parse_object
from compnet3d.data.imagenet3d import ImageNet3D, ReadReport
from compnet3d.data.members import Member, is_url, read_all, read_range, size_of
from compnet3d.data.packing import INDEX_FILE
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError
from compnet3d.utils.exclusive import locked
from compnet3d.utils.files import Json, is_file, lock_in, sha256_of, write_bytes, write_folder
from compnet3d.utils.workers import R, T

Broken = Literal["stop", "skip"]


@dataclass(frozen=True)
class PackedShard:
    """A tar file of a packed data set, and what its index says of it."""

    where: str
    name: str
    split: str
    size: int
    sha256: str
    index_sha256: str
    images: int
    objects: int


class PackedSet(ImageNet3D):
    """A data set whose images lie in shards; all else of it is in `root`, a copy where it comes from a URL.

    Attributes:
        where: what was opened.
        shards: those that are there, of all splits.
        broken: what is wrong with the others, by their path or URL.
    """

    def __init__(self, where: str | Path, categories: Sequence[str] | None = None, *, broken: Broken = "stop") -> None:
        """Open the index and look whether the shards are there and of the right size; no image is read yet.

        Args:
            where: the folder or its URL, or some of its shards: `URL/train-{000000..000007}.tar`.
            categories: restrict to these, in this order; all by default.
            broken: "skip" leaves out shards that are broken, and lets other images stand in for those that turn out to
                be unreadable later; "stop" is an error.

        Raises:
            CompNetError: if the index is missing or no index, a shard is broken, or a chosen category does not exist.
        """
        self.where, self._skip = str(where), broken == "skip"
        base, self._chosen = split_pattern(self.where)
        index = _read_index(base)
        shards = _shards(base, index)
        if self._chosen is not None:
            absent = sorted(set(self._chosen) - {shard.name for shard in shards})
            if absent:
                raise CompNetError(f"{base}: has no shard {absent[0]}.tar; it has {len(shards)}")
            shards = [shard for shard in shards if shard.name in self._chosen]
        self._base = base
        super().__init__(_small_files(base, index, shards), categories)
        faults = zip(shards, _together(_fault, shards), strict=True)
        self.broken = {shard.where: reason for shard, reason in faults if reason is not None}
        self.shards = [shard for shard in shards if shard.where not in self.broken]
        self._say_broken(shards)

    def _say_broken(self, shards: Sequence[PackedShard]) -> None:
        if not self.broken:
            return
        images = sum(shard.images for shard in shards if shard.where in self.broken)
        some = "; ".join(f"{where}: {reason}" for where, reason in list(self.broken.items())[:5])
        text = f"{len(self.broken)} of {len(shards)} shards are broken ({images} images): {some}"
        if not self._skip or not self.shards:
            raise CompNetError(f"{text}; restore them, or leave them out with --broken-shards skip")
        print(f"{text}; they are left out", file=sys.stderr)

    def samples(self, split: str) -> list[Sample]:
        """All usable objects of a split, in the order that they have in the folder that was packed.

        Raises:
            CompNetError: if there is no such split, the index of a shard is broken, or no object is left.
        """
        shards = [shard for shard in self.shards if shard.split == split]
        place_of = {name: place for place, name in enumerate(self.categories)}
        found: list[tuple[int, int, Sample]] = []
        report = ReadReport()
        for shard in shards:
            for place, sample in _read_shard(self.root, shard, place_of, report, self._skip):
                found.append((place_of[sample.category], place, sample))
        if not found:
            raise CompNetError(f"{self.where} has no usable object in split {split!r}: {report}.")
        self.report.kept += report.kept
        # several objects of an image keep their order: a sort changes none of equals
        return [sample for *_, sample in sorted(found, key=lambda entry: entry[:2])]


def open_data(where: str | Path, categories: Sequence[str] | None = None, *, broken: Broken = "stop") -> ImageNet3D:
    """A data set in our layout, as a folder or packed; see `ImageNet3D` and `PackedSet`."""
    if is_packed(where):
        return PackedSet(where, categories, broken=broken)
    return ImageNet3D(where, categories)


def is_packed(where: str | Path) -> bool:
    """Whether that is a packed data set, or some of its shards."""
    base, chosen = split_pattern(str(where))
    return chosen is not None or is_url(base) or is_file(Path(base) / INDEX_FILE)


def source_of(where: str | Path) -> str:
    """What records call a data set: its absolute path, or its URL without a user's name and password."""
    text = str(where)
    return re.sub(r"//[^/@]*@", "//", text) if is_url(text) else str(Path(text).resolve())


def split_pattern(where: str) -> tuple[str, list[str] | None]:
    """The folder or URL of a packed data set, and the names of its shards where some are chosen.

    >>> split_pattern("s3://x/toys/train-{000..002}.tar")
    ('s3://x/toys', ['train-000', 'train-001', 'train-002'])
    """
    if not where.endswith(".tar"):
        return where.rstrip("/") or where, None
    base, _, pattern = where.rpartition("/")
    return base or ".", [name.removesuffix(".tar") for name in _expanded(pattern)]


def _expanded(pattern: str) -> list[str]:
    """What a pattern with `{000..012}` or `{a,b}` stands for, as in a shell."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        return [pattern]
    before, after = pattern[: found.start()], pattern[found.end() :]
    numbers = re.fullmatch(r"([0-9]{1,9})\.\.([0-9]{1,9})", found[1])
    if numbers is None:
        parts = found[1].split(",")
    else:
        first, last = int(numbers[1]), int(numbers[2])
        parts = [str(number).zfill(len(numbers[1])) for number in range(first, last + 1)]
    return [name for part in parts for name in _expanded(f"{before}{part}{after}")]


def verify(where: str | Path) -> list[str]:
    """What is wrong with a packed data set, a sentence each: all bytes are read and compared with their checksums.

    Raises:
        CompNetError: if there is no index.
    """
    base, chosen = split_pattern(str(where))
    index, found = _read_index(base), []
    for entry in index["files"]:
        found += _difference(f"{base}/{entry['name']}", int(entry["bytes"]), str(entry["sha256"]))
    for shard in _shards(base, index):
        if chosen is None or shard.name in chosen:
            found += _difference(shard.where, shard.size, shard.sha256)
            found += _difference(f"{base}/{shard.name}.jsonl", None, shard.index_sha256)
    return found


def _difference(where: str, size: int | None, sha256: str) -> list[str]:
    try:
        actual = size_of(where)
        if size is not None and actual != size:
            return [f"{where}: has {actual:,} bytes instead of {size:,}"]
        digest, block = hashlib.sha256(), 2**24
        for offset in range(0, actual, block):
            digest.update(read_range(where, offset, min(block, actual - offset)))
        return [] if digest.hexdigest() == sha256 else [f"{where}: its bytes are not those that were packed"]
    except (CompNetError, OSError) as error:
        return [_reason(where, error)]


def _reason(where: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        # what fsspec says of a server that does not answer, too
        return f"{where}: is missing" + (", or its server does not answer" if is_url(where) else "")
    return f"{where}: cannot be read ({error})"


def _fault(shard: PackedShard) -> str | None:
    """Why a shard cannot be used, as far as its size tells."""
    try:
        size = size_of(shard.where)
    except (CompNetError, OSError) as error:
        return _reason(shard.where, error).removeprefix(f"{shard.where}: ")
    return None if size == shard.size else f"has {size:,} bytes instead of {shard.size:,}"


def _read_index(base: str) -> Json:
    where = f"{base}/{INDEX_FILE}"
    try:
        index = json.loads(read_all(where, 2**30))
        if index["format"] != "compnet3d packed data set" or index["version"] != 1:
            raise ValueError("of another format or version")
        for name in [entry["name"] for entry in index["files"]]:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
                raise ValueError(f"a file outside the data set: {name}")
        _shards(base, index)
        return dict(index)
    except OSError as error:
        raise CompNetError(f"{_reason(where, error)}; give a folder that `compnet3d data pack` has made") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CompNetError(f"{where}: is no index of a packed data set ({error})") from None


def _shards(base: str, index: Json) -> list[PackedShard]:
    found = []
    for split, entries in index["splits"].items():
        for entry in entries:
            name = str(entry["name"])
            if not re.fullmatch(r"[\w-]+", name):
                raise ValueError(f"a shard with the name {name!r}")
            sizes = (int(entry[key]) for key in ("bytes", "images", "objects"))
            size, images, objects = sizes
            sums = str(entry["sha256"]), str(entry["index_sha256"])
            found.append(PackedShard(f"{base}/{name}.tar", name, split, size, *sums, images, objects))
    return found


def _small_files(base: str, index: Json, shards: Sequence[PackedShard]) -> Path:
    """The folder with everything but the shards: the data set itself, or a copy of what lies at a URL."""
    if not is_url(base):
        return Path(base)
    wanted = {str(entry["name"]): str(entry["sha256"]) for entry in index["files"]}
    wanted |= {f"{shard.name}.jsonl": shard.index_sha256 for shard in shards}
    key = hashlib.sha256(json.dumps(sorted(wanted.items())).encode()).hexdigest()[:32]
    folder = platformdirs.user_cache_path("compnet3d", appauthor=False) / "packed" / key
    # one process fetches them, the others of the machine wait
    with locked(folder, folder.with_name(f".{key}{lock_in(folder).name}"), wait=True):
        if not folder.is_dir():
            write_folder(folder, lambda place: _fetch_all(base, wanted, place))
    return folder


def _fetch_all(base: str, wanted: dict[str, str], folder: Path) -> None:
    def fetch(name: str) -> None:
        try:
            write_bytes(folder / name, read_all(f"{base}/{name}", 2 * 2**30))
        except OSError as error:
            raise CompNetError(_reason(f"{base}/{name}", error)) from None
        if sha256_of(folder / name) != wanted[name]:
            raise CompNetError(f"{base}/{name}: its bytes are not those that were packed; restore it")

    _together(fetch, list(wanted))


def _together(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The work on each item, several at a time, since servers are far away."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(work, items))


def _read_shard(
    root: Path, shard: PackedShard, categories: dict[str, int], report: ReadReport, skip: bool
) -> Iterator[tuple[int, Sample]]:
    """The objects of a shard, each with its image's place in the split."""
    path = root / f"{shard.name}.jsonl"
    try:
        data = read_all(str(path), 2**30)
        if hashlib.sha256(data).hexdigest() != shard.index_sha256:
            raise ValueError("its bytes are not those that were packed")
        for line in data.splitlines():
            entry = json.loads(line)
            if entry["category"] in categories:
                for sample in _samples(entry, shard, report, skip):
                    yield int(entry["place"]), sample
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CompNetError(f"{path}: cannot be read as the index of a shard ({error}); pack again") from None


def _samples(entry: Any, shard: PackedShard, report: ReadReport, skip: bool) -> Iterator[Sample]:
    members: dict[str, Member] = {}
    for suffix, (offset, size, checksum) in entry["files"].items():
        name = f"{entry['category']}/{entry['name']}{suffix}"
        members[_kind(suffix)] = Member(shard.where, name, int(offset), int(size), int(checksum), skip)
    for number, values in entry["objects"]:
        try:
            sample = parse_object(
                values,
                image=members["image"],
                category=entry["category"],
                name=entry["name"],
                mask=members.get("mask"),
                object_index=int(number),
            )
        except SkipObject as reason:
            report.skip(str(reason), shard.where)
            continue
        report.kept += 1
        hidden = sample.hidden is not None
        yield replace(sample, occluder_mask=members.get("occluders")) if hidden else sample


def _kind(suffix: str) -> str:
    """What a file of an image is: the image, or its annotation, mask or occluders."""
    first = suffix.split(".")[1]
    return first if first in ("npz", "mask", "occluders") else "image"
