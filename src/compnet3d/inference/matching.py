"""Classification by matching features to the vertices of every category, geometry ignored (Eq. 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from compnet3d.data.transforms import CropMode
from compnet3d.losses.inputs import FeatureBank
from compnet3d.utils.checks import check_floating, check_index, check_integer, check_shape, reads_values
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


@dataclass(frozen=True)
class CropFeatures:
    """What Eq. 7 and Eq. 8 need to know of crops.

    Attributes:
        feature_map: unit vectors [B, D, H, W].
        background: `background_similarity` of its cells, [B, H W].
        crop: how the crops were cut, which tells what is known of distance and principal point.

    Raises:
        ValueError: if a shape does not fit.
    """

    feature_map: Tensor
    background: Tensor
    crop: CropMode = "oracle"

    def __post_init__(self) -> None:
        check_shape("feature_map", self.feature_map, ("B", "D", "H", "W"))
        images, _, height, width = self.feature_map.shape
        check_shape("background", self.background, (images, height * width))

    @classmethod
    def of(cls, feature_map: Tensor, bank: FeatureBank, crop: CropMode = "oracle") -> CropFeatures:
        """Compare a feature map [B, D, H, W] with the background of the bank."""
        check_feature_map(feature_map, bank)
        return cls(feature_map, background_similarity(cells_of(feature_map), bank.background_features), crop)

    def __len__(self) -> int:
        return len(self.feature_map)

    def __getitem__(self, images: slice) -> CropFeatures:
        """Those of some crops."""
        return CropFeatures(self.feature_map[images], self.background[images], self.crop)

    @property
    def cells(self) -> Tensor:
        """[B, H W, D]."""
        return cells_of(self.feature_map)


def cells_of(feature_map: Tensor) -> Tensor:
    """The cells of a feature map [B, D, H, W] row by row, [B, H W, D]."""
    return feature_map.flatten(2).transpose(1, 2)


def check_feature_map(feature_map: Tensor, bank: FeatureBank) -> None:
    """Raise unless the feature map is [B, D, H, W] with D as in the bank."""
    check_shape("feature_map", feature_map, ("B", bank.vertex_features.shape[1], "H", "W"))
    check_floating(feature_map=feature_map)


@fast_matmul()
def category_scores(feature_map: Tensor, bank: FeatureBank, background: Tensor | None = None) -> Tensor:
    """S_y of Eq. 7 as an average over the feature map's cells.

    Args:
        feature_map: unit vectors [B, D, H, W].
        bank: vertex features of all categories, and the background features.
        background: `background_similarity` of the cells, [B, H W], where it is known already.

    Returns:
        [B, Y], each in [-1, 1].

    Raises:
        ValueError: if a shape or a type does not fit.
    """
    check_feature_map(feature_map, bank)
    images, _, height, width = feature_map.shape
    cells = cells_of(feature_map).flatten(0, 1)
    if background is None:
        limit = background_similarity(cells, bank.background_features)
    else:
        check_shape("background", background, (images, height * width))
        limit = background.flatten()
    # Eq. 7's two maxima: the background's is the same for all categories and is found once. A mean in place of the sum
    # changes no order and makes maps of different sizes comparable
    matched = torch.maximum(category_matches(cells, bank.vertex_features, bank.offsets.tolist()), limit[:, None])
    return matched.view(images, height * width, bank.categories).mean(dim=1)


@fast_matmul()
def vertex_similarities(feature_map: Tensor, bank: FeatureBank, category: Tensor) -> Tensor:
    """f_i . C_k of each image's category.

    Args:
        feature_map: unit vectors [B, D, H, W]; bank: the vertex features; category: int64 [B].

    Returns:
        [B, H W, K_max], -1 where a category has fewer vertices.

    Raises:
        ValueError: if a shape, a type or a category's number does not fit.
    """
    check_feature_map(feature_map, bank)
    check_shape("category", category, (len(feature_map),))
    check_integer(category=category)
    if __debug__ and reads_values(category):
        check_index("category", category, bank.categories)
    widest = int(bank.offsets.diff().max())
    # categories differ in K and images of one batch in category: a batched product would first copy each category's
    # features, padded, for every image
    rows = []
    for image, number in zip(cells_of(feature_map), category.tolist(), strict=True):
        similarity = image @ bank.category_features(number).T
        # -1 is the least that a cosine can be: no maximum prefers padding, and no pose draws it
        rows.append(pad(similarity, (0, widest - similarity.shape[1]), value=-1.0))
    return torch.stack(rows)


def category_matches(cells: Tensor, vertex_features: Tensor, limits: Sequence[int]) -> Tensor:
    """max over C_y of f_i . C_k for cells [N, D] and each category of the flat bank, divided by `limits`: [N, Y].

    Differentiable in the cells: the gradient goes through each category's best vertex alone. Where a gradient is
    wanted and the processor multiplies bfloat16 in hardware, the best vertex is searched in bfloat16; its similarity
    is that of float32 all the same.
    """
    # autograd through the products would keep all similarities, [N, sum of K], for the backward pass
    if torch.is_grad_enabled() and cells.requires_grad:
        matches: Tensor = _CategoryMatches.apply(cells, vertex_features, limits)
        return matches
    return torch.stack([best_match(cells, vertex_features[a:b]) for a, b in pairwise(limits)], dim=1)


def best_match(cells: Tensor, features: Tensor) -> Tensor:
    """max_k f_i . C_k for cells [N, D] and features [K, D], block by block: [N]. Not differentiable."""
    # a block of similarities fits into the cache and is reduced to its maxima there
    rows = max(1, block_size(BLOCK, cells.device) // max(1, len(features)))
    best = cells.new_empty(len(cells))
    for start in range(0, len(cells), rows):
        torch.amax(torch.mm(cells[start : start + rows], features.T), dim=1, out=best[start : start + rows])
    return best


class _CategoryMatches(torch.autograd.Function):
    """`category_matches` with its gradient, the chosen vertices weighted by the gradients of their similarities."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, features: Tensor, limits: Sequence[int]) -> Tensor:
        # only which vertex is best is found in bfloat16; two that it cannot tell apart are about equally good, so the
        # value loses next to nothing
        kind = torch.bfloat16 if bf16_is_fast() and features.dtype == torch.float32 else features.dtype
        # padded, so that a block's similarities with all categories are one product and the maxima one reduction, [n,
        # Y, K_max]
        rows = _padded_rows(limits).to(features.device)
        columns = gather_rows(features, rows).flatten(0, 1).to(kind).T
        values, chosen = [], []
        for block in cells.split(_block_rows(features)):
            best = (block.to(kind) @ columns).unflatten(1, rows.shape).max(dim=2)
            # place within the category to row of the flat bank: out[n, y] = rows[y, best[n, y]]
            chosen.append(rows.T.gather(0, best.indices))
            if kind == features.dtype:
                values.append(best.values)
            else:
                # f_i . C of the chosen vertices again, in the features' own precision: Y products for each cell are few
                values.append(torch.bmm(gather_rows(features, chosen[-1]), block[..., None])[..., 0])
        # vertex numbers alone, [N, Y]: their features are gathered again in the backward pass
        ctx.save_for_backward(features, torch.cat(chosen))
        return torch.cat(values)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        features, chosen = ctx.saved_tensors
        rows = _block_rows(features)
        blocks = zip(outer[0].split(rows), chosen.split(rows), strict=True)
        # d max_k f . C_k / df = C of the best k
        pull = [torch.bmm(gradient[:, None], gather_rows(features, index))[:, 0] for gradient, index in blocks]
        return torch.cat(pull), None, None


def _padded_rows(limits: Sequence[int]) -> Tensor:
    """Rows of each category in the flat bank, its last one repeated where others have more: int64 [Y, K_max]."""
    starts = torch.tensor(limits)
    counts = starts.diff()
    # a repeated vertex changes no maximum, and whichever of the two wins is a row of the category
    return starts[:-1, None] + torch.minimum(torch.arange(int(counts.max())), counts[:, None] - 1)


def _block_rows(features: Tensor) -> int:
    """Cells whose similarities with all of the features make a block; products of fewer than 256 rows are slow."""
    return max(256, block_size(BLOCK, features.device) // max(1, len(features)))


def spaced_cells(height: int, width: int, most: int) -> Tensor:
    """Numbers of at most about `most` evenly spaced cells of a map of height x width, int64, row by row."""
    step = max(1, math.ceil(math.sqrt(height * width / most)))
    # half a step from the border, so that the cells lie evenly over the whole map
    first = (step - 1) // 2
    return torch.arange(height * width).reshape(height, width)[first::step, first::step].flatten()
