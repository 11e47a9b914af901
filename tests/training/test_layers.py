"""How a backbone takes part in a training: frozen, checkpointed, with rates that decay over its layers."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compnet3d.errors import CompNetError
from compnet3d.models.backbones import BackboneConfig, FeatureExtractor, build_extractor
from compnet3d.models.compnet import CompNet
from compnet3d.models.layers import layers_of, parameter_depths
from compnet3d.models.registry import load_predictor
from compnet3d.training.build import make_optimizer
from compnet3d.training.recipe import DualHeadRecipe, Recipe, recipe_like
from compnet3d.training.recipe_parts import BackboneSettings, CompNetSearchSettings, ScheduleSettings
from compnet3d.training.train import train
from tests.models.test_families import PUBLISHED
from tests.networks import TINY_CONFIG, TINY_RECIPE, TINY_RESNET

VIT: dict[str, Any] = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8,
                       "image_size": 48, "intermediate_size": 24}  # fmt: skip
RECIPE = replace(
    TINY_RECIPE,
    schedule=ScheduleSettings(epochs=2, batch_size=8, learning_rate=3e-3, calibration_fraction=0.25),
    search=CompNetSearchSettings(steps=1, starts=1),
)


def with_backbone(recipe: Recipe, family: str = "resnet", **settings: Any) -> Any:
    architecture = {"resnet": TINY_RESNET, "vit": VIT}.get(family)
    return replace(
        recipe, backbone=BackboneSettings(family=family, architecture=architecture, dimension=16, **settings)
    )


def train_tiny(data: Path, out: Path, recipe: Any, **options: Any) -> Any:
    return train(recipe, data, out, workers=0, progress=False, **options)


def small(family: str, **options: bool) -> FeatureExtractor:
    """Of any family, which drops at random where it can."""
    values = {"drop_path_rate": 0.3} if family in ("convnext", "swin", "dinov2", "pvt_v2", "hiera") else {}
    architecture = {
        n: v[0] if n == "image_size" and isinstance(v, list) else v for n, v in PUBLISHED[family][1].items()
    }
    torch.manual_seed(0)
    extractor = build_extractor(BackboneConfig(family, architecture | values, dimension=8, **options))
    extractor.amp = False
    return extractor.train()


# -- frozen ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["compnet", "dual head"])
@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_a_frozen_backbone_learns_nothing(tiny_data: Path, tmp_path: Path, family: str, kind: str) -> None:
    recipe = with_backbone(RECIPE, family, frozen=True)
    if kind == "dual head":
        recipe = recipe_like(DualHeadRecipe, recipe)
    model = train_tiny(tiny_data, tmp_path / "run", recipe)
    torch.manual_seed(0)  # the training's seed
    start = build_extractor(replace(model.config.backbone, frozen=False)).state_dict()
    again = load_predictor(tmp_path / "run")
    for other in (model, again):
        other.train()
        network = other.feature_extractor if isinstance(other, CompNet) else other.encoder
        assert not any(part.training for part in network.backbone.modules())
        assert not any(parameter.requires_grad for parameter in network.backbone.parameters())
        for name, tensor in network.backbone.state_dict().items():
            assert torch.equal(tensor, start[f"backbone.{name}"]), name  # batch-norm statistics too
    if isinstance(model, CompNet):
        learned = model.feature_extractor.projection.weight
        assert learned.requires_grad and not torch.equal(learned, start["projection.weight"])


def test_a_frozen_training_resumes_to_the_same_bits(tiny_data: Path, tmp_path: Path) -> None:
    recipe = with_backbone(RECIPE, "vit", frozen=True)
    whole = train_tiny(tiny_data, tmp_path / "whole", recipe)
    train_tiny(tiny_data, tmp_path / "parts", recipe, stop_after=1)
    parts = train_tiny(tiny_data, tmp_path / "parts", recipe, resume=True)
    assert all(torch.equal(parts.state_dict()[name], value) for name, value in whole.state_dict().items())


def test_a_frozen_model_learns_again_where_it_is_started_from(tiny_data: Path, tmp_path: Path) -> None:
    train_tiny(tiny_data, tmp_path / "frozen", with_backbone(RECIPE, frozen=True))
    model = train_tiny(tiny_data, tmp_path / "free", with_backbone(RECIPE), init_from=tmp_path / "frozen")
    assert not model.config.backbone.frozen
    assert all(parameter.requires_grad for parameter in model.parameters())


class Plain(nn.Module):
    """One convolution and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Sequential(nn.Conv2d(3, 12, 8, stride=8), nn.BatchNorm2d(12))

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.patches(images)
        return found


