"""Training: grouped vertex-contrastive learning with dynamic weights (section 3.3), resumable to the bit on the CPU."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from compnet3d.benchmarks.metrics import confusion_matrix
from compnet3d.data.imagenet3d import ImageNet3D, check_trainable
from compnet3d.data.loader import ViewDataset
from compnet3d.data.sample import Sample, split_calibration
from compnet3d.data.symmetry import measure_mirror
from compnet3d.data.transforms import InputSpec
from compnet3d.errors import CompNetError
from compnet3d.files import read_json, recover_folder, write_folder, write_json, write_text
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.mesh import cuboid_bounds
from compnet3d.grouping import grouping_weights
from compnet3d.inference.classify import category_scores
from compnet3d.losses import draw_queries, grouped_contrastive_loss, sample_vertices
from compnet3d.models.backbones import BackboneConfig, FeatureExtractor, build_extractor, load_extractor
from compnet3d.models.checkpoint import (
    check_settings,
    flatten_state,
    load_optimizer,
    load_tensors_into,
    model_from_config,
    save_tensors,
)
from compnet3d.models.compnet import CompNet, CompNetConfig
from compnet3d.recipes import Recipe


@dataclass
class Run:
    """A training run in progress.

    Attributes:
        recipe, seed: its settings.
        out: its folder.
        model, optimizer: what is trained.
        epoch: epochs done.
        history: one entry per epoch, as in log.jsonl.
    """

    recipe: Recipe
    seed: int
    out: Path
    model: CompNet
    optimizer: torch.optim.AdamW
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def train(
    recipe: Recipe,
    data: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    resume: bool = False,
    backbone_weights: str | Path | None = None,
    from_scratch: bool = False,
    device: str = "cpu",
    workers: int = 1,
    progress: bool = True,
    stop_after: int | None = None,
) -> CompNet:
    """Train a model on a data set's train list and save it as OUT/model.

    OUT also gets config.json (everything needed to repeat the run), log.jsonl and log.csv (one line per epoch) and
    checkpoint/ (for `resume`).

    Args:
        recipe: the settings.
        data: a data set in the ImageNet3D raw layout.
        out: the run's folder; must not hold another run unless `resume` is set.
        seed: of everything random.
        resume: go on from OUT/checkpoint.
        backbone_weights: folder of the pretrained backbone; by default the recipe's is looked for.
        from_scratch: start from random weights although the recipe has a pretrained backbone.
        device: where to train, such as "cpu" or "cuda".
        workers: processes that prepare images.
        progress: show progress bars.
        stop_after: stop after this many epochs in all, leaving a checkpoint (the schedule stays the recipe's).

    Returns:
        The trained model, in inference mode.

    Raises:
        CompNetError: if the data, the folder or the checkpoint does not allow it.
    """
    out = Path(out)
    dataset = ImageNet3D(data)
    samples = dataset.samples("train")
    check_trainable(dataset, samples)
    training, calibration = split_calibration(samples, recipe.calibration_fraction, seed)
    recover_folder(out / "checkpoint")
    recover_folder(out / "model")
    # a run that stopped before its first checkpoint has nothing to lose
    if ((out / "checkpoint").exists() or (out / "model").exists()) and not resume:
        raise CompNetError(f"{out}: holds a run already; add --resume to go on with it, or choose another folder")
    if resume and not (out / "checkpoint").exists():
        raise CompNetError(f"{out}: has no checkpoint to resume from; train without --resume")
    if resume:
        check_settings(out / "config.json", recipe.to_dict())
    torch.manual_seed(seed)
    extractor = None if resume else _make_extractor(recipe, data, backbone_weights, from_scratch)
    model = _make_model(recipe, dataset, training, extractor, out if resume else None)
    model.to(device)
    run = Run(recipe, seed, out, model, _make_optimizer(model, recipe))
    if resume:
        _load_checkpoint(run)
    else:
        _write_config(run, data, samples=len(samples), calibration=len(calibration))
    mirror = mirror_categories(dataset)
    views = ViewDataset(
        training,
        dataset.categories,
        model.spec,
        augmentation=recipe.augmentation,
        mirror_categories=mirror,
        seed=seed,
        cache=True,
    )
    held_out = views.of(calibration)
    last = recipe.epochs if stop_after is None else min(stop_after, recipe.epochs)
    _fit(run, views, held_out, last, workers=workers, progress=progress)
    model.eval()
    if run.epoch >= recipe.epochs:
        if calibration:
            model.calibrate(fit_temperature(*_scores(model, held_out.plain(), recipe.batch_size)))
        model.save_pretrained(out / "model")
    return model


def mirror_categories(dataset: ImageNet3D) -> frozenset[str]:
    """Categories whose mirrored images are images of the same category: as stated by the data set, else measured."""
    names = set()
    for category in dataset.categories:
        stated = dataset.symmetry[category].mirror if category in dataset.symmetry else None
        if stated if stated is not None else measure_mirror(dataset.meshes(category)):
            names.add(category)
    return frozenset(names)


def fit_temperature(scores: Tensor, category: Tensor) -> float:
    """The factor on S_y whose softmax has the lowest negative log likelihood on held-out images.

    Args:
        scores: S_y [N, Y]; category: the true ones, int64 [N].
    """
    candidates = torch.logspace(0, 4, 161)
    losses = torch.stack([torch.nn.functional.cross_entropy(t * scores, category) for t in candidates])
    return float(candidates[losses.argmin()])


# -- set-up --------------------------------------------------------------------------------------------------------


def _make_extractor(
    recipe: Recipe, data: str | Path, weights: str | Path | None, from_scratch: bool
) -> FeatureExtractor:
    if weights is None and recipe.pretrained and not from_scratch:
        weights = find_weights(recipe.pretrained, data)
    if weights is not None and not from_scratch:
        return load_extractor(weights, dimension=recipe.dimension, upsampling=recipe.upsampling)
    architecture = recipe.architecture
    mean_std: dict[str, Any] = {}
    if not architecture and recipe.pretrained:
        config = load_extractor(
            weights or find_weights(recipe.pretrained, data), dimension=recipe.dimension, upsampling=recipe.upsampling
        ).config
        architecture, mean_std = config.architecture, {"mean": config.mean, "std": config.std}
    return build_extractor(BackboneConfig(recipe.family, architecture, recipe.dimension, recipe.upsampling, **mean_std))


def find_weights(names: Sequence[str], data: str | Path) -> str | Path:
    """Where a recipe's pretrained backbone is: a folder of that name near the data, else the hub.

    Looked for in $COMPNET3D_WEIGHTS, ./weights and the `weights` folders beside the data set's parents.
    """
    folders = [Path(os.environ["COMPNET3D_WEIGHTS"])] if "COMPNET3D_WEIGHTS" in os.environ else []
    folders += [Path("weights"), *(parent / "weights" for parent in Path(data).resolve().parents[:3])]
    for folder in folders:
        if (folder / names[0] / "config.json").is_file():
            return folder / names[0]
    return names[-1]


def _make_model(
    recipe: Recipe,
    dataset: ImageNet3D,
    training: Sequence[Sample],
    extractor: FeatureExtractor | None,
    run: Path | None,
) -> CompNet:
    if run is not None:
        return model_from_config(run / "checkpoint" / "model.json")
    assert extractor is not None
    meshes = {name: dataset.meshes(name) for name in dataset.categories}
    config = CompNetConfig(
        categories=tuple(dataset.categories),
        bounds=tuple(tuple(tuple(c) for c in cuboid_bounds(meshes[n]).tolist()) for n in dataset.categories),
        backbone=extractor.config,
        spec=InputSpec.fitted(training, recipe.height, recipe.width, recipe.fill),
        vertex_count=recipe.vertex_count,
        background_size=recipe.background_size,
        kappa=recipe.kappa,
        pose=recipe.pose,
        grid=recipe.grid,
    )
    model = CompNet(config, extractor)
    model.cad_meshes = {name: models[0] for name, models in meshes.items()}
    return model


def _make_optimizer(model: CompNet, recipe: Recipe) -> torch.optim.AdamW:
    head = {id(p) for p in model.feature_extractor.head_parameters()}
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for parameter in model.parameters():
        rate = recipe.head_learning_rate if id(parameter) in head else recipe.learning_rate
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": ps, "lr": rate, "base_lr": rate, "weight_decay": decay} for (rate, decay), ps in groups.items()],
        fused=True,
    )


def _write_config(run: Run, data: str | Path, **counts: int) -> None:
    write_json(
        run.out / "config.json",
        {
            "recipe": run.recipe.to_dict(),
            "data": str(Path(data).resolve()),
            "seed": run.seed,
            "counts": counts,
            "backbone": run.model.config.backbone.to_dict(),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        },
    )


# -- the loop ------------------------------------------------------------------------------------------------------


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) keys; the order depends on (seed, epoch) alone."""

    def __init__(self, size: int, batch_size: int, seed: int, epoch: int) -> None:
        generator = torch.Generator().manual_seed(_mix(seed, epoch, 1))
        self.order = torch.randperm(size, generator=generator).tolist()
        self.batch_size, self.epoch = batch_size, epoch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for start in range(0, len(self.order), self.batch_size):
            yield [(self.epoch, index) for index in self.order[start : start + self.batch_size]]

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)


