"""The same work on many items, by several processes; what comes out does not depend on their number."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from compnet3d.errors import CompNetError

T = TypeVar("T")
R = TypeVar("R")
# a global of each worker, set once: sent along with every item, a data set's occluders would be pickled thousands of
# times
_work: Callable[[Any], Any]  # in a worker: what it does


def spread_out(
    work: Callable[[T], R], items: Sequence[T], workers: int | None = None, *, worthwhile: int = 1
) -> Iterator[R]:
    """The results of the work on each item, in the items' order.

    Args:
        work: is sent to each process once, so it must be a function of a module or an object that can be pickled,
            unless it is done here.
        items: what to work on.
        workers: processes; 1 works in this one. None takes one per core, as far as each has enough to do.
        worthwhile: how many items are worth another process, where `workers` is None.

    Raises:
        CompNetError: if a process dies; and what `work` raises.
    """
    if workers is None:
        count = min(available_cores(), len(items) // worthwhile)
    else:
        count = min(max(1, workers), len(items))
    if count <= 1:
        yield from _here(work, items)
        return
    import multiprocessing

    # a forked process would inherit the locks of PyTorch's threads, and may wait for them for ever
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(work,)) as pool:
        try:
            # in the items' order; small chunks, so that one slow item does not leave the other workers idle at the end
            yield from pool.map(_call, items, chunksize=max(1, min(16, len(items) // (4 * count))))
        except BrokenProcessPool:
            raise CompNetError(
                f"one of {count} processes ended too early: for want of memory, or because they cannot import what "
                "they are to do (a script needs `if __name__ == '__main__':`); ask for one worker"
            ) from None


def available_cores() -> int:
    """How many of the machine's cores this process may use."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


def _here(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    # as in the workers: sums over several threads may differ in the last bit, and results must not depend on the number
    # of workers
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from map(work, items)
    finally:
        torch.set_num_threads(threads)


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    torch.set_num_threads(1)


def _call(item: Any) -> Any:
    return _work(item)