def test_a_module_of_the_users_has_no_layers_and_nothing_beside_it(tiny_data: Path, tmp_path: Path) -> None:
    for settings, message in (
        ({"frozen": True}, "backbone.frozen leaves nothing to learn"),
        ({"checkpointing": True}, "set backbone.checkpointing to false"),
        ({"layer_decay": 0.5}, "set backbone.layer_decay to 1"),
    ):
        with pytest.raises(CompNetError, match=message):
            train_tiny(tiny_data, tmp_path / "run", with_backbone(RECIPE, **settings), feature_extractor=Plain())
    recipe = recipe_like(DualHeadRecipe, with_backbone(RECIPE, frozen=True))
    module = Plain()
    before = copy.deepcopy(module.state_dict())
    train_tiny(tiny_data, tmp_path / "heads", recipe, feature_extractor=module)
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())


# -- computed again --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", PUBLISHED)
def test_layers_that_are_computed_again_have_the_same_gradients(family: str) -> None:
    plain, again = small(family), copy.deepcopy(small(family, checkpointing=True))
    images = torch.rand(2, 3, 2 * max(plain.sizes), 2 * max(plain.sizes))
    kept = []
    for extractor in (plain, again):
        torch.manual_seed(3)
        bytes_kept: dict[int, int] = {}

        def note(tensor: Tensor, bytes_kept: dict[int, int] = bytes_kept) -> Tensor:
            bytes_kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            features = extractor(images)
        features[:, 0].sum().backward()
        kept.append(sum(bytes_kept.values()))
    assert kept[1] < kept[0]
    for (name, one), (_, other) in zip(plain.named_parameters(), again.named_parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        assert one.grad is None or torch.allclose(one.grad, other.grad, atol=1e-6), name
    for (name, one), (_, other) in zip(plain.named_buffers(), again.named_buffers(), strict=True):
        assert torch.equal(one, other), name  # each batch counts once


def test_layers_that_are_computed_again_learn_the_same(tiny_data: Path, tmp_path: Path) -> None:
    models = [
        train_tiny(tiny_data, tmp_path / str(on), with_backbone(RECIPE, "vit", checkpointing=on))
        for on in (False, True)
    ]
    assert models[1].config.backbone.checkpointing
    for name, tensor in models[0].state_dict().items():
        assert torch.allclose(tensor.double(), models[1].state_dict()[name].double(), atol=1e-4), name


# -- decay -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", PUBLISHED)
def test_layers_are_numbered_from_the_image_on(family: str) -> None:
    extractor = small(family)
    layers = layers_of(family, extractor.backbone)
    values = PUBLISHED[family][1]
    stages = sum(values["depths"][:4]) if "depths" in values else values["num_hidden_layers"]
    assert len(layers) == stages
    depths = parameter_depths(family, extractor.backbone)
    assert list(depths.values()) == sorted(depths.values())
    assert set(depths.values()) == set(range(stages + 1))
    for number, layer in enumerate(layers.values(), 1):
        assert {depths[id(parameter)] for parameter in layer.parameters()} == {number}


def test_earlier_layers_learn_more_slowly(tiny_data: Path, tmp_path: Path) -> None:
    recipe = with_backbone(RECIPE, "vit", layer_decay=0.5)
    model = CompNet(replace(TINY_CONFIG, backbone=BackboneConfig("vit", VIT, dimension=16)))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {
        names[id(parameter)]: group["base_lr"]
        for group in make_optimizer(model, recipe).param_groups
        for parameter in group["params"]
    }
    assert rates.keys() == set(names.values())
    for name, rate in rates.items():
        expected = 1e-3  # of the projection
        for part, depth in (("embeddings", 0), ("layers.0", 1), ("layers.1", 2), ("layers.2", 3), ("layernorm.", 3)):
            if f"backbone.{part}" in name:
                expected = 3e-3 * 0.5 ** (3 - depth)
        assert rate == pytest.approx(expected), name
    whole = train_tiny(tiny_data, tmp_path / "whole", recipe)
    train_tiny(tiny_data, tmp_path / "parts", recipe, stop_after=1)
    parts = train_tiny(tiny_data, tmp_path / "parts", recipe, resume=True)
    assert all(torch.equal(parts.state_dict()[name], value) for name, value in whole.state_dict().items())


def test_what_is_dropped_at_random_is_dropped_again_after_a_pause(tiny_data: Path, tmp_path: Path) -> None:
    architecture = VIT | {"hidden_dropout_prob": 0.3}
    recipe = replace(RECIPE, backbone=BackboneSettings(family="vit", architecture=architecture, dimension=16))
    whole = train_tiny(tiny_data, tmp_path / "whole", recipe)
    train_tiny(tiny_data, tmp_path / "parts", recipe, stop_after=1)
    parts = train_tiny(tiny_data, tmp_path / "parts", recipe, resume=True)
    assert all(torch.equal(parts.state_dict()[name], value) for name, value in whole.state_dict().items())
