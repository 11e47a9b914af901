"""Tuning a grown model: the network learns a little for the new categories without forgetting the old ones.

With old images beside the new ones it is training as before, at a tenth of the rates. Without them nothing tells what
the old categories look like: their vertex features are held as anchors, and the network is kept near what it was where
it can be asked, on the new images (learning without forgetting, Li and Hoiem 2016, on features).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from compnet3d.data.loader import CACHE_BYTES, CropDataset, Scenery
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError
from compnet3d.models.compnet import CompNet
from compnet3d.training.batch import Batch
from compnet3d.training.build import make_optimizer
from compnet3d.training.data import TrainingData
from compnet3d.training.growing import rehearsal_of
from compnet3d.training.loop import set_learning_rate
from compnet3d.training.objectives import Losses, Objective, objective_of
from compnet3d.training.recipe import ContrastiveRecipe, Recipe
from compnet3d.training.run_folder import Run
from compnet3d.training.sampler import EpochSampler, mix_seed
from compnet3d.training.step import LossOf, train_step
from compnet3d.training.watch import NotFiniteError
from compnet3d.utils.distributed import ProcessGroup


@dataclass(frozen=True)
class TuneSettings:
    """How a grown model is tuned.

    Attributes:
        epochs: over the new images, and a share of the old ones.
        rate: factor on the learning rates of the recipe.
        images: of each category in an epoch: so many old ones, and new ones repeated until they are about as many.
        keep: without old images, the weight of 1 - the mean cosine of a cell's feature and what it was before.
        seed: of everything random.
    """

    epochs: int = 5
    rate: float = 0.1
    images: int = 20
    keep: float = 50.0
    seed: int = 0


def tuned(
    model: CompNet,
    new: TrainingData,
    recipe: Recipe,
    old: TrainingData | None = None,
    settings: TuneSettings | None = None,
) -> CompNet:
    """A grown model whose network has been tuned.

    Args:
        model: with the categories of `new` as its last ones (see `add_categories`); it stays as it is.
        new: images of these.
        recipe: that the model was trained with: its losses, augmentation and rates.
        old: of the other categories; without it their vertex features are held.
        settings: of the tuning.

    Returns:
        The tuned model, in inference mode, with the confidences of `model`.

    Raises:
        CompNetError: if the recipe is no such model's, or a number is not finite.
    """
    settings = settings or TuneSettings()
    if not isinstance(recipe, ContrastiveRecipe):
        raise CompNetError(f"the recipe {recipe.name} is of a dual head; give the one that the model was trained with")
    model, recipe = deepcopy(model), _gentle(recipe, settings)
    orders = model.calibration.orders(torch.arange(len(model.categories)))
    objective: Objective = objective_of(recipe, orders.to(model.device))
    if old is None:
        objective = KeepingObjective(objective, model, len(model.categories) - len(new.categories), settings.keep)
    run = Run(recipe, settings.seed, Path(), model, make_optimizer(model, recipe))
    crops = _crops(model, new, old, recipe, settings)
    for epoch in range(settings.epochs):
        _tune_epoch(run, objective, crops, epoch)
    return model.eval()


class KeepingObjective:
    """An objective over new images alone that holds what the model knows of the old categories.

    The old vertex features stay as they are, and features of cells cost what they differ from those before.
    """

    def __init__(self, objective: Objective, model: CompNet, first: int, weight: float) -> None:
        """Remember a model as it is.

        Args:
            objective: of the recipe; model: before the first step; first: number of the first new category; weight: of
                the difference.
        """
        self.objective, self.weight = objective, weight
        self.before = deepcopy(model.feature_extractor).eval().requires_grad_(False)
        self.anchors = model.bank.vertex_features[: int(model.bank.offsets[first])].clone()

    def loss(self, model: CompNet, batch: Batch, generator: torch.Generator, group: ProcessGroup) -> Losses:
        """See `Objective.loss`."""
        losses = self.objective.loss(model, batch, generator, group)
        change = 1 - (self.before(batch.images) * model(batch.images)).sum(dim=1).mean()
        total = losses.by_name["loss"] + self.weight * change

        def learn() -> None:
            losses.learn()
            # an old vertex is named in no new image; held all the same, whatever the objective learns
            model.bank.vertex_features[: len(self.anchors)] = self.anchors

        return replace(losses, by_name={**losses.by_name, "loss": total, "change": change}, learn=learn)

    def regroup(self, model: CompNet, confusion: Tensor, accuracy: float) -> dict[str, float]:
        """See `Objective.regroup`."""
        return self.objective.regroup(model, confusion, accuracy)


def _gentle(recipe: ContrastiveRecipe, settings: TuneSettings) -> ContrastiveRecipe:
    schedule = recipe.schedule
    return recipe.with_settings(
        {
            "schedule.epochs": settings.epochs,
            "schedule.warmup_epochs": 0.0,
            "schedule.learning_rate": settings.rate * schedule.learning_rate,
            "schedule.head_learning_rate": settings.rate * schedule.head_learning_rate,
        }
    )


def _crops(
    model: CompNet, new: TrainingData, old: TrainingData | None, recipe: Recipe, settings: TuneSettings
) -> CropDataset:
    samples: list[Sample] = []
    for name in new.categories:
        own = [sample for sample in new.samples if sample.category == name]
        samples += own * max(1, round(settings.images / len(own)))
    meshes, mirrored = dict(new.meshes), new.mirror_categories
    if old is not None:
        samples += rehearsal_of(old, settings.images, settings.seed)
        meshes, mirrored = {**old.meshes, **meshes}, mirrored | old.mirror_categories
    return CropDataset(
        samples,
        model.categories,
        model.input_config,
        augmentation=recipe.augmentation,
        mirror_categories=mirrored,
        seed=settings.seed,
        cache_bytes=CACHE_BYTES,
        scenery=Scenery((), meshes),
    )


def _tune_epoch(run: Run, objective: Objective, crops: CropDataset, epoch: int) -> None:
    sampler = EpochSampler(len(crops), run.recipe.schedule.batch_size, run.seed, epoch)
    _train_mode(run.model)
    for number, values in enumerate(DataLoader(crops, batch_sampler=sampler)):
        set_learning_rate(run.optimizer, run.recipe.schedule, epoch + number / len(sampler))
        try:
            train_step(run, LossOf(run.model, objective, run.group), values, seed=mix_seed(run.seed, epoch, number, 2))
        except NotFiniteError as error:
            raise CompNetError(
                f"tuning stops where {error} is not finite; look over the new images (compnet3d data check)"
            ) from None


def _train_mode(model: torch.nn.Module) -> None:
    """Training mode, but for the statistics of the features: a few new images would shift them for all old ones."""
    model.train()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()
