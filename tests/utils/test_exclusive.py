"""One command at a time in a folder: a lock that ends with its process, and nothing left of killed ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compnet3d.errors import CompNetError
from compnet3d.utils.exclusive import building, exclusive, require_empty, scratch_folder
from compnet3d.utils.files import claim_folder

HOLD = "from compnet3d.utils.exclusive import *; import sys, time\nwith {}:\n print('in', flush=True); time.sleep(60)"


@contextmanager
def another(context: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that is in a context, such as `exclusive('x')`, until it is killed."""
    command = [sys.executable, "-c", HOLD.format(context)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert process.stdout is not None and process.stdout.readline() == "in\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_process_is_refused_at_once_and_a_dead_one_stands_in_nobodys_way(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with another(f"exclusive({str(run)!r})") as process:
        (run / f".model.new-{process.pid}").mkdir()
        started = time.monotonic()
        with pytest.raises(CompNetError, match=f"^{run}: process {process.pid} on .* is writing there"), exclusive(run):
            pytest.fail("both are in")
        assert time.monotonic() - started < 5
        assert names(run) == [".compnet3d-lock", f".model.new-{process.pid}"]
    assert names(run) == [".compnet3d-lock", f".model.new-{process.pid}"]
    with exclusive(run):  # it was killed
        assert names(run) == [".compnet3d-lock"]
    assert not any(run.iterdir())


def test_two_processes_do_not_make_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "data"
    with another(f"building({str(out)!r})") as process:
        with pytest.raises(CompNetError, match=rf"^{out}: process {process.pid} .*is writing"):
            require_empty(out)
        with pytest.raises(CompNetError, match=rf"^{out}: process {process.pid} .*is writing"), building(out):
            pytest.fail("both are in")
        assert names(tmp_path) == [".data.compnet3d-lock", f".data.new-{process.pid}"]
    with building(out) as folder:
        (folder / "a").write_text("mine")
    assert names(tmp_path) == ["data"] and names(out) == ["a"]
    with pytest.raises(CompNetError, match="is not an empty folder"), building(out):
        pytest.fail("it holds something")
    assert names(tmp_path) == ["data"] and (out / "a").read_text() == "mine"


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error), exclusive(tmp_path / "deep" / "run"):
            raise error
        with pytest.raises(error), building(tmp_path / "deep" / "data"):
            raise error
        assert names(tmp_path) == []
    with pytest.raises(KeyboardInterrupt), exclusive(tmp_path / "run"):
        (tmp_path / "run" / "checkpoint").touch()
        raise KeyboardInterrupt
    assert names(tmp_path / "run") == ["checkpoint"]


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    reading, writing = os.pipe()
    with exclusive(tmp_path / "run"):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # lives on
            os._exit(0)
    os.close(reading)
    with exclusive(tmp_path / "run"):
        pass
    os.close(writing)
    os.waitpid(child, 0)


def test_only_temporaries_of_dead_processes_are_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    kept = [f".a.new-{os.getppid()}", ".a.new-x", f"a.new-{ended.pid}", f".a.newer-{ended.pid}", "b"]
    for name in (*kept, f".a.new-{ended.pid}", f".a.new-{os.getpid()}"):
        (tmp_path / name).touch()
    with exclusive(tmp_path):
        assert names(tmp_path) == sorted([*kept, ".compnet3d-lock"])
    assert names(tmp_path) == sorted(kept)


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_places_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "nowhere").symlink_to("none")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("file", "nowhere", "loop"):
        for attempt in (exclusive, building):
            with pytest.raises(CompNetError, match=f"^{tmp_path / name}[: ]"), attempt(tmp_path / name):
                pytest.fail("in")
    for attempt in (exclusive, building):
        with pytest.raises(CompNetError, match="cannot be written"), attempt(tmp_path / "file" / "x" / "y"):
            pytest.fail("in")
    # a lock file that is a link would have its target overwritten
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".compnet3d-lock").symlink_to(tmp_path / "file")
    with pytest.raises(CompNetError, match="cannot be written"), exclusive(tmp_path / "run"):
        pytest.fail("in")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_the_folder_that_we_run_in_is_not_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for here in (".", str(tmp_path)):
        with pytest.raises(CompNetError, match="is where this command runs"), building(here):
            pass
    assert not list(tmp_path.iterdir())


def test_a_link_to_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    with building(tmp_path / "out") as folder:
        (folder / "a").touch()
    assert names(tmp_path) == ["disk", "out"] and names(tmp_path / "out") == ["a"]


def test_a_lost_source_is_named_and_nothing_stays(tmp_path: Path) -> None:
    source = tmp_path / "source.off"
    with pytest.raises(CompNetError, match=f"^{source}: cannot be read"), building(tmp_path / "out"):
        source.read_text()
    assert names(tmp_path) == []


def test_scratch_folders_of_killed_processes_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "compnet3d-run").mkdir()
    (tmp_path / "compnet3d-run" / ".compnet3d-lock").write_text("process 1")  # of a run whose folder lies there
    with another("scratch_folder()") as living:
        with another("scratch_folder()"):
            pass
        assert len(names(tmp_path)) == 3
        with scratch_folder() as own:
            assert living.poll() is None
            others = set(names(tmp_path)) - {own.name, "compnet3d-run"}
            assert len(others) == 1
    with scratch_folder() as own:
        assert names(tmp_path) == sorted(["compnet3d-run", own.name])
    assert names(tmp_path) == ["compnet3d-run"]


def test_a_folder_is_claimed_under_its_lock(tmp_path: Path) -> None:
    with exclusive(tmp_path / "study"):
        claim_folder(tmp_path / "study" / "study.json", {"seed": 0}, "a study")
    assert names(tmp_path / "study") == ["study.json"]
