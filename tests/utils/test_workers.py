"""Work that several processes share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compnet3d.errors import CompNetError
from compnet3d.utils.workers import explaining_lost_loaders, spread_out


def slow_square(number: int) -> tuple[int, int, int]:
    time.sleep(0.02 * (number % 3))  # later items are done before earlier ones
    return number, number**2, os.getpid()


def refuse_seven(number: int) -> int:
    if number == 7:
        raise CompNetError("seven.png is broken")
    return number


def die(number: int) -> int:
    os._exit(1)


def note_and_wait(folder: str) -> None:
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happens"
        time.sleep(0.05)


def lives(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_results_come_in_order_from_every_process() -> None:
    results = list(spread_out(slow_square, range(40), 2))
    assert [(n, square) for n, square, _ in results] == [(n, n * n) for n in range(40)]
    processes = {process for *_, process in results}
    assert len(processes) <= 2 and os.getpid() not in processes


@pytest.mark.parametrize(("count", "workers"), [(0, None), (0, 2), (1, 2), (5, 1), (31, None)])
def test_little_work_is_done_here(count: int, workers: int | None) -> None:
    before = torch.get_num_threads()
    results = list(spread_out(slow_square, range(count), workers, worthwhile=32))
    assert [n for n, *_ in results] == list(range(count))
    assert {process for *_, process in results} <= {os.getpid()} and torch.get_num_threads() == before


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_arrives_as_it_was_raised(workers: int) -> None:
    with pytest.raises(CompNetError, match=r"^seven\.png is broken$"):
        list(spread_out(refuse_seven, range(20), workers))


def test_a_killed_process_is_reported() -> None:
    with pytest.raises(CompNetError, match="one of 2 processes ended too early"):
        list(spread_out(die, range(4), 2))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux who lives")
@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, signal_: signal.Signals) -> None:
    """Ctrl-C reaches all of them in a terminal: the others say nothing of it."""
    code = (
        "from compnet3d.utils.workers import spread_out; from tests.utils.test_workers import note_and_wait; "
        f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"list(spread_out(note_and_wait, [{str(tmp_path)!r}] * 2, 2))"
    )
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ, start_new_session=True)
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    others = [int(path.name) for path in tmp_path.iterdir()]
    if signal_ == signal.SIGINT:
        os.killpg(process.pid, signal_)
    else:
        process.send_signal(signal_)
    _, said = process.communicate(timeout=30)
    wait_until(lambda: not any(lives(other) for other in others), 20)
    assert said.count("Traceback") == (signal_ == signal.SIGINT), said  # that of the one that was asked


def test_a_lost_process_that_prepares_images_is_one_sentence() -> None:
    for text in (
        "DataLoader worker (pid 7) is killed by signal: Killed. ",
        "DataLoader worker (pid(s) 7) exited unexpectedly",
        "Caught RuntimeError in DataLoader worker process 0.\nunable to allocate shared memory(shm) for file </t>",
    ):
        with pytest.raises(CompNetError, match="--workers 0"), explaining_lost_loaders():
            raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="in DataLoader worker process"), explaining_lost_loaders():
        raise RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nRuntimeError: a mistake")
