"""How far a few photographs a category go, alone and with renderings beside them, and the renderings alone.

    python tools/few_images.py PHOTOGRAPHS RENDERINGS OUT [--recipe eth80] [--images 5 10 20 all] [--seeds 0 1 2]
        [--epochs 9] [--backgrounds DIR] [--set augmentation.blur=0.5 ...] [--crop box] [--workers N] [--device cpu]

Both are data sets in the ImageNet3D raw layout; the categories are those that both have. Every training goes through
about as many images: an epoch is twice the renderings, of which the few photographs make up one half, or all of it.
Tested on the photographs' list val. Each seed draws photographs of its own, the fewer among the more.

OUT keeps every run and evaluation, so that the same command goes on where it stopped; the table is in few_images.md and
few_images.json there.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.sample import draw_images
from compnet3d.evaluation.crops import Loading
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.evaluation.result import EvaluationResult
from compnet3d.evaluation.unseen import common_samples
from compnet3d.reporting.provenance import provenance
from compnet3d.reporting.tables import Row, Table
from compnet3d.reproduce.measures import Evaluated, classification, pose, spread_of
from compnet3d.training.builtin_recipes import get_recipe
from compnet3d.training.train import train_or_load
from compnet3d.utils.files import read_json, write_json, write_text

COLUMNS = ("trained on", "classification", "pi/6", "pi/18", "flipped", "median error [deg]")


@dataclass(frozen=True)
class Setup:
    """One row: what is trained on.

    Attributes:
        name: of its folder; label: in the table.
        data: the first data set; options: of `train`, beside those that all share.
    """

    name: str
    label: str
    data: Path
    options: dict[str, Any] = field(default_factory=dict)


def setups(photographs: Path, renderings: Path, numbers: list[int | None]) -> Iterator[Setup]:
    """The rows, one after the other; None stands for all photographs."""
    first, second = ImageNet3D(photographs), ImageNet3D(renderings)
    pairs = ((first, second), (second, first))
    only_first, only_second = (
        tuple(c for c in one.categories if c not in set(other.categories)) for one, other in pairs
    )
    samples = [sample for sample in first.samples("train") if sample.category in set(second.categories)]
    drawn = sum(sample.category in set(first.categories) for sample in second.samples("train"))
    yield Setup("renderings", "renderings alone", renderings, {"without": only_second, "repeat": 2})
    for count in numbers:
        few = samples if count is None else draw_images(samples, count, seed=0)
        what = "all photographs" if count is None else f"{count} photographs a category"
        number = {"images_per_category": count}
        alone = {"without": only_first, "repeat": max(1, round(2 * drawn / len(few)))}
        both = {"without": (*only_first, *only_second), "more_data": (renderings,)}
        yield Setup(f"photographs-{count or 'all'}", f"{what}, alone", photographs, number | alone)
        yield Setup(f"both-{count or 'all'}", f"{what}, and renderings", photographs, number | both)


def measured(setup: Setup, seed: int, arguments: argparse.Namespace) -> EvaluationResult:
    """The evaluation of one training, which is done first if need be; from its file if it was made before."""
    run: Path = arguments.out / setup.name / f"seed-{seed}"
    path = run.with_suffix(".json")
    if not path.exists():
        recipe = get_recipe(arguments.recipe, arguments.set)
        if arguments.epochs is not None:
            recipe = recipe.with_settings({"schedule.epochs": arguments.epochs})
        common: dict[str, Any] = {"seed": seed, "workers": arguments.workers, "device": arguments.device}
        common["backgrounds"] = arguments.backgrounds
        model = train_or_load(recipe, setup.data, run, **common, **setup.options)
        dataset = ImageNet3D(arguments.photographs)
        samples = common_samples(dataset.samples("val"), model.categories)
        loading = Loading(workers=arguments.workers or 0)
        result = evaluate(model, samples, crop=arguments.crop, symmetry=dataset.symmetry, loading=loading)
        write_json(path, result.to_dict())
    return EvaluationResult.from_dict(read_json(path), str(path))


def row(label: str, results: list[EvaluationResult]) -> Row:
    """The metrics of one setup, over its trainings: the pose is that for the true category."""
    medians = [result.pose.plain.true_category.median_deg for result in results]
    evaluated = [Evaluated(result) for result in results]
    shares = [
        spread_of(evaluated, measure) for measure in (classification, *map(posed, ("acc_pi6", "acc_pi18")), flipped)
    ]
    return Row(label, (*shares, f"{fmean(medians):.1f}" if None not in medians else None))


def posed(accuracy: str) -> Callable[[EvaluationResult], float]:
    """The share of poses within an angle."""
    return pose("true_category", accuracy)


def flipped(result: EvaluationResult) -> float | None:
    """The share of poses that are turned round."""
    return None if result.pose.flips is None else result.pose.flips.true_category.share


def number(text: str) -> int | None:
    """How many photographs, from the command line; None for all."""
    return None if text == "all" else int(text)


def main() -> None:
    """Train, evaluate, write the table after each row and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("renderings", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", default="eth80")
    parser.add_argument("--images", type=number, nargs="+", default=[5, 10, 20, None])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--backgrounds", type=Path)
    parser.add_argument("--set", nargs="+", default=[])
    parser.add_argument("--crop", choices=["oracle", "box"], default="box")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    rows = []
    for setup in setups(arguments.photographs, arguments.renderings, arguments.images):
        rows.append(row(setup.label, [measured(setup, seed, arguments) for seed in arguments.seeds]))
        notes = f"Recipe {arguments.recipe}, {len(arguments.seeds)} trainings, {arguments.crop} crop; plain pose."
        table = Table("few_images", "a few photographs a category", COLUMNS, tuple(rows), (notes,))
        made = provenance(shlex.join(["python", *sys.argv]))
        write_json(arguments.out / "few_images.json", {"tables": [table.to_dict()], "settings": made})
        write_text(arguments.out / "few_images.md", table.markdown())
    print(table.markdown())


if __name__ == "__main__":
    main()
