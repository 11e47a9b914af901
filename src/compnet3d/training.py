"""Training: grouped vertex-contrastive learning with dynamic weights (section 3.3), resumable to the bit on the CPU."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Sampler

from compnet3d.assembly import make_extractor, make_model, make_optimizer
from compnet3d.baselines import TrainedModel, load_predictor, untrained_model
from compnet3d.benchmarks.evaluate import symmetry_orders
from compnet3d.benchmarks.metrics import confusion_matrix
from compnet3d.data.imagenet3d import ImageNet3D, check_trainable
from compnet3d.data.loader import CACHE_BYTES, ViewDataset
from compnet3d.data.sample import Sample, split_calibration
from compnet3d.data.symmetry import measure_mirror
from compnet3d.data.workers import available_cores
from compnet3d.files import recover_folder
from compnet3d.grouping import refreshed_weights
from compnet3d.models.compnet import CompNet
from compnet3d.parallel import FlatGradients, Team, gather_team
from compnet3d.recipes import Recipe
from compnet3d.run import (
    Run,
    check_config,
    check_data,
    check_folder,
    load_checkpoint,
    save_checkpoint,
    write_config,
    write_log,
)
from compnet3d.steps import LOSSES, train_step


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
    dataset = _open(data, without)
    samples = dataset.samples("train")
    check_trainable(dataset, samples)
    check_folder(out, recipe, resume=resume, seed=seed, without=without)
    training, calibration = split_calibration(samples, recipe.calibration_fraction, seed)
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
    size = max(1, min(recipe.processes, recipe.batch_size)) if torch.device(device).type == "cpu" else 1
    size = min(size, len(training))
    if workers is None:
        workers = _default_workers(size, device)
    arguments["workers"] = workers
    follower = "compnet3d.training:train_in_team"
    with _undisturbed(device), gather_team(size, follower, arguments) as team:
        return train_in_team(team, **arguments, samples=samples, progress=progress)


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
        check_data(run, run / "model" / "config.json", _open(data, options.get("without", ())).categories)
        print(f"already trained: {run / 'model'}", flush=True)
        return load_predictor(run / "model").to(device)
    resume = recover_folder(run / "checkpoint").is_dir()
    if resume:
        print(f"going on where the training in {run} stopped", flush=True)
    else:
        shutil.rmtree(run, ignore_errors=True)  # stopped before its first epoch was done
        print(f"training in {run} for {recipe.epochs} epochs", flush=True)
    return train(recipe, data, run, resume=resume, device=device, **options)


def train_in_team(
    team: Team,
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
    dataset = _open(data, without)
    samples = dataset.samples("train") if samples is None else samples
    training, calibration = split_calibration(samples, settings.calibration_fraction, seed)
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
        team,
        symmetry_orders=symmetry_orders(dataset.categories, dataset.symmetry).to(device),
    )
    if resume:
        load_checkpoint(run)
    elif team.leads:
        write_config(run, data, without, samples=len(samples), calibration=len(calibration))
    views = ViewDataset(
        training,
        dataset.categories,
        model.spec,
        augmentation=settings.augmentation,
        mirror_categories=mirror_categories(dataset),
        seed=seed,
        cache=True,
        cache_bytes=CACHE_BYTES // (team.size * max(1, workers)),
    )
    last = settings.epochs if stop_after is None else min(stop_after, settings.epochs)
    held_out = views.of(calibration)
    _fit(run, views, held_out, min(last, settings.last_held_out_epoch), workers=workers, progress=progress)
    everything = views.of([*training, *calibration])
    _fit(run, everything, views.of([]), last, workers=workers, progress=progress)
    if run.epoch >= settings.epochs and team.leads:
        model.save_pretrained(run.out / "model")
    return model.eval()


def _open(data: str | Path, without: Sequence[str]) -> ImageNet3D:
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


def fit_temperature(scores: Tensor, category: Tensor) -> float:
    """The factor on the scores whose softmax has the lowest negative log likelihood on held-out images.

    Args:
        scores: [N, Y]; category: the true ones, int64 [N].
    """
    candidates = torch.logspace(-2, 4, 241)
    losses = torch.stack([cross_entropy(t * scores, category) for t in candidates])
    return float(candidates[losses.argmin()])


# -- the loop ------------------------------------------------------------------------------------------------------


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) keys; the order depends on (seed, epoch) alone.

    Batches differ by at most one in size. Each member of a team gets its share of every batch, and never an empty one
    unless there are fewer samples than members.

    Attributes:
        epoch: the one that the next iteration is for.
    """

    def __init__(self, size: int, batch_size: int, seed: int, epoch: int = 0, team: Team | None = None) -> None:
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, epoch
        self.team = team or Team()

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch, 1))
        order = torch.randperm(self.size, generator=generator).tolist()
        ends = [self.size * number // len(self) for number in range(len(self) + 1)]
        for start, end in pairwise(ends):
            if share := self.team.share(order[start:end]):
                yield [(self.epoch, index) for index in share]

    def __len__(self) -> int:
        return max(1, min(-(-self.size // self.batch_size), self.size // self.team.size))


def _fit(run: Run, views: ViewDataset, held_out: ViewDataset, last: int, *, workers: int, progress: bool) -> None:
    """Train up to the epoch `last`, looking at the held-out views now and then."""
    sampler = EpochSampler(len(views), run.recipe.batch_size, run.seed, team=run.team)
    # workers that live on keep the photographs that they have decoded
    loader = DataLoader(
        views,
        batch_sampler=sampler,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        persistent_workers=workers > 0,
        pin_memory=run.model.device.type == "cuda",
    )
    first, told = run.epoch + 1, False
    with _progress_bars(progress and run.team.leads) as advance:
        while run.epoch < last:
            started = time.perf_counter()
            sampler.epoch = run.epoch
            entry = _train_epoch(run, loader, advance)
            run.epoch += 1
            entry["epoch"] = run.epoch
            due = run.epoch % run.recipe.regroup_every == 0 or run.epoch == run.recipe.last_held_out_epoch
            if len(held_out) and due:
                entry.update(_calibrate(run, held_out, workers))
            entry["seconds"] = time.perf_counter() - started
            run.history.append(entry)
            if run.team.leads:
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
        _set_learning_rate(run.optimizer, run.recipe, run.epoch + number / steps)
        totals += train_step(run, batch, seed=_mix(run.seed, run.epoch, number, run.team.rank, 2))
        advance(run.epoch, number + 1, steps, float(totals[0]) / (number + 1))
        before = time.perf_counter()
    # each process has seen its own share, in the features' statistics too
    for layer in run.model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d) and layer.training:
            run.team.average([layer.running_mean, layer.running_var])  # type: ignore[list-item]
    run.team.average([totals])
    return {
        **dict(zip(names, (totals / steps).tolist(), strict=True)),
        "learning_rate": run.optimizer.param_groups[0]["lr"],
        "input_wait_seconds": waited,
    }


def _calibrate(run: Run, held_out: ViewDataset, workers: int = 0) -> dict[str, Any]:
    """Accuracy on the calibration split, the temperature of the confidence, the confusion matrix and from it omega.

    The confusions are counted over plain views and over as many augmented ones (some of them partly covered): a small
    calibration split would otherwise show no confusion at all long before the categories are safely apart.
    """
    scores, true = _scores(run, held_out.plain(), workers)
    run.model.calibrate(fit_temperature(scores, true))
    hard_scores, hard_true = _scores(run, held_out, workers)
    accuracy = float((scores.argmax(dim=1) == true).float().mean())
    count = len(run.model.categories)
    predicted = torch.cat([scores, hard_scores]).argmax(dim=1)
    confusion = confusion_matrix(predicted, torch.cat([true, hard_true]), count)
    entry: dict[str, Any] = {"calibration_accuracy": accuracy}
    if run.recipe.method == "compnet" and isinstance(run.model, CompNet):
        omega = refreshed_weights(confusion, accuracy, **run.recipe.grouping) if run.recipe.dynamic_weights else None
        if omega is not None:
            run.model.bank.set_grouping_weights(omega)
        entry["contrasted_pairs"] = run.model.bank.contrasted_share(run.recipe.grouping_floor)
    entry["confusion"] = confusion.tolist()
    return entry


@torch.no_grad()
def _scores(run: Run, views: ViewDataset, workers: int) -> tuple[Tensor, Tensor]:
    """Scores of the categories [N, Y] and true categories [N]; the run's epoch chooses the draws of an augmentation."""
    model = run.model.eval()
    scores, true = [torch.zeros(0, len(model.categories))], [torch.zeros(0, dtype=torch.int64)]
    sampler = EpochSampler(len(views), run.recipe.batch_size, views.seed, run.epoch, run.team)
    # a process that has fewer than four batches to prepare takes longer to start
    for batch in DataLoader(views, batch_sampler=sampler, num_workers=min(workers, len(sampler) // 4)):
        scores.append(model.classify_views(batch["image"]).cpu())
        true.append(batch["category"])
    all_scores, all_true = run.team.gather(torch.cat(scores), torch.cat(true))
    return all_scores, all_true


def _set_learning_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: float) -> None:
    """Linear warm-up, then a cosine to zero; `epoch` is fractional."""
    if epoch < recipe.warmup_epochs:
        factor = (epoch + 1e-3) / recipe.warmup_epochs
    else:
        done = (epoch - recipe.warmup_epochs) / max(1e-9, recipe.epochs - recipe.warmup_epochs)
        factor = 0.5 * (1 + float(torch.cos(torch.tensor(done * torch.pi))))
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def _mix(*parts: int) -> int:
    """One seed from several numbers."""
    value = 0
    for part in parts:
        value = (value * 1_000_003 + part + 1) % (2**63 - 1)
    return value


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
