"""Ending a training on request: a signal is heeded after the step in which it comes, and a checkpoint is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class StopRequest:
    """Whether a signal has asked for the end, and which.

    Attributes:
        number: of the signal that has come to this process; 0 is none.
        heard: whether one had come to any member of the process group by the last step.
    """

    number: int = 0
    heard: bool = False

    @property
    def name(self) -> str:
        """Of the signal."""
        return signal.Signals(self.number).name


@contextmanager
def heeding_stop_signals() -> Iterator[StopRequest]:
    """Note SIGTERM, and SIGUSR1 (Slurm's warning), instead of ending at once.

    Outside the main thread, which alone gets signals, nothing is noted.
    """
    request = StopRequest()

    def note(number: int, _: Any) -> None:
        request.number = number

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = [signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
