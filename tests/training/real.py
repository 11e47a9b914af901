"""The package's training beside the reference: one recipe, one data set and one tiny network for both.

What these tests know of the package's training is in this file alone.
"""

from __future__ import annotations

import copy
import json
import math
import threading
from collections.abc import Callable
from dataclasses import replace
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
from compnet3d.inference.pose_search import PoseGrid, PoseSettings
from compnet3d.models.backbones import BackboneConfig, FeatureExtractor
from compnet3d.models.dual_head import DualHead
from compnet3d.training import build, loop
from compnet3d.training.process_group import ProcessGroup
from compnet3d.training.recipe import Recipe
from compnet3d.training.train import train
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

RECIPE = Recipe(
    name="reference",
    description="every part of the loss, and a schedule of few steps",
    height=32,
    width=40,
    fill=0.8,
    dimension=8,
    vertex_count=26,
    background_size=20,
    background_per_image=3,
    kappa=12.0,
    momentum=0.8,
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
    grouping_accuracy=0.0,
    grouping_threshold=0.2,
    grouping_floor=0.05,
    regroup_every=1,
    epochs=3,
    batch_size=3,
    learning_rate=0.01,
    head_learning_rate=0.03,
    weight_decay=2.0,
    warmup_epochs=0.75,
    calibration_fraction=0.5,
    held_out_epochs=2,
    augmentation=Augmentation(
        rotation=10, scale=(0.9, 1.1), shift=0.1, mirror=0.5, erasing=0.9, erasing_area=(0.1, 0.3)
    ),
    pose=PoseSettings(truncation=0.2),
    grid=PoseGrid(azimuths=3, elevations=2, thetas=1),
)


