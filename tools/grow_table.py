"""Grown models beside models trained from scratch: old and new categories, before and after, from few images.

    python tools/grow_table.py BASE DATA OUT --new NAME ... [--images 5 20 50] [--scratch 20] [--repeated 20] [--val 30]

BASE is a run of `compnet3d train --without NAME ...` on DATA; its recipe, and how many images of each category it took,
are those of all trainings. OUT gets the trainings, one JSON file for each row, and table.json, with the rows so far.
What is there is not done again, so that the command goes on where it stopped. Figures are of the val list (--val 30
takes 30 images of each category): top-1 accuracy in the choice among all categories, and poses within pi/6 with the
true category given, symmetry-aware.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.sample import Sample, draw_images
from compnet3d.data.symmetry import Symmetry
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.models.compnet import CompNet
from compnet3d.reporting.provenance import provenance
from compnet3d.reporting.tables import Row, Table
from compnet3d.training.builtin_recipes import get_recipe
from compnet3d.training.data import TrainingData
from compnet3d.training.growing import GrowSettings, fitted
from compnet3d.training.run_checks import RunNotes
from compnet3d.training.train import train
from compnet3d.training.tuning import tuned
from compnet3d.utils.files import read_json, write_json

COLUMNS = ("model", "old top-1", "old pi/6", "new top-1", "new pi/6")


@dataclass(frozen=True)
class Study:
    """A base model, what it was trained on, the new categories, and where all is kept."""

    base: Path
    out: Path
    old: TrainingData
    new: TrainingData
    seed: int

    def rows(
        self, images: list[int], scratch: list[int], repeated: list[int]
    ) -> Iterator[tuple[str, Callable[[], CompNet]]]:
        """What is compared, and how to get it."""
        yield "before", self.before
        for count in images:
            yield f"{count} images, frozen", lambda count=count: self.grown(count, rehearse=False)
            yield f"{count} images, frozen, with old images", lambda count=count: self.grown(count, rehearse=True)
            yield f"{count} images, tuned", lambda count=count: self.tuned(count, rehearse=False)
            yield f"{count} images, tuned with old images", lambda count=count: self.tuned(count, rehearse=True)
        yield "from scratch, all images", lambda: self.scratch(self.new)
        for count in scratch:
            yield f"from scratch, {count} images", lambda count=count: self.scratch(self.new.drawn(count, self.seed))
        for count in repeated:
            yield f"from scratch, {count} images repeated", lambda count=count: self.scratch(self.repeated(count))

    def before(self) -> CompNet:
        """The base model."""
        return CompNet.from_pretrained(self.base)

    def grown(self, count: int, *, rehearse: bool) -> CompNet:
        """With so many images of each new category."""
        old, settings = self.old if rehearse else None, GrowSettings(seed=self.seed)
        return fitted(self.before(), self.new.drawn(count, self.seed), old, settings)

    def tuned(self, count: int, *, rehearse: bool) -> CompNet:
        """The same, tuned afterwards."""
        recipe, old = get_recipe(str(self.base / "config.json")), self.old if rehearse else None
        return tuned(self.grown(count, rehearse=rehearse), self.new.drawn(count, self.seed), recipe, old)

    def repeated(self, count: int) -> TrainingData:
        """So many images of each new category, each as often as makes them as many as an old category has."""
        some, usual = self.new.drawn(count, self.seed), len(self.old.samples) / len(self.old.categories)
        return replace(some, samples=[*some.samples] * max(1, round(usual / count)))

    def scratch(self, new: TrainingData) -> CompNet:
        """Trained on these images of the new categories and all of the old ones, with the base's recipe."""
        names = {sample.key for sample in new.samples}
        folder = self.out / f"scratch-{len(names)}{'-repeated' if len(new.samples) > len(names) else ''}"
        if not (folder / "model").is_dir():
            both = TrainingData(
                [*self.old.samples, *new.samples],
                {**self.old.meshes, **new.meshes},
                {**self.old.symmetry, **new.symmetry},
                self.old.root,
            )
            resume = (folder / "checkpoint").is_dir()
            train(get_recipe(str(self.base / "config.json")), both, folder, resume=resume, workers=0, seed=self.seed)
        return CompNet.from_pretrained(folder)


def main() -> None:
    """Go through the rows, write the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--new", nargs="+", required=True)
    parser.add_argument("--images", nargs="+", type=int, default=[5, 20, 50])
    parser.add_argument("--scratch", nargs="+", type=int, default=[], help="so many new images from scratch")
    parser.add_argument("--repeated", nargs="+", type=int, default=[], help="the same, as often as old ones come up")
    parser.add_argument("--val", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    notes, data = RunNotes.read(arguments.base / "config.json"), TrainingData.read(arguments.data)
    if notes.images_per_category is not None:
        data = data.drawn(notes.images_per_category, notes.seed or 0)
    old = data.leaving_out(arguments.new)
    new = data.leaving_out([name for name in data.categories if name not in arguments.new])
    study = Study(arguments.base, arguments.out, old, new, arguments.seed)
    dataset = ImageNet3D(arguments.data)
    samples = dataset.samples("val")
    if arguments.val is not None:
        samples = draw_images(samples, arguments.val, arguments.seed)
    counted = f"{len(old.categories)} old categories with {len(old.samples)} images; {len(samples)} images to test."
    rows, note = [], f"New: {', '.join(new.categories)}; {counted}"
    made = provenance(shlex.join(["python", *sys.argv]))
    for label, make in study.rows(arguments.images, arguments.scratch, arguments.repeated):
        path = arguments.out / f"{label.replace(', ', '-').replace(' ', '-')}.json"
        if not path.exists():
            write_json(path, {"cells": measured(make(), samples, dataset.symmetry, arguments.new)})
        rows.append(Row(label, tuple(read_json(path)["cells"])))
        print(label, rows[-1].cells, flush=True)
        table = Table("grow", "a grown model beside models from scratch", COLUMNS, tuple(rows), (note,))
        # after each row: a table that is not whole yet can be looked at
        write_json(arguments.out / "table.json", {"tables": [table.to_dict()], "settings": made})
    print(table.markdown())


def measured(
    model: CompNet, samples: list[Sample], symmetry: Mapping[str, Symmetry], new: list[str]
) -> list[float | None]:
    """Top-1 accuracy and poses within pi/6 on the images of old categories, then on those of the new ones."""
    found: list[float | None] = []
    for some in ([s for s in samples if s.category not in new], [s for s in samples if s.category in new]):
        if some[0].category not in model.categories:
            found += [None, None]
            continue
        result = evaluate(model, some, symmetry=symmetry)
        found += [result.accuracy, result.pose.symmetry_aware.true_category.acc_pi6]
    return found


if __name__ == "__main__":
    main()
