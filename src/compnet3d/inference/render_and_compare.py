"""Eq. 8 over a bank and the shapes that carry it: poses of known categories, and the category that fits best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from compnet3d.data.transforms import CropMode
from compnet3d.inference.category_search import CategorySearch, reconstructing_category, search_categories
from compnet3d.inference.matching import CropFeatures, vertex_similarities
from compnet3d.inference.pose_hypotheses import PoseHypotheses, Renderer
from compnet3d.inference.pose_search import Bonus, Matches, PoseEstimate, PoseSettings, estimate_pose, image_chunks
from compnet3d.losses.inputs import FeatureBank


@dataclass(frozen=True)
class RenderAndCompare:
    """What poses are estimated with.

    Attributes:
        bank: the vertex features.
        render: draws the bank's categories.
        hypotheses: the initial poses of a category, by its number and by how the crop was cut.
        settings: how poses are searched.
        bonus: see `estimate_pose`; the search over categories does not count it.
        orders: of the symmetries of categories int64 [B] (see `Matches`); none has any by default.
    """

    bank: FeatureBank
    render: Renderer
    hypotheses: Callable[[int, CropMode], PoseHypotheses]
    settings: PoseSettings
    bonus: Bonus | None = None
    orders: Callable[[Tensor], Tensor] = torch.ones_like

    @torch.no_grad()
    def estimate_poses(self, features: CropFeatures, category: Tensor) -> PoseEstimate:
        """Eq. 8 for the given category of each crop, int64 [B]; see `estimate_pose`."""
        parts = []
        for some in image_chunks(features.feature_map):
            crops, numbers = features[some], category[some]
            similarity = vertex_similarities(crops.feature_map, self.bank, numbers)
            parts.append(
                estimate_pose(
                    Matches(similarity, crops.background, numbers, self.orders(numbers)),
                    [self.hypotheses(number, crops.crop) for number in numbers.tolist()],
                    self.render,
                    self.settings,
                    bonus=self.bonus,
                    translation_known=crops.crop == "oracle",
                )
            )
        return PoseEstimate.cat(parts)

    def search_categories(
        self, features: CropFeatures, search: CategorySearch | None = None, likely: Tensor | None = None
    ) -> Tensor:
        """The lowest loss of Eq. 8 among each category's initial poses, [B, Y]; see `category_search`."""
        closely = search or CategorySearch(truncation=self.settings.truncation)
        return search_categories(
            features, self.bank, lambda number: self.hypotheses(number, features.crop), closely, likely
        )

    def reconstructing_category(self, features: CropFeatures) -> Tensor:
        """The category with the lowest reconstruction loss (section 5.3), int64 [B]."""
        losses = self.search_categories(features)
        return reconstructing_category(losses, lambda numbers: self.estimate_poses(features, numbers).loss)
