"""How much memory this process holds and has held."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path


def restart_peak() -> None:
    """Let the peak begin anew, where the system can (Linux, and PyTorch's own count on a GPU).

    What the allocator keeps for later, of a training for instance, is given back first.
    """
    import torch

    with suppress(OSError, AttributeError):
        # glibc keeps freed memory; it would count as held, and a peak below it would not show
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        # 5 sets VmHWM, the largest resident size so far, back to the present one
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_mb() -> float | None:
    """Largest resident size of this process since `restart_peak`, in MB (10^6 bytes).

    It counts everything that the process holds, the model included; worker processes are not counted. On systems other
    than Linux it is the largest since the process began; None where the system keeps no such figure (Windows).
    """
    peak = _status_mb("VmHWM")
    if peak is not None:
        return peak
    try:
        import resource
    except ImportError:
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, others kibibytes
    return largest / 1e6 if sys.platform == "darwin" else largest * 1024 / 1e6


def resident_mb() -> float | None:
    """What this process holds now, in MB; None where the system does not tell (other than Linux)."""
    return _status_mb("VmRSS")


def available_mb() -> float | None:
    """What programs can still have of the machine's memory, in MB; None where the system does not tell.

    In a container with a limit (cgroups v2) it is what that leaves, if that is less.
    """
    free = _field_mb(Path("/proc/meminfo"), "MemAvailable")
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    left = None if limit is None or used is None else max(0.0, limit - used) / 1e6
    known = [value for value in (free, left) if value is not None]
    return min(known, default=None)


def peak_gpu_memory_mb() -> float | None:
    """Most memory that PyTorch had allocated on the current GPU since `restart_peak`, in MB; None without a GPU."""
    import torch

    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else None


def _status_mb(field: str) -> float | None:
    return _field_mb(Path("/proc/self/status"), field)


def _field_mb(path: Path, field: str) -> float | None:
    """A line "FIELD: N kB" of a file of /proc, in MB."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith(f"{field}:")]
    return found[0] * 1024 / 1e6 if found else None


def _number(path: Path) -> int | None:
    """What a file that holds one number says; None without one, such as "max" for no limit."""
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None
