"""The package's training beside the reference: one recipe, one data set and one tiny network for both.

What these tests know of the package's training is in this file alone.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compnet3d.data.augment import Augmentation
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.loader import CropDataset
from compnet3d.data.sample import Sample, split_calibration
from compnet3d.data.transforms import InputConfig
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.mesh import cuboid_bounds
from compnet3d.inference.pose_hypotheses import PoseGrid
from compnet3d.models.backbones import BackboneConfig, FeatureExtractor
from compnet3d.models.dual_head import DualHead
from compnet3d.training import build, loop
from compnet3d.training.job import resolve_job
from compnet3d.training.recipe import CompNetRecipe, DualHeadRecipe, NovumRecipe, Recipe, recipe_like
from compnet3d.training.recipe_parts import (
    BackboneSettings,
    BankSettings,
    CompNetLossSettings,
    CompNetSearchSettings,
    GroupingSettings,
    InputSettings,
    ModelSettings,
    ScheduleSettings,
)
from compnet3d.training.train import train
from compnet3d.utils.distributed import ProcessGroup
from compnet3d.utils.settings import leaves
from tests.training.ranks import in_ranks
from tests.training.reference.equations import Settings
from tests.training.reference.geometry import Camera, Shape
from tests.training.reference.learner import Learner
from tests.training.reference.schedule import Schedule

MIRRORED = frozenset({"brick"})
ORDERS = {"brick": 2, "slab": 1, "tower": 0}  # in the categories' order
SYMMETRY = {
    "brick": {"z": 2, "mirror": True},
    "slab": {"z": 1, "mirror": False},
    "tower": {"z": "continuous", "mirror": False},
}

RECIPE = CompNetRecipe(
    name="reference",
    description="every part of the loss, and a schedule of few steps",
    input=InputSettings(height=32, width=40, fill=0.8),
    backbone=BackboneSettings(dimension=8),
    model=ModelSettings(vertex_count=26),
    bank=BankSettings(background_size=20, background_per_image=3, momentum=0.85),
    loss=CompNetLossSettings(
        kappa=12.0,
        samples_per_category=5,
        queries_per_image=6,
        near_radius=0.33,
        background_weight=0.6,
        in_weight=0.9,
        cross_weight=1.3,
        classification_weight=0.5,
        classification_cells=9,
        pose_contrastive_weight=0.4,
        negative_poses=4,
    ),
    grouping=GroupingSettings(least_accuracy=0.0, threshold=0.2, floor=0.05),
    schedule=ScheduleSettings(
        calibrate_every=1,
        epochs=3,
        batch_size=3,
        learning_rate=0.01,
        head_learning_rate=0.03,
        weight_decay=2.0,
        warmup_epochs=0.75,
        calibration_fraction=0.5,
        held_out_epochs=2,
    ),
    search=CompNetSearchSettings(truncation=0.2, grid=PoseGrid(azimuths=3, elevations=2, thetas=1)),
    augmentation=Augmentation(
        rotation=10, scale=(0.9, 1.1), shift=0.1, mirror=0.5, erasing=0.9, erasing_area=(0.1, 0.3)
    ),
)


class TinyBackbone(nn.Module):
    """One patch, one feature, with a normalisation and parameters of one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 8, stride=8, bias=False)
        self.normalisation = nn.BatchNorm2d(6)

    def forward(self, images: Tensor) -> Any:
        return SimpleNamespace(feature_maps=[torch.tanh(self.normalisation(self.patches(images)))])


class TinyExtractor(FeatureExtractor):
    stride = 8

    def __init__(self, dimension: int) -> None:
        super().__init__(BackboneConfig("resnet", architecture={"hidden_sizes": [6] * 4}, dimension=dimension))
        self.backbone = TinyBackbone()
        self.projection = nn.Conv2d(6, dimension, 1, bias=False)
        self.amp = False

    def features(self, images: Tensor) -> Tensor:
        projected: Tensor = self.projection(self.backbone(images).feature_maps[-1])
        return projected