def _fit(run: Run, views: ViewDataset, held_out: ViewDataset, last: int, *, workers: int, progress: bool) -> None:
    recipe = run.recipe
    steps = -(-len(views) // recipe.batch_size)
    with _progress_bars(progress) as advance:
        while run.epoch < last:
            started = time.perf_counter()
            entry = _train_epoch(run, views, steps, workers=workers, advance=advance)
            run.epoch += 1
            entry["epoch"] = run.epoch
            if len(held_out) and (run.epoch % recipe.regroup_every == 0 or run.epoch == recipe.epochs):
                entry.update(_regroup(run, held_out))
            entry["seconds"] = time.perf_counter() - started
            run.history.append(entry)
            _save_checkpoint(run)
            _write_log(run)


def _train_epoch(run: Run, views: ViewDataset, steps: int, *, workers: int, advance: Any) -> dict[str, Any]:
    recipe, model = run.recipe, run.model
    model.train()
    sampler = EpochSampler(len(views), recipe.batch_size, run.seed, run.epoch)
    loader = DataLoader(views, batch_sampler=sampler, num_workers=workers, prefetch_factor=4 if workers else None)
    totals = torch.zeros(3)
    waited, before = 0.0, time.perf_counter()
    for number, batch in enumerate(loader):
        waited += time.perf_counter() - before
        step = run.epoch * steps + number
        _set_learning_rate(run.optimizer, recipe, step / steps)
        totals += train_step(model, run.optimizer, batch, recipe, seed=_mix(run.seed, step, 2))
        advance(run.epoch, number + 1, steps, float(totals[0]) / (number + 1))
        before = time.perf_counter()
    mean = (totals / steps).tolist()
    return {
        "loss": mean[0],
        "in_category_loss": mean[1],
        "cross_category_loss": mean[2],
        "learning_rate": run.optimizer.param_groups[0]["lr"],
        "input_wait_seconds": waited,
    }


def train_step(
    model: CompNet, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], recipe: Recipe, *, seed: int
) -> Tensor:
    """One gradient step of the feature extractor (Eq. 5), then the update of the bank (Eq. 6 and the background ring).

    Args:
        model: in training mode.
        optimizer: of its parameters.
        batch: as `ViewDataset` collates it.
        recipe: the settings.
        seed: of the sampled vertices and background cells.

    Returns:
        The loss, its in-category and its cross-category part, [3].
    """
    generator = torch.Generator().manual_seed(seed)
    batch = {name: value.to(model.device) for name, value in batch.items()}
    pose = Pose(**{name: batch[name] for name in ("azimuth", "elevation", "theta", "distance")})
    category, principal = batch["category"], batch["principal"]
    occluded = batch.get("occluded")
    bank = model.bank
    feature_map = model(batch["image"])
    seen = model.observe(feature_map, category, pose, principal, occluded)
    sampled = sample_vertices(bank.offsets, recipe.samples_per_category, generator)
    drawn = draw_queries(seen.valid, recipe.queries_per_image, generator)
    vertex = seen.vertex.gather(1, drawn)
    loss = grouped_contrastive_loss(
        seen.features.gather(1, drawn[..., None].expand(-1, -1, seen.features.shape[2])),
        category,
        vertex,
        seen.valid.gather(1, drawn),
        vertex_features=bank.vertex_features,
        offsets=bank.offsets,
        background_features=bank.background,
        grouping_weights=bank.grouping_weights,
        sampled=sampled,
        kappa=recipe.kappa,
        excluded=model.near_vertices(category, vertex, recipe.near_radius),
        background_weight=recipe.background_weight,
        in_weight=recipe.in_weight,
        cross_weight=recipe.cross_weight,
    )
    optimizer.zero_grad(set_to_none=True)
    loss.total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    flat = (bank.offsets[category][:, None] + seen.vertex)[seen.valid]
    bank.update_vertices(flat, seen.features.detach()[seen.valid], recipe.momentum)
    bank.update_background(
        model.sample_background(
            feature_map.detach(), category, pose, principal, recipe.background_per_image, generator, occluded
        )
    )
    return torch.stack([loss.total, loss.in_category, loss.cross_category]).detach().cpu()


