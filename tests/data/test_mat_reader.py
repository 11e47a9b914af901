"""The reader of .mat files: it dies, hangs and answers nonsense, and its files alone are unreadable."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from compnet3d.data import mat_child
from compnet3d.data.mat_child import plain_record
from compnet3d.data.mat_reader import MatReader
from compnet3d.errors import CompNetError

STAND_IN = """
import os, sys, time
sys.path.insert(0, {folder!r})
from mat_child import receive, send
answers = os.fdopen(os.dup(1), "wb")
if {start}:
    send(answers, b"{{}}")
while (data := receive(sys.stdin.buffer)) is not None:
    if data == b"die":
        os._exit(3)
    if data == b"sleep":
        time.sleep(60)
    send(answers, data if data.startswith(b"{{") else b'{{"error": "no record"}}')
"""


def record(**changes: Any) -> bytes:
    fields = {"azimuth": 90.0, "elevation": 10.0, "theta": 0.0, "distance": 5.0, "px": 3.0, "py": 4.0, "focal": 1.0}
    entry = {"class": "car", "bbox": np.array([1.0, 2, 3, 4]), "viewpoint": fields | {"viewport": 3000}, "cad_index": 2}
    file = io.BytesIO()
    savemat(file, {"record": {"imgsize": np.array([[40, 30, 3]]), "objects": entry | changes}})
    return file.getvalue()


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of the child: it dies, sleeps, or answers with what it is sent."""
    path = tmp_path / "stand_in.py"
    path.write_text(STAND_IN.format(folder=str(Path(mat_child.__file__).parent), start=True))
    monkeypatch.setattr(mat_child, "__file__", str(path))
    return path


def file(folder: Path, data: bytes) -> Path:
    path = folder / "a.mat"
    path.write_bytes(data)
    return path


def pid(reader: MatReader) -> int:
    assert reader._process is not None
    return reader._process.pid


def is_running(number: int) -> bool:
    try:
        os.kill(number, 0)
    except OSError:
        return False
    return True


def test_only_plain_values_come_back(tmp_path: Path) -> None:
    data = record(occluded=np.uint8(1), bbox=np.zeros((5, 5)), cad_index="two", anchors=np.zeros((9, 9)))
    with MatReader() as reader:
        first = reader.read(file(tmp_path, data))
        assert first == plain_record(data) and first["imgsize"] == [40, 30, 3]
        (entry,) = first["objects"]
        assert set(entry) == {"class", "viewpoint", "occluded"} and entry["viewpoint"]["azimuth"] == 90.0
        number = pid(reader)
        assert np.isnan(reader.read(file(tmp_path, record(cad_index=np.nan)))["objects"][0]["cad_index"])
        assert pid(reader) == number, "one process serves many files"
        for name in (b"", b"no file", data[:300]):
            with pytest.raises(CompNetError, match=r"a\.mat is not a readable PASCAL3D\+ annotation"):
                reader.read(file(tmp_path, name))
        assert pid(reader) == number


def test_a_death_is_of_one_file(tmp_path: Path, stand_in: Path) -> None:
    with MatReader(seconds=1.0) as reader:
        for bad in (b"die", b"sleep", b"nothing"):
            before = pid(reader) if reader._process else 0
            with pytest.raises(CompNetError, match="a.mat is not a readable"):
                reader.read(file(tmp_path, bad))
            assert before == 0 or bad == b"nothing" or not is_running(before)
            assert reader.read(file(tmp_path, b'{"objects": []}')) == {"objects": []}
        number = pid(reader)
    assert not is_running(number)


def test_no_process_is_left_after_an_interruption(
    tmp_path: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MatReader() as reader:
        number = pid(reader)

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(mat_child, "receive", interrupted)
            with pytest.raises(KeyboardInterrupt):
                reader.read(file(tmp_path, b'{"objects": [1]}'))
        assert not is_running(number)
        # the answer that nobody waited for is not taken for the next one
        assert reader.read(file(tmp_path, b'{"objects": [2]}')) == {"objects": [2]}


def test_a_reader_that_cannot_start_is_one_sentence(stand_in: Path) -> None:
    stand_in.write_text("raise SystemExit(1)")
    with pytest.raises(CompNetError, match="cannot be started"):
        with MatReader():
            pass


def test_names_and_sizes_that_no_record_has_are_refused(tmp_path: Path, stand_in: Path) -> None:
    path = file(tmp_path, b"")
    os.truncate(path, 17 * 2**20)
    with MatReader() as reader:
        for bad in (path, tmp_path / "missing.mat", tmp_path / "a\0.mat", tmp_path / ("x" * 300), tmp_path):
            with pytest.raises(CompNetError, match=r"mat|x{300}|test_names"):
                reader.read(bad)


@pytest.fixture(scope="module")
def reader() -> Iterator[MatReader]:
    with MatReader() as made:
        yield made


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0.1, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3))
def test_changed_bytes_give_a_record_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, reader: MatReader, places: list[tuple[float, int]]
) -> None:
    data = bytearray(record())
    for place, value in places:
        data[int(place * len(data))] = value
    start = time.monotonic()
    try:
        assert isinstance(reader.read(file(tmp_path_factory.mktemp("mat"), bytes(data)))["objects"], list)
    except CompNetError as error:
        assert "a.mat" in str(error)
    assert time.monotonic() - start < 30
