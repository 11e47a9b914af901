from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compnet3d.errors import CompNetError
from compnet3d.utils.files import (
    read_bytes,
    read_json,
    recover_folder,
    write_bytes,
    write_folder,
    write_json,
    write_text,
)


def fill_with(text: str) -> Any:
    def fill(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "a.txt").write_text(text)
        (folder / "inner" / "b.txt").write_text(text)

    return fill


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "model"
    write_folder(folder, fill_with("one"))
    (folder / "stale.txt").touch()
    write_folder(folder, fill_with("two"))
    assert contents(folder) == {"a.txt": "two", "inner/b.txt": "two"}
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("stage", ["before", "half-way", "at the end"])
def test_a_full_disk_keeps_the_earlier_folder(tmp_path: Path, stage: str) -> None:
    folder = tmp_path / "model"
    write_folder(folder, fill_with("one"))

    def fill(target: Path) -> None:
        if stage != "before":
            (target / "a.txt").write_text("tw")
        if stage == "at the end":
            fill_with("two")(target)
        no_space()

    with pytest.raises(CompNetError, match=f"^{folder}: no space left on the disk; free some[^\n]+$"):
        write_folder(folder, fill)
    assert contents(folder) == {"a.txt": "one", "inner/b.txt": "one"}
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_any_error_while_filling_keeps_the_earlier_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_folder(folder, fill_with("one"))
    for error in (ZeroDivisionError(), KeyboardInterrupt(), CompNetError("no")):

        def fill(target: Path, error: BaseException = error) -> None:
            (target / "a.txt").touch()
            raise error

        with pytest.raises(type(error)):
            write_folder(folder, fill)
        assert contents(folder) == {"a.txt": "one", "inner/b.txt": "one"}
        assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("call", range(3))
def test_a_crash_at_any_rename_leaves_a_folder_to_recover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Whatever survives a power cut between two steps is the old folder or the new one, whole."""
    folder, done, rename = tmp_path / "model", [0], Path.rename
    write_folder(folder, fill_with("one"))

    class PowerCut(BaseException):
        pass

    def cut(self: Path, target: Path) -> Path:
        if done[0] == call:
            raise PowerCut
        done[0] += 1
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", cut)
        if call < 2:
            with pytest.raises(PowerCut):
                write_folder(folder, fill_with("two"))
        else:
            write_folder(folder, fill_with("two"))
    assert recover_folder(folder) == folder
    text = "two" if call == 2 else "one"
    assert contents(folder) == {"a.txt": text, "inner/b.txt": text}
    write_folder(folder, fill_with("three"))
    assert contents(folder)["a.txt"] == "three" and [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_keeps_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"accuracy": 1})
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(CompNetError, match=f"^{path}: no space left on the disk; free some"):
        write_json(path, {"accuracy": 2})
    assert read_json(path) == {"accuracy": 1} and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("here", [".", "", "./", "ABSOLUTE"])
def test_the_folder_that_we_run_in_is_not_replaced(here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(tmp_path) if here == "ABSOLUTE" else here
    before = tmp_path.stat().st_ino
    assert recover_folder(folder) == Path(folder)
    with pytest.raises(CompNetError, match="is where this command runs and cannot be replaced"):
        write_folder(folder, fill_with("one"))
    # a shell in it still sees what is there
    assert tmp_path.stat().st_ino == before and not list(tmp_path.iterdir())
    assert not list(tmp_path.parent.glob(".*.new-*"))


@pytest.mark.parametrize("place", [".", "/", ""])
def test_a_place_without_a_name_takes_no_file(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CompNetError, match="is a folder; give the name of a file"):
        write_bytes(place, b"x")


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "x", tmp_path / "file" / "deep" / "x"):
        for write in (lambda p: write_text(p, "a"), lambda p: write_folder(p, fill_with("a"))):
            with pytest.raises(CompNetError, match=f"^{place}: cannot be written[^\n]+choose another place"):
                write(place)
    (tmp_path / "folder").mkdir()
    with pytest.raises(CompNetError, match="cannot be written"):
        write_text(tmp_path / "folder", "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(value=JSON)
def test_json_survives_the_round_trip(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("json") / "value.json"
    write_json(path, value)
    assert read_json(path) == value == json.loads(path.read_text(encoding="utf-8"))


def test_files_that_are_no_json_are_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(CompNetError, match=f"^{path}: cannot be read"):
        read_json(path)
    for body in (b"", b"{", b"\xff\xfe{}", b"[1,"):
        path.write_bytes(body)
        with pytest.raises(CompNetError, match=f"^{path}: is not valid JSON"):
            read_json(path)
    with pytest.raises(CompNetError, match="cannot be read"):
        read_json(tmp_path)
    for text in ("[" * 100_000, "1" * 5000):  # deeper, and longer, than Python's parser goes
        path.write_text(text)
        with pytest.raises(CompNetError, match=f"^{path}: is not valid JSON"):
            read_json(path)


def test_a_file_of_the_limits_size_is_read_and_a_larger_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "some"
    path.write_bytes(b"x" * 1000)
    assert read_bytes(path, 1000) == b"x" * 1000
    with pytest.raises(CompNetError, match=f"^{path}: has 1,000 bytes, more than the limit of 999"):
        read_bytes(path, 999)
    path.write_bytes(b"")
    assert read_bytes(path, 0) == b""
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A FIFO without a writer would hang, and a device never ends."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("fifo", "zero"):
        with pytest.raises(CompNetError, match=f"^{tmp_path / name}: is not a regular file"):
            read_bytes(tmp_path / name)
    # no size is known of this one before it is read
    with pytest.raises(CompNetError, match="more than the limit of 3"):
        read_bytes("/proc/self/status", 3)
