"""The usual rotations of each category, kept with the model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compnet3d.inference.prior import PARTS, fit_weights, log_density

# Rotations kept of each category; evenly spaced ones where the training list has more.
KEPT = 256


class RotationPrior(nn.Module):
    """log p(R | y), made of the training images' rotations; uniform until `fit`.

    Buffers: centres [Y, KEPT, 3, 3]; log_share [Y, KEPT], minus infinity where a category has fewer; weights
    [Y, PARTS] of the mixture (see `compnet3d.inference.prior`).
    """

    centres: Tensor
    log_share: Tensor
    weights: Tensor

    def __init__(self, categories: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.eye(3).repeat(categories, KEPT, 1, 1))
        self.register_buffer("log_share", torch.full((categories, KEPT), -math.log(KEPT)))
        self.register_buffer("weights", torch.eye(PARTS)[0].repeat(categories, 1))

    @torch.no_grad()
    def fit(self, rotations: Sequence[Tensor]) -> None:
        """Take the rotations of each category's training images, [N_y, 3, 3] in the categories' order; N_y may be 0."""
        if len(rotations) != len(self.centres):
            raise ValueError(f"{len(rotations)} lists of rotations for {len(self.centres)} categories")
        for category, rotmat in enumerate(rotations):
            kept = rotmat[torch.linspace(0, len(rotmat) - 1, KEPT).round().long().unique()] if len(rotmat) else rotmat
            self.weights[category] = fit_weights(kept.to(self.centres))
            if len(kept):
                self.centres[category, : len(kept)] = kept.to(self.centres)
                self.log_share[category] = -torch.inf
                self.log_share[category, : len(kept)] = -math.log(len(kept))

    def forward(self, category: Tensor, rotmat: Tensor) -> Tensor:
        """Logarithm of the density relative to the uniform one, [N], of rotations [N, 3, 3] of categories int64 [N]."""
        return log_density(rotmat, self.centres[category], self.log_share[category], self.weights[category])
