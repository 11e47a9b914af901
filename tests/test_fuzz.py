"""The fuzz harness (tools/fuzz): it finds what it should, and every reader stands its first inputs."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from compnet3d.errors import CompNetError
from tools.fuzz.engines import Bench, Record, run_hypothesis
from tools.fuzz.judge import Limits, judge
from tools.fuzz.mutate import Seed, change, edit_json, rezip
from tools.fuzz.targets import TARGETS, Target


def refuse(*message: str) -> None:
    raise CompNetError(*message)


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda: None, "read"),
        (lambda: refuse("a.off: is broken; make it again"), "refused"),
        (lambda: refuse("two\nlines"), "not one sentence: "),
        (lambda: refuse(""), "not one sentence: "),
        (lambda: 1 // 0, "ZeroDivisionError at test_fuzz.py:"),
        (lambda: time.sleep(0.06), "took 0.1 s"),
        (lambda: bytearray(80 * 2**20), "took "),
    ],
)
def test_a_verdict_says_what_is_wrong(read: Callable[[], object], outcome: str) -> None:
    verdict = judge(read, Limits(seconds=0.05, megabytes=50))
    assert verdict.outcome.startswith(outcome) and verdict.is_finding == (outcome not in ("read", "refused"))


def test_changes_are_those_that_are_asked_for() -> None:
    assert change(b"abcd", [("flip", 0.5, 0, b"")]) == b"abbd"
    assert change(b"abcd", [("set", 0.0, 65, b"")]) == b"Abcd"
    assert change(b"abcd", [("insert", 0.5, 0, b"xy")]) == b"abxycd"
    assert change(b"abcd", [("cut", 0.25, 1, b"")]) == b"ad"
    assert change(b"abcd", [("end", 0.75, 0, b"")]) == b"abc"
    assert change(b"abcd", [("copy", 0.0, 2, b"")]) == b"ababcd"
    assert change(b"abcdef", [("word", 0.0, 258, b"")]) == b"\x00\x00\x01\x02ef"
    assert change(b"", [("flip", 0.5, 0, b""), ("set", 0.5, 0, b""), ("cut", 0.5, 0, b"")]) == b""
    tree = b'{"a": [1, 2], "b": 3}'
    assert json.loads(edit_json(tree, [(3, "set", None)])) == {"a": [1, 2], "b": None}
    assert json.loads(edit_json(tree, [(1, "drop", None)])) == {"a": [2], "b": 3}
    assert json.loads(edit_json(tree, [(3, "rename", "c")])) == {"a": [1, 2], "c": 3}
    inner: list[object] = []
    assert json.loads(edit_json(tree, [(3, "set", inner), (3, "set", [inner])])) == {"a": [1, 2], "b": [[]]}
    assert json.loads(edit_json(tree, [(3, "set", [inner]), (4, "set", inner), (5, "set", inner)])) and inner == []
    assert json.loads(edit_json(tree, [(2, "repeat", None)])) == {"a": [1, 2, 2, 2], "b": 3}


def test_an_archive_stays_one() -> None:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", b"abc")
    with zipfile.ZipFile(BytesIO(rezip(stream.getvalue(), lambda entry: entry[::-1]))) as made:
        assert made.read("a.npy") == b"cba" and made.testzip() is None


def test_what_a_reader_does_wrong_is_found_and_kept(tmp_path: Path) -> None:
    def read(folder: Path) -> None:
        if (folder / "a").read_bytes().startswith(b"ab") is False:
            raise KeyError("x")

    target = Target("planted", lambda folder: [Seed("a", b"abcdefgh")], read)
    record = Record(tmp_path / "record.json", tmp_path / "found")
    (tmp_path / "files").mkdir()
    run_hypothesis(Bench(target, tmp_path / "files", record), inputs=300, seconds=30, number=0)
    assert record.total == 300 and json.loads((tmp_path / "record.json").read_text())["counts"] == record.counts
    (finding,) = [outcome for outcome in record.counts if outcome != "read"]
    assert finding.startswith("KeyError at test_fuzz.py") and record.counts["read"] > 20
    (kept,) = [path for path in (tmp_path / "found").iterdir() if path.suffix != ".txt"]
    assert not kept.read_bytes().startswith(b"ab")
    assert (tmp_path / "files" / "a").read_bytes() == b"abcdefgh"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_every_reader_stands_its_first_inputs(target: Target, tmp_path: Path) -> None:
    """Time and memory are for the harness, which runs alone."""
    record = Record(tmp_path / "record.json", tmp_path / "found")
    (tmp_path / "files").mkdir()
    loose = Target(target.name, target.prepare, target.read, limits=Limits(seconds=60, megabytes=2000))
    run_hypothesis(Bench(loose, tmp_path / "files", record), inputs=25, seconds=60, number=0)
    assert set(record.counts) <= {"read", "refused"}
    assert record.counts["refused"] or target.name == "data check"  # which counts what it finds
