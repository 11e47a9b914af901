"""How everything here is timed: in turn, in one process, on the same tensors; and how memory is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch

from compnet3d.utils.files import Json
from compnet3d.utils.memory import peak_memory_mb, resident_mb, restart_peak

Task = Callable[[], object]


def time_in_turn(tasks: Mapping[str, Task], *, rounds: int = 7, warm_up: int = 1) -> dict[str, float]:
    """Median seconds of each task. Each round runs every task once, so that a slow minute slows all of them.

    Args:
        tasks: what to time, by name; rounds: how often each is timed; warm_up: rounds that do not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(warm_up + rounds):
        for name, task in tasks.items():
            _wait_for_device()
            # work that an earlier task left on the device has ended, and below this one's has
            started = time.perf_counter()
            task()
            _wait_for_device()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in seconds.items()}


def peak_mb(task: Task, device: str = "cpu") -> float | None:
    """Most memory that a task has beyond what was there before it, in MB (10^6 bytes).

    Where `device` is a GPU it is PyTorch's own count; on Linux the process's resident size, after what the allocator
    keeps for later has been given back. Elsewhere None.
    """
    task()  # threads, kernels and their workspaces are there to stay
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        task()
        _wait_for_device()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    restart_peak()
    held = resident_mb()
    task()
    peak = peak_memory_mb()
    return None if held is None or peak is None else peak - held


def setting(dtype: torch.dtype = torch.float32) -> Json:
    """What every file of timings says of its run beside `provenance`."""
    return {"threads": torch.get_num_threads(), "dtype": str(dtype).removeprefix("torch."), "torch": torch.__version__}


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
