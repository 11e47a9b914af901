"""The network of the tests, a ResNet of four stages with a few channels each, the recipe, and features for a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.data.transforms import CropMode, InputConfig
from compnet3d.geometry.camera import Pose
from compnet3d.inference.matching import CropFeatures
from compnet3d.inference.pose_hypotheses import PoseGrid
from compnet3d.inference.pose_search import PoseEstimate, PoseSettings
from compnet3d.models.backbones import BackboneConfig
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
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
# of two categories, untrained
TINY_CONFIG = CompNetConfig(
    categories=("brick", "tower"),
    bounds=(((-0.45, -0.2, -0.15), (0.45, 0.2, 0.15)), ((-0.15, -0.2, -0.45), (0.15, 0.2, 0.45))),
    backbone=BackboneConfig("resnet", TINY_RESNET, dimension=16),
    input_config=InputConfig(height=48, width=48, focal=120.0, distance=3.0, box_fill=0.7),
    vertex_count=40,
    background_size=8,
    pose=PoseSettings(steps=2, starts=1),
    grid=PoseGrid(azimuths=4, elevations=1, thetas=1),
)


def crop_features(model: CompNet, feature_map: Tensor, crop: CropMode = "oracle") -> CropFeatures:
    """A feature map [B, D, H, W] as if the model had computed it."""
    return CropFeatures.of(feature_map, model.bank.feature_bank, crop)


def estimate_poses(model: CompNet, feature_map: Tensor, category: Tensor, crop: CropMode = "oracle") -> PoseEstimate:
    """Poses for a feature map [B, D, H, W] and categories int64 [B]."""
    return model.render_and_compare.estimate_poses(crop_features(model, feature_map, crop), category)


def random_compnet(config: CompNetConfig) -> CompNet:
    """A model whose every tensor is random, as if it had learned something; always the same one."""
    torch.manual_seed(0)
    model = CompNet(config)
    features = model.bank.vertex_features
    features.copy_(normalize(torch.randn_like(features), dim=1))
    model.bank.update_background(normalize(torch.randn(10, features.shape[1]), dim=1))
    if model.prior is not None:
        usual = Pose.of(torch.linspace(0, 2, 8), 0.2, 0.1, 1.0).to_matrix()
        model.fit_prior([usual for _ in config.categories])
    for name, buffer in model.feature_extractor.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return model.eval()
