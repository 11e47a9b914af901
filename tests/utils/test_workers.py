"""Work that several processes share."""

from __future__ import annotations

import os
import time

import pytest
import torch

from compnet3d.errors import CompNetError
from compnet3d.utils.workers import spread_out


def slow_square(number: int) -> tuple[int, int, int]:
    time.sleep(0.02 * (number % 3))  # later items are done before earlier ones
    return number, number**2, os.getpid()


def refuse_seven(number: int) -> int:
    if number == 7:
        raise CompNetError("seven.png is broken")
    return number


def die(number: int) -> int:
    os._exit(1)


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
