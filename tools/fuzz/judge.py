"""What one input did to a reader: read, refused by one sentence, or a finding."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compnet3d.data.annotations import SkipObject
from compnet3d.errors import CompNetError


@dataclass(frozen=True)
class Limits:
    """What a reader may take.

    Attributes:
        seconds: for one input.
        megabytes: more than the process holds before it.
    """

    seconds: float = 1.0
    megabytes: float = 200.0


@dataclass(frozen=True)
class Verdict:
    """Of one input.

    Attributes:
        outcome: "read", "refused", or what is wrong.
        seconds: it took.
        megabytes: by how much its peak was above what the process held before; 0 where the system does not tell.
    """

    outcome: str
    seconds: float
    megabytes: float

    @property
    def is_finding(self) -> bool:
        """Whether something is wrong."""
        return self.outcome not in ("read", "refused")


def judge(read: Callable[[], object], limits: Limits) -> Verdict:
    """Let a reader have an input."""
    before, start = _reset_peak(), time.perf_counter()
    try:
        read()
        outcome = "read"
    except (CompNetError, SkipObject) as error:
        outcome = "refused"
        if "\n" in str(error).strip() or not str(error).strip():
            outcome = f"not one sentence: {str(error)!r:.200}"
    except Exception as error:
        place = _place(error)
        outcome = f"{type(error).__name__} at {place}: {str(error)[:120]}"
    seconds, megabytes = time.perf_counter() - start, max(0.0, _peak() - before)
    if seconds > limits.seconds and outcome in ("read", "refused"):
        outcome = f"took {seconds:.1f} s"
    if megabytes > limits.megabytes and outcome in ("read", "refused"):
        outcome = f"took {megabytes:.0f} MB"
    return Verdict(outcome, seconds, megabytes)


def _place(error: Exception) -> str:
    """File and line of the innermost frame of ours, else of all."""
    frames, frame = [], error.__traceback__
    while frame is not None:
        frames.append((Path(frame.tb_frame.f_code.co_filename), frame.tb_lineno))
        frame = frame.tb_next
    own = [(path, line) for path, line in frames if "compnet3d" in path.parts]
    path, line = (own or frames)[-1]
    return f"{path.name}:{line}"


def _reset_peak() -> float:
    """Forget the process's peak, where Linux lets it, and say what it holds now, in MB."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0.0
    return _peak()


def _peak() -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
