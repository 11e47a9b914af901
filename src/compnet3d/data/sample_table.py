"""Many samples in two blocks of memory, which processes that prepare images share with the one that started them."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import overload

import numpy as np

from compnet3d.data.members import Member
from compnet3d.data.sample import Sample


class SampleTable(Sequence[Sample]):
    """Samples, made anew whenever they are asked for.

    A process that is forked gets a copy of every page of memory that it writes to, and Python writes into an object
    that it only looks at (it counts who holds it). So a list of samples would grow in each process with every image.

    Attributes:
        shards: of each sample, the shard that its image lies in; None where it is a file of its own.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        """Keep the samples; one that comes several times is kept once."""
        names = [entry.name for entry in fields(Sample)]
        number_of: dict[int, int] = {}
        kept: list[Sample] = []  # holds them, or their identities might be given away
        places, packed = [], []
        self.shards: list[str | None] = []
        for sample in samples:
            number = number_of.setdefault(id(sample), len(number_of))
            if number == len(kept):
                kept.append(sample)
                # bytes of our own, which no other process or file has a hand in
                packed.append(pickle.dumps(tuple(getattr(sample, name) for name in names), protocol=5))
            places.append(number)
            self.shards.append(sample.image.shard if isinstance(sample.image, Member) else None)
        self._places = np.array(places, dtype=np.int64)
        self._ends = np.cumsum([0, *map(len, packed)])
        self._packed = b"".join(packed)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        number = self._places[index]
        return Sample(*pickle.loads(self._packed[self._ends[number] : self._ends[number + 1]]))
