"""Every field of every part of a recipe is read by something that a test holds."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.data.annotations import annotation_dict
from compnet3d.data.augment import Augmentation
from compnet3d.data.imagenet3d import ImageNet3D, write_list, write_object
from compnet3d.data.loader import CropDataset
from compnet3d.data.transforms import InputConfig
from compnet3d.models.backbones import BackboneConfig, build_extractor
from compnet3d.training.build import make_extractor
from compnet3d.training.recipe import Recipe
from compnet3d.training.run_checks import recipe_differences
from tests.networks import TINY_RESNET
from tests.training.real import RECIPE, change
from tests.training.test_reference import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
HERE, SEARCH = "tests/training/test_fields.py", "tests/inference/test_refinement.py"
REFINEMENT = f"{SEARCH}::test_a_setting_of_the_search_does_what_it_does_in_the_reference"
# the tests of what a whole training with a tiny network of its own does not read
HELD_ELSEWHERE = {
    "method": "tests/training/test_reference.py::test_a_training_is_the_reference",
    "model.shape": "tests/training/test_mesh.py::test_a_mesh_trains_and_is_saved_with_the_model",
    "name": f"{HERE}::test_a_run_notes_every_field",
    "description": f"{HERE}::test_a_run_notes_every_field",
    "backbone.pretrained": f"{HERE}::test_a_pretrained_backbone_is_the_one_asked_for",
    "backbone.pretrained_layers": f"{HERE}::test_a_pretrained_backbone_is_the_one_asked_for",
    "backbone.family": f"{HERE}::test_a_backbone_is_built_as_asked_for",
    "backbone.architecture": f"{HERE}::test_a_backbone_is_built_as_asked_for",
    "backbone.upsampling": f"{HERE}::test_a_backbone_is_built_as_asked_for",
    "backbone.stages": f"{HERE}::test_a_backbone_is_built_as_asked_for",
    "backbone.frozen": "tests/training/test_layers.py::test_a_frozen_backbone_learns_nothing",
    "backbone.checkpointing": "tests/training/test_layers.py::test_layers_that_are_computed_again_learn_the_same",
    "backbone.whole_batch_statistics": "tests/training/test_distributed.py::test_shares_with_statistics_of_their_own",
    "backbone.layer_decay": "tests/training/test_layers.py::test_earlier_layers_learn_more_slowly",
    "schedule.processes": "tests/training/test_reference.py::test_several_processes_are_the_reference_of_one",
    "loss.flip_gain": "tests/training/test_flips.py::test_flipped_negatives_weigh_as_the_calibration_split_says",
    "search.starts": REFINEMENT,
    "search.steps": REFINEMENT,
    "search.learning_rate": REFINEMENT,
    "search.betas": REFINEMENT,
    "search.shift_unit": REFINEMENT,
    "search.softness": REFINEMENT,
    "search.prior_weight": REFINEMENT,
}
# each field of the augmentation at another value than in STRONG
AUGMENTATIONS: dict[str, Any] = {
    "rotation": 5.0, "scale": (0.5, 0.6), "shift": 0.3, "mirror": 0.0, "reflect": 0.0, "brightness": 0.0,
    "contrast": 0.0, "saturation": 0.0, "colour_jitter": 0.0, "tone_curve": 0.0, "gamma": 0.0, "grey": 0.9, "blur": 0.0,
    "blur_radius": 0.4, "noise": 2.0, "noise_probability": 0.0, "erasing": 0.0, "erasing_count": 1,
    "erasing_area": (0.01, 0.02), "dead_leaves": 0.0, "dead_leaves_area": (0.05, 0.1), "copy_paste": 0.0,
    "background_swap": 0.0, "box_crop": 0.0,
}  # fmt: skip
STRONG = Augmentation(
    rotation=40, scale=(0.8, 1.25), shift=0.08, mirror=0.5, reflect=0.5, brightness=0.3, contrast=0.3, saturation=0.3,
    colour_jitter=0.2, tone_curve=0.5, gamma=0.3, grey=0.3, blur=0.6, blur_radius=2.0, noise=10, noise_probability=0.5,
    erasing=0.9, erasing_count=3, erasing_area=(0.05, 0.2), dead_leaves=0.4,
    dead_leaves_area=(0.3, 0.6), copy_paste=0.5, background_swap=0.5, box_crop=0.5,
)  # fmt: skip


def dotted(settings: Any, prefix: str = "") -> list[str]:
    """Dotted names of all fields."""
    names = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        names += dotted(value, f"{prefix}{field.name}.") if is_dataclass(value) else [prefix + field.name]
    return names


METHODS = {method: change(RECIPE, "method", method) for method in ("compnet", "novum", "dual-head")}
FIELDS = [(method, name) for method, recipe in METHODS.items() for name in dotted(recipe)]


def test_every_field_is_held_by_a_test_and_none_is_forgotten() -> None:
    compared = {name for _, name, _ in SETTINGS}
    augmented = {f"augmentation.{name}" for name in AUGMENTATIONS}
    assert {name for _, name in FIELDS} | {"method"} == compared | augmented | set(HELD_ELSEWHERE)
    assert not compared & set(HELD_ELSEWHERE)


@pytest.mark.parametrize("test", sorted(set(HELD_ELSEWHERE.values())))
def test_the_tests_named_above_are_there(test: str) -> None:
    path, name = test.split("::")
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def other_value(value: Any) -> Any:
    """Some value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 if value else 0.25
    if isinstance(value, str):
        return {"compnet": "novum", "bins": "regression", "cuboid": "mesh", "resnet": "vit"}.get(value, value + "x")
    if isinstance(value, dict):
        return {**value, "embedding_size": 3}
    if isinstance(value, tuple):
        return tuple(0.9 * x for x in value) if value else ("folder", "hub/name")
    return 3


