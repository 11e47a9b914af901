"""Classification that looks closely at few categories: Eq. 7's answer at a fraction of its cost.

First, some of the cells are compared with a few codes of every category; then Eq. 7 itself decides between the
categories that did best. Codes are centroids of a category's vertex features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.inference.matching import background_similarity, best_match, spaced_cells
from compnet3d.utils.matmul import BLOCK, block_size, fast_matmul


@dataclass(frozen=True)
class Pruning:
    """How much the first look takes and leaves.

    Attributes:
        codes: M, centroids per category.
        cells: of a feature map, looked at first: at most this many, evenly spaced.
        shortlist: categories left for Eq. 7.
    """

    centroids: int = 24
    cells: int = 1000
    shortlist: int = 8


def category_centroids(vertex_features: Tensor, offsets: Tensor, count: int, *, rounds: int = 8) -> Tensor:
    """Centroids of each category's vertex features (spherical k-means), scaled so that they match like vertices.

    A feature that is exactly a vertex has a similarity below 1 with the vertex's centroid. Divided by the category's
    mean of these, codes compete with the background on vertices' terms.

    Args:
        vertex_features: the flat bank, unit vectors [sum of K, D], categories divided by `offsets` [Y + 1].
        count: M; a category with fewer vertices repeats some.
        rounds: of assignment and averaging. Vertices are in the order of the lattice, so that every (K / M)th is a good
            start.

    Returns:
        [Y, M, D], of one length per category.
    """
    limits = offsets.tolist()
    scaled = []
    for start, end in zip(limits[:-1], limits[1:], strict=True):
        features = vertex_features[start:end]
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

    def of(self, vertex_features: Tensor, offsets: Tensor, count: int) -> Tensor:
        """See `category_centroids`."""
        made = self._made
        if made is None or made[1].shape[1] != count or not _same(made[0], vertex_features):
            made = vertex_features.clone(), category_centroids(vertex_features, offsets, count)
            self._made = made
        return made[1]


def _same(first: Tensor, second: Tensor) -> bool:
    return first.device == second.device and first.dtype == second.dtype and torch.equal(first, second)


@fast_matmul()
def pruned_scores(
    feature_map: Tensor,
    vertex_features: Tensor,
    offsets: Tensor,
    background_features: Tensor,
    centroids: Tensor,
    pruning: Pruning,
    background: Tensor | None = None,
) -> Tensor:
    """S_y of Eq. 7, exact for the categories that do best at first sight.

    Args:
        feature_map: unit vectors [B, D, H, W].
        vertex_features, offsets, background_features, background: see `category_scores`.
        codes: of these vertex features, see `category_centroids`.
        pruning: how much to look at.

    Returns:
        [B, Y]; the categories that were left out have what the codes say, at most the lowest of the exact scores, so
        the best score is always an exact one.
    """
    images, _, height, width = feature_map.shape
    cells = feature_map.flatten(2).transpose(1, 2).contiguous()
    if background is None:
        background = background_similarity(cells, background_features)
    some = spaced_cells(height, width, pruning.cells).to(cells.device)
    coarse = _code_scores(cells[:, some], centroids, background[:, some])
    if centroids.shape[0] <= pruning.shortlist:
        shortlist = torch.arange(centroids.shape[0], device=cells.device).expand(images, -1)
    else:
        shortlist = coarse.topk(pruning.shortlist, dim=1).indices
    exact = torch.full_like(coarse, torch.inf)
    for number in shortlist.unique().tolist():
        rows = (shortlist == number).any(dim=1).nonzero()[:, 0]
        features = vertex_features[int(offsets[number]) : int(offsets[number + 1])]
        best = best_match(cells[rows].flatten(0, 1), features).reshape(len(rows), -1)
        exact[rows, number] = torch.maximum(best, background[rows]).mean(dim=1)
    floor = exact.amin(dim=1, keepdim=True)
    return torch.where(exact.isinf(), torch.minimum(coarse, floor), exact)


def _code_scores(cells: Tensor, centroids: Tensor, background: Tensor) -> Tensor:
    """Mean over cells [B, N, D] of the best match among the codes or the background, for each category: [B, Y]."""
    images, number, _ = cells.shape
    flat, limit = cells.flatten(0, 1), background.flatten()[:, None]
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
