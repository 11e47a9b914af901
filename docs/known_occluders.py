"""What naming under occlusion would be if the pixels that occluders cover were known.

    python docs/known_occluders.py DATA TEST OCCLUDERS OUT [--epochs 10] [--every 3]

Trains the recipe `robust` on views from which the pasted objects are taken out again: the pixels that they cover are
filled from what is around them. Then names the images of TEST under occlusion, as they are and with the occluders
filled in the same way by their true masks, which nobody has outside an experiment.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from compnet3d import training
from compnet3d.baselines import load_predictor
from compnet3d.benchmarks.occlusion import Level
from compnet3d.benchmarks.views import EvaluationViews, view_loader
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.recipes import RECIPES

LEVELS: tuple[Level, ...] = ("L1", "L2", "L3")


def main() -> None:
    """Train and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "test", "occluders", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--every", type=int, default=3)
    arguments = parser.parse_args()
    recipe = RECIPES["robust"].with_options(
        epochs=arguments.epochs, held_out_epochs=arguments.epochs - 1, processes=1, name="robust-known-occluders"
    )
    if not (arguments.out / "model").is_dir():
        # one process: the followers of a team would not know the changed step
        training.train_step = on_filled_views(training.train_step)
        training.train(recipe, arguments.data, arguments.out)
    model = load_predictor(arguments.out / "model")
    samples = ImageNet3D(arguments.test).samples("val")[:: arguments.every]
    clean = list(view_loader(EvaluationViews(samples, model.categories, model.spec), 64))
    print(f"clean {100 * accuracy(model, [batch['image'] for batch in clean], clean):.1f}")
    print("| level | as it is | occluders filled by their true masks |")
    print("|---|---:|---:|")
    for level in LEVELS:
        views = EvaluationViews(samples, model.categories, model.spec, occlusion=level, occluders=arguments.occluders)
        seen = [batch["image"] for batch in view_loader(views, 64)]
        known = [filled(image, changed(batch["image"], image)) for batch, image in zip(clean, seen, strict=True)]
        print(f"| {level} | {100 * accuracy(model, seen, clean):.1f} | {100 * accuracy(model, known, clean):.1f} |")


def on_filled_views(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A training step that sees its views with all that covers them filled."""

    def filled_step(run: Any, batch: dict[str, Tensor], *, seed: int) -> Tensor:
        return step(run, batch | {"image": filled(batch["image"], batch["occluded"][:, None])}, seed=seed)

    return filled_step


@torch.no_grad()
def accuracy(model: Any, images: list[Tensor], batches: list[dict[str, Tensor]]) -> float:
    """Share of the images that are named right."""
    right = [
        model.classify_views(image).argmax(dim=1) == batch["category"]
        for image, batch in zip(images, batches, strict=True)
    ]
    return float(torch.cat(right).float().mean())


def changed(clean: Tensor, occluded: Tensor) -> Tensor:
    """Pixels that occluders cover, bool [B, 1, H, W]; single pixels that happen to be equal count as well.

    With a threshold above 0 some pixels inside an occluder would pass as uncovered just where they resemble the
    hidden object, and would give it away.
    """
    different = (clean != occluded).any(dim=1, keepdim=True).float()
    grown = max_pool2d(different, 3, stride=1, padding=1)
    return -max_pool2d(-grown, 3, stride=1, padding=1) > 0


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
