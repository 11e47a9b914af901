"""What classification under occlusion would be if the pixels that occluders cover were known.

    python research/known_occluders.py RUN DATA TEST OCCLUDERS OUT [--epochs 10] [--every 3]

Trains the recipe `robust` on crops from which the pasted objects are taken out again: the pixels that they cover are
filled from what is around them (not in the calibration crops). Then that model and the one of RUN classify images of
TEST with cut-outs of the folder OCCLUDERS pasted at random places, as they are and filled in the same way by the *true*
masks, which nobody has outside an experiment. `evaluate --occlusion` is not used: it cuts occluders along the object's
outline where it has to, and their masks would then tell the outline.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from compnet3d.data.augment import paste_cutouts
from compnet3d.data.cutouts import Cutout
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.evaluation.crops import EvaluationCrops, Loading, crop_loader
from compnet3d.models.registry import load_predictor
from compnet3d.training import loop
from compnet3d.training.builtin_recipes import RECIPES
from compnet3d.training.train import train_or_load

OBJECTS, AREA = (4, 8, 14), (0.05, 0.2)  # how many are pasted, each over which share of the crop


def main() -> None:
    """Train and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("run", "data", "test", "occluders", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--every", type=int, default=3)
    arguments = parser.parse_args()
    # one process: other workers of the process group would not know the changed step
    recipe = RECIPES["robust"].with_settings(
        {
            "schedule.epochs": arguments.epochs,
            "schedule.held_out_epochs": arguments.epochs - 1,
            "schedule.processes": 1,
            "name": "robust-known-occluders",
        }
    )
    loop.train_step = on_filled_crops(loop.train_step)
    models = [load_predictor(arguments.run / "model"), train_or_load(recipe, arguments.data, arguments.out)]
    input_config, categories = models[0].input_config, models[0].categories
    samples = ImageNet3D(arguments.test).samples("val")[:: arguments.every]
    batches = list(crop_loader(EvaluationCrops(samples, categories, input_config), Loading(64)))
    clean = [batch["image"] for batch in batches]
    cutouts = [read_cutout(path) for path in sorted(arguments.occluders.rglob("*.png"))]
    rng = np.random.default_rng(0)
    print("| objects | of the crop hidden | RUN | RUN, filled | trained on filled crops | the same, filled |")
    print("|---:|---:|---:|---:|---:|---:|")
    for count in (0, *OBJECTS):
        seen, covered = zip(*(paste(images, cutouts, count, rng) for images in clean), strict=True)
        known = [filled(images, mask) for images, mask in zip(seen, covered, strict=True)]
        hidden = torch.cat(covered).float().mean()
        accuracies = [accuracy(model, images, batches) for model in models for images in (seen, known)]
        print(f"| {count} | {100 * hidden:.0f} % | " + " | ".join(f"{100 * share:.1f}" for share in accuracies) + " |")


def read_cutout(path: Path) -> Cutout:
    """An RGBA image; what is at least half opaque is the object."""
    pixels = np.asarray(Image.open(path).convert("RGBA"))
    return Cutout(pixels[..., :3], pixels[..., 3])


def paste(images: Tensor, cutouts: list[Cutout], count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """uint8 [B, 3, H, W] with `count` objects over each image, and the pixels that they cover, bool [B, 1, H, W]."""
    seen, covered = [], []
    for image in images.permute(0, 2, 3, 1).numpy():
        mask = np.zeros(image.shape[:2], dtype=bool)
        for number in rng.integers(len(cutouts), size=count):
            image, more = paste_cutouts(image, cutouts[number], 1, AREA, rng)
            mask |= more
        seen.append(torch.from_numpy(image.copy()))
        covered.append(torch.from_numpy(mask))
    return torch.stack(seen).permute(0, 3, 1, 2), torch.stack(covered)[:, None]


def on_filled_crops(step: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    """A training step that sees its crops with all that covers them filled."""

    def filled_step(run: Any, objective: Any, batch: dict[str, Tensor], *, seed: int) -> dict[str, Tensor]:
        crops = filled(batch["image"], batch["occluded"][:, None])
        return step(run, objective, batch | {"image": crops}, seed=seed)

    return filled_step


@torch.no_grad()
def accuracy(model: Any, images: Sequence[Tensor], batches: Sequence[Mapping[str, Tensor]]) -> float:
    """Share of the images that are classified correctly."""
    correct = [
        model.classify_crops(image).argmax(dim=1) == batch["category"]
        for image, batch in zip(images, batches, strict=True)
    ]
    return float(torch.cat(correct).float().mean())


def filled(images: Tensor, covered: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] with the covered pixels replaced by averages of the uncovered ones, finer near the border."""
    return _pull_push(images.float(), covered.float()).round().clamp(0, 255).to(torch.uint8)


def _pull_push(images: Tensor, covered: Tensor) -> Tensor:
    kept = 1 - covered
    if max(images.shape[2:]) == 1:
        return torch.where(kept > 0, images, 128.0)
    # each coarser pixel is the mean of the uncovered ones below it, and covered where there is none
    share = avg_pool2d(kept, 2, ceil_mode=True)
    coarse = avg_pool2d(images * kept, 2, ceil_mode=True) / share.clamp_min(1e-6)
    from_coarse = _pull_push(coarse, (share == 0).float())
    return torch.where(
        covered > 0, interpolate(from_coarse, size=images.shape[2:], mode="bilinear", align_corners=False), images
    )


if __name__ == "__main__":
    main()
