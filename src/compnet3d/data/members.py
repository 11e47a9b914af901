"""Files inside the tar files of a packed data set, read where they lie: a local disk, or any URL that fsspec reads."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from compnet3d.errors import CompNetError
from compnet3d.utils.files import open_regular


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a shard.

    Attributes:
        shard: path or URL of the tar file.
        name: in the tar file; offset, size: where its bytes begin there, and how many they are.
        checksum: CRC-32 of the bytes.
        skip: whether another may stand in for it, if it cannot be read.
    """

    shard: str
    name: str
    offset: int
    size: int
    checksum: int
    skip: bool = False

    def __str__(self) -> str:
        return f"{self.shard}: {self.name}"

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            BrokenShardError: if they cannot be read, or are not those that were packed.
        """
        data = _fetched().pop(self, None)
        if data is None:
            try:
                data = _patiently(lambda: read_range(self.shard, self.offset, self.size), is_url(self.shard))
            except (CompNetError, OSError) as error:
                raise BrokenShardError(self, str(error)) from None
        if len(data) != self.size or zlib.crc32(data) != self.checksum:
            raise BrokenShardError(self, "its bytes are not those that were packed")
        return data


class BrokenShardError(CompNetError):
    """A shard that cannot be read, or has other bytes than it was packed with.

    Attributes:
        member: what was to be read.
    """

    def __init__(self, member: Member, reason: str) -> None:
        super().__init__(
            f"{member}: {reason}; restore the shard (`compnet3d data check` names all broken ones), or train with "
            "--broken-shards skip"
        )
        self.member, self.reason = member, reason


def is_url(where: str) -> bool:
    """Whether a path is one for fsspec: `http://...`, `simplecache::s3://...`."""
    return "://" in where or "::" in where


def read_range(where: str, offset: int, size: int) -> bytes:
    """So many bytes of a local file or a URL, from an offset on; fewer if it is shorter.

    Raises:
        CompNetError: if what the URL needs is not installed, or a server gives all of the file instead of a part.
        OSError: if it cannot be read.
    """
    if not is_url(where):
        with open_regular(where, 2**44) as file:
            file.seek(offset)
            return file.read(size)
    files, path = file_system(where)
    data: bytes = _explained(where, lambda: files.cat_file(path, offset, offset + size))
    return _checked(where, data, size)


def read_all(where: str, limit: int) -> bytes:
    """The bytes of a local file or a URL, of at most `limit`.

    Raises:
        CompNetError, OSError: as `read_range`, or if it is larger.
    """
    size = size_of(where)
    if size > limit:
        raise CompNetError(f"{where}: has {size:,} bytes, more than the limit of {limit:,}")
    return read_range(where, 0, size) if size else b""


def size_of(where: str) -> int:
    """The size of a local file or a URL in bytes; errors as of `read_range`."""
    if not is_url(where):
        with open_regular(where, 2**44) as file:
            return file.seek(0, 2)
    files, path = file_system(where)
    size: int | None = _explained(where, lambda: files.info(path)["size"])
    if size is None:
        raise CompNetError(f"{where}: the server does not say how large it is")
    return size


def fetch(members: Sequence[Member]) -> None:
    """Ask for several members of remote shards at once, which are then at hand when they are read, each once."""
    fetched = _fetched()
    fetched.clear()  # what an error left of the last ones
    by_system: dict[int, tuple[Any, list[tuple[Member, str]]]] = {}
    for member in dict.fromkeys(members):
        if is_url(member.shard):
            files, path = file_system(member.shard)
            by_system.setdefault(id(files), (files, []))[1].append((member, path))
    for files, wanted in by_system.values():
        paths = [path for _, path in wanted]
        starts, ends = ([place(m) for m, _ in wanted] for place in (lambda m: m.offset, lambda m: m.offset + m.size))
        # what fails is read again, alone, and says why
        for (member, _), data in zip(wanted, files.cat_ranges(paths, starts, ends, on_error="return"), strict=True):
            if isinstance(data, bytes) and len(data) == member.size:
                fetched[member] = data


@lru_cache(maxsize=1)
def _fetched() -> dict[Member, bytes]:
    """What `fetch` has got and nobody has read yet."""
    return {}


def file_system(where: str) -> tuple[Any, str]:
    """The file system of fsspec that a URL is of, and its path there.

    Raises:
        CompNetError: if what it needs is not installed, or nobody knows such URLs.
    """
    import fsspec

    try:
        # instances are kept by fsspec, and made anew in a process that was forked
        files, path = fsspec.core.url_to_fs(where)
    except ImportError as error:
        needed = "pip install 'compnet3d[stream]'" if where.rpartition("::")[2].startswith("http") else str(error)
        raise CompNetError(f"{where}: cannot be read without another package: {needed}") from None
    except ValueError as error:
        raise CompNetError(f"{where}: {error}") from None
    return files, path


def _patiently(read: Callable[[], bytes], remote: bool) -> bytes:
    """What a function reads; from other machines, which are sometimes out of reach, at the third attempt if need be."""
    for wait in (0.5, 5.0) if remote else ():
        try:
            return read()
        except OSError:
            time.sleep(wait)
    return read()


def _checked(where: str, data: bytes, size: int) -> bytes:
    if len(data) > size:
        raise CompNetError(
            f"{where}: the server sends whole files instead of parts; give simplecache::{where.rpartition('/')[0]}, "
            "which keeps copies of the shards here"
        )
    return data


def _explained(where: str, read: Any) -> Any:
    """What a function of fsspec gives; whatever it raises is an OSError."""
    try:
        return read()
    except OSError:
        raise
    except Exception as error:  # each file system and each of its clients has exceptions of its own
        raise OSError(f"{where}: {type(error).__name__}: {error}") from None
