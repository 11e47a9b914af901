"""The training step beside the bare feature extractor at the paper's sizes, and how long training waits for images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from compnet3d.bench.pose import paper_sized_model
from compnet3d.bench.result import BenchResult, megabytes, milliseconds
from compnet3d.bench.timing import Task, peak_mb, time_in_turn
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.loader import CropDataset
from compnet3d.data.symmetry import symmetry_orders
from compnet3d.models.backbones import BackboneConfig
from compnet3d.procedural.writer import make_dataset
from compnet3d.training.build import make_extractor, make_model, make_optimizer
from compnet3d.training.builtin_recipes import get_recipe
from compnet3d.training.objectives import Objective, objective_of
from compnet3d.training.recipe import Recipe
from compnet3d.training.run_folder import Run
from compnet3d.training.step import LossOf, train_step
from compnet3d.training.train import train
from compnet3d.utils.exclusive import scratch_folder


@dataclass(frozen=True)
class BackboneTimes:
    """Of one backbone: medians, and the step's memory beyond what lasts.

    Attributes:
        images: in a batch; step_s: the training step; bare_s: a forward and a backward pass of its extractor alone.
        peak_mb: see `timing.peak_mb`.
    """

    images: int
    step_s: float
    bare_s: float
    peak_mb: float | None

    @property
    def overhead(self) -> float:
        """What the step costs beyond its extractor, as a share of that."""
        return self.step_s / self.bare_s - 1


@dataclass(frozen=True)
class StepResult(BenchResult):
    """The training step of each backbone.

    Attributes:
        backbones: their times; categories: Y.
        input_wait: share of a quickstart-sized epoch that one training process waits for its images.
        workers: that prepare them.
    """

    backbones: Mapping[str, BackboneTimes]
    categories: int
    input_wait: float
    workers: int

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StepResult:
        """See `BenchResult`."""
        found = super().from_dict(values)
        backbones = {name: BackboneTimes(**of_one) for name, of_one in values["backbones"].items()}
        return replace(found, backbones=backbones)

    def rows(self) -> list[tuple[str, str]]:
        """See `BenchResult`."""
        found = []
        for name, of_one in self.backbones.items():
            what = f"{name}: extractor forward and backward, {of_one.images} images"
            more = f"{100 * of_one.overhead:+.1f} %, {megabytes(of_one.peak_mb)}"
            found.append((what, milliseconds(of_one.bare_s)))
            found.append((f"{name}: whole training step", f"{milliseconds(of_one.step_s)}, {more}"))
        return [*found, (f"waiting for images, {self.workers} workers", f"{100 * self.input_wait:.1f} % of an epoch")]


def bench_step(
    *, rounds: int = 3, images: int | None = None, categories: int = 188, workers: int = 2, device: str = "cpu"
) -> StepResult:
    """How much a training step costs beyond its feature extractor.

    Args:
        rounds: how often each is timed; images: in a batch, by default 4, or the recipe's batch on an accelerator;
            categories: Y; workers: that prepare images; device: where.
    """
    # the paper's two backbones with random weights: speed does not depend on them
    backbones = {
        "resnet-50": ("imagenet3d-resnet50", BackboneConfig("resnet", {})),
        "vit-b-14": ("imagenet3d-vitb14", BackboneConfig("dinov2", {"patch_size": 14, "image_size": 518})),
    }
    found = {}
    for name, (recipe_name, backbone) in backbones.items():
        recipe = get_recipe(recipe_name)
        batch = images or (4 if torch.device(device).type == "cpu" else recipe.schedule.batch_size)
        found[name] = time_backbone(recipe, backbone, images=batch, categories=categories, rounds=rounds, device=device)
    return StepResult(found, categories, _input_wait(workers, device), workers)


def time_backbone(
    recipe: Recipe, backbone: BackboneConfig, *, images: int, categories: int, rounds: int, device: str = "cpu"
) -> BackboneTimes:
    """Time the training step and its extractor's forward and backward alone.

    Args:
        recipe: the step's settings; backbone: with random weights; images: in a batch of random pixels and poses;
            categories: Y; rounds: how often each is timed; device: where.
    """
    generator = torch.Generator().manual_seed(0)
    model = (
        paper_sized_model(categories, backbone, height=recipe.input.height, width=recipe.input.width).to(device).train()
    )
    run = Run(recipe, 0, Path(), model, make_optimizer(model, recipe))
    draw = torch.rand(images, 4, generator=generator)
    batch = {
        "image": torch.randint(
            256, (images, 3, recipe.input.height, recipe.input.width), dtype=torch.uint8, generator=generator
        ),
        "category": torch.randint(categories, (images,), generator=generator),
        "azimuth": 2 * torch.pi * draw[:, 0],
        "elevation": draw[:, 1] - 0.3,
        "theta": 0.6 * draw[:, 2] - 0.3,
        "distance": torch.full((images,), 5.0),
        "principal_point": torch.tensor([recipe.input.width / 2, recipe.input.height / 2])
        .expand(images, 2)
        .contiguous(),
    }
    batch = {name: value.to(device) for name, value in batch.items()}
    step = _step_of(run, objective_of(recipe), batch)
    seconds = time_in_turn({"bare": step.bare, "step": step.whole}, rounds=rounds)
    return BackboneTimes(images, seconds["step"], seconds["bare"], peak_mb(step.whole, device))


@dataclass(frozen=True)
class TrainingStep:
    """Something to time.

    Attributes:
        whole: a training step. bare: a forward and a backward pass of its feature extractor. images: in the batch.
    """

    whole: Task
    bare: Task
    images: int


def training_step(recipe: Recipe, data: str | Path, *, device: str = "cpu") -> TrainingStep:
    """The first step of a contrastive recipe's training on a data set, as one of its processes does it.

    Raises:
        CompNetError: if the data set or the pretrained backbone is not there.
    """
    dataset = ImageNet3D(data)
    samples = dataset.samples("train")
    meshes = {name: dataset.meshes(name) for name in dataset.categories}
    model = make_model(recipe, meshes, samples, make_extractor(recipe, data, None, False)).to(device).train()
    orders = symmetry_orders(dataset.categories, dataset.symmetry).to(device)
    run = Run(recipe, 0, Path(), model, make_optimizer(model, recipe))
    crops = CropDataset(samples, dataset.categories, model.input_config, augmentation=recipe.augmentation)
    size = (
        recipe.schedule.batch_size
        if torch.device(device).type != "cpu"
        else -(-recipe.schedule.batch_size // recipe.schedule.processes)
    )
    chosen = torch.linspace(0, len(samples) - 1, min(size, len(samples))).long().tolist()  # of all categories
    batch = {name: value.to(device) for name, value in default_collate([crops[i] for i in chosen]).items()}
    return _step_of(run, objective_of(recipe, orders), batch)


def _step_of(run: Run, objective: Objective, batch: dict[str, Tensor]) -> TrainingStep:
    """A step of a run on a batch, over and over the same."""
    # any gradient costs the same; it stands for that of the losses
    outer = torch.randn_like(run.model(batch["image"]))
    loss_of = LossOf(run.model, objective, run.group)

    def whole() -> None:
        train_step(run, loss_of, batch, seed=0)

    def bare() -> None:
        run.optimizer.zero_grad()
        run.model(batch["image"]).backward(outer)

    return TrainingStep(whole, bare, len(batch["image"]))


def _input_wait(workers: int, device: str) -> float:
    """Share of the time that training waits for images, in a second epoch over the quickstart's kind of data."""
    recipe = get_recipe("quickstart").with_settings(
        {"schedule.processes": 1, "schedule.epochs": 2, "schedule.held_out_epochs": 2}
    )
    with scratch_folder() as folder:
        make_dataset(folder / "data", categories=24, train=40, val=1, size=128, seed=0)
        run = folder / "run"
        train(recipe, folder / "data", run, workers=workers, progress=False, device=device)
        last = (run / "log.csv").read_text().splitlines()
    entry = dict(zip(last[0].split(","), last[-1].split(","), strict=True))
    return float(entry["input_wait_seconds"]) / float(entry["seconds"])
