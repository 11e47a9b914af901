"""Classification that looks closely at few categories: Eq. 7's answer at a fraction of its cost.

First, some of the cells are compared with a few centroids of every category's vertex features; then Eq. 7 itself
decides between the categories that did best.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.inference.matching import (
    background_similarity,
    best_match,
    cells_of,
    check_feature_map,
    spaced_cells,
)
from compnet3d.losses.inputs import FeatureBank
from compnet3d.utils.checks import check_shape
from compnet3d.utils.matmul import BLOCK, block_size, fast_matmul


@dataclass(frozen=True)
class Pruning:
    """How much the first look takes and leaves.

    Attributes:
        centroids: M, per category.
        cells: of a feature map, looked at first: at most this many, evenly spaced.
        shortlist: categories left for Eq. 7.

    Raises:
        ValueError: if one is less than 1.
    """

    centroids: int = 24
    cells: int = 1000
    shortlist: int = 8

    def __post_init__(self) -> None:
        for name in ("centroids", "cells", "shortlist"):
            if __debug__ and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def category_centroids(bank: FeatureBank, count: int, *, rounds: int = 8) -> Tensor:
    """Centroids of each category's vertex features (spherical k-means), scaled so that they match like vertices.

    A feature that is exactly a vertex has a similarity below 1 with the vertex's centroid. Divided by the category's
    mean of these, centroids compete with the background on vertices' terms.

    Args:
        bank: the vertex features.
        count: M, at least 1; a category with fewer vertices repeats some.
        rounds: of assignment and averaging. Vertices are in the order of the lattice, so that every (K / M)th is a good
            start.

    Returns:
        [Y, M, D], of one length per category.

    Raises:
        ValueError: if `count` is less than 1.
    """
    if __debug__ and count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    scaled = []
    for number in range(bank.categories):
        features = bank.category_features(number)
        centroids = features[torch.arange(count, device=features.device) * len(features) // count]
        for _ in range(rounds):
            nearest = (features @ centroids.T).argmax(dim=1)
            sums = torch.zeros_like(centroids).index_add_(0, nearest, features)
            # a centroid that has lost all its vertices stays where it is
            centroids = torch.where((sums != 0).any(dim=1, keepdim=True), normalize(sums, dim=1), centroids)
        scaled.append(centroids / (features @ centroids.T).amax(dim=1).mean())
    return torch.stack(scaled)


class Centroids:
    """The centroids of a bank's vertex features, made on first use and again when the features have changed."""

    def __init__(self) -> None:
        self._made: tuple[Tensor, Tensor] | None = None

    def of(self, bank: FeatureBank, count: int) -> Tensor:
        """See `category_centroids`."""
        made = self._made
        # the bank changes its buffers in place, so only a copy of the numbers tells whether they are still the same
        if made is None or made[1].shape[1] != count or not _same(made[0], bank.vertex_features):
            made = bank.vertex_features.clone(), category_centroids(bank, count)
            self._made = made
        return made[1]


def _same(first: Tensor, second: Tensor) -> bool:
    return first.device == second.device and first.dtype == second.dtype and torch.equal(first, second)


@fast_matmul()
def pruned_scores(
    feature_map: Tensor,
    bank: FeatureBank,
    centroids: Tensor,
    pruning: Pruning,
    background: Tensor | None = None,
) -> Tensor:
    """S_y of Eq. 7, exact for the categories that do best at first sight.

    Args:
        feature_map: unit vectors [B, D, H, W].
        bank, background: see `category_scores`.
        centroids: of the bank's vertex features, see `category_centroids`.
        pruning: how much to look at.

    Returns:
        [B, Y]; the categories that were left out have what the centroids say, at most the lowest of the exact scores,
        so the best score is always an exact one.

    Raises:
        ValueError: if a shape or a type does not fit.
    """
    check_feature_map(feature_map, bank)
    check_shape("centroids", centroids, (bank.categories, "M", bank.vertex_features.shape[1]))
    images, _, height, width = feature_map.shape
    # copied once into cells of D numbers in a row; as a view, every selection and product below would copy it again
    cells = cells_of(feature_map).contiguous()
    if background is None:
        background = background_similarity(cells, bank.background_features)
    check_shape("background", background, (images, height * width))
    some = spaced_cells(height, width, pruning.cells).to(cells.device)
    coarse = _centroid_scores(cells[:, some], centroids, background[:, some])
    if centroids.shape[0] <= pruning.shortlist:
        shortlist = torch.arange(centroids.shape[0], device=cells.device).expand(images, -1)
    else:
        shortlist = coarse.topk(pruning.shortlist, dim=1).indices
    # infinity marks what is not computed and is neutral in the minimum below
    exact = torch.full_like(coarse, torch.inf)
    # by category and not by image: its features are multiplied once with the cells of all images that have it on their
    # list
    for number in shortlist.unique().tolist():
        rows = (shortlist == number).any(dim=1).nonzero()[:, 0]
        best = best_match(cells[rows].flatten(0, 1), bank.category_features(number)).reshape(len(rows), -1)
        exact[rows, number] = torch.maximum(best, background[rows]).mean(dim=1)
    floor = exact.amin(dim=1, keepdim=True)
    # a centroid may flatter a category; capped, it cannot overtake one that was looked at closely
    return torch.where(exact.isinf(), torch.minimum(coarse, floor), exact)


def _centroid_scores(cells: Tensor, centroids: Tensor, background: Tensor) -> Tensor:
    """Mean over cells [B, N, D] of the best match among centroids or the background, for each category: [B, Y]."""
    images, number, _ = cells.shape
    flat, limit = cells.flatten(0, 1), background.flatten()[:, None]
    # about 512 centroids and as many cells as fill the block: neither factor of the product is thin
    together = max(1, block_size(512, cells.device) // centroids.shape[1])  # categories
    rows = max(1, block_size(BLOCK, cells.device) // (together * centroids.shape[1]))
    scores = []
    for some in centroids.split(together):
        best = flat.new_empty(len(flat), len(some))
        for start in range(0, len(flat), rows):
            block = slice(start, start + rows)
            similarity = torch.mm(flat[block], some.flatten(0, 1).T).unflatten(1, some.shape[:2])
            torch.amax(similarity, dim=2, out=best[block])
        scores.append(torch.maximum(best, limit).unflatten(0, (images, number)).mean(dim=1))
    return torch.cat(scores, dim=1)
