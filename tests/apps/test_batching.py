"""One thread for many tasks: order, batches, faults, tasks given up, the end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from compnet3d.apps.batching import Batcher, Waiting

Batch = Sequence[Waiting[int, int]]


class Held:
    """Work that tells when it has begun and then waits to be let on."""

    def __init__(self) -> None:
        self.begun: queue.Queue[list[int]] = queue.Queue()
        self.let_on = threading.Semaphore(0)

    def __call__(self, batch: Batch) -> list[int | Exception]:
        self.begun.put([one.task for one in batch])
        assert self.let_on.acquire(timeout=30)
        return [ValueError(str(one.task)) if one.task < 0 else 10 * one.task for one in batch]


@pytest.fixture
def held() -> Iterator[Held]:
    work = Held()
    yield work
    for _ in range(100):
        work.let_on.release()


def start(work: Any, size: int) -> Batcher[int, int]:
    return Batcher(work, size=size, patience=0.0)


def test_what_waits_is_taken_together_up_to_the_size(held):
    batcher = start(held, size=4)
    first = batcher.submit(0)
    assert held.begun.get(timeout=30) == [0]
    # while that one is computed, these come: weights 1 + 3 reach 4, and so does 5 alone
    answers = [batcher.submit(task, weight) for task, weight in ((1, 1), (2, 3), (3, 5), (4, 1))]
    held.let_on.release()
    for expected in ([1, 2], [3], [4]):
        assert held.begun.get(timeout=30) == expected
        held.let_on.release()
    assert [future.result(timeout=30) for future in [first, *answers]] == [0, 10, 20, 30, 40]
    batcher.close()


def test_a_task_that_fails_leaves_the_others_theirs(held):
    batcher = start(held, size=9)
    for _ in range(2):
        held.let_on.release()
    batcher.submit(0).result(timeout=30)
    answers = [batcher.submit(task) for task in (1, -2, 3)]
    for _ in range(2):
        held.let_on.release()
    assert answers[0].result(timeout=30) == 10 and answers[2].result(timeout=30) == 30
    with pytest.raises(ValueError, match="-2"):
        answers[1].result(timeout=30)
    batcher.close()


def test_work_that_breaks_down_is_an_answer_and_not_the_end():
    def breaks(batch: Batch) -> list[int | Exception]:
        if any(one.task < 0 for one in batch):
            raise RuntimeError("broken")
        return [one.task for one in batch]

    batcher = start(breaks, size=1)
    with pytest.raises(RuntimeError, match="broken"):
        batcher.submit(-1).result(timeout=30)
    assert batcher.submit(7).result(timeout=30) == 7 and batcher.alive
    batcher.close()
    assert not batcher.alive


def test_a_task_that_was_given_up_is_not_computed(held):
    batcher = start(held, size=9)
    running = batcher.submit(0)
    assert held.begun.get(timeout=30) == [0]
    dropped, kept = batcher.submit(1), batcher.submit(2)
    assert dropped.cancel()
    # also one that is being computed can be: its answer goes nowhere
    assert running.cancel()
    held.let_on.release()
    assert held.begun.get(timeout=30) == [2]
    held.let_on.release()
    assert kept.result(timeout=30) == 20
    batcher.close()


def test_the_end_answers_what_was_submitted():
    batcher = start(lambda batch: [10 * one.task for one in batch], size=3)
    answers = [batcher.submit(task) for task in range(50)]
    batcher.close()
    assert [future.result(timeout=0) for future in answers] == [10 * task for task in range(50)]


def test_answers_of_many_threads_are_their_own():
    batcher = start(lambda batch: [10 * one.task for one in batch], size=5)

    def ask(thread: int) -> list[Future[int]]:
        return [batcher.submit(100 * thread + number) for number in range(100)]

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(8)))
    for thread, futures in enumerate(answers):
        assert [future.result(timeout=30) for future in futures] == [10 * (100 * thread + n) for n in range(100)]
    batcher.close()
