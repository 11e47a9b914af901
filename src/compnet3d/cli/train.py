"""`compnet3d train`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from compnet3d.cli.options import (
    Count,
    DataSets,
    Device,
    Flag,
    Folder,
    Names,
    Settings,
    at_least,
    choose_device,
    require_data,
    require_folder,
)


@dataclass(frozen=True)
class Train:
    """Train a model on a data set in the ImageNet3D layout."""

    recipe: Annotated[str, arg(metavar="NAME")]
    """quickstart, robust, eth80, robust-photos, cad-to-real, imagenet3d-resnet50, imagenet3d-vitb14; with -heads,
    -heads-regression or -novum after it one of its baselines; or a YAML or JSON file (see `compnet3d recipes`)."""
    data: Annotated[str, arg(metavar="DIR")]
    """The data set (`compnet3d data make` makes one, `data check` looks one over); or a packed one (`data pack`): its
    folder, its URL, or some of its shards."""
    out: Annotated[Path, arg(metavar="RUN")]
    """The run's folder: the model, its checkpoints, log and config.json."""
    more_data: DataSets = ()
    """Data sets to train on as well, such as renderings beside photographs. Calibration images, and the CAD models of
    categories that both have, are those of --data."""
    images_per_category: Count = None
    """Train on so many images of each category of --data; all of them by default. --more-data stays whole."""
    broken_shards: Annotated[Literal["stop", "skip"], arg(metavar="stop|skip")] = "stop"
    """What to do about shards that cannot be read: stop, or leave them out and say how many images that is."""
    repeat: Count = None
    """How often each image of --data comes up in an epoch; by default once, and with --more-data as often as makes them
    half of the epoch."""
    resume: Flag = False
    """Go on with the run in RUN where it stopped; the result is that of an uninterrupted run."""
    seed: int = 0
    """Seed of everything random."""
    set: Settings = ()
    """Change a setting of the recipe, such as loss.kappa=20; may be given several times."""
    epochs: Count = None
    """Epochs to train for; the recipe's number by default."""
    shape: Annotated[Literal["cuboid", "mesh"] | None, arg(metavar="cuboid|mesh", help_behavior_hint="")] = None
    """What carries the vertices: each category's cuboid, or the surface of its CAD model; the recipe's by default."""
    without: Names = ()
    """Categories to leave out, so that the model does not know them (see `evaluate --categories unseen`)."""
    backbone_weights: Folder = None
    """Folder of the pretrained feature extractor; by default the recipe's is looked for, then its hub name."""
    init_from: Folder = None
    """Folder of a model to start from: of the same categories all of it, of others its feature extractor."""
    backgrounds: Folder = None
    """Folder of photographs to put behind the objects, in recipes that swap backgrounds (eth80, robust-photos)."""
    from_scratch: Flag = False
    """Start from random weights although the recipe has a pretrained feature extractor."""
    workers: Count = None
    """Processes that prepare images for each that trains; 0: none. By default 1, or 0 if training fills all cores;
    with a GPU one per core but one, 16 at most."""
    processes: Count = None
    """Processes that train, each on its share of every batch: one a GPU, or some on a CPU. By default the recipe's
    number on a CPU, and one on a GPU. For several machines start the command with torchrun."""
    checkpoint_minutes: Annotated[float, arg(metavar="N")] = 10.0
    """Write a checkpoint this often, besides after each epoch."""
    log: Annotated[tuple[str, ...], arg(metavar="tensorboard|wandb ...", help_behavior_hint="")] = ()
    """Write the numbers to TensorBoard (RUN/tensorboard) or Weights & Biases, too; RUN/log.jsonl has them always."""
    device: Device = "auto"
    """Where to train; auto takes the GPU if there is one."""

    def run(self) -> None:
        """Train and say where the model is."""
        at_least(1, epochs=self.epochs, images_per_category=self.images_per_category, repeat=self.repeat)
        at_least(1, processes=self.processes)
        at_least(0, workers=self.workers, seed=self.seed, checkpoint_minutes=self.checkpoint_minutes)
        for where, option in ((self.data, "--data"), *((where, "--more-data") for where in self.more_data)):
            require_data(where, option)
        require_folder(self.backbone_weights, "--backbone-weights")
        require_folder(self.backgrounds, "--backgrounds")
        from compnet3d.training.builtin_recipes import get_recipe
        from compnet3d.training.data import TrainingData
        from compnet3d.training.train import train

        recipe = get_recipe(self.recipe, self.set)
        if self.epochs is not None:
            recipe = recipe.with_settings({"schedule.epochs": self.epochs})
        if self.shape is not None:
            recipe = recipe.with_settings({"model.shape": self.shape})
        data, *more_data = (
            TrainingData.read(where, broken="skip") if self.broken_shards == "skip" else where
            for where in (self.data, *self.more_data)
        )
        try:
            train(
                recipe,
                data,
                self.out,
                more_data=more_data,
                images_per_category=self.images_per_category,
                repeat=self.repeat,
                seed=self.seed,
                without=self.without,
                resume=self.resume,
                init_from=self.init_from,
                backbone_weights=self.backbone_weights,
                backgrounds=self.backgrounds,
                from_scratch=self.from_scratch,
                device=choose_device(self.device),
                workers=self.workers,
                processes=self.processes,
                checkpoint_minutes=self.checkpoint_minutes,
                log=self.log,
            )
        except KeyboardInterrupt as stop:
            # still an interruption, or SIGTERM, for the exit status; `main` prints its text
            raise type(stop)(str(stop) or self._advice()) from None
        if os.environ.get("RANK", "0") == "0":  # of several that torchrun has started, one speaks
            print(f"the model is in {self.out / 'model'}")

    def _advice(self) -> str:
        """What to do after an interruption."""
        if (self.out / "checkpoint").is_dir():
            return "interrupted; the same command with --resume goes on from the last checkpoint"
        return "interrupted before the first epoch was done; run the same command again"