def _regroup(run: Run, held_out: ViewDataset) -> dict[str, Any]:
    """Accuracy on the calibration split, its confusion matrix, and from that omega.

    The confusions are counted over plain views and over as many augmented ones (some of them partly covered): a small
    calibration split would otherwise show no confusion at all long before the categories are safely apart.
    """
    scores, true = _scores(run.model, held_out.plain(), run.recipe.batch_size)
    hard_scores, hard_true = _scores(run.model, held_out, run.recipe.batch_size, epoch=run.epoch)
    accuracy = float((scores.argmax(dim=1) == true).float().mean())
    count = len(run.model.categories)
    predicted = torch.cat([scores, hard_scores]).argmax(dim=1)
    confusion = confusion_matrix(predicted, torch.cat([true, hard_true]), count)
    entry: dict[str, Any] = {"calibration_accuracy": accuracy}
    # the confusions of a model that still guesses say nothing about which categories are alike
    if run.recipe.dynamic_weights and accuracy >= run.recipe.grouping_accuracy:
        omega = grouping_weights(confusion, run.recipe.grouping_threshold)
        run.model.bank.set_grouping_weights(omega)
    entry["contrasted_pairs"] = float((run.model.bank.grouping_weights > 0).sum() / max(1, count * (count - 1)))
    entry["confusion"] = confusion.tolist()
    return entry


