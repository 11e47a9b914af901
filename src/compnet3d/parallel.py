"""Several processes that train one model together, each on its share of every batch.

On a CPU the small kernels of a small network gain little from more threads: each has to wait for all threads before
the next may start. Whole processes wait for each other once a step. The processes talk through gloo, on this machine.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from compnet3d.errors import CompNetError
from compnet3d.files import read_json, write_json

Item = TypeVar("Item")


class Team:
    """The processes that train one model. A team of one communicates with nobody.

    All members call the same methods in the same order; every result is the same, to the bit, for all of them.

    Attributes:
        rank: this process's number; 0 leads, and only the leader writes files.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes files and speaks to the user."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part of a sequence: every size-th item."""
        return items[self.rank :: self.size]

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace floating-point tensors by their mean over the team, in place."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)
                tensor /= self.size

    def gather(self, *rows: Tensor) -> list[Tensor]:
        """The rows of all members, the leader's first; all tensors have N rows, and N may differ between members.

        Returns:
            For each tensor [N, ...] one of [sum of N, ...].
        """
        if self.size == 1:
            return list(rows)
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        distributed.all_gather(counts, torch.tensor([len(rows[0])]))
        numbers = [int(count) for count in counts]
        gathered = []
        for own in rows:
            padded = own.new_zeros(max(numbers), *own.shape[1:])
            padded[: len(own)] = own
            parts = [torch.empty_like(padded) for _ in numbers]
            distributed.all_gather(parts, padded)
            gathered.append(torch.cat([part[:number] for part, number in zip(parts, numbers, strict=True)]))
        return gathered


class FlatGradients:
    """The gradients of all parameters as views of one vector, so that a sum over processes is one message.

    Attributes:
        vector: all gradients, [number of parameters].
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        parameters = list(parameters)
        like = parameters[0]
        self.vector = torch.zeros(sum(p.numel() for p in parameters), dtype=like.dtype, device=like.device)
        start = 0
        for parameter in parameters:
            # the same order in memory as the parameter's, else every step would have to reorder it
            part = self.vector[start : start + parameter.numel()]
            parameter.grad = part.as_strided(parameter.shape, parameter.stride())
            start += parameter.numel()

    def clear(self) -> None:
        """Set all gradients to zero."""
        self.vector.zero_()

    def clip(self, norm: float) -> None:
        """Scale the gradients so that their joint norm is at most `norm`."""
        self.vector *= (norm / (torch.linalg.vector_norm(self.vector) + 1e-6)).clamp(max=1.0)


@contextmanager
def gather_team(size: int, follower: str, arguments: dict[str, Any]) -> Iterator[Team]:
    """Lead a team; its other members start on entry and end on exit.

    The cores that torch uses are shared out among the members.

    Args:
        size: processes in all; 1 starts none.
        follower: what the others run, as "module:function"; it is called as function(team, **arguments).
        arguments: what JSON can hold.

    Raises:
        CompNetError: what a follower raised, or that one has died.
    """
    if size == 1:
        yield Team()
        return
    if distributed.is_available() and distributed.is_initialized():
        raise CompNetError("training in several processes: torch.distributed is in use already; set processes to 1")
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory(prefix="compnet3d-") as name:
        folder = Path(name)
        own_threads = max(1, threads // size)
        task = {"size": size, "threads": own_threads, "follower": follower, "arguments": arguments}
        write_json(folder / "task.json", task)
        others = [_start_follower(folder, rank) for rank in range(1, size)]
        try:
            _await_start(folder, others)
            torch.set_num_threads(own_threads)
            _join(folder, 0, size)
            yield Team(0, size)
            for process in others:
                process.wait()
            _raise_from(folder, others)
        except RuntimeError as error:
            # what is seen here of a follower's end is a broken connection
            _raise_from(folder, others, patience=5.0)
            raise error
        finally:
            for process in others:
                process.kill()
                process.wait()
            torch.set_num_threads(threads)
            if distributed.is_initialized():
                distributed.destroy_process_group()


def _start_follower(folder: Path, rank: int) -> subprocess.Popen[bytes]:
    # its own session: an interrupt from the keyboard is for the leader, who then ends the others
    command = [sys.executable, "-m", "compnet3d.parallel", str(folder), str(rank)]
    with (folder / f"output-{rank}.txt").open("wb") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)


def _await_start(folder: Path, others: Sequence[subprocess.Popen[bytes]]) -> None:
    while not all((folder / f"ready-{rank}").exists() for rank in range(1, len(others) + 1)):
        if any(process.poll() is not None for process in others):
            _raise_from(folder, others)
        time.sleep(0.02)


def _raise_from(folder: Path, others: Sequence[subprocess.Popen[bytes]], patience: float = 0.0) -> None:
    """Raise what ended a follower, if one has ended badly (or does so within `patience` seconds)."""
    until = time.monotonic() + patience
    while True:
        for rank, process in enumerate(others, start=1):
            if process.poll():  # ended, and not with 0
                told = folder / f"error-{rank}.txt"
                if told.exists():
                    raise CompNetError(told.read_text())
                output = (folder / f"output-{rank}.txt").read_text(errors="replace").strip()
                raise CompNetError(
                    f"process {rank} of the training ended with status {process.returncode}; it said:\n"
                    f"{output or 'nothing (was it killed for memory?)'}"
                )
        if time.monotonic() >= until:
            return
        time.sleep(0.02)


def _join(folder: Path, rank: int, size: int) -> None:
    distributed.init_process_group(
        "gloo", init_method=(folder / "meeting").resolve().as_uri(), rank=rank, world_size=size
    )


def _follow(folder: Path, rank: int) -> None:
    """What a follower's process does."""
    task = read_json(folder / "task.json")
    torch.set_num_threads(task["threads"])
    module, function = task["follower"].split(":")
    work = getattr(importlib.import_module(module), function)
    (folder / f"ready-{rank}").touch()
    _join(folder, rank, task["size"])
    try:
        work(Team(rank, task["size"]), **task["arguments"])
    except CompNetError as error:
        (folder / f"error-{rank}.txt").write_text(str(error))
        sys.exit(1)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    _follow(Path(sys.argv[1]), int(sys.argv[2]))
