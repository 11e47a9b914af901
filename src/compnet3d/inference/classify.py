"""Classification by matching features to the vertices of every category, geometry ignored (Eq. 7)."""

from __future__ import annotations

import torch
from torch import Tensor


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
    return (features @ background_features.T).amax(dim=-1)


def category_scores(
    feature_map: Tensor, vertex_features: Tensor, offsets: Tensor, background_features: Tensor, *, chunk: int = 8
) -> Tensor:
    """S_y of Eq. 7 as an average over the feature map's cells.

    Args:
        feature_map: unit vectors [B, D, H, W].
        vertex_features: the flat bank [sum of K, D], categories divided by `offsets` [Y + 1].
        background_features: [N_b, D].
        chunk: images compared at a time, which bounds the memory.

    Returns:
        [B, Y], each in [-1, 1].
    """
    limits = offsets.tolist()
    rows = []
    for part in feature_map.flatten(2).transpose(1, 2).split(chunk):
        background = background_similarity(part, background_features)
        columns = [
            torch.maximum((part @ vertex_features[start:end].T).amax(dim=-1), background).mean(dim=-1)
            for start, end in zip(limits[:-1], limits[1:], strict=True)
        ]
        rows.append(torch.stack(columns, dim=-1))
    return torch.cat(rows) if rows else feature_map.new_zeros((0, len(limits) - 1))
