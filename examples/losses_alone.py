"""Eq. 2 to 5 for features of any network: five lines, no model of this package.

python examples/losses_alone.py
"""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from compnet3d.losses import FeatureBank, Queries, grouped_contrastive_loss, sample_vertices


def main() -> None:
    """The loss of random features of 2 images that show 30 vertices each, and its gradient."""
    torch.manual_seed(0)
    features = normalize(torch.randn(2, 30, 64), dim=-1).requires_grad_()  # what your network saw at the vertices
    category, vertex = torch.tensor([0, 2]), torch.stack([torch.randperm(80)[:30] for _ in range(2)])

    bank = FeatureBank.of([normalize(torch.randn(count, 64), dim=-1) for count in (100, 90, 80)])
    queries = Queries(features, category, vertex, torch.ones_like(vertex, dtype=torch.bool))
    sampled = sample_vertices(bank.offsets, 32)
    loss = grouped_contrastive_loss(queries, bank, sampled, kappa=14.3)
    loss.total.backward()

    print(f"Eq. 2 {loss.in_category:.3f} + Eq. 4 {loss.cross_category:.3f} = Eq. 5 {loss.total:.3f}")
    print(f"length of the gradient: {features.grad.norm():.3f}")


if __name__ == "__main__":
    main()
