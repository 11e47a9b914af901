"""The same work on many items, by several processes; what comes out does not depend on their number."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
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
) -> Generator[R, None, None]:
    """The results of the work on each item, in the items' order; closing it ends the processes.

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
    others = set(multiprocessing.active_children())
    # closed when this process ends, however it does
    theirs, ours = context.Pipe(duplex=False)
    # small chunks, so that one slow item does not leave the other workers idle at the end
    size = max(1, min(16, len(items) // (4 * count)))
    with theirs, ours, ProcessPoolExecutor(count, context, _begin, (work, theirs)) as pool:
        try:
            with _undisturbed():
                chunks = deque(pool.submit(_call, items[start : start + size]) for start in range(0, len(items), size))
            # not pool.map: it cancels what is not done yet, and Python then complains of processes that have ended
            while chunks:
                yield from chunks.popleft().result()
        except BrokenProcessPool:
            raise CompNetError(
                f"one of {count} processes ended too early: for want of memory, or because they cannot import what "
                "they are to do (a script needs `if __name__ == '__main__':`); ask for one worker"
            ) from None
        except BaseException:
            # now, not when they are done with what they have; not by the pipe, which they may not know yet
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise


@contextmanager
def explaining_lost_loaders() -> Iterator[None]:
    """Say in one sentence that a process which prepares images, one of a `DataLoader`, has ended.

    PyTorch raises its RuntimeError wherever the program happens to be then.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "DataLoader worker (pid" not in text and "shared memory" not in text:
            raise
        raise CompNetError(
            "a process that prepares images has ended, for want of memory or of shared memory (/dev/shm); give more, "
            "such as with docker run --shm-size=2g, or take --workers 0 (a training goes on with --resume)"
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


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Start processes whole, and so that Ctrl-C does not reach them: it reaches this one, which ends them.

    One that is interrupted between a process and what it is told would leave that with an error on the terminal.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(work: Callable[[Any], Any], parent: Connection) -> None:
    global _work
    _work = work
    if sys.platform != "win32":
        # inherited from `_undisturbed`; the pool ends its processes by this signal
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Connection) -> None:
    with suppress(EOFError, OSError):
        parent.recv_bytes()  # nothing ever comes
    os._exit(1)


def _call(items: Sequence[Any]) -> list[Any]:
    return [_work(item) for item in items]
