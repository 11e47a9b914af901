"""The features that an image shows of its object's vertices."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Observation:
    """The features that an image shows of its object's vertices (f_k with o_k), padded over the batch.

    Attributes:
        features: unit vectors [B, Q, D].
        vertex: k within the category, int64 [B, Q].
        valid: False where padded, [B, Q].
    """

    features: Tensor
    vertex: Tensor
    valid: Tensor
