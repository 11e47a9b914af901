"""Batches whose order depends on (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import torch
from torch.utils.data import Sampler

from compnet3d.data.epoch_order import epoch_batches
from compnet3d.utils.distributed import ProcessGroup


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) keys; the order depends on (seed, epoch) alone.

    Batches differ by at most one in size, and are the same for any number of processes. Each member of a process group
    gets its share of every batch.

    Attributes:
        epoch: the one that the next iteration is for; done: how many of its batches are left out, the first ones.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        group: ProcessGroup | None = None,
        shards: Sequence[Hashable] | None = None,
    ) -> None:
        """Prepare.

        Args:
            size, batch_size: numbers of samples.
            seed, epoch: of the order.
            group: the processes that share each batch.
            shards: that the samples lie in, for an order that has few in use at a time (see `epoch_batches`).
        """
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, epoch
        self.group, self.shards, self.done = group or ProcessGroup(), shards, 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self.batches()[self.done :]:
            yield [(self.epoch, index) for index in self.group.shard(batch)]

    def batches(self) -> list[list[int]]:
        """The indices of each batch of the epoch, those of all members."""
        # a generator of its own, from numbers that all members know: they shuffle alike without talking, and so does a
        # resumed run; 1 keeps the order apart from the draws of the steps, which have 2
        generator = torch.Generator().manual_seed(mix_seed(self.seed, self.epoch, 1))
        # nearly one size, instead of full batches and a small rest, whose few images would make a noisy step
        return epoch_batches(self.shards or [None] * self.size, len(self), generator)

    def __len__(self) -> int:
        return max(1, -(-self.size // self.batch_size))

    @property
    def smallest(self) -> int:
        """Images in the smallest batch."""
        return self.size // len(self)


def mix_seed(*parts: int) -> int:
    """One seed from several numbers."""
    value = 0
    for part in parts:
        # a polynomial in the parts, so that their order counts; + 1 lets leading zeros count; a seed of torch must fit
        # into 63 bits
        value = (value * 1_000_003 + part + 1) % (2**63 - 1)
    return value
