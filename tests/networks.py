"""The network of the tests, a ResNet of four stages with a few channels each, and the recipe that trains it."""

from __future__ import annotations

from typing import Any

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
