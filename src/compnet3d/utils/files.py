"""Files: read only if they are files and of an honest size; written to a temporary name first, then renamed."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from compnet3d.errors import CompNetError

# a JSON object: text keys, values of plain types
Json = dict[str, Any]


def open_regular(path: str | Path, limit: int) -> BinaryIO:
    """Open a file for reading, if it is a regular one of at most `limit` bytes.

    Raises:
        CompNetError: naming the file, if it is something else (a folder, a FIFO, a device) or larger, or only stands
            for a file that is elsewhere: a link to nothing, a pointer of Git LFS or of git-annex.
        OSError: if it is missing or cannot be read.
    """
    # opening a FIFO waits for someone to write into it, unless it is opened like this; Windows has no such flag
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        if not os.path.islink(path):
            raise
        goal = os.readlink(path)
        how = "fetch the file itself (git annex get)" if "annex/objects" in goal else "put a file there"
        raise CompNetError(f"{path}: is a link to {goal[:100]}, which is not there; {how}") from None
    try:
        # of what was opened, not of the name: that could stand for another file by now
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise CompNetError(f"{path}: is not a regular file; put a file there")
        if status.st_size > limit:
            raise CompNetError(f"{path}: {_too_large(status.st_size, limit)}")
        pointers = {
            b"version https://git-lfs": "a Git LFS pointer; fetch the file itself (git lfs pull)",
            b"/annex/objects/": "a git-annex pointer; fetch the file itself (git annex get)",
        }
        start = os.read(descriptor, 24)
        os.lseek(descriptor, 0, os.SEEK_SET)
        for first, what in pointers.items():
            if start.startswith(first):
                raise CompNetError(f"{path}: is {what}")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | Path, limit: int = 64 * 2**20) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; see `open_regular`."""
    with open_regular(path, limit) as file:
        data = file.read(limit + 1)
    if len(data) > limit:  # it has grown, or its size was not known
        raise CompNetError(f"{path}: {_too_large(len(data), limit)}")
    return data


def copy_file(source: Path, target: Path, limit: int = 2 * 2**30) -> None:
    """Copy the contents of a regular file of at most `limit` bytes; the folder is made. See `open_regular`."""
    # contents alone: a read-only source shall not make a read-only copy
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_regular(source, limit) as file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy)


def sha256_of(path: str | Path, limit: int = 2**44) -> str:
    """The SHA-256 of a regular file of at most `limit` bytes, as hexadecimal digits; see `open_regular`."""
    digest = hashlib.sha256()
    with open_regular(path, limit) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def is_file(path: Path) -> bool:
    """Whether there is a regular file; False, too, for names that no file can have and where nobody may look."""
    return os.path.isfile(path)


def is_clutter(path: PurePath) -> bool:
    """Whether a name, or a folder before it, is what operating systems and editors leave lying about.

    Give the part of a path that was found in a folder: what the folder itself is called is its owner's business.
    """
    left = (
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "__macosx", "@eadir", "icon\r", "__pycache__",
        "$recycle.bin", "recycler", "@recycle", "#recycle", "lost+found", "system volume information",
        "network trash folder", "temporary items",
    )  # fmt: skip
    # ~$ are locks of office programs
    # hidden are .DS_Store, .thumbnails, and the ._ files in which macOS keeps what other file systems do not take
    return any(
        part.startswith((".", "~$")) or part.endswith("~") or part.lower() in left or re.fullmatch("#.+#", part)
        for part in path.parts
    )


def files_in(folder: Path) -> list[Path]:
    """The files in a folder in the order of their names, but clutter (`is_clutter`)."""
    return [path for path in sorted(folder.iterdir()) if not is_clutter(PurePath(path.name)) and is_file(path)]


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder in the order of their names, but clutter (`is_clutter`); none in what is no folder."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in inside if not is_clutter(PurePath(path.name)) and path.is_dir()]


def write_folder(folder: str | Path, fill: Callable[[Path], None]) -> None:
    """Write a folder as a whole: `fill` writes into a temporary sibling, which then takes the folder's place.

    An existing folder stays untouched until the new one is complete.

    Raises:
        CompNetError: if the disk is full or the place cannot be written; an earlier folder is still there.
    """
    with replaced(folder) as temporary:
        fill(temporary)


