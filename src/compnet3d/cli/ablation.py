"""`compnet3d ablation`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from compnet3d.cli.options import (
    Count,
    Device,
    File,
    at_least,
    choose_device,
    command_line,
    require_folder,
)


@dataclass(frozen=True)
class Ablation:
    """Train and evaluate a recipe with one change at a time: loss parts, sampled vertices, dynamic weights."""

    data: Annotated[Path, arg(metavar="DIR")]
    """The data set, in the ImageNet3D layout; its val list is evaluated."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Where the runs, ablation.json and ablation.md go; a study that was stopped goes on where it was."""
    recipe: Annotated[str, arg(metavar="NAME")] = "quickstart"
    """Settings that each variant changes in one point; see train."""
    epochs: Count = None
    """Epochs to train each variant for; the recipe's number by default."""
    seed: int = 0
    """Seed of everything random, the same for every variant."""
    only: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="")] = ()
    """Variants to run, of both, in-category-only, cross-category-only, samples-8, samples-64, weight-floor,
    static-weights."""
    workers: Count = None
    """Processes that prepare images for each that trains; 0: none. By default 1, or 0 if training fills all cores;
    with a GPU one per core but one, 16 at most."""
    device: Device = "auto"
    """Where to train and evaluate; auto takes the GPU if there is one."""
    json: File = None
    """Also write the metrics to this file (they are in DIR/ablation.json too)."""

    def run(self) -> None:
        """Run the study and print its table."""
        at_least(1, epochs=self.epochs)
        at_least(0, workers=self.workers, seed=self.seed)
        require_folder(self.data, "--data")
        from compnet3d.reproduce.ablation import markdown, run_ablation
        from compnet3d.training.builtin_recipes import get_recipe

        recipe = get_recipe(self.recipe)
        if self.epochs is not None:
            recipe = recipe.with_options(epochs=self.epochs)
        study = run_ablation(
            recipe,
            self.data,
            self.out,
            seed=self.seed,
            only=self.only,
            device=choose_device(self.device),
            workers=self.workers,
            command=command_line(),
        )
        print(markdown(study))
        print(f"wrote {self.out / 'ablation.json'} and {self.out / 'ablation.md'}")
        if self.json is not None:
            from compnet3d.utils.files import write_json

            write_json(self.json, study)
            print(f"wrote {self.json}")