class TinyBackbone(nn.Module):
    """One patch, one feature, with a normalisation and parameters of one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(hidden_sizes=[6])
        self.patches = nn.Conv2d(3, 6, 8, stride=8, bias=False)
        self.normalisation = nn.BatchNorm2d(6)

    def forward(self, images: Tensor) -> Any:
        return SimpleNamespace(feature_maps=[torch.tanh(self.normalisation(self.patches(images)))])


class TinyExtractor(FeatureExtractor):
    stride = 8

    def __init__(self, dimension: int) -> None:
        super().__init__(BackboneConfig("resnet", dimension=dimension))
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


def settings_of(recipe: Recipe) -> Settings:
    r = recipe
    return Settings(
        method=r.method,
        pose_head=r.pose_head,
        pose_bins=r.pose_bins,
        background_size=r.background_size,
        background_per_image=r.background_per_image,
        kappa=r.kappa,
        momentum=r.momentum,
        samples_per_category=r.samples_per_category,
        queries_per_image=r.queries_per_image,
        near_radius=r.near_radius,
        background_weight=r.background_weight,
        in_weight=r.in_weight,
        cross_weight=r.cross_weight,
        classification_weight=r.classification_weight,
        classification_cells=r.classification_cells,
        pose_weight=r.pose_contrastive_weight,
        negative_poses=r.negative_poses,
        truncation=r.pose.truncation,
        foreground_bonus=r.pose.foreground_bonus,
        pose_score_weight=r.pose_score_weight,
        mirrored_scores=r.mirrored_scores,
        azimuths=r.grid.azimuths,
        elevations=r.grid.elevations,
        thetas=r.grid.thetas,
        elevation_range=r.grid.elevation_range,
        theta_range=r.grid.theta_range,
        dynamic_weights=r.dynamic_weights,
        regroup_every=r.regroup_every,
        grouping_threshold=r.grouping_threshold,
        grouping_accuracy=r.grouping_accuracy,
        grouping_floor=r.grouping_floor,
        epochs=r.epochs,
        batch_size=r.batch_size,
        processes=r.processes,
        learning_rate=r.learning_rate,
        head_learning_rate=r.head_learning_rate,
        weight_decay=r.weight_decay,
        warmup_epochs=r.warmup_epochs,
        held_out_epochs=r.held_out_epochs,
    )


# the package's names in log.jsonl, and the reference's
LOGGED = {"classification_loss": "classification_loss", "pose_contrastive_loss": "pose_contrastive_loss"}
Result = dict[str, Tensor]


def train_really(recipe: Recipe, data: Path, out: Path, *, seed: int = 3) -> Result:
    """What the package learns and logs, by name."""
    network, build_model, one_at_a_time = make_network(recipe.dimension), build.make_model, threading.Lock()

    def make_model(*arguments: Any) -> Any:
        with one_at_a_time:  # threads share torch's own generator
            torch.manual_seed(seed)
            return build_model(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_extractor", lambda *_: copy.deepcopy(network))
        patch.setattr(loop, "make_model", make_model)
        patch.setattr("compnet3d.inference.matching.bf16_is_fast", lambda: False)  # tested elsewhere
        run = _train_in_threads if recipe.processes > 1 else train
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


def _train_in_threads(recipe: Recipe, data: Path, out: Path, *, seed: int, workers: int, progress: bool) -> Any:
    """As several processes would, which meet in a barrier."""
    barrier, models, errors = threading.Barrier(recipe.processes), {}, []
    arguments: dict[str, Any] = {
        "recipe": recipe.to_dict(), "data": str(data), "out": str(out), "seed": seed, "without": [], "resume": False,
        "backbone_weights": None, "from_scratch": False, "device": "cpu", "workers": workers, "stop_after": None,
    }  # fmt: skip

    def work(rank: int) -> None:
        torch.set_num_threads(1)
        try:
            group = ProcessGroup(rank, recipe.processes, out, lambda: barrier.wait() and None)
            models[rank] = loop.train_in_group(group, **arguments, progress=progress)
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    out.mkdir()
    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(recipe.processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return models[0]


def train_by_reference(recipe: Recipe, data: Path, *, seed: int = 3) -> Result:
    """What the reference learns and logs, by the same names."""
    dataset = ImageNet3D(data)
    kept, held_out = split_calibration(dataset.samples("train"), recipe.calibration_fraction, seed)
    shapes = []
    for name in dataset.categories:
        mesh = cuboid_mesh(cuboid_bounds(dataset.meshes(name)), recipe.vertex_count)
        shapes.append(Shape(mesh.bounds.double().numpy(), mesh.vertices.double().numpy()))
    input_config = fitted_input(kept, recipe.height, recipe.width, recipe.fill)
    camera = Camera(
        input_config.height, input_config.width, input_config.focal, input_config.distance, TinyExtractor.stride
    )
    network: Any = make_network(recipe.dimension)
    if recipe.method == "dual-head":
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
    result = {**learner.networks[0].state_dict(), "temperature": torch.tensor(schedule.temperatures)}
    if recipe.method != "dual-head":
        result["bank"] = torch.cat([torch.stack(list(features)) for features in learner.bank])
        result |= {"omega": torch.tensor(learner.omega), "ring": torch.stack(learner.ring)}
    return _finish(result, schedule.log)


def fitted_input(samples: list[Sample], height: int, width: int, fill: float) -> InputConfig:
    """The camera in whose crops the boxes have on average a longest side of `fill`."""
    distance = float(np.median([s.distance for s in samples]))
    sides = [max(s.bbox[2] - s.bbox[0], s.bbox[3] - s.bbox[1]) * s.distance / s.focal for s in samples]
    focal = fill * min(height, width) * distance / (math.fsum(sides) / len(sides))
    return InputConfig(height=height, width=width, focal=focal, distance=distance, box_fill=fill)


def _with_heads(network: TinyExtractor, categories: int, recipe: Recipe, seed: int) -> nn.Module:
    """The backbone with the two heads in place of the projection."""
    torch.manual_seed(seed)
    heads: Any = nn.Module()
    heads.backbone = network.backbone
    heads.category_head = nn.Linear(6, categories)
    heads.pose_head = nn.Linear(6, 3 * (recipe.pose_bins if recipe.pose_head == "bins" else 1))
    heads.register_buffer("mean", network.mean, persistent=False)
    heads.register_buffer("std", network.std, persistent=False)
    module: nn.Module = heads
    return module


def _finish(state: Result, log: list[dict[str, Any]]) -> Result:
    """In float64, with the log's numbers beside what was learned."""
    result = {name: value.double() for name, value in state.items() if "tracked" not in name}
    for entry in log:
        for name in entry.keys() - {"epoch", "seconds", "input_wait_seconds"}:
            result[f"epoch {entry['epoch']}: {name}"] = torch.tensor(entry[name]).double()
    return result


def difference(first: Result, second: Result) -> dict[str, float]:
    """How far two results are apart, each entry in shares of its length; infinite where one lacks it.

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
    """Settings with another value; the name of one within another is dotted."""
    first, _, rest = name.partition(".")
    return replace(settings, **{first: change(getattr(settings, first), rest, value) if rest else value})
