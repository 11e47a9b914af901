"""The quickstart: make data, train, evaluate clean and occluded images, write metrics.json and report.html."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from compnet3d.cli.options import (
    Count,
    Device,
    at_least,
    choose_device,
    command_line,
)
from compnet3d.utils.files import Json, claim_folder, write_json

if TYPE_CHECKING:
    from compnet3d.data.sample import Sample
    from compnet3d.models.registry import TrainedModel


@dataclass(frozen=True)
class Quickstart:
    """Make data, train on it, evaluate clean and occluded images, write a report: seven to ten minutes on two cores."""

    out: Annotated[Path, arg(metavar="FOLDER")] = Path("runs/quickstart")
    """Where data, model, metrics.json and report.html go."""
    seed: int = 0
    """Seed of the data, the training and the occluders."""
    categories: Annotated[int, arg(metavar="N")] = 24
    """Number of object categories to make."""
    train: Annotated[int, arg(metavar="N")] = 260
    """Training images per category."""
    val: Annotated[int, arg(metavar="N")] = 24
    """Test images per category, of instances that are not in the training images."""
    size: Annotated[int, arg(metavar="PIXELS")] = 128
    """Side of the images, in pixels."""
    epochs: Count = None
    """Epochs to train for; the recipe's number by default."""
    name: str = "quickstart"
    """Other commands find the model by this name then; an empty one keeps no copy."""
    workers: Count = None
    """Processes that make the images; one per core by default. Training reads them with one process of its own."""
    device: Device = "auto"
    """Where to train and evaluate; auto takes the GPU if there is one."""

    def run(self) -> None:
        """Run all the steps."""
        at_least(1, epochs=self.epochs, workers=self.workers, train=self.train, val=self.val)
        at_least(2, categories=self.categories)
        at_least(0, seed=self.seed)
        at_least(32, size=self.size)
        run_quickstart(self, choose_device(self.device), command_line())


def run_quickstart(options: Quickstart, device: str, command: str) -> Json:
    """Run every step, saying what it does, and return the metrics.

    `options.out` gets data/, run/ (with the model), metrics.json (the metrics of clean images, and under "occluded"
    those of occluded ones) and report.html. A step that an earlier call with the same settings has finished is not
    done again.

    Raises:
        CompNetError: if the folder holds a quickstart with other settings, another process writes it, or something
            cannot be written.
    """
    from compnet3d.utils.exclusive import exclusive

    with exclusive(options.out):
        return _run_steps(options, device, command)


def _run_steps(options: Quickstart, device: str, command: str) -> Json:
    """`run_quickstart` in a folder that is ours."""
    from compnet3d.data.imagenet3d import ImageNet3D
    from compnet3d.evaluation.crops import Loading
    from compnet3d.evaluation.evaluate import evaluate
    from compnet3d.reporting.evaluation_report import Evaluation, write_report
    from compnet3d.reporting.provenance import provenance
    from compnet3d.reporting.terminal import print_evaluation
    from compnet3d.robustness.shift import Shift

    out = options.out
    # what the folder is of; device and workers may change from call to call
    settings = {key: getattr(options, key) for key in ("seed", "categories", "train", "val", "size", "epochs")}
    start = time.perf_counter()
    claim_folder(out / "quickstart.json", settings, "a quickstart")
    images = f"{options.train} + {options.val} images each"
    with _step(1, f"making {options.categories} categories of objects, {images}"):
        _make_data(out / "data", options)
    with _step(2, "training a 3D compositional model of every category"):
        model = _train(options, device)
    dataset = ImageNet3D(out / "data")
    samples = dataset.samples("val")
    evaluations = []
    for number, shift in ((3, Shift(seed=options.seed)), (4, Shift(occlusion="L1", seed=options.seed))):
        with _step(number, f"evaluating {len(samples)} images of instances that were not trained on, {shift.label}"):
            # small maps are refined in large chunks (see `image_chunks`)
            result = evaluate(model, samples, shift=shift, symmetry=dataset.symmetry, loading=Loading(batch_size=64))
        result = result.with_origin(model=str(out / "run" / "model"), data=str(out / "data"), split="val")
        result = result.with_origin(**provenance(command))
        evaluations.append(Evaluation(model, samples, result))
        print_evaluation(result, title=f"{shift.label} images")
    clean, occluded = evaluations
    metrics = clean.result.to_dict() | {"occluded": occluded.result.to_dict()}
    with _step(5, "writing the report"):
        write_json(out / "metrics.json", metrics)
        write_report(
            out / "report.html",
            clean,
            occluded=occluded,
            title="compnet3d quickstart",
            command=command,
            log=out / "run" / "log.jsonl",
        )
    if options.name:
        print(f"kept as the model {options.name}: {_keep(out / 'run', samples, options.name)}")
    print(f"done in {(time.perf_counter() - start) / 60:.1f} minutes: open {out / 'report.html'}")
    return metrics


def _make_data(folder: Path, options: Quickstart) -> None:
    from compnet3d.procedural.writer import make_dataset

    # a data set appears as a whole, so its lists stand for all of it
    if (folder / "lists").is_dir():
        print(f"already there: {folder}")
        return
    sizes = {key: getattr(options, key) for key in ("categories", "train", "val", "size", "seed", "workers")}
    make_dataset(folder, **sizes)


def _keep(run: Path, samples: Sequence[Sample], name: str) -> Path:
    """Copy the model to where it is found by name, with a test object of each category to try it on."""
    from compnet3d.data.images import load_image
    from compnet3d.models.named import EXAMPLES, keep_model

    (run / EXAMPLES).mkdir(exist_ok=True)
    for category, sample in {sample.category: sample for sample in reversed(samples)}.items():
        x1, y1, x2, y2 = sample.bbox
        # with a little around it: of what one object fills the model says most
        margin = 0.1 * max(x2 - x1, y2 - y1)
        left, top = (round(max(0.0, side - margin)) for side in (x1, y1))
        right, bottom = round(min(sample.width, x2 + margin)), round(min(sample.height, y2 + margin))
        image = load_image(sample.image, size=(sample.width, sample.height))
        image.crop((left, top, right, bottom)).save(run / EXAMPLES / f"{category}.png")
    return keep_model(run, name)


def _train(options: Quickstart, device: str) -> TrainedModel:
    from compnet3d.training.builtin_recipes import get_recipe
    from compnet3d.training.train import train_or_load

    recipe = get_recipe("quickstart")
    if options.epochs is not None:
        recipe = recipe.with_settings({"schedule.epochs": options.epochs})
    return train_or_load(recipe, options.out / "data", options.out / "run", seed=options.seed, device=device)


@contextmanager
def _step(number: int, what: str) -> Iterator[None]:
    """Say what a step does, and how long it took."""
    print(f"[{number}/5] {what}", flush=True)
    start = time.perf_counter()
    yield
    print(f"[{number}/5] took {time.perf_counter() - start:.0f} s", flush=True)
