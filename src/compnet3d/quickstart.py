"""The quickstart: make data, train, evaluate clean and occluded images, write metrics.json and report.html."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compnet3d.files import claim_folder, write_json

OCCLUSION = "L1"
STEPS = 5


def run_quickstart(
    out: Path,
    *,
    seed: int = 0,
    categories: int = 24,
    train_images: int = 260,
    val_images: int = 24,
    size: int = 128,
    epochs: int | None = None,
    workers: int | None = None,
    device: str = "cpu",
    command: str = "",
) -> dict[str, Any]:
    """Run every step, saying what it does, and return the metrics.

    `out` gets data/, run/ (with the model), metrics.json (the figures of clean images, and under "occluded" those of
    occluded ones) and report.html. A step that an earlier call with the same settings has finished is not done again.

    Raises:
        CompNetError: if `out` holds a quickstart with other settings, or something cannot be written.
    """
    from compnet3d.benchmarks.evaluate import evaluate
    from compnet3d.data.imagenet3d import ImageNet3D
    from compnet3d.provenance import provenance
    from compnet3d.report import Evaluation, write_report
    from compnet3d.tables import print_evaluation

    settings = {
        "seed": seed,
        "categories": categories,
        "train": train_images,
        "val": val_images,
        "size": size,
        "epochs": epochs,
    }
    start = time.perf_counter()
    claim_folder(out / "quickstart.json", settings, "a quickstart")
    with _step(1, f"making {categories} categories of objects, {train_images} + {val_images} images each"):
        _make_data(out / "data", settings, workers)
    with _step(2, "training a 3D compositional model of every category"):
        model = _train(out, seed, epochs, device)
    dataset = ImageNet3D(out / "data")
    samples = dataset.samples("val")
    evaluations = []
    for number, occlusion in ((3, None), (4, OCCLUSION)):
        kind = "clean" if occlusion is None else f"occluded ({occlusion})"
        with _step(number, f"evaluating {len(samples)} images of objects never seen in training, {kind}"):
            figures, records = evaluate(
                model,
                samples,
                return_records=True,
                batch_size=64,  # small maps are refined in large chunks (REFINED_CELLS)
                occlusion=occlusion,
                seed=seed,
                symmetry=dataset.symmetry,
            )
        figures["settings"] |= {"model": str(out / "run" / "model"), "data": str(out / "data"), "split": "val"}
        figures["settings"] |= provenance(command)
        evaluations.append(Evaluation(model, samples, figures, records))
        print_evaluation(figures, title=f"{kind} images")
    clean, occluded = evaluations
    metrics = clean.figures | {"occluded": occluded.figures}
    with _step(STEPS, "writing the report"):
        write_json(out / "metrics.json", metrics)
        write_report(
            out / "report.html",
            clean,
            occluded=occluded,
            title="compnet3d quickstart",
            command=command,
            log=out / "run" / "log.jsonl",
        )
    print(f"done in {(time.perf_counter() - start) / 60:.1f} minutes: open {out / 'report.html'}")
    return metrics


def _make_data(folder: Path, settings: dict[str, Any], workers: int | None) -> None:
    from compnet3d.data.procedural import make_dataset

    if (folder / "lists").is_dir():
        print(f"already there: {folder}")
        return
    options = {key: settings[key] for key in ("categories", "train", "val", "size", "seed")}
    make_dataset(folder, workers=workers, **options)


def _train(out: Path, seed: int, epochs: int | None, device: str) -> Any:
    from compnet3d.recipes import get_recipe
    from compnet3d.training import train_or_load

    recipe = get_recipe("quickstart")
    if epochs is not None:
        recipe = recipe.with_options(epochs=epochs)
    return train_or_load(recipe, out / "data", out / "run", seed=seed, device=device)


@contextmanager
def _step(number: int, what: str) -> Iterator[None]:
    """Say what a step does, and how long it took."""
    print(f"[{number}/{STEPS}] {what}", flush=True)
    start = time.perf_counter()
    yield
    print(f"[{number}/{STEPS}] took {time.perf_counter() - start:.0f} s", flush=True)
