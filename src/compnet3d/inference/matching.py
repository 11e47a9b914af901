"""Classification by matching features to the vertices of every category, geometry ignored (Eq. 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from compnet3d.utils.matmul import BLOCK, bf16_is_fast, block_size, fast_matmul, gather_rows


@fast_matmul()
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
    matched = category_matches(features.flatten(0, -2), background_features, [0, len(background_features)])
    return matched.reshape(features.shape[:-1])


@fast_matmul()
def category_scores(
    feature_map: Tensor,
    vertex_features: Tensor,
    offsets: Tensor,
    background_features: Tensor,
    background: Tensor | None = None,
) -> Tensor:
    """S_y of Eq. 7 as an average over the feature map's cells.

    Args:
        feature_map: unit vectors [B, D, H, W].
        vertex_features: the flat bank [sum of K, D], categories divided by `offsets` [Y + 1].
        background_features: [N_b, D].
        background: `background_similarity` of the cells, [B, H W], where it is known already.

    Returns:
        [B, Y], each in [-1, 1].
    """
    cells = feature_map.flatten(2).transpose(1, 2).flatten(0, 1)
    limit = background_similarity(cells, background_features) if background is None else background.flatten()
    matched = torch.maximum(category_matches(cells, vertex_features, offsets.tolist()), limit[:, None])
    return matched.view(len(feature_map), feature_map.shape[2] * feature_map.shape[3], len(offsets) - 1).mean(dim=1)


def category_matches(cells: Tensor, vertex_features: Tensor, limits: Sequence[int]) -> Tensor:
    """max over C_y of f_i . C_k for cells [N, D] and each category of the flat bank, divided by `limits`: [N, Y].

    Differentiable in the cells: the gradient goes through each category's best vertex alone. Where a gradient is
    wanted and the processor multiplies bfloat16 in hardware, the best vertex is searched in bfloat16; its similarity
    is that of float32 all the same.
    """
    if torch.is_grad_enabled() and cells.requires_grad:
        matches: Tensor = _CategoryMatches.apply(cells, vertex_features, limits)
        return matches
    return torch.stack([best_match(cells, vertex_features[a:b]) for a, b in pairwise(limits)], dim=1)


def best_match(cells: Tensor, features: Tensor) -> Tensor:
    """max_k f_i . C_k for cells [N, D] and features [K, D], block by block: [N]. Not differentiable."""
    rows = max(1, block_size(BLOCK, cells.device) // max(1, len(features)))
    best = cells.new_empty(len(cells))
    for start in range(0, len(cells), rows):
        torch.amax(torch.mm(cells[start : start + rows], features.T), dim=1, out=best[start : start + rows])
    return best


class _CategoryMatches(torch.autograd.Function):
    """`category_matches` with its gradient, the chosen vertices weighted by the gradients of their similarities."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, features: Tensor, limits: Sequence[int]) -> Tensor:
        kind = torch.bfloat16 if bf16_is_fast() and features.dtype == torch.float32 else features.dtype
        rows = _padded_rows(limits).to(features.device)
        columns = gather_rows(features, rows).flatten(0, 1).to(kind).T
        values, chosen = [], []
        for block in cells.split(_block_rows(features)):
            best = (block.to(kind) @ columns).unflatten(1, rows.shape).max(dim=2)
            chosen.append(rows.T.gather(0, best.indices))
            if kind == features.dtype:
                values.append(best.values)
            else:
                values.append(torch.bmm(gather_rows(features, chosen[-1]), block[..., None])[..., 0])
        ctx.save_for_backward(features, torch.cat(chosen))
        return torch.cat(values)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        features, chosen = ctx.saved_tensors
        rows = _block_rows(features)
        blocks = zip(outer[0].split(rows), chosen.split(rows), strict=True)
        pull = [torch.bmm(gradient[:, None], gather_rows(features, index))[:, 0] for gradient, index in blocks]
        return torch.cat(pull), None, None


def _padded_rows(limits: Sequence[int]) -> Tensor:
    """Rows of each category in the flat bank, its last one repeated where others have more: int64 [Y, K_max]."""
    starts = torch.tensor(limits)
    counts = starts.diff()
    return starts[:-1, None] + torch.minimum(torch.arange(int(counts.max())), counts[:, None] - 1)


def _block_rows(features: Tensor) -> int:
    """Cells whose similarities with all of the features make a block; products of fewer than 256 rows are slow."""
    return max(256, block_size(BLOCK, features.device) // max(1, len(features)))


def spaced_cells(height: int, width: int, most: int) -> Tensor:
    """Numbers of at most about `most` evenly spaced cells of a map of height x width, int64, row by row."""
    step = max(1, math.ceil(math.sqrt(height * width / most)))
    first = (step - 1) // 2
    return torch.arange(height * width).reshape(height, width)[first::step, first::step].flatten()
