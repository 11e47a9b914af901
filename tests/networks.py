"""The network of the tests, a ResNet of four stages with a few channels each, the recipe, and features for a model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from compnet3d.data.transforms import CropMode
from compnet3d.inference.matching import CropFeatures
from compnet3d.inference.pose_search import PoseEstimate
from compnet3d.models.compnet import CompNet
from compnet3d.training.recipe import CompNetRecipe
from compnet3d.training.recipe_parts import BackboneSettings, BankSettings, InputSettings, ModelSettings

TINY_RESNET: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}

# on `make_tiny_data` of conftest.py; tests replace what they need otherwise
TINY_RECIPE = CompNetRecipe(
    name="tiny",
    description="for tests",
    input=InputSettings(height=48, width=48),
    backbone=BackboneSettings(architecture=TINY_RESNET, dimension=16),
    model=ModelSettings(vertex_count=40),
    bank=BankSettings(background_size=32),
)


def crop_features(model: CompNet, feature_map: Tensor, crop: CropMode = "oracle") -> CropFeatures:
    """A feature map [B, D, H, W] as if the model had computed it."""
    return CropFeatures.of(feature_map, model.bank.feature_bank, crop)


def estimate_poses(model: CompNet, feature_map: Tensor, category: Tensor, crop: CropMode = "oracle") -> PoseEstimate:
    """Poses for a feature map [B, D, H, W] and categories int64 [B]."""
    return model.render_and_compare.estimate_poses(crop_features(model, feature_map, crop), category)
