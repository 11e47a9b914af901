"""The training loop: epochs, schedule, progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.loader import CACHE_BYTES, CropDataset
from compnet3d.data.sample import Sample, split_calibration
from compnet3d.data.symmetry import measure_mirror, symmetry_orders
from compnet3d.models.registry import TrainedModel, untrained_model
from compnet3d.training.build import make_extractor, make_model, make_optimizer
from compnet3d.training.calibration import calibrate
from compnet3d.training.process_group import FlatGradients, ProcessGroup
from compnet3d.training.recipe import Recipe
from compnet3d.training.recipe_parts import ScheduleSettings
from compnet3d.training.run_folder import (
    Run,
    load_checkpoint,
    save_checkpoint,
    write_config,
    write_log,
)
from compnet3d.training.sampler import EpochSampler, mix_seed
from compnet3d.training.step import LOSSES, train_step


def train_in_group(
    group: ProcessGroup,
    *,
    recipe: dict[str, Any],
    data: str,
    out: str,
    seed: int,
    without: Sequence[str],
    resume: bool,
    backbone_weights: str | None,
    from_scratch: bool,
    device: str,
    workers: int,
    stop_after: int | None,
    samples: Sequence[Sample] | None = None,
    progress: bool = False,
) -> TrainedModel:
    """What each process of `train` does; see there. `samples` is the train list, where it has been read already."""
    settings = Recipe.from_dict(recipe)
    dataset = open_dataset(data, without)
    samples = dataset.samples("train") if samples is None else samples
    training, calibration = split_calibration(samples, settings.schedule.calibration_fraction, seed)
    torch.manual_seed(seed)
    meshes = {name: dataset.meshes(name) for name in dataset.categories}
    if resume:
        model = untrained_model(Path(out) / "checkpoint" / "model.json")
    else:
        extractor = make_extractor(settings, data, backbone_weights, from_scratch)
        model = make_model(settings, meshes, training, extractor)
    model.cad_meshes = {name: models[0] for name, models in meshes.items()}
    model.to(device)
    run = Run(
        settings,
        seed,
        Path(out),
        model,
        make_optimizer(model, settings),
        FlatGradients(model.parameters()),
        group,
        symmetry_orders=symmetry_orders(dataset.categories, dataset.symmetry).to(device),
    )
    if resume:
        load_checkpoint(run)
    elif group.is_rank_zero:
        write_config(run, data, without, samples=len(samples), calibration=len(calibration))
    crops = CropDataset(
        training,
        dataset.categories,
        model.input_config,
        augmentation=settings.augmentation,
        mirror_categories=mirror_categories(dataset),
        seed=seed,
        cache=True,
        cache_bytes=CACHE_BYTES // (group.size * max(1, workers)),
    )
    last = settings.schedule.epochs if stop_after is None else min(stop_after, settings.schedule.epochs)
    held_out = crops.of(calibration)
    _fit(run, crops, held_out, min(last, settings.schedule.last_held_out_epoch), workers=workers, progress=progress)
    everything = crops.of([*training, *calibration])
    _fit(run, everything, crops.of([]), last, workers=workers, progress=progress)
    if run.epoch >= settings.schedule.epochs and group.is_rank_zero:
        model.save_pretrained(run.out / "model")
    return model.eval()


def open_dataset(data: str | Path, without: Sequence[str]) -> ImageNet3D:
    """The data set without some of its categories, which must be there."""
    dataset = ImageNet3D(data)
    if not without:
        return dataset
    ImageNet3D(data, categories=without)
    return ImageNet3D(data, categories=[name for name in dataset.categories if name not in set(without)])


def mirror_categories(dataset: ImageNet3D) -> frozenset[str]:
    """Categories whose mirrored images are images of the same category: as stated by the data set, else measured."""
    names = set()
    for category in dataset.categories:
        stated = dataset.symmetry[category].mirror if category in dataset.symmetry else None
        if stated if stated is not None else measure_mirror(dataset.meshes(category)):
            names.add(category)
    return frozenset(names)


def _fit(run: Run, crops: CropDataset, held_out: CropDataset, last: int, *, workers: int, progress: bool) -> None:
    """Train up to the epoch `last`, looking at the held-out crops now and then."""
    sampler = EpochSampler(len(crops), run.recipe.schedule.batch_size, run.seed, group=run.group)
    # workers that live on keep the images that they have decoded
    loader = DataLoader(
        crops,
        batch_sampler=sampler,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        persistent_workers=workers > 0,
        pin_memory=run.model.device.type == "cuda",
    )
    first, told = run.epoch + 1, False
    with _progress_bars(progress and run.group.is_rank_zero) as advance:
        while run.epoch < last:
            started = time.perf_counter()
            sampler.epoch = run.epoch
            entry = _train_epoch(run, loader, advance)
            run.epoch += 1
            entry["epoch"] = run.epoch
            schedule = run.recipe.schedule
            due = run.epoch % schedule.calibrate_every == 0 or run.epoch == schedule.last_held_out_epoch
            if len(held_out) and due:
                entry.update(calibrate(run, held_out, workers))
            entry["seconds"] = time.perf_counter() - started
            run.history.append(entry)
            if run.group.is_rank_zero:
                save_checkpoint(run)
                write_log(run)
                # the first epoch waits for the workers to start
                advice = None if told or run.epoch == first else waiting_advice(entry, workers)
                if advice is not None:
                    told = True
                    print(advice, file=sys.stderr)


def waiting_advice(entry: dict[str, Any], workers: int, tolerance: float = 0.05) -> str | None:
    """What to say where training waits for its images longer than that share of an epoch; None where it does not.

    Args:
        entry: of the log; workers: processes that prepare images. Without any, training prepares them itself and cannot
            wait.
    """
    share = entry["input_wait_seconds"] / max(1e-9, entry["seconds"])
    if workers == 0 or share <= tolerance:
        return None
    return (
        f"epoch {entry['epoch']}: training waited for images {100 * share:.0f} % of the time; "
        f"give it more than {workers} --workers if there are idle cores"
    )


def _train_epoch(run: Run, loader: DataLoader[Any], advance: Any) -> dict[str, Any]:
    run.model.train()
    steps = len(loader)
    names = LOSSES[run.recipe.method]
    totals = torch.zeros(len(names))
    waited, before = 0.0, time.perf_counter()
    for number, batch in enumerate(loader):
        waited += time.perf_counter() - before
        _set_learning_rate(run.optimizer, run.recipe.schedule, run.epoch + number / steps)
        totals += train_step(run, batch, seed=mix_seed(run.seed, run.epoch, number, run.group.rank, 2))
        advance(run.epoch, number + 1, steps, float(totals[0]) / (number + 1))
        before = time.perf_counter()
    # each process has seen its own share, in the features' statistics too
    for layer in run.model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d) and layer.training:
            run.group.average([layer.running_mean, layer.running_var])  # type: ignore[list-item]
    run.group.average([totals])
    return {
        **dict(zip(names, (totals / steps).tolist(), strict=True)),
        "learning_rate": run.optimizer.param_groups[0]["lr"],
        "input_wait_seconds": waited,
    }


def _set_learning_rate(optimizer: torch.optim.Optimizer, schedule: ScheduleSettings, epoch: float) -> None:
    """Linear warm-up, then a cosine to zero; `epoch` is fractional."""
    if epoch < schedule.warmup_epochs:
        factor = (epoch + 1e-3) / schedule.warmup_epochs
    else:
        done = (epoch - schedule.warmup_epochs) / max(1e-9, schedule.epochs - schedule.warmup_epochs)
        factor = 0.5 * (1 + float(torch.cos(torch.tensor(done * torch.pi))))
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


# -- progress -------------------------------------------------------------------------------------------------------


def _progress_bars(show: bool) -> AbstractContextManager[Any]:
    if not show:
        return nullcontext(lambda epoch, step, steps, loss: None)
    return _Bars()


class _Bars(AbstractContextManager[Any]):
    """One bar per epoch, with the mean loss so far."""

    def __enter__(self) -> Any:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.bars = Progress(
            TextColumn("epoch {task.fields[epoch]:>3}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        ).__enter__()
        self.tasks: dict[int, Any] = {}
        return self.advance

    def advance(self, epoch: int, step: int, steps: int, loss: float) -> None:
        if epoch not in self.tasks:
            self.tasks[epoch] = self.bars.add_task("", total=steps, epoch=epoch + 1, loss=loss)
        self.bars.update(self.tasks[epoch], completed=step, loss=loss)

    def __exit__(self, *exception: Any) -> None:
        self.bars.__exit__(*exception)
