"""The usual rotations of each category, kept with the model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compnet3d.inference.prior import PARTS, fit_weights, log_density

# Rotations kept of each category; drawn ones where the training list has more.
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
        self.register_buffer("centres", torch.empty(categories, KEPT, 3, 3))
        self.register_buffer("log_share", torch.empty(categories, KEPT))
        self.register_buffer("weights", torch.empty(categories, PARTS))
        self._forget()

    @torch.no_grad()
    def fit(self, rotations: Sequence[Tensor]) -> None:
        """Take the place of what was fitted before with the rotations of each category's training images.

        Args:
            rotations: object to camera, [N_y, 3, 3] in the categories' order. A category with fewer than two is
                uniform; of more than KEPT as many are drawn, the same each time.

        Raises:
            ValueError: naming the category's number, if they are of another shape or not finite.
        """
        if len(rotations) != len(self.centres):
            raise ValueError(f"{len(rotations)} lists of rotations for {len(self.centres)} categories")
        for category, rotmat in enumerate(rotations):
            if rotmat.ndim != 3 or rotmat.shape[1:] != (3, 3) or not rotmat.isfinite().all():
                raise ValueError(f"category {category}: rotations must be finite [N, 3, 3], got {list(rotmat.shape)}")
        self._forget()
        for category, rotmat in enumerate(rotations):
            # drawn, since the list's order may go along with the views: every 41st image shows the same one
            drawn = torch.randperm(len(rotmat), generator=torch.Generator().manual_seed(0))[:KEPT].sort().values
            kept = rotmat[drawn.to(rotmat.device)].to(self.centres)
            self.weights[category] = fit_weights(kept)
            if len(kept):
                self.centres[category, : len(kept)] = kept
                self.log_share[category] = -torch.inf
                self.log_share[category, : len(kept)] = -math.log(len(kept))

    def forward(self, category: Tensor, rotmat: Tensor) -> Tensor:
        """Logarithm of the density relative to the uniform one, [N], of rotations [N, 3, 3] of categories int64 [N]."""
        return log_density(rotmat, self.centres[category], self.log_share[category], self.weights[category])

    def _forget(self) -> None:
        self.centres.copy_(torch.eye(3))
        self.log_share.fill_(-math.log(KEPT))
        self.weights.copy_(torch.eye(PARTS)[0])
