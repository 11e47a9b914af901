"""Training: grouped vertex-contrastive learning with dynamic weights (section 3.3), resumable to the bit on the CPU."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from compnet3d.data.imagenet3d import check_trainable
from compnet3d.data.sample import split_calibration
from compnet3d.models.registry import TrainedModel, load_predictor
from compnet3d.training.loop import open_dataset, train_in_group
from compnet3d.training.process_group import start_process_group
from compnet3d.training.recipe import Recipe
from compnet3d.training.run_folder import (
    check_config,
    check_data,
    check_folder,
)
from compnet3d.utils.files import recover_folder
from compnet3d.utils.workers import available_cores


def train(
    recipe: Recipe,
    data: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    without: Sequence[str] = (),
    resume: bool = False,
    backbone_weights: str | Path | None = None,
    from_scratch: bool = False,
    device: str = "cpu",
    workers: int | None = None,
    progress: bool = True,
    stop_after: int | None = None,
) -> TrainedModel:
    """Train a model on a data set's train list and save it as OUT/model.

    OUT also gets config.json (everything needed to repeat the run), log.jsonl and log.csv (one line per epoch) and
    checkpoint/ (for `resume`).

    Args:
        recipe: the settings.
        data: a data set in the ImageNet3D raw layout.
        out: the run's folder; must not hold another run unless `resume` is set.
        seed: of everything random.
        without: categories to leave out, so that they are unknown to the model.
        resume: go on from OUT/checkpoint.
        backbone_weights: folder of the pretrained backbone; by default the recipe's is looked for.
        from_scratch: start from random weights although the recipe has a pretrained backbone.
        device: where to train, such as "cpu" or "cuda".
        workers: further processes that prepare images, for each training process; by default one, or none where
            the training processes keep all cores busy, or on an accelerator one for each core but one, 16 at most. The
            result is the same.
        progress: show progress bars.
        stop_after: stop after this many epochs in all, leaving a checkpoint (the schedule stays the recipe's).

    Returns:
        The trained model, in inference mode.

    Raises:
        CompNetError: if the data, the folder or the checkpoint does not allow it.
    """
    out = Path(out)
    dataset = open_dataset(data, without)
    samples = dataset.samples("train")
    check_trainable(dataset, samples)
    check_folder(out, recipe, resume=resume, seed=seed, without=without)
    training, calibration = split_calibration(samples, recipe.schedule.calibration_fraction, seed)
    if resume:
        counts = {"samples": len(samples), "calibration": len(calibration)}
        check_data(out, out / "checkpoint" / "model.json", dataset.categories, **counts)
    arguments: dict[str, Any] = {
        "recipe": recipe.to_dict(),
        "data": str(data),
        "out": str(out),
        "seed": seed,
        "without": list(without),
        "resume": resume,
        "backbone_weights": None if backbone_weights is None else str(backbone_weights),
        "from_scratch": from_scratch,
        "device": device,
        "stop_after": stop_after,
    }
    # more processes on one accelerator would only stand in line
    size = 1
    if torch.device(device).type == "cpu":
        size = min(recipe.schedule.processes, recipe.schedule.batch_size, len(training))
    if workers is None:
        workers = _default_workers(size, device)
    arguments["workers"] = workers
    worker = "compnet3d.training.train:train_in_group"
    with _undisturbed(device), start_process_group(size, worker, arguments) as group:
        return train_in_group(group, **arguments, samples=samples, progress=progress)


@contextmanager
def _undisturbed(device: str) -> Iterator[None]:
    """One thread while an accelerator trains: several would wait for cores on which others prepare images.

    Beside busy cores two threads drew the sampled vertices 13 times as slowly as one.
    """
    threads = torch.get_num_threads()
    if torch.device(device).type != "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _default_workers(processes: int, device: str) -> int:
    cores = available_cores()
    if torch.device(device).type != "cpu":
        return min(16, max(1, cores - 1))
    return 0 if processes > 1 and processes >= cores else 1


def train_or_load(recipe: Recipe, data: str | Path, run: Path, *, device: str = "cpu", **options: Any) -> TrainedModel:
    """The model of a run that is finished; one that stopped half-way goes on, and one that is not there begins.

    Args:
        recipe, data, device, options: see `train`.
        run: its folder.

    Raises:
        CompNetError: if the folder holds a run with other settings or categories; or see `train`.
    """
    if recover_folder(run / "model").is_dir():
        check_config(run / "config.json", recipe, seed=options.get("seed", 0), without=options.get("without", ()))
        check_data(run, run / "model" / "config.json", open_dataset(data, options.get("without", ())).categories)
        print(f"already trained: {run / 'model'}", flush=True)
        return load_predictor(run / "model").to(device)
    resume = recover_folder(run / "checkpoint").is_dir()
    if resume:
        print(f"going on where the training in {run} stopped", flush=True)
    else:
        shutil.rmtree(run, ignore_errors=True)  # stopped before its first epoch was done
        print(f"training in {run} for {recipe.schedule.epochs} epochs", flush=True)
    return train(recipe, data, run, resume=resume, device=device, **options)