@torch.no_grad()
def _scores(model: CompNet, views: ViewDataset, batch_size: int, epoch: int = 0) -> tuple[Tensor, Tensor]:
    """Scores of Eq. 7 [N, Y] and true categories [N]; `epoch` chooses the draws of an augmentation."""
    model.eval()
    scores, true = [], []
    for batch in DataLoader(views, batch_sampler=EpochSampler(len(views), batch_size, views.seed, epoch)):
        bank = model.bank
        feature_map = model(batch["image"].to(model.device))
        scores.append(category_scores(feature_map, bank.vertex_features, bank.offsets, bank.background).cpu())
        true.append(batch["category"])
    return torch.cat(scores), torch.cat(true)


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


# -- files ---------------------------------------------------------------------------------------------------------


def _parameter_names(run: Run) -> dict[int, str]:
    """Parameter names by their number in the optimizer's state."""
    names = {id(p): n for n, p in run.model.named_parameters()}
    ordered = [names[id(p)] for group in run.optimizer.param_groups for p in group["params"]]
    return dict(enumerate(ordered))


def _save_checkpoint(run: Run) -> None:
    def fill(folder: Path) -> None:
        write_json(folder / "model.json", run.model.config.to_dict())
        save_tensors(folder / "model.safetensors", run.model.state_dict())
        save_tensors(folder / "optimizer.safetensors", flatten_state(run.optimizer.state_dict(), _parameter_names(run)))
        write_json(folder / "progress.json", {"epoch": run.epoch, "seed": run.seed, "history": run.history})

    write_folder(run.out / "checkpoint", fill)


def _load_checkpoint(run: Run) -> None:
    folder = run.out / "checkpoint"
    progress = read_json(folder / "progress.json")
    if not isinstance(progress, dict) or not {"epoch", "seed", "history"} <= progress.keys():
        raise CompNetError(f"{folder / 'progress.json'}: tells no progress; copy it again, or train in another folder")
    if progress["seed"] != run.seed:
        raise CompNetError(f"{folder}: was made with seed {progress['seed']}, not {run.seed}; resume with that seed")
    load_tensors_into(run.model, folder / "model.safetensors")
    load_optimizer(run.optimizer, folder / "optimizer.safetensors", _parameter_names(run))
    run.epoch, run.history = progress["epoch"], progress["history"]


def _write_log(run: Run) -> None:
    write_text(run.out / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in run.history))
    columns = [k for k in run.history[0] if k != "confusion"]
    columns += sorted({k for e in run.history for k in e} - set(columns) - {"confusion"})
    rows = [",".join(columns)] + [",".join(str(e.get(c, "")) for c in columns) for e in run.history]
    write_text(run.out / "log.csv", "\n".join(rows) + "\n")


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
