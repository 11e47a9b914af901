"""Several processes that train one model together, each on its share of every batch.

On a CPU the small kernels of a small network gain little from more threads: each has to wait for all threads before
the next may start. Whole processes wait for each other only a few times a step.

Tensors are exchanged through a file mapped into the memory of all members, and who has written and read what is agreed
on through the workers' standard input and output: a member that has died is noticed as a closed pipe.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.utils.exclusive import scratch_folder

Item = TypeVar("Item")
ARGUMENTS = "arguments.pickle"


class LostWorkerError(Exception):
    """Another process of the process group has ended."""


class ProcessGroup:
    """The processes that train one model. A group of one communicates with nobody.

    All members call the same methods in the same order; every result is the same, to the bit, for all of them.

    Attributes:
        rank: this process's number; 0 leads, and only rank 0 writes files.
        size: how many there are.
    """

    def __init__(
        self, rank: int = 0, size: int = 1, folder: Path | None = None, meet: Callable[[], None] = lambda: None
    ) -> None:
        """Become a member.

        Args:
            rank, size: see above.
            folder: where the exchanged tensors lie; not needed by a process group of one.
            meet: returns when all members have called it.
        """
        self.rank, self.size = rank, size
        self._folder, self._meet = folder, meet
        # one row of bytes for each member; it grows with the first message that needs more (see `_make_room`)
        self._slots = torch.zeros(size, 0, dtype=torch.uint8)
        self._files = 0

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process is the one that writes files and speaks to the user."""
        return self.rank == 0

    def shard(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part of a sequence: every size-th item."""
        # interleaved, so that the shares of any sequence differ by one item at most
        return items[self.rank :: self.size]

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace contiguous floating-point tensors by their mean over the process group, in place."""
        if self.size > 1:
            for tensor in tensors:
                with self._exchanged(tensor) as parts:
                    # Every member adds all parts in the order of their ranks: floating-point sums depend on the order,
                    # and members whose parameters differ in the last bit would drift apart. `tensor` is own memory, not
                    # a slot, so that the slots can be read by the others meanwhile.
                    torch.add(parts[0], parts[1], out=tensor)
                    for part in parts[2:]:
                        tensor += part
                tensor /= self.size

    def gather(self, *rows: Tensor) -> list[Tensor]:
        """The rows of all members, rank 0's first; all tensors have N rows, and N may differ between members.

        Returns:
            For each tensor [N, ...] one of [sum of N, ...].
        """
        if self.size == 1:
            return list(rows)
        # slots hold tensors of one shape, so the numbers go first and all members pad to the largest
        with self._exchanged(torch.tensor([len(rows[0])])) as counts:
            numbers = [int(count) for count in counts]
        gathered = []
        for own in rows:
            # [N, ...] as [largest N, ...]; the rows beyond N are cut off again after the exchange
            padded = own.new_zeros(max(numbers), *own.shape[1:])
            padded[: len(own)] = own
            with self._exchanged(padded) as parts:
                gathered.append(torch.cat([part[:number] for part, number in zip(parts, numbers, strict=True)]))
        return gathered

    @contextmanager
    def _exchanged(self, own: Tensor) -> Iterator[list[Tensor]]:
        """The tensors of all members, of one shape and type, to be read within the context."""
        count = own.numel() * own.element_size()
        self._make_room(count)
        # the members' bytes read as tensors in place, nothing is copied; hence they are valid within the context only
        parts = [slot[:count].view(own.dtype).view(own.shape) for slot in self._slots]
        parts[self.rank].copy_(own)
        self._meet()
        yield parts
        self._meet()  # all have read; the next message may overwrite

    def _make_room(self, count: int) -> None:
        """Map a larger file into memory if the messages of `count` bytes do not fit into this one."""
        # all members exchange tensors of one shape, so all come to the same answer and none is left waiting below
        if count <= self._slots.shape[1]:
            return
        assert self._folder is not None
        # whole pages: each member writes memory pages of its own, and slots are aligned for every type
        width = -(-count // 4096) * 4096
        # a new file each time: the old one is still mapped, and may not be replaced on every system
        path = self._folder / f"exchange-{self._files}"
        self._files += 1
        if self.is_rank_zero:
            # written, not only declared: a full disk must fail here and not when the memory is used
            with path.open("wb") as file:
                for _ in range(self.size):
                    file.write(bytes(width))
        self._meet()
        # after rank 0 has said that the file is whole; below, it may remove the name only when all have opened it
        mapped = torch.from_file(str(path), shared=True, size=self.size * width, dtype=torch.uint8)
        self._slots = mapped.view(self.size, width)
        self._meet()
        if self.is_rank_zero:
            with suppress(OSError):  # the memory outlives the name, where the system allows it
                path.unlink()


class FlatGradients:
    """The gradients of all parameters that learn as views of one vector, so that a sum over processes is one message.

    Attributes:
        vector: all gradients, [number of parameters].
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        parameters = [parameter for parameter in parameters if parameter.requires_grad]
        like = parameters[0]
        size = sum(p.numel() for p in parameters)
        # one place more, for the number that `average` sends along
        self._message = torch.zeros(size + 1, dtype=like.dtype, device=like.device)
        self.vector = self._message[:size]
        start = 0
        for parameter in parameters:
            # the same order in memory as the parameter's, else every step would have to reorder it
            part = self.vector[start : start + parameter.numel()]
            parameter.grad = part.as_strided(parameter.shape, parameter.stride())
            start += parameter.numel()

    def clear(self) -> None:
        """Set all gradients to zero."""
        self.vector.zero_()

    def average(self, group: ProcessGroup, count: Tensor) -> None:
        """Turn the gradients of the members' sums over `count` terms, a scalar, into that of the mean over all terms.

        Members have more or fewer terms; their numbers travel with the gradients, so that all wait for each other once.
        """
        self._message[-1] = count
        group.average([self._message])
        self.vector /= self._message[-1].clamp_min(1.0 / group.size)

    def clip(self, norm: float) -> Tensor:
        """Scale the gradients so that their joint norm is at most `norm`; what it was, a scalar."""
        length = torch.linalg.vector_norm(self.vector)
        self.vector *= (norm / (length + 1e-6)).clamp(max=1.0)
        return length


@contextmanager
def start_process_group(size: int, worker: str, arguments: dict[str, Any]) -> Iterator[ProcessGroup]:
    """Lead a process group; its other members start on entry and end on exit.

    The cores that torch uses are shared out among the members.

    Args:
        size: processes in all; 1 starts none.
        worker: what the others run, as "module:function"; it is called as function(group, **arguments).
        arguments: what pickle can hold.

    Raises:
        CompNetError: what a worker raised, or what it said when it died.
    """
    if size == 1:
        yield ProcessGroup()
        return
    threads = torch.get_num_threads()
    own_threads = max(1, threads // size)
    with scratch_folder() as folder:
        # one file that all workers read, instead of sending samples and meshes through each pipe
        (folder / ARGUMENTS).write_bytes(pickle.dumps(arguments))
        task = {"size": size, "threads": own_threads, "worker": worker}
        # they import and read their arguments while rank 0 goes on; the first exchange waits for them
        others = [_start_worker(folder, rank, task) for rank in range(1, size)]
        torch.set_num_threads(own_threads)
        try:
            yield ProcessGroup(0, size, folder, lambda: _meet_as_rank_zero(others))
            for process in others:
                process.wait()
            _raise_from(folder, others)
        except LostWorkerError:
            _raise_from(folder, others, patience=10.0)  # a pipe is closed a moment before its process has ended
            raise CompNetError("a training process has stopped answering; run again with --resume") from None
        finally:
            torch.set_num_threads(threads)
            for process in others:
                # of no effect on those that have ended; after an error or Ctrl-C the rest must not go on training
                process.kill()
                for pipe in (process.stdin, process.stdout):
                    with suppress(OSError):
                        pipe.close()  # type: ignore[union-attr]
                process.wait()


def _start_worker(folder: Path, rank: int, task: dict[str, Any]) -> subprocess.Popen[bytes]:
    # rank 0's own search path: the current folder may hold modules of the same names
    task = {**task, "path": sys.path}
    # the raw stream: a buffered one would swallow the bytes after the line, which are the answers of
    # `_meet_as_rank_zero`
    code = "import json, sys; task = json.loads(sys.stdin.buffer.raw.readline()); sys.path[:] = task['path']; "
    code += "from compnet3d.training.process_group import run_worker; run_worker(task, sys.argv[1], int(sys.argv[2]))"
    command = [sys.executable, "-c", code, str(folder), str(rank)]
    # a file and no pipe: nobody reads it while training, and a full pipe would stop the worker
    with (folder / f"said-{rank}.txt").open("wb") as said:
        process = subprocess.Popen(
            command,
            # each byte is a message and must leave at once
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,  # an interrupt from the keyboard is for rank 0, who then ends the others
        )
    assert process.stdin is not None
    process.stdin.write(json.dumps(task).encode() + b"\n")
    return process


def _meet_as_rank_zero(others: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in others:
        assert process.stdout is not None
        # the end of the stream: the worker has ended, and the system has closed its side
        if not process.stdout.read(1):
            raise LostWorkerError
    try:
        for process in others:
            assert process.stdin is not None
            process.stdin.write(b".")
    except OSError:
        raise LostWorkerError from None


def _raise_from(folder: Path, others: Sequence[subprocess.Popen[bytes]], patience: float = 0.0) -> None:
    """Raise what ended a worker, if one has ended badly, or does so within `patience` seconds."""
    until = time.monotonic() + patience
    while True:
        for rank, process in enumerate(others, start=1):
            if process.poll():  # ended, and not with 0
                # what the user can put right comes as one sentence; anything else with all that the worker has printed
                refusal = folder / f"refusal-{rank}.txt"
                if refusal.exists():
                    raise CompNetError(refusal.read_text(encoding="utf-8", errors="surrogateescape"))
                said = (folder / f"said-{rank}.txt").read_text(errors="replace").strip()
                raise CompNetError(
                    f"process {rank} of the training ended with status {process.returncode}; it said:\n"
                    f"{said or 'nothing (was it killed for memory?)'}"
                )
        if time.monotonic() >= until:
            return
        time.sleep(0.02)


def run_worker(task: dict[str, Any], folder: str, rank: int) -> None:
    """What a worker's process does; `start_process_group` starts it."""
    # copies of its own of both pipes, so that what any library does with the standard streams cannot get in between
    orders, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what is printed must not be taken for an answer
    torch.set_num_threads(task["threads"])

    def meet() -> None:
        answers.write(b".")
        if not orders.read(1):
            raise LostWorkerError

    try:
        module, function = task["worker"].split(":")
        work = getattr(importlib.import_module(module), function)
        # written a moment ago by rank 0, into a folder that is its own
        arguments = pickle.loads(Path(folder, ARGUMENTS).read_bytes())
        work(ProcessGroup(rank, task["size"], Path(folder), meet), **arguments)
    except CompNetError as error:
        # surrogateescape: messages name files, and names need not be valid UTF-8
        Path(folder, f"refusal-{rank}.txt").write_text(str(error), encoding="utf-8", errors="surrogateescape")
        sys.exit(1)
    except (LostWorkerError, BrokenPipeError):
        sys.exit(1)  # rank 0 has ended, and with it the work
