"""Jobs in shards: the same bytes as one job, in any order, whoever ends last, and nothing left beside the folder."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compnet3d.cli import main as cli
from compnet3d.errors import CompNetError
from compnet3d.utils.shards import Shard, build_in_shards, missing_shards, shards_folder


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@given(st.integers(0, 50), st.integers(1, 60))
def test_the_shares_one_after_the_other_are_all_items(items: int, count: int) -> None:
    shares = [list(Shard(index, count).of(range(items))) for index in range(1, count + 1)]
    assert [item for share in shares for item in share] == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "1", "a/b", "1/2/3", "-1/4", "1.0/2", "", "1/ 2"])
def test_what_is_no_shard_is_refused_in_a_sentence(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CompNetError, match=r"I/N"):
        Shard.parse(text)
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "make", str(tmp_path / "out"), f"--shard={text}"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "I/N" in error and not any(tmp_path.iterdir())


def test_a_shard_is_counted_from_one() -> None:
    assert Shard.parse("2/8") == Shard(2, 8) and str(Shard(2, 8)) == "2/8" and Shard.parse(None) == Shard(1, 1)


class Job:
    """Writes a file for each number, and a list of all at the end."""

    def __init__(self, out: Path, numbers: int = 10) -> None:
        self.out, self.numbers, self.worked = out, range(numbers), 0

    def run(self, shard: Shard, stop: bool = False, **settings: Any) -> None:
        def work(root: Path) -> list[Any]:
            self.worked += 1
            share = shard.of(self.numbers)
            for number in share:
                (root / f"{number}.txt").write_text(str(number))
                if stop:
                    (root / ".9.txt.new-1").write_text("half")
                    raise KeyboardInterrupt
            return [{"square": number**2, "third": number / 3} for number in share]

        def finish(root: Path, entries: Any) -> None:
            (root / "CAD").mkdir(exist_ok=True)
            (root / "CAD" / "all.txt").write_text(repr(entries))

        build_in_shards(self.out, shard, settings, work, finish)


def test_shards_in_any_order_make_what_one_job_makes(tmp_path: Path) -> None:
    Job(tmp_path / "whole").run(Shard())
    job, shards = Job(tmp_path / "out"), [Shard(index, 4) for index in range(1, 5)]
    random.Random(3).shuffle(shards)
    for done, shard in enumerate(shards):
        assert not (tmp_path / "out").exists()
        job.run(shard)
        job.run(shard) if done < 3 else None
        assert missing_shards(tmp_path / "out") == sorted(shards[done + 1 :], key=lambda one: one.index)
    assert job.worked == 4  # what was done is not done again
    assert everything(tmp_path / "out") == everything(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]
    with pytest.raises(CompNetError, match="is not an empty folder"):
        job.run(shards[0])


def test_a_shard_that_was_stopped_is_done_anew(tmp_path: Path) -> None:
    Job(tmp_path / "whole").run(Shard())
    job = Job(tmp_path / "out")
    job.run(Shard(2, 2))
    with pytest.raises(KeyboardInterrupt):
        job.run(Shard(1, 2), stop=True)
    assert missing_shards(tmp_path / "out") == [Shard(1, 2)]
    job.run(Shard(1, 2))
    assert everything(tmp_path / "out") == everything(tmp_path / "whole")


def test_a_crash_while_the_last_one_finishes_is_made_good_by_any(tmp_path: Path, monkeypatch: Any) -> None:
    Job(tmp_path / "whole").run(Shard())
    job = Job(tmp_path / "out")
    job.run(Shard(1, 2))
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        job.run(Shard(2, 2))
    monkeypatch.setattr(Path, "rename", rename)
    job.run(Shard(1, 2))
    assert everything(tmp_path / "out") == everything(tmp_path / "whole") and job.worked == 2
    # killed between the last rename and the removal of what shards noted
    shards_folder(tmp_path / "out").mkdir()
    (shards_folder(tmp_path / "out") / "settings.json").write_text('{"shards": 2}')
    with pytest.raises(CompNetError, match="is not an empty folder"):
        job.run(Shard(1, 2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_other_settings_and_the_same_shard_at_work_are_refused(tmp_path: Path) -> None:
    job = Job(tmp_path / "out")
    job.run(Shard(1, 3), seed=1, path=tmp_path)
    with pytest.raises(CompNetError, match=r"shards of a run with other settings \(seed\)"):
        job.run(Shard(2, 3), seed=2, path=tmp_path)
    with pytest.raises(CompNetError, match=r"shards of a run with other settings \(shards\)"):
        job.run(Shard(2, 4), seed=1, path=tmp_path)

    def again(root: Path) -> list[Any]:
        with pytest.raises(CompNetError, match=r"out \(shard 2/3\): process .* is writing there"):
            job.run(Shard(2, 3), seed=1, path=tmp_path)
        return []

    build_in_shards(tmp_path / "out", Shard(2, 3), {"seed": 1, "path": tmp_path}, again, lambda *_: None)


def test_shards_that_end_at_the_same_moment_wait_for_each_other(tmp_path: Path) -> None:
    Job(tmp_path / "whole").run(Shard())
    ready, errors = threading.Barrier(8), []

    def one(index: int) -> None:
        try:
            ready.wait()
            Job(tmp_path / "out").run(Shard(index, 8))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(index,)) for index in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and everything(tmp_path / "out") == everything(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


COMMANDS = {
    "make": "{out} --categories 3 --train 3 --val 2 --size 32",
    "render": "{out} --cad {data}/CAD --train 3 --val 2 --size 32",
    "occlude": "{data} {out} --level L1",
    "corrupt": "{data} {out} --corruption fog",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_make_the_same_bytes_in_shards(
    command: str, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    def run(out: str, *more: str) -> str:
        words = [word.format(data=tiny_data, out=tmp_path / out) for word in COMMANDS[command].split()]
        cli.main(["data", command, *words, "--workers", "1", *more])
        return capsys.readouterr().out

    run("whole")
    for shard in ("3/3", "1/3"):
        printed = run("out", "--shard", shard)
    assert f"this shard is done; 1 shard is missing before {tmp_path / 'out'} is made: 2/3" in printed
    assert not (tmp_path / "out").exists()
    assert "is missing" in run("out", "--shard", "1/3")
    assert f"the data set is in {tmp_path / 'out'}" in run("out", "--shard", "2/3")
    whole = everything(tmp_path / "whole")
    assert everything(tmp_path / "out") == whole and len(whole) > 16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]
