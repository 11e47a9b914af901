"""The order in which an epoch goes through a data set, whatever the number of processes that share it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise

import torch
from torch import Tensor


def epoch_batches(
    shards: Sequence[Hashable],
    count: int,
    generator: torch.Generator,
    *,
    window: int = 50_000,
    lanes: int = 16,
) -> list[list[int]]:
    """The indices of the samples in each batch of an epoch; each comes once, and batches differ by at most one in size.

    A set of at most `window` samples, or one that lies in no shards, is shuffled as a whole. A larger one is read shard
    by shard. The shards, in a random order, are dealt to lanes, and within a lane a sample moves by less than
    `window / lanes` places, so that few shards are in use at a time. Each batch takes its share of every lane, and the
    samples of a lane stand together in it: processes that share a batch out in the order of their ranks read different
    shards, while the batches depend on no number of processes.

    Args:
        shards: of each sample what shard it lies in, None for none.
        count: of batches, >= 1.
        generator: of all draws.
        window: samples among which the order is drawn at any time.
        lanes: into which shards are dealt.
    """
    size = len(shards)
    numbers: dict[Hashable, int] = {}
    of_shard = torch.tensor([numbers.setdefault(shard, len(numbers)) for shard in shards], dtype=torch.int64)
    lane = torch.zeros(size, dtype=torch.int64)
    if size <= window or None in numbers or len(numbers) < 2:
        order = torch.randperm(size, generator=generator)
    else:
        lanes = min(lanes, len(numbers))
        place = torch.randperm(len(numbers), generator=generator)[of_shard]
        lane = place % lanes
        reach = window // lanes
        order = _merged([_shuffled((lane == one).nonzero()[:, 0], place, reach, generator) for one in range(lanes)])
    ends = [size * number // count for number in range(count + 1)]
    batches = [order[start:end] for start, end in pairwise(ends)]
    return [batch[lane[batch].argsort(stable=True)].tolist() for batch in batches]


def _shuffled(members: Tensor, place: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """The samples of a lane, one shard after the other, each moved by at most `reach` places."""
    members = members[place[members].argsort(stable=True)]
    moved = torch.arange(len(members)) + reach * torch.rand(len(members), generator=generator, dtype=torch.float64)
    return members[moved.argsort(stable=True)]


def _merged(parts: Sequence[Tensor]) -> Tensor:
    """Sequences as one, in which each goes on at an even pace from the beginning to the end."""
    times = torch.cat([(torch.arange(len(part), dtype=torch.float64) + 0.5) / len(part) for part in parts])
    return torch.cat(list(parts))[times.argsort(stable=True)]
