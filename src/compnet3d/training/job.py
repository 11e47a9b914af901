"""What a training works on, resolved once: data, split, starting point and options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import torch
from torch import nn
from typing_extensions import Unpack

from compnet3d.data.backgrounds import find_photographs
from compnet3d.data.sample import Sample, split_calibration
from compnet3d.errors import CompNetError
from compnet3d.models.registry import TrainedModel, load_predictor
from compnet3d.training.data import TrainingData, gather
from compnet3d.training.recipe import Recipe
from compnet3d.training.sampler import EpochSampler
from compnet3d.training.trackers import check_trackers
from compnet3d.utils.distributed import is_launched, restarts
from compnet3d.utils.files import recover_folder
from compnet3d.utils.workers import available_cores


class TrainOptions(TypedDict, total=False):
    """Options of `train`; see there."""

    seed: int
    more_data: Sequence[str | Path | TrainingData]
    images_per_category: int | None
    repeat: int | None
    without: Sequence[str]
    resume: bool
    backbone_weights: str | Path | None
    backgrounds: str | Path | None
    from_scratch: bool
    device: str
    workers: int | None
    progress: bool
    stop_after: int | None
    checkpoint_minutes: float | None
    processes: int | None
    log: Sequence[str]


@dataclass(frozen=True)
class TrainingJob:
    """A training, resolved: the processes that share it are handed it as it is.

    Attributes:
        recipe, data, out: what is trained, on what, and the run's folder.
        training, calibration: the split of the data's samples; those beside them (`TrainingData.more`) are not split.
        feature_extractor, init_from: of the user's, see `train`.
        seed, images_per_category, repeat, without, resume, backbone_weights, from_scratch: see `train`.
        device, progress, stop_after, checkpoint_minutes, log: see there, too.
        backgrounds: photographs for the augmentation's `background_swap`.
        workers: further processes that prepare images, for each training process.
        processes: that train.
    """

    recipe: Recipe
    data: TrainingData
    out: Path
    training: Sequence[Sample]
    calibration: Sequence[Sample]
    feature_extractor: nn.Module | None = None
    init_from: TrainedModel | None = None
    seed: int = 0
    images_per_category: int | None = None
    repeat: int | None = None
    without: tuple[str, ...] = ()
    resume: bool = False
    backbone_weights: Path | None = None
    backgrounds: tuple[Path, ...] = ()
    from_scratch: bool = False
    device: str = "cpu"
    workers: int = 0
    progress: bool = True
    stop_after: int | None = None
    checkpoint_minutes: float | None = None
    processes: int = 1
    log: tuple[str, ...] = ()

    def going_on(self) -> TrainingJob:
        """The same; with `resume` in processes that are started anew after one of them has died, if they can."""
        can = restarts() > 0 and recover_folder(self.out / "checkpoint").is_dir()
        return replace(self, resume=self.resume or can)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of images, as config.json has them."""
        counts = {"samples": len(self.data.samples), "calibration": len(self.calibration)}
        return counts | {"more": len(self.data.more), "backgrounds": len(self.backgrounds)}

    def epoch_samples(self, *, held_out: bool) -> list[Sample]:
        """What an epoch goes through, each once: the first data set's samples are in it `repeat` times.

        Args:
            held_out: without the calibration split.
        """
        # without a number, as often as makes them half of it. How often does not depend on the calibration split, so
        # that its joining makes no other sample rarer
        repeat = self.repeat or max(1, round(len(self.data.more) / max(1, len(self.training))))
        return [*self.training, *([] if held_out else self.calibration)] * repeat + [*self.data.more]

    @property
    def typical_samples(self) -> list[Sample]:
        """What the input and the usual rotations are fitted to: the first data set, others for what it lacks."""
        known = {sample.category for sample in self.training}
        return [*self.training, *(sample for sample in self.data.more if sample.category not in known)]


def resolve_job(
    recipe: Recipe,
    data: str | Path | TrainingData,
    out: str | Path,
    *,
    feature_extractor: nn.Module | None = None,
    init_from: str | Path | TrainedModel | None = None,
    **options: Unpack[TrainOptions],
) -> TrainingJob:
    """Open the data and split it, load what training starts from, choose the processes; see `train`.

    Raises:
        CompNetError: if the data or the model to start from is not there, or an option is out of range.
    """
    seed, without, log = options.get("seed", 0), tuple(options.get("without", ())), tuple(options.get("log", ()))
    check_trackers(log)
    count, repeat = options.get("images_per_category"), options.get("repeat")
    if repeat is not None and repeat < 1:
        raise CompNetError(f"an image must come up at least once in an epoch, not {repeat} times")
    data = gather(data, options.get("more_data", ()), without)
    if count is not None:
        data = data.drawn(count, seed)
    training, calibration = split_calibration(data.samples, recipe.schedule.calibration_fraction, seed)
    backgrounds = options.get("backgrounds")
    device, workers, weights = options.get("device", "cpu"), options.get("workers"), options.get("backbone_weights")
    smallest = EpochSampler(len(training) + len(data.more), recipe.schedule.batch_size, seed).smallest
    processes = _count_processes(recipe, options.get("processes"), device, feature_extractor, smallest)
    if isinstance(init_from, str | Path):
        # here, and not in each process: the others get it with the job, and a wrong folder is refused before any starts
        init_from = load_predictor(init_from, feature_extractor=feature_extractor)
    return TrainingJob(
        recipe,
        data,
        Path(out),
        training,
        calibration,
        feature_extractor=feature_extractor,
        init_from=init_from,
        seed=seed,
        images_per_category=count,
        repeat=repeat,
        without=without,
        resume=options.get("resume", False),
        backbone_weights=None if weights is None else Path(weights),
        backgrounds=() if backgrounds is None else find_photographs(backgrounds),
        from_scratch=options.get("from_scratch", False),
        device=device,
        workers=_default_workers(processes, device) if workers is None else workers,
        progress=options.get("progress", True),
        stop_after=options.get("stop_after"),
        checkpoint_minutes=options.get("checkpoint_minutes"),
        processes=processes,
        log=log,
    )


def _count_processes(
    recipe: Recipe, asked: int | None, device: str, feature_extractor: nn.Module | None, smallest: int
) -> int:
    """How many processes train: as many as a launcher has started, as asked for, or as the recipe has on a CPU.

    Args:
        smallest: images in the smallest batch. Each process must have one of each.
    """
    if is_launched():
        wanted = int(os.environ["WORLD_SIZE"])
    elif asked is not None:
        wanted = asked
    else:
        # on an accelerator one, as long as nobody asks for more
        on_cpu = torch.device(device).type == "cpu" and feature_extractor is None
        return max(1, min(recipe.schedule.processes, smallest)) if on_cpu else 1
    if wanted < 1:
        raise CompNetError(f"--processes must be at least 1, not {wanted}")
    if wanted > 1 and feature_extractor is not None and not is_launched():
        raise CompNetError("a module of your own trains in this process; start your script with torchrun for several")
    if wanted > smallest:
        raise CompNetError(
            f"{wanted} processes have too little to do: there are batches of {smallest} images; take a larger "
            "schedule.batch_size, or fewer processes"
        )
    return wanted


def _default_workers(processes: int, device: str) -> int:
    cores = available_cores()
    if torch.device(device).type != "cpu":
        # one core is left to the process that feeds the accelerator
        return min(16, max(1, cores - 1))
    # a worker beside training processes on all cores would only take turns with them
    return 0 if processes > 1 and processes >= cores else 1