@pytest.mark.parametrize(("method", "name"), FIELDS)
def test_a_run_notes_every_field(method: str, name: str) -> None:
    """In its config.json, from which the recipe is read again, and with another value the run does not go on."""
    recipe = value = METHODS[method]
    if name == "backbone.family":  # of which each has an architecture of its own
        recipe = value = change(recipe, "backbone.architecture", {})
    for part in name.split("."):
        value = getattr(value, part)
    changed = change(recipe, name, 2 if name == "backbone.stages" else other_value(value))
    noted = json.loads(json.dumps(changed.to_dict()))
    assert Recipe.from_dict(noted) == changed != recipe
    assert recipe_differences({"recipe": noted}, recipe) == [name]


def test_a_run_notes_the_method() -> None:
    for method, recipe in METHODS.items():
        noted = json.loads(json.dumps(recipe.to_dict()))
        assert noted["method"] == method and Recipe.from_dict(noted) == recipe
        others = [other for other in METHODS if other != method]
        assert [recipe_differences({"recipe": noted}, METHODS[other]) for other in others] == [["method"]] * 2


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> CropDataset:
    root, rng = tmp_path_factory.mktemp("augmentation"), np.random.default_rng(0)
    entry = annotation_dict(
        category="car", azimuth=1.0, elevation=0.2, theta=0.1, distance=5.0, focal=900.0, principal_point=(20.0, 15.0),
        bbox=(5, 5, 35, 25), width=40, height=30,
    )  # fmt: skip
    smooth = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize((40, 30))
    mask = np.zeros((30, 40), dtype=bool)
    mask[8:22, 8:32] = True
    write_object(root, "car", "0", np.asarray(smooth), [entry], mask)
    write_list(root, "car", "train", "0")
    input_config = InputConfig(height=24, width=32, focal=700.0, distance=5.0, box_fill=0.6)
    samples = ImageNet3D(root).samples("train")
    return CropDataset(samples, ["car"], input_config, augmentation=STRONG, mirror_categories={"car"})


@pytest.mark.parametrize("name", [field.name for field in fields(Augmentation)])
def test_every_field_of_the_augmentation_changes_crops(crops: CropDataset, name: str) -> None:
    other = crops.of(crops.samples)
    other.augmentation = replace(STRONG, **{name: AUGMENTATIONS[name]})
    apart = [not torch.equal(crops[epoch, 0]["image"], other[epoch, 0]["image"]) for epoch in range(12)]
    assert any(apart)


PATCHES = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}


@pytest.mark.parametrize(
    ("family", "architecture", "dimension", "upsampling", "stages"),
    [("resnet", TINY_RESNET, 8, 1, 3), ("resnet", TINY_RESNET, 6, 1, 2),
     ("resnet", TINY_RESNET | {"embedding_size": 4}, 8, 1, 1),
     ("vit", PATCHES, 8, 2, 3), ("vit", PATCHES | {"num_hidden_layers": 1}, 8, 1, 3), ("dinov2", PATCHES, 8, 4, 3)],
)  # fmt: skip
def test_a_backbone_is_built_as_asked_for(
    tmp_path: Path, family: str, architecture: dict[str, Any], dimension: int, upsampling: int, stages: int
) -> None:
    recipe = RECIPE
    values = {"family": family, "architecture": architecture, "dimension": dimension, "upsampling": upsampling}
    for name, value in {**values, "stages": stages}.items():
        recipe = change(recipe, f"backbone.{name}", value)
    made = make_extractor(recipe, tmp_path, None, False).eval()
    assert made.config == BackboneConfig(family, architecture, dimension, upsampling, stages)
    images = torch.zeros(1, 3, 32, 32)
    assert made(images).shape == (1, dimension, 32 // made.stride, 32 // made.stride)
    assert made.stride == 8 // (upsampling if family != "resnet" else 1)
    assert made.backbone.config.num_hidden_layers == architecture["num_hidden_layers"] if family != "resnet" else True
    assert len(made.backbone.out_features) == stages if family == "resnet" else True


@pytest.mark.parametrize("layers", [None, 1, 2])
@pytest.mark.parametrize("name", ["first", "second"])
def test_a_pretrained_backbone_is_the_one_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, layers: int | None
) -> None:
    monkeypatch.setenv("COMPNET3D_WEIGHTS", str(tmp_path))
    backbones = {}
    for other in ("first", "second"):
        backbones[other] = build_extractor(BackboneConfig("vit", PATCHES | {"num_hidden_layers": 3})).backbone
        backbones[other].save_pretrained(tmp_path / other)
    recipe = change(change(RECIPE, "backbone.pretrained", (name, "no/hub")), "backbone.pretrained_layers", layers)
    made = make_extractor(recipe, tmp_path, None, False).backbone
    assert made.config.num_hidden_layers == (layers or 3)
    state = backbones[name].state_dict()
    for tensor, value in made.state_dict().items():
        assert torch.equal(value, state[tensor])
