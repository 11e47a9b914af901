"""The training loop: epochs and schedule."""

from __future__ import annotations

import platform
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from compnet3d.data.loader import CACHE_BYTES, CropDataset, Scenery
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError, Terminated
from compnet3d.models.backbones import FeatureExtractor
from compnet3d.models.own_module import wrap_module
from compnet3d.models.registry import TrainedModel, untrained_model
from compnet3d.training.batch_statistics import share_statistics
from compnet3d.training.build import extractor_of, make_extractor, make_model, make_optimizer, start_from
from compnet3d.training.calibration import calibrate, calibrate_run
from compnet3d.training.data_parallel import checksum, in_parallel
from compnet3d.training.job import TrainingJob
from compnet3d.training.memory_need import check_need, has_unused, measure_need
from compnet3d.training.objectives import Objective, objective_of
from compnet3d.training.output import Output, make_output
from compnet3d.training.recipe_parts import ScheduleSettings
from compnet3d.training.run_folder import (
    PartOfEpoch,
    Run,
    last_flips,
    load_checkpoint,
    save_checkpoint,
    write_config,
    write_log,
)
from compnet3d.training.sampler import EpochSampler, mix_seed
from compnet3d.training.step import LossOf, train_step
from compnet3d.training.stopping import StopRequest, heeding_stop_signals
from compnet3d.training.trackers import Tracking
from compnet3d.training.watch import LossWatch, NotFiniteError, check_model
from compnet3d.utils.distributed import ProcessGroup
from compnet3d.utils.files import Json
from compnet3d.utils.workers import explaining_lost_loaders

STEPS_BETWEEN_COMPARISONS = 100


