"""The one type that every renderer returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Fragments:
    """What each feature cell sees of a rendered object.

    Attributes:
        vertex_index: int64 [..., H, W, J], vertices of the category's mesh (0-based); where nothing is hit the indices
            are valid but mean nothing.
        weight: [..., H, W, J], non-negative, summing to 1 in foreground cells.
        foreground: [..., H, W] in [0, 1]: 1 where the object covers the cell, 0 where it does not, in between only
            where a renderer was asked for a soft silhouette.
    """

    vertex_index: Tensor
    weight: Tensor
    foreground: Tensor

    def __getitem__(self, index: Any) -> Fragments:
        return Fragments(self.vertex_index[index], self.weight[index], self.foreground[index])
