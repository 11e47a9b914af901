"""The processes that work together, and what they tell each other: torch.distributed, gloo on CPUs, NCCL on GPUs.

They are started by torchrun, by srun (examples/slurm), or by `compnet3d train --processes`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from compnet3d.errors import CompNetError

Item = TypeVar("Item")
# Without it the launcher keeps one store for all restarts: processes that are started again find in it where those
# before them could be reached, and wait for them in vain (PyTorch 2.13).
STORE_OF_RANK_ZERO = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
# of one member's part of a message that says what else is to come; what fits beside that goes with it
_HEADER_BYTES = 4096
# fewer numbers than these are sent to all, who add them up; of more, each member adds up a share
_SHARED_NUMBERS = 65_536
_TYPES = (
    torch.float32,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.bool,
    torch.uint8,
    torch.bfloat16,
    torch.float16,
)


class LostRankError(CompNetError):
    """Another process of the group has ended, or cannot be reached."""


class ProcessGroup:
    """The processes that work together. A group of one communicates with nobody.

    All members call the same methods in the same order; every result is the same, to the bit, for all of them.

    Attributes:
        rank: this process's number; 0 leads, and only rank 0 writes files.
        size: how many there are (the world size).
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process is the one that writes files and speaks to the user."""
        return self.rank == 0

    def shard(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part of a sequence; the parts follow each other in the order of the ranks.

        They differ by one item at most.
        """
        start, end = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return items[start:end]

    def gather(self, *rows: Tensor) -> list[Tensor]:
        """The rows of all members, rank 0's first; all tensors have N rows, and N may differ between members.

        Returns:
            For each tensor [N, ...] one of [sum of N, ...].

        Raises:
            LostRankError: if another member has ended.
        """
        if self.size == 1:
            return list(rows)
        own = _bytes_of(rows)
        about = torch.tensor([*own.shape, *(_TYPES.index(tensor.dtype) for tensor in rows)], device=own.device)
        start = about.numel() * about.itemsize
        message = own.new_zeros(max(_HEADER_BYTES, start))
        message[:start] = about.view(torch.uint8)
        if own.numel() <= len(message) - start:
            message[start : start + own.numel()] = own.flatten()
        every = self._all_gather(message)
        counts, widths, *kinds = every[:, :start].contiguous().view(torch.int64).T.tolist()
        if not any(counts):
            return list(rows)
        # a member without rows may not know of what type those of the others are
        first = next(rank for rank, count in enumerate(counts) if count)
        columns = _Columns([_TYPES[of_all[first]] for of_all in kinds], [tensor.shape[1:] for tensor in rows])
        if max(counts) * columns.width <= len(message) - start:
            return columns.of(every[:, start:], counts)
        return columns.of(self._all_gather(_padded(own, max(counts), columns.width)), counts)

    def gather_later(self, *rows: Tensor, counts: Sequence[int]) -> Callable[[], list[Tensor]]:
        """The same, where all members know how many rows each has: begin, and go on with other work meanwhile.

        Args:
            rows: tensors of N rows, of the same types for all members.
            counts: N of each member.

        Returns:
            What waits for the rows, and gives them.
        """
        if self.size == 1 or not any(counts):
            return lambda: list(rows)
        columns = _Columns([tensor.dtype for tensor in rows], [tensor.shape[1:] for tensor in rows])
        every = self._begin_all_gather(_padded(_bytes_of(rows), max(counts), columns.width))
        return lambda: columns.of(every(), counts)

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of a floating-point tensor over the members; added up as in `sum`."""
        return tensor if self.size == 1 else self.sum(tensor).div_(self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over the members; see `add_up`."""
        if self.size == 1:
            return tensor
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        self.add_up(total)
        return total

    def add_up(self, tensor: Tensor) -> None:
        """Put the sum over the members in the place of a contiguous tensor; on CPUs in the order of the ranks.

        A ring, as gloo has it, adds each element up in an order that depends on its place in the tensor.
        """
        if dist.get_backend() != "gloo":
            with _noticing_losses():
                dist.all_reduce(tensor)
        elif tensor.numel() < _SHARED_NUMBERS:
            tensor.copy_(_added_up(self._all_gather(tensor)))
        else:
            shares = list(tensor.view(-1).tensor_split(self.size))
            own = shares[self.rank]
            parts = own.new_empty(self.size, len(own))
            parts[self.rank] = own
            self._exchange(shares, list(parts))
            own.copy_(_added_up(parts))
            self._exchange([own] * self.size, shares)

    def _exchange(self, sent: list[Tensor], received: list[Tensor]) -> None:
        """Send each other member its tensor, and receive one from each."""
        others = [other for other in range(self.size) if other != self.rank]
        with _noticing_losses():
            messages = [dist.isend(sent[other], other) for other in others]
            messages += [dist.irecv(received[other], other) for other in others]
            for message in messages:
                assert message is not None
                message.wait()

    def agrees(self, numbers: Tensor) -> bool:
        """Whether all members have the same numbers, a tensor of one shape."""
        if self.size == 1:
            return True
        every = self._all_gather(numbers)
        return bool((every == every[0]).all())

    def hear(self, own: Item) -> list[Item]:
        """What each member says, anything that pickle can hold, rank 0 first."""
        if self.size == 1:
            return [own]
        said: list[Any] = [None] * self.size
        with _noticing_losses():
            dist.all_gather_object(said, own)
        return said

    def _all_gather(self, own: Tensor) -> Tensor:
        """The tensors of all members, of one shape and type, one after the other in a new first dimension."""
        return self._begin_all_gather(own)()

    def _begin_all_gather(self, own: Tensor) -> Callable[[], Tensor]:
        """The same, begun: what waits for them, and gives them."""
        every = own.new_empty(self.size, *own.shape)
        with _noticing_losses():
            message = dist.all_gather(list(every.unbind()), own, async_op=True)

        def received() -> Tensor:
            with _noticing_losses():
                message.wait()
            return every

        return received