def train_in_group(group: ProcessGroup, job: TrainingJob) -> TrainedModel:
    """What each process of `train` does; see there. Whether to resume, rank 0 says."""
    (resume,) = group.gather(torch.tensor([job.resume], device=job.device))
    job = replace(job, resume=bool(resume[0]))
    samples = job.epoch_samples(held_out=True)
    require_one_data_set(group, samples, torch.device(job.device))
    run = _begin(group, job)
    crops = CropDataset(
        samples,
        job.data.categories,
        run.model.input_config,
        augmentation=job.recipe.augmentation,
        mirror_categories=job.data.mirror_categories,
        seed=job.seed,
        # every worker process of every training process has a cache of its own; the limit is for all of them together
        cache_bytes=CACHE_BYTES // (group.size * max(1, job.workers)),
        scenery=Scenery(job.backgrounds, job.data.meshes),
    )
    schedule = job.recipe.schedule
    # the schedule below still runs over the recipe's epochs: a run that is stopped early and resumed has the same
    # learning rates as one that was not
    last = schedule.epochs if job.stop_after is None else min(job.stop_after, schedule.epochs)
    need = measure_need(run.model, -(-schedule.batch_size // group.size))
    if group.is_rank_zero:
        check_need(need, run.model.device, group.size)
    objective = objective_of(job.recipe, job.data.symmetry_orders.to(job.device), last_flips(run))
    tracking = Tracking.of(job.log if group.is_rank_zero else (), job.out, job.recipe.to_dict())
    with (
        explaining_lost_loaders(),
        tracking,
        make_output(job, run, need) as output,
        heeding_stop_signals() as stop,
    ):
        loss_of = in_parallel(
            LossOf(run.model, objective, group),
            group,
            some_unused=job.feature_extractor is not None or (group.size > 1 and has_unused(run.model)),
        )
        loop = _Loop(run, objective, loss_of, output, job, stop, tracking)
        # two passes over one schedule: with the calibration split held out, then with it among the training images.
        # Either does nothing where its epochs are done already, which is how a resumed run finds its place.
        loop.fit(crops, crops.of(job.calibration), min(last, schedule.last_held_out_epoch))
        loop.fit(crops.of(job.epoch_samples(held_out=False)), crops.of([]), last)
    # The checkpoint of the last epoch is there by now. A crash in between loses nothing: a resumed run trains no epoch
    # more and writes the model from it.
    if run.epoch >= schedule.epochs and group.is_rank_zero:
        run.model.save_pretrained(run.out / "model")
    return run.model.eval()


def _begin(group: ProcessGroup, job: TrainingJob) -> Run:
    """The run at its first step, or where its checkpoint left it."""
    # for the layers' initial weights; what is drawn in a step is seeded by epoch and step
    torch.manual_seed(job.seed)
    recipe, data = job.recipe, job.data
    if job.resume:
        # the configuration of the checkpoint, not one fitted anew: the same meshes and samples would give it, but a
        # user's data may have changed since
        model = untrained_model(job.out / "checkpoint" / "model.json", feature_extractor=job.feature_extractor)
    else:
        model = make_model(recipe, data.meshes, job.typical_samples, _extractor(job))
        if job.init_from is not None:
            start_from(model, job.init_from)
    # one model of each category is saved with the network, for drawing; training has no use for it
    model.cad_meshes = {name: models[0] for name, models in data.meshes.items()}
    # before the optimizer is made: it holds on to the parameters where they are now
    model.to(job.device)
    share_statistics(model, group, whole=recipe.backbone.whole_batch_statistics)
    run = Run(recipe, job.seed, job.out, model, make_optimizer(model, recipe), group)
    if job.resume:
        load_checkpoint(run)
    places = group.hear(f"{platform.node()} {job.device}")
    if group.is_rank_zero and job.resume:
        write_log(run)  # it may have been killed between its checkpoint and that
    elif group.is_rank_zero:
        write_config(run, job, places)
    return run


def _extractor(job: TrainingJob) -> FeatureExtractor:
    """The user's module, that of the model to start from, or the recipe's; it learns as the recipe says."""
    settings = job.recipe.backbone
    if job.feature_extractor is not None:
        extractor = wrap_module(job.feature_extractor, job.recipe.input.height, job.recipe.input.width)
    elif job.init_from is not None:
        extractor = extractor_of(job.init_from)
    else:
        extractor = make_extractor(job.recipe, job.data.root or Path(), job.backbone_weights, job.from_scratch)
    extractor.train_backbone(frozen=settings.frozen, checkpointing=settings.checkpointing)
    return extractor


@dataclass
class _Loop:
    """A run, what it is trained for, where that is shown, what it works on, whether it is to end, and trackers."""

    run: Run
    objective: Objective
    loss_of: nn.Module
    output: Output
    job: TrainingJob
    stop: StopRequest
    tracking: Tracking
    watch: LossWatch = field(default_factory=LossWatch)
    # when the last checkpoint was written, by the clock of `time.perf_counter`
    saved: float = field(default_factory=time.perf_counter)

    def fit(self, crops: CropDataset, held_out: CropDataset, last: int) -> None:
        """Train up to the epoch `last`, looking at the held-out crops now and then."""
        run, schedule, workers = self.run, self.run.recipe.schedule, self.job.workers
        sampler = EpochSampler(len(crops), schedule.batch_size, run.seed, group=run.group, shards=crops.samples.shards)
        # workers that live on keep the images that they have decoded
        loader = DataLoader(
            crops,
            batch_sampler=sampler,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            persistent_workers=workers > 0,
            pin_memory=run.model.device.type == "cuda",
        )
        # advice is given once, of an epoch whose time says something (see below)
        first, advised = run.epoch + 1, False
        while run.epoch < last:
            started = time.perf_counter()
            # the loader asks the sampler anew each epoch; its keys (epoch, index) take the epoch to the workers, which
            # live on and could not be told otherwise
            sampler.epoch, sampler.done = run.epoch, run.part.steps if run.part else 0
            earlier = run.part.seconds if run.part else 0.0
            entry = self._train_epoch(loader)
            run.epoch, run.part = run.epoch + 1, None
            entry["epoch"] = run.epoch
            due = run.epoch % schedule.calibrate_every == 0 or run.epoch == schedule.last_held_out_epoch
            if len(held_out) and due:
                entry.update(calibrate(run, self.objective, held_out, workers))
                if run.epoch == schedule.last_held_out_epoch:
                    calibrate_run(run, held_out, self.job.data.symmetry_orders, workers)
            # with the calibration: it is part of what the training takes
            entry["seconds"] = earlier + time.perf_counter() - started
            run.history.append(entry)
            entry["images_per_second"] = len(crops) / (entry["seconds"] + 1e-9)
            self.output.end_epoch(entry)
            self.tracking.epoch(run.epoch * len(sampler), entry)
            if run.group.is_rank_zero:
                # The checkpoint first: it holds the whole history, from which the log is written anew. A crash in
                # between leaves a log that is one epoch short until the next epoch rewrites it.
                save_checkpoint(run)
                self.saved = time.perf_counter()
                write_log(run)
                # the first epoch waits for the workers to start
                advice = None if advised or run.epoch == first else waiting_advice(entry, workers)
                if advice is not None:
                    advised = True
                    print(advice, file=sys.stderr)

    def _train_epoch(self, loader: DataLoader[Any]) -> Json:
        run = self.run
        run.model.train()
        steps, part = len(loader), run.part or PartOfEpoch()
        sums, outliers, waited = dict(part.sums), list(part.outliers), part.waited
        started = before = time.perf_counter()
        for number, batch in enumerate(loader, part.steps):
            waited += time.perf_counter() - before
            # set in every step from the epoch alone, so that the optimizer's state need not hold it and a resumed run
            # goes on with the same
            set_learning_rate(run.optimizer, run.recipe.schedule, run.epoch + number / steps)
            # of what a backbone drops at random, by each process on its own; all else has a generator of its own
            torch.manual_seed(mix_seed(run.seed, run.epoch, number, run.group.rank, 2))
            with self._stopping(loader, number):
                # the last number keeps these draws apart from the order of the images, which has 1 (see `EpochSampler`)
                seed = mix_seed(run.seed, run.epoch, number, 0, 2)
                losses = train_step(run, self.loss_of, batch, seed=seed, stop=self.stop)
            loss = float(losses["loss"])
            if self.watch.is_out_of_line(loss):
                outliers.append({"epoch": run.epoch + 1, "step": number + 1, "loss": loss})
                outliers[-1]["images"] = _images(loader, number)
                self.output.say(_about(outliers[-1]))
            sums = {name: sums.get(name, 0.0) + float(value) for name, value in losses.items()}
            self.output.advance(run.epoch, number + 1, steps, sums["loss"] / (number + 1))
            self.tracking.step(run.epoch * steps + number + 1, sums["loss"] / (number + 1))
            before = time.perf_counter()
            seconds = part.seconds + before - started
            run.part = PartOfEpoch(number + 1, sums, tuple(outliers), seconds, waited)
            if number + 1 < steps:
                self._pause(number + 1)
        with self._stopping(loader, steps - 1):
            check_model(run.model)
        return {
            **{name: total / steps for name, total in sums.items()},
            "learning_rate": run.optimizer.param_groups[0]["lr"],
            "input_wait_seconds": waited,
            **({"outliers": outliers} if outliers else {}),
        }

    def _pause(self, steps: int) -> None:
        """Between two steps: compare the members now and then, write a checkpoint where one is due, end if asked to.

        Raises:
            CompNetError: if the members have learned different things.
            Terminated: if any of them has been asked to end, once that is in a checkpoint.
        """
        run, group = self.run, self.run.group
        if group.size > 1 and steps % STEPS_BETWEEN_COMPARISONS == 0:
            require_one_model(run)
        minutes = self.job.checkpoint_minutes
        due = minutes is not None and time.perf_counter() - self.saved >= 60 * minutes
        if group.is_rank_zero and (self.stop.heard or due):
            # else the last good checkpoint stays, and the end of the epoch says what is wrong
            with suppress(NotFiniteError):
                check_model(run.model)
                save_checkpoint(run)
            self.saved = time.perf_counter()
        if self.stop.heard:
            name = f" by {self.stop.name}" if self.stop.number else ""
            raise Terminated(
                f"stopped{name} after step {steps} of epoch {run.epoch + 1}, which the checkpoint holds; the same "
                "command with --resume goes on"
            )

    @contextmanager
    def _stopping(self, loader: DataLoader[Any], number: int) -> Iterator[None]:
        """End the training in one sentence if something turns out not to be finite in that step of the epoch."""
        run = self.run
        try:
            yield
        except NotFiniteError as error:
            kept = f"the checkpoint of epoch {run.epoch} is kept" if run.epoch else "there is no checkpoint yet"
            raise CompNetError(
                f"{run.out}: training stops in epoch {run.epoch + 1}, step {number + 1}, where {error} is not finite "
                f"({kept}); lower schedule.learning_rate, or look over (data check) the images of that batch and their "
                f"CAD models: {', '.join(_images(loader, number))}"
            ) from None


def require_one_data_set(group: ProcessGroup, samples: Sequence[Sample], device: torch.device) -> None:
    """Check that all members of a group train on the same samples: each might have left out other broken shards.

    Raises:
        CompNetError: saying how many each has.
    """
    if group.size == 1:
        return
    names = zlib.crc32("\n".join(f"{sample.category}/{sample.name}" for sample in samples).encode(errors="replace"))
    if not group.agrees(torch.tensor([len(samples), names], device=device)):
        counts = ", ".join(f"{count:,}" for count in group.hear(len(samples)))
        raise CompNetError(
            f"the processes of this training do not see the same images ({counts} of them, by rank); give all of them "
            "the same --data, and see what each says of shards that it leaves out"
        )


def require_one_model(run: Run) -> None:
    """Check that all members of a run's group have the same model, to the bit.

    Raises:
        CompNetError: naming a tensor that differs.
    """
    state = run.model.state_dict()
    sums = checksum(state.values())
    if run.group.agrees(sums):
        return
    name = next(name for name, own in zip(state, sums, strict=True) if not run.group.agrees(own))
    raise CompNetError(
        f"{run.out}: the processes of this training have learned different things (tensor {name}); are they all of one "
        "version of compnet3d and of PyTorch, on one kind of device? the last checkpoint is kept"
    )


def _images(loader: DataLoader[Any], number: int) -> list[str]:
    """What the images of a batch are called, those of all processes."""
    samples = loader.dataset.samples  # type: ignore[attr-defined]
    batch = loader.batch_sampler.batches()[number]  # type: ignore[union-attr]
    return [f"{samples[index].category}/{samples[index].name}" for index in batch]


def _about(outlier: Json) -> str:
    """A line on a batch whose loss is out of line."""
    return (
        f"epoch {outlier['epoch']}, step {outlier['step']}: loss {outlier['loss']:.3f}, far above those of the last "
        f"steps, on {', '.join(outlier['images'])}"
    )


def waiting_advice(entry: Json, workers: int, tolerance: float = 0.05) -> str | None:
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


def set_learning_rate(optimizer: torch.optim.Optimizer, schedule: ScheduleSettings, epoch: float) -> None:
    """Linear warm-up, then a cosine to zero; `epoch` is fractional."""
    if epoch < schedule.warmup_epochs:
        # not quite zero, or the first step would be lost; without warm-up this branch is never taken
        factor = (epoch + 1e-3) / schedule.warmup_epochs
    else:
        done = (epoch - schedule.warmup_epochs) / max(1e-9, schedule.epochs - schedule.warmup_epochs)
        factor = 0.5 * (1 + float(torch.cos(torch.tensor(done * torch.pi))))
    for group in optimizer.param_groups:
        # `base_lr` is our own entry of the group (see `make_optimizer`): rates of backbone and head keep their ratio
        group["lr"] = group["base_lr"] * factor