@contextmanager
def replaced(folder: str | Path) -> Iterator[Path]:
    """The temporary sibling of `write_folder`, to be filled in the context; see there."""
    folder = Path(folder)
    refuse_own(folder)
    # a sibling, since a rename is atomic within one file system only; with the process's number, so that two writers do
    # not fill one folder
    temporary = folder.with_name(f".{folder.name}.new-{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
        except OSError as error:
            raise CompNetError(explain_filling(error, folder, temporary)) from None
        # on the disk before any name changes: after a power failure a name might otherwise stand for empty files
        for path in temporary.rglob("*"):
            if path.is_file():
                _flush(path)
        old = _old_name(folder)
        with suppress(OSError):  # it holds something, or is not there; an empty one is worth no copy
            folder.rmdir()
        # A folder cannot be renamed onto a full one. So the old one steps aside first; a crash between the two renames
        # leaves only the old copy, which `recover_folder` puts back.
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        temporary.rename(folder)
        # last: if it fails, an old copy is left over, which the next call removes
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise CompNetError(explain(error, folder)) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_own(folder: Path) -> None:
    """Check that a folder can be replaced: the one that we run in, and the shell as a rule, would be lost to both.

    Raises:
        CompNetError: if it is that one.
    """
    if folder.exists() and folder.samefile(os.curdir):
        raise CompNetError(f"{folder}: is where this command runs and cannot be replaced; give the name of another")


def recover_folder(folder: str | Path) -> Path:
    """The folder, put back from its old copy if a crash fell between the two renames of `write_folder`."""
    folder = Path(folder)
    # one without a name, such as ".", is there, and has no copy
    if not folder.exists() and (old := _old_name(folder)).exists():
        old.rename(folder)
    return folder


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove what writers of files and folders here left when they were killed, and nothing else.

    That is `.NAME.new-PID` of a process that is gone. Nobody else may be writing here, see `exclusive`.

    Args:
        folder: where; name: only those of this name, all by default.
    """
    for path in folder.glob(f".{glob.escape(name) or '*'}.new-*"):
        owner = path.name.rpartition("-")[2]
        if re.fullmatch(r"[0-9]{1,9}", owner) and not _is_of_another(int(owner)):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def remove_old(folder: Path) -> None:
    """`recover_folder`, and its old copy removed if a crash came after both renames. Nobody may be writing it."""
    recover_folder(folder)
    shutil.rmtree(_old_name(folder), ignore_errors=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file as a whole, creating its folder.

    Raises:
        CompNetError: if it cannot be written; an earlier file is still there.
    """
    path = Path(path)
    if not path.name:
        raise CompNetError(f"{path}: is a folder; give the name of a file")
    temporary = path.with_name(f".{path.name}.new-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        _flush(temporary)
        temporary.replace(path)
    except OSError as error:
        raise CompNetError(explain(error, path)) from None
    finally:
        with suppress(OSError):  # its folder may not even exist
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file as a whole (see `write_bytes`)."""
    # what is no character (a byte of a file name) would stop it
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file as a whole (see `write_text`)."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: str | Path, limit: int = 64 * 2**20) -> Any:
    """Read a JSON file of at most `limit` bytes.

    Raises:
        CompNetError: if it is missing, broken, too large or no regular file; the message names the file.
    """
    try:
        data = read_bytes(path, limit)
        return json.loads(data.decode("utf-8-sig"))  # some editors begin a file with a byte order mark
    except OSError as error:
        raise CompNetError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise CompNetError(f"{path}: is not valid JSON ({error}); restore it or make it again") from None


def claim_folder(path: Path, settings: Any, what: str) -> None:
    """Note in a folder what it is for, or check that what it holds is for the same.

    Args:
        path: the JSON file, in that folder.
        settings: what must be the same.
        what: it is, such as "an ablation".

    Raises:
        CompNetError: if the folder holds one with other settings, or something else.
    """
    # as they would be read back: tuples as lists, keys as text
    out, plain = path.parent, json.loads(json.dumps(settings))
    if path.exists():
        earlier = read_json(path)
        if earlier != plain:
            # only keys of the settings: those that an older version noted beside them have no name here
            different = [key for key in plain if earlier.get(key) != plain[key]] if isinstance(earlier, dict) else []
            raise CompNetError(
                f"{out}: holds {what} with other settings ({', '.join(different) or 'not its own'}); give --out "
                "another folder or delete it"
            )
    elif is_taken(out):
        raise CompNetError(f"{out}: holds something else; give --out a new folder")
    else:
        write_json(path, plain)


def is_taken(out: Path) -> bool:
    """Whether there is something that a new folder would have to replace; the lock of whoever asks is nothing."""
    return out.exists() and (not out.is_dir() or any(path != lock_in(out) for path in out.iterdir()))


def lock_in(folder: Path) -> Path:
    """The file in a folder that `exclusive` locks."""
    return folder / ".compnet3d-lock"


def _old_name(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _too_large(size: int, limit: int) -> str:
    return f"has {size:,} bytes, more than the limit of {limit:,}; check that it is the right file"


def _flush(path: Path) -> None:
    with open(path, "r+b") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())


def explain(error: OSError, path: Path) -> str:
    """One sentence on why something cannot be written."""
    if error.errno == errno.ENOSPC:
        return f"{path}: no space left on the disk; free some and run again (what was there before is kept)"
    return f"{path}: cannot be written ({error.strerror or error}); choose another place or fix its permissions"


def explain_filling(error: OSError, folder: Path, place: Path) -> str:
    """`explain`, unless it is a file outside `place` that could not be read while the folder was filled there."""
    source = error.filename
    within = source is None or Path(os.fsdecode(source)).is_relative_to(place)
    if error.errno == errno.ENOSPC or within:
        return explain(error, folder)
    return f"{source}: cannot be read ({error.strerror}); put it back or fix its permissions and run again"


def _is_of_another(process: int) -> bool:
    """Whether a process other than this one is running; Windows does not tell without ending it."""
    if process == os.getpid() or sys.platform == "win32":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    with suppress(OSError):  # a killed one that nobody has waited for is still listed
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True
