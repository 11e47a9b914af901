"""One thread does the work of many: what waits is taken together."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Task = TypeVar("Task")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Waiting(Generic[Task, Answer]):
    """A task that waits for its answer.

    Attributes:
        task: what is asked; weight: how much of a batch it takes.
        answer: cancelling it gives the task up.
    """

    task: Task
    weight: int
    answer: Future[Answer] = field(default_factory=Future)

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.answer.cancelled()


class Batcher(Generic[Task, Answer]):
    """Hands tasks to one thread, in the order in which they came, several at a time.

    Nothing bounds how many wait: whoever submits does.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Waiting[Task, Answer]]], Sequence[Answer | Exception]],
        *,
        size: int,
        patience: float = 0.005,
    ) -> None:
        """Start the thread.

        Args:
            work: the answer of each task, or why it has none.
            size: tasks are taken until their weights reach this.
            patience: how many seconds a batch that is not full waits for one more task, at least; after a batch of
                several it is a tenth of what that one took, but at most 0.1: those who were answered together ask
                again nearly together.
        """
        self._work, self._size, self._patience = work, size, patience
        self._tenth = 0.0  # of the seconds of the last batch, if it held several tasks; 0.1 at most
        self._queue: queue.SimpleQueue[Waiting[Task, Answer] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether tasks are answered."""
        return self._thread.is_alive()

    def submit(self, task: Task, weight: int = 1) -> Future[Answer]:
        """Queue a task; its answer follows."""
        waiting: Waiting[Task, Answer] = Waiting(task, weight)
        self._queue.put(waiting)
        return waiting.answer

    def close(self) -> None:
        """Answer what has been submitted, and end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        for batch in self._batches():
            wanted, started = [one for one in batch if not one.given_up], time.monotonic()
            try:
                answers = self._work(wanted)
            except Exception as error:
                answers = [error] * len(wanted)
            self._tenth = min(0.1, (time.monotonic() - started) / 10) if len(wanted) > 1 else 0.0
            for one, answer in zip(wanted, answers, strict=True):
                # from here on it cannot be given up
                if not one.answer.set_running_or_notify_cancel():
                    continue
                if isinstance(answer, Exception):
                    one.answer.set_exception(answer)
                else:
                    one.answer.set_result(answer)

    def _batches(self) -> Iterator[list[Waiting[Task, Answer]]]:
        while (first := self._queue.get()) is not None:
            batch, patience = [first], max(self._patience, self._tenth)
            until = time.monotonic() + 3 * patience
            while sum(one.weight for one in batch) < self._size:
                try:
                    following = self._queue.get(timeout=max(0.0, min(patience, until - time.monotonic())))
                except queue.Empty:
                    break
                if following is None:
                    yield batch
                    return
                batch.append(following)
            yield batch
