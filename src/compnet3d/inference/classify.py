"""Classification by matching features to the vertices of every category, geometry ignored (Eq. 7)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from compnet3d.products import BLOCK, fast_products


@fast_products()
def background_similarity(features: Tensor, background_features: Tensor) -> Tensor:
    """max over the background of f_i . beta_n for each cell.

    Args:
        features: unit vectors [..., D].
        background_features: [N_b, D]; without any, every cell's best background similarity is 0 (orthogonal).

    Returns:
        [...].
    """
    if not len(background_features):
        return features.new_zeros(features.shape[:-1])
    return best_match(features.flatten(0, -2), background_features).reshape(features.shape[:-1])


@fast_products()
def category_scores(
    feature_map: Tensor, vertex_features: Tensor, offsets: Tensor, background_features: Tensor
) -> Tensor:
    """S_y of Eq. 7 as an average over the feature map's cells.

    Args:
        feature_map: unit vectors [B, D, H, W].
        vertex_features: the flat bank [sum of K, D], categories divided by `offsets` [Y + 1].
        background_features: [N_b, D].

    Returns:
        [B, Y], each in [-1, 1].
    """
    limits = offsets.tolist()
    cells = feature_map.flatten(2).transpose(1, 2).flatten(0, 1)
    background = background_similarity(cells, background_features)
    columns = [
        torch.maximum(best_match(cells, vertex_features[start:end]), background)
        .reshape(len(feature_map), feature_map.shape[2] * feature_map.shape[3])
        .mean(dim=1)
        for start, end in zip(limits[:-1], limits[1:], strict=True)
    ]
    return torch.stack(columns, dim=1)


def best_match(cells: Tensor, features: Tensor) -> Tensor:
    """max_k f_i . C_k for cells [N, D] and features [K, D], block by block: [N]. Differentiable in the cells."""
    rows = max(1, BLOCK // max(1, len(features)))
    if torch.is_grad_enabled() and cells.requires_grad:
        matched: Tensor = _BestMatch.apply(cells, features, rows)
        return matched
    best = cells.new_empty(len(cells))
    for start in range(0, len(cells), rows):
        torch.amax(torch.mm(cells[start : start + rows], features.T), dim=1, out=best[start : start + rows])
    return best


class _BestMatch(torch.autograd.Function):
    """`best_match` whose gradient goes through the chosen vertex alone: no product of the size of the first."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, features: Tensor, rows: int) -> Tensor:
        found = [torch.mm(block, features.T).max(dim=1) for block in cells.split(rows)]
        ctx.save_for_backward(features, torch.cat([indices for _, indices in found]))
        return torch.cat([values for values, _ in found])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        features, chosen = ctx.saved_tensors
        return gradient[:, None] * features.index_select(0, chosen), None, None


def spaced_cells(height: int, width: int, most: int) -> Tensor:
    """Numbers of at most about `most` evenly spaced cells of a map of height x width, int64, row by row."""
    step = max(1, math.ceil(math.sqrt(height * width / most)))
    first = (step - 1) // 2
    return torch.arange(height * width).reshape(height, width)[first::step, first::step].flatten()