def make_network(dimension: int) -> TinyExtractor:
    torch.manual_seed(5)
    network = TinyExtractor(dimension)
    nn.init.uniform_(network.backbone.normalisation.weight, 0.5, 1.5)
    nn.init.uniform_(network.backbone.normalisation.bias, -0.5, 0.5)
    return network


def write_symmetry(root: Path) -> None:
    (root / "symmetry.json").write_text(json.dumps(SYMMETRY))


# the reference's names of settings, where they are not the last part of the package's
RENAMED = {
    "loss.pose_contrastive_weight": "pose_weight",
    "grouping.dynamic": "dynamic_weights",
    "grouping.threshold": "grouping_threshold",
    "grouping.least_accuracy": "grouping_accuracy",
    "grouping.floor": "grouping_floor",
    "schedule.calibrate_every": "regroup_every",
}


def values_of(recipe: Recipe) -> dict[str, Any]:
    """All settings by dotted name; those that the method does not have are the base's, and never read."""
    heads = recipe_like(DualHeadRecipe, RECIPE)
    return {name: value for some in (heads, RECIPE, recipe) for name, value in leaves(some)}


def settings_of(recipe: Recipe) -> Settings:
    found = {RENAMED.get(name, name.rpartition(".")[2]): value for name, value in values_of(recipe).items()
             if not name.startswith(("augmentation.", "search.learning_rate"))}  # fmt: skip
    return Settings(**{entry.name: found[entry.name] for entry in fields(Settings) if entry.name != "method"},
                    method=recipe.method)  # fmt: skip


# the package's names in log.jsonl, and the reference's
LOGGED = {"classification_loss": "classification_loss", "pose_contrastive_loss": "pose_contrastive_loss"}
Result = dict[str, Tensor]