def _added_up(every: Tensor) -> Tensor:
    """The sum over the first dimension, from its first row to its last."""
    total, *others = every
    for other in others:
        total += other
    return total


def _bytes_of(rows: Sequence[Tensor]) -> Tensor:
    """Of tensors of N rows each the bytes, side by side: one message for all of them, uint8 [N, width]."""
    parts = [tensor.contiguous().view(len(tensor), tensor.shape[1:].numel()) for tensor in rows]
    return torch.cat([part.view(torch.uint8) for part in parts], dim=1)


def _padded(rows: Tensor, count: int, width: int) -> Tensor:
    """With rows of zeros at the end, [count, width]: the messages of all members have one shape."""
    message = rows.new_zeros(count, width)
    if len(rows):
        message[: len(rows)] = rows
    return message


@dataclass(frozen=True)
class _Columns:
    """Of what types and shapes the tensors are whose bytes lie side by side in the rows of a message."""

    types: Sequence[torch.dtype]
    shapes: Sequence[torch.Size]

    @property
    def widths(self) -> list[int]:
        """Of each tensor, in bytes."""
        return [kind.itemsize * shape.numel() for kind, shape in zip(self.types, self.shapes, strict=True)]

    @property
    def width(self) -> int:
        """Of a row, in bytes."""
        return sum(self.widths)

    def of(self, received: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """The tensors, from what each member has sent, uint8 [size, ...], `counts` rows and then anything."""
        parts = [part.flatten()[: count * self.width] for part, count in zip(received, counts, strict=True)]
        columns = torch.cat(parts).view(sum(counts), self.width).split(self.widths, dim=1)
        return [
            column.contiguous().view(kind).view(-1, *shape)
            for column, kind, shape in zip(columns, self.types, self.shapes, strict=True)
        ]


@contextmanager
def _noticing_losses(among_others: bool = False) -> Iterator[None]:
    """Make what torch raises where another process cannot be reached a `LostRankError`.

    Args:
        among_others: more than messages is done in here, so that errors of torch's may be others.
    """
    try:
        yield
    except RuntimeError as error:
        # that of gloo in `DistributedDataParallel` has no class of its own
        if not among_others or isinstance(error, dist.DistError) or "gloo" in str(error):
            raise LostRankError(
                f"another process of this run has ended or cannot be reached any more ({error}); what it printed "
                "says why"
            ) from error
        raise


def _end_with(launcher: int) -> None:
    """End this process when the one that has started it is gone: killed, it could not end those that it has started."""
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(1)


def current_group() -> ProcessGroup:
    """The group that this process has joined; one of its own if none."""
    if dist.is_available() and dist.is_initialized():
        return ProcessGroup(dist.get_rank(), dist.get_world_size())
    return ProcessGroup()


def is_launched() -> bool:
    """Whether this process is one of several that torchrun, or a launcher that sets its variables, has started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def restarts() -> int:
    """How often the launcher has started these processes anew after one had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def own_device(device: str) -> str:
    """The device of this process: of several accelerators its own, by its number on this machine.

    Raises:
        CompNetError: if the machine has fewer accelerators than processes.
    """
    if device != "cuda" or not is_launched():
        return device
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise CompNetError(
            f"there are {torch.cuda.device_count()} GPUs for process {local + 1} of this machine; start one process a "
            "GPU (torchrun --nproc-per-node)"
        )
    return f"cuda:{local}"


@contextmanager
def joined(device: str) -> Iterator[ProcessGroup]:
    """The group of the processes that a launcher has started with this one; it is left on exit.

    Args:
        device: this process's, "cpu" or such as "cuda:1" (see `own_device`).

    Raises:
        CompNetError: if the others cannot be reached; LostRankError: if one of them has ended meanwhile.
    """
    if not is_launched():
        yield ProcessGroup()
        return
    if dist.is_initialized():
        # further up, or a script of the user's has done so by itself
        with _noticing_losses(among_others=True):
            yield current_group()
        return
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and os.environ["RANK"] == "0":
        print(f"set {STORE_OF_RANK_ZERO}=1 before torchrun, or processes may hang after a restart", file=sys.stderr)
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo")
    except (RuntimeError, ValueError) as error:
        raise CompNetError(
            f"the processes cannot reach each other ({error}); look at MASTER_ADDR and MASTER_PORT"
        ) from None
    try:
        with _noticing_losses(among_others=True):
            yield current_group()
    finally:
        dist.destroy_process_group()
