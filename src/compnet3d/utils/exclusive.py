"""One command at a time writes a folder: locks that end with their process, and what is made under them."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from compnet3d.errors import CompNetError
from compnet3d.utils.files import explain, is_taken, lock_in, refuse_own, remove_leftovers, replaced


@contextmanager
def exclusive(folder: str | Path) -> Iterator[None]:
    """Keep a folder for this process while files are written into it; it is made if need be.

    The lock is one of the operating system on `.compnet3d-lock` in the folder. It ends with its process, however that
    ends, so that one of a killed process stands in nobody's way; the file says who holds it and goes at the end. What
    killed processes left half-written in the folder is removed. It holds for all processes of a machine and, on
    network file systems that pass locks on to their server (NFS from version 3 on, SMB), for all machines; where a
    file system has no locks, a second command is not noticed.

    Raises:
        CompNetError: if another process holds the folder, or it cannot be made or written.
    """
    folder = Path(folder)
    if os.path.lexists(folder) and not folder.is_dir():
        raise CompNetError(f"{folder}: is no folder; choose another output folder or remove it first")
    with locked(folder, lock_in(folder)):
        remove_leftovers(folder)
        yield


def is_held(folder: str | Path) -> bool:
    """Whether another process writes into a folder now, as far as locks can tell (see `exclusive`)."""
    try:
        descriptor = os.open(lock_in(Path(folder)), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:  # there is none
        return False
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def building(out: str | Path) -> Iterator[Path]:
    """A folder to fill beside `out`, which takes that place when everything is in it and is removed on failure.

    `out` is kept for this process like a folder by `exclusive`.

    Raises:
        CompNetError: if another process is making `out`, it holds something or is no folder, or cannot be written.
    """
    with making(Path(out)) as place, replaced(place) as temporary:
        yield temporary


def require_empty(out: str | Path) -> None:
    """Check that a folder can be made here, before anything slow starts.

    Raises:
        CompNetError: see `building`.
    """
    with making(Path(out)):
        pass


@contextmanager
def making(out: Path) -> Iterator[Path]:
    """Where to make a folder that does not exist or is empty, which is kept for this process.

    Raises:
        CompNetError: as `building`.
    """
    refuse_taken(out)
    refuse_own(out)
    place = out.resolve() if out.is_symlink() else out  # of a link, what it leads to
    with locked(out, place.with_name(f".{place.name}{lock_in(place).name}")):
        refuse_taken(out)
        remove_leftovers(place.parent, place.name)
        yield place


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder among the system's temporary files that goes at the end, and those of killed processes with it."""
    mark = ".compnet3d-scratch"  # not the name in `lock_in`: a run's folder may lie there as well
    for abandoned in Path(tempfile.gettempdir()).glob(f"compnet3d-*/{mark}"):
        # that of a process which is about to lock it is empty
        with suppress(OSError, CompNetError):
            if abandoned.lstat().st_size and _is_own(abandoned):
                with locked(abandoned.parent, abandoned):
                    shutil.rmtree(abandoned.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="compnet3d-", ignore_cleanup_errors=True) as name:
        with locked(Path(name), Path(name, mark)):
            yield Path(name)


def _is_own(path: Path) -> bool:
    return sys.platform == "win32" or path.lstat().st_uid == os.getuid()


def refuse_taken(out: Path) -> None:
    """Check that a folder does not exist or is empty, whoever may be making it now.

    Raises:
        CompNetError: if it holds something, is no folder, or is a link to nothing.
    """
    if out.is_symlink() and not out.exists():
        raise CompNetError(f"{out}: is a link to something that is not there; choose another output folder")
    if is_taken(out):
        raise CompNetError(f"{out} exists and is not an empty folder; choose another output folder or remove it first.")


# -- locks ---------------------------------------------------------------------------------------------------------


@contextmanager
def locked(folder: Path, path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, the file `path`, whose own folder is made if need be and removed if it stays empty.

    Args:
        folder: what is named in errors; path: the lock file.
        wait: until another process has let go of it, instead of an error.

    Raises:
        CompNetError: if another process holds it, or it cannot be written.
    """
    made: list[Path] = []
    held: list[int] = []
    try:
        try:
            made += [place for place in (path.parent, *path.parent.parents) if not place.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            held.append(_open_locked(folder, path, wait))
            if hasattr(os, "register_at_fork"):
                # a child that outlives us, such as a process that prepares images, must not keep our lock
                os.register_at_fork(after_in_child=lambda: _close(held))
            os.ftruncate(held[0], 0)
            os.write(held[0], _note().encode())
        except OSError as error:
            raise CompNetError(explain(error, folder)) from None
        yield
    finally:
        _release(path, held)
        for place in made:
            with suppress(OSError):  # it holds something
                place.rmdir()


def _open_locked(folder: Path, path: Path, wait: bool) -> int:
    """The descriptor of the lock file, open and locked.

    Raises:
        CompNetError: saying which process has locked it.
        OSError: if it cannot be opened.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CompNetError(f"{path}: is not a regular file; remove it")
            while not (free := _lock(descriptor)) and wait:
                time.sleep(0.05)
            if not free:
                who = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
                raise CompNetError(
                    f"{folder}: {who} is writing there; wait until it has ended, or choose another output folder"
                )
            # whoever held it before may have removed the file after we had opened it
            if _is_named(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _note() -> str:
    return f"process {os.getpid()} on {socket.gethostname()} (since {time.strftime('%Y-%m-%d %H:%M:%S')})"


def _lock(descriptor: int) -> bool:
    """Whether the file is locked for this process now; where there are no locks, it is."""
    try:
        if sys.platform == "win32":
            import msvcrt

            # behind the text: nobody could read what is locked
            os.lseek(descriptor, 2**20, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True


def _is_named(path: Path, descriptor: int) -> bool:
    """Whether a file that is open still has this name."""
    with suppress(OSError):
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    return False


def _release(path: Path, held: list[int]) -> None:
    """Remove the lock file and unlock it; nothing where it is not held, as in a child that was forked."""
    if not held:
        return
    with suppress(OSError):
        # while it is ours: a moment later it may be another's; Windows removes nothing that is open
        if sys.platform != "win32" and _is_named(path, held[0]):
            path.unlink()
    _close(held)
    if sys.platform == "win32":
        with suppress(OSError):
            path.unlink()


def _close(held: list[int]) -> None:
    while held:
        os.close(held.pop())