def train_really(recipe: Recipe, data: Path, out: Path, *, seed: int = 3) -> Result:
    """What the package learns and logs, by name."""
    network, build_model = make_network(recipe.backbone.dimension), build.make_model

    def make_model(*arguments: Any) -> Any:
        torch.manual_seed(seed)
        return build_model(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_extractor", lambda *_: copy.deepcopy(network))
        patch.setattr(loop, "make_model", make_model)
        patch.setattr("compnet3d.inference.matching.bf16_is_fast", lambda: False)  # tested elsewhere
        run = _train_in_ranks if recipe.schedule.processes > 1 else train
        model: Any = run(recipe, data, out, seed=seed, workers=0, progress=False)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    result = {"temperature": torch.tensor([model.config.temperature] * 2)}
    if not isinstance(model, DualHead):
        bank = model.bank
        result |= {"bank": bank.vertex_features, "omega": bank.grouping_weights, "ring": bank.background}
    for name, value in model.state_dict().items():
        if not name.startswith("bank."):
            result[name.removeprefix("feature_extractor.").removeprefix("encoder.")] = value
    return _finish(result, [{LOGGED.get(name, name): value for name, value in entry.items()} for entry in log])


def _train_in_ranks(recipe: Recipe, data: Path, out: Path, *, seed: int, workers: int, progress: bool) -> Any:
    """By several processes, which inherit what is patched here."""
    job = resolve_job(recipe, data, out, seed=seed, workers=workers, progress=progress)
    assert job.processes == recipe.schedule.processes
    out.mkdir()

    def work(group: ProcessGroup) -> Any:
        model: Any = loop.train_in_group(group, job)
        for layer in model.modules():
            vars(layer).pop("forward", None)  # of the group, which ends here
        return model

    return in_ranks(job.processes, work)[0]


def train_by_reference(recipe: Recipe, data: Path, *, seed: int = 3) -> Result:
    """What the reference learns and logs, by the same names."""
    dataset = ImageNet3D(data)
    kept, held_out = split_calibration(dataset.samples("train"), recipe.schedule.calibration_fraction, seed)
    shapes = []
    for name in dataset.categories:
        mesh = cuboid_mesh(cuboid_bounds(dataset.meshes(name)), values_of(recipe)["model.vertex_count"])
        shapes.append(Shape(mesh.bounds.double().numpy(), mesh.vertices.double().numpy()))
    input_config = fitted_input(kept, recipe.input.height, recipe.input.width, recipe.input.fill)
    camera = Camera(
        input_config.height, input_config.width, input_config.focal, input_config.distance, TinyExtractor.stride
    )
    network: Any = make_network(recipe.backbone.dimension)
    if isinstance(recipe, DualHeadRecipe):
        network = _with_heads(network, len(shapes), recipe, seed)
    learner = Learner(settings_of(recipe), network, shapes, list(ORDERS.values()), camera)
    schedule = Schedule(learner, seed)

    def crops(samples: list[Sample], augmentation: Augmentation | None) -> Callable[[int, int], dict[str, Tensor]]:
        made = CropDataset(
            samples, dataset.categories, input_config, augmentation=augmentation, mirror_categories=MIRRORED, seed=seed
        )
        return lambda epoch, index: made[(epoch, index)]

    schedule.train(
        crops(kept, recipe.augmentation),
        crops(held_out, recipe.augmentation),
        crops(held_out, None),
        (len(kept), len(held_out)),
        crops([*kept, *held_out], recipe.augmentation),
    )
    result = {**learner.network.state_dict(), "temperature": torch.tensor(schedule.temperatures)}
    if recipe.method != "dual-head":
        result["bank"] = torch.cat(learner.bank)
        result |= {"omega": torch.tensor(learner.omega), "ring": learner.ring}
    return _finish(result, schedule.log)


def fitted_input(samples: list[Sample], height: int, width: int, fill: float) -> InputConfig:
    """The camera in whose crops the boxes have on average a longest side of `fill`."""
    distance = float(np.median([s.distance for s in samples]))
    sides = [max(s.bbox[2] - s.bbox[0], s.bbox[3] - s.bbox[1]) * s.distance / s.focal for s in samples]
    focal = fill * min(height, width) * distance / (math.fsum(sides) / len(sides))
    return InputConfig(height=height, width=width, focal=focal, distance=distance, box_fill=fill)


def _with_heads(network: TinyExtractor, categories: int, recipe: DualHeadRecipe, seed: int) -> nn.Module:
    """The backbone with the two heads in place of the projection."""
    torch.manual_seed(seed)
    heads: Any = nn.Module()
    heads.backbone = network.backbone
    heads.category_head = nn.Linear(6, categories)
    heads.pose_head = nn.Linear(6, 3 * (recipe.model.pose_bins if recipe.model.pose_head == "bins" else 1))
    heads.register_buffer("mean", network.mean, persistent=False)
    heads.register_buffer("std", network.std, persistent=False)
    module: nn.Module = heads
    return module


def _finish(state: Result, log: list[dict[str, Any]]) -> Result:
    """In float64, with the log's numbers beside what was learned."""
    result = {name: value.double() for name, value in state.items() if "tracked" not in name}
    for entry in log:
        for name in entry.keys() - {"epoch", "seconds", "images_per_second", "input_wait_seconds"}:
            result[f"epoch {entry['epoch']}: {name}"] = torch.tensor(entry[name]).double()
    return result


def difference(first: Result, second: Result) -> dict[str, float]:
    """How far two results are apart, each entry in shares of its length; infinite where it is missing from one.

    The reference tells the temperatures that are as good as the best; the package has one of them.
    """
    apart = {}
    for name in first.keys() | second.keys():
        if name not in first or name not in second or first[name].shape != second[name].shape:
            apart[name] = math.inf
            continue
        length = float(second[name].norm())
        apart[name] = float((first[name] - second[name]).norm()) / max(length, 1e-6)
        if name == "temperature" and float(second[name][0]) <= float(first[name][0]) <= float(second[name][1]):
            apart[name] = 0.0
    return dict(sorted(apart.items(), key=lambda item: -item[1]))


def change(settings: Any, name: str, value: Any) -> Any:
    """Settings with another value; the name of one within another is dotted. Another method keeps what both have."""
    if name == "method":
        kinds: dict[str, type[Recipe]] = {kind.method: kind for kind in (CompNetRecipe, NovumRecipe, DualHeadRecipe)}
        return recipe_like(kinds[value], settings)
    first, _, rest = name.partition(".")
    return replace(settings, **{first: change(getattr(settings, first), rest, value) if rest else value})
