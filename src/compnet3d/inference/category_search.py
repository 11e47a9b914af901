"""Which category explains an image best by Eq. 8: all compete with their initial poses (section 5.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from compnet3d.inference.matching import CropFeatures, check_feature_map, spaced_cells
from compnet3d.inference.pose_hypotheses import PoseHypotheses, search_hypotheses
from compnet3d.losses.inputs import FeatureBank
from compnet3d.utils.checks import check_shape
from compnet3d.utils.matmul import fast_matmul


@dataclass(frozen=True)
class CategorySearch:
    """How closely the categories are looked at.

    Attributes:
        cells: evenly spaced ones, at most this many, speak for all at first.
        shortlist: categories that are then searched in all cells.
        truncation: see `PoseSettings`.
        margin: see `search_hypotheses`.

    Raises:
        ValueError: if there are no cells or no categories to look at.
    """

    cells: int = 1000
    shortlist: int = 8
    truncation: float | None = None
    margin: float = 0.0

    def __post_init__(self) -> None:
        if __debug__ and min(self.cells, self.shortlist) < 1:
            raise ValueError(f"cells and shortlist must be at least 1, got {self.cells} and {self.shortlist}")


@torch.no_grad()
@fast_matmul()
def search_categories(
    features: CropFeatures,
    bank: FeatureBank,
    hypotheses: Callable[[int], PoseHypotheses],
    search: CategorySearch,
    likely: Tensor | None = None,
) -> Tensor:
    """The lowest loss of Eq. 8 among each category's initial poses, [B, Y].

    Args:
        features: of B crops.
        bank: the vertex features; hypotheses: the initial poses of a category, by its number.
        search: how closely to look. The categories off the shortlist keep what the few cells say, but no less than the
            shortlist's largest loss.
        likely: [B, Y], the largest make the shortlist; without it, those that do best in the few cells.

    Raises:
        ValueError: if a shape or a type does not fit.
    """
    check_feature_map(features.feature_map, bank)
    if likely is not None:
        check_shape("likely", likely, (len(features), bank.categories))
    maps, background = features.cells, features.background
    height, width = features.feature_map.shape[2:]
    some = spaced_cells(height, width, search.cells).to(maps.device)
    everything, everyone = torch.arange(len(maps), device=maps.device), range(bank.categories)

    def lowest(images: Tensor, number: int, seen: Tensor | None = None) -> Tensor:
        table = hypotheses(number)
        cells, limit = maps[images], background[images]
        if seen is not None:
            table, cells, limit = table.at(seen), cells[:, seen], limit[:, seen]
        similarity = cells @ bank.category_features(number).T
        losses = search_hypotheses(similarity, limit, table, truncation=search.truncation, margin=search.margin)
        return losses.amin(dim=1)

    if len(everyone) <= search.shortlist or (likely is None and len(some) == maps.shape[1]):
        return torch.stack([lowest(everything, number) for number in everyone], dim=1)
    if likely is None:
        losses = torch.stack([lowest(everything, number, some) for number in everyone], dim=1)
        likely = -losses
    else:
        # nothing is known of the others; below, the shortlist's worst loss takes the place of this
        losses = torch.full_like(likely, -torch.inf)
    chosen = torch.zeros_like(losses, dtype=torch.bool)
    chosen.scatter_(1, likely.topk(search.shortlist, dim=1).indices, True)
    for number in chosen.any(dim=0).nonzero()[:, 0].tolist():
        images = chosen[:, number].nonzero()[:, 0]
        losses[images, number] = lowest(images, number)
    # losses of few cells are noisy, and the lowest of many noisy ones is too low: no category may win by them
    worst = losses.masked_fill(~chosen, -torch.inf).amax(dim=1, keepdim=True)
    return torch.where(chosen, losses, torch.maximum(losses, worst))


@torch.no_grad()
def reconstructing_category(losses: Tensor, refined_loss: Callable[[Tensor], Tensor], candidates: int = 3) -> Tensor:
    """The category with the lowest loss after refinement, int64 [B].

    Args:
        losses: of the initial poses, [B, Y], see `search_categories`.
        refined_loss: the loss after refinement of one category for each image, int64 [B] -> [B].
        candidates: categories that are refined, the best ones.
    """
    check_shape("losses", losses, ("B", "Y"))
    best = losses.topk(min(candidates, losses.shape[1]), dim=1, largest=False).indices
    refined = torch.stack([refined_loss(numbers) for numbers in best.unbind(1)], dim=1)
    return best.gather(1, refined.argmin(dim=1, keepdim=True))[:, 0]
