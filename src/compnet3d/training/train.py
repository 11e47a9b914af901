"""Training: grouped vertex-contrastive learning with dynamic weights (section 3.3), resumable to the bit on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from compnet3d.models.registry import TrainedModel, load_predictor, untrained_model
from compnet3d.models.tensors import load_tensors_into
from compnet3d.training.data import TrainingData, categories_of
from compnet3d.training.job import TrainingJob, TrainOptions, resolve_job
from compnet3d.training.launch import launch
from compnet3d.training.loop import train_in_group
from compnet3d.training.recipe import Recipe
from compnet3d.training.run_checks import RunNotes, check_config, check_data, check_folder
from compnet3d.utils.distributed import ProcessGroup, current_group, is_launched, joined, own_device
from compnet3d.utils.exclusive import exclusive
from compnet3d.utils.files import recover_folder


def train(
    recipe: Recipe,
    data: str | Path | TrainingData,
    out: str | Path,
    *,
    feature_extractor: nn.Module | None = None,
    init_from: str | Path | TrainedModel | None = None,
    **options: Unpack[TrainOptions],
) -> TrainedModel:
    """Train a model and save it as OUT/model.

    OUT also gets config.json (everything needed to repeat the run), log.jsonl and log.csv (one line per epoch) and
    checkpoint/ (for `resume`).

    Args:
        recipe: the settings.
        data: the folder of a data set in the ImageNet3D raw layout, whose train list is taken; or samples with the
            meshes of their categories (`TrainingData`).
        out: the run's folder; must not hold another run unless `resume` is set, nor anything else. It is kept for this
            process meanwhile (see `exclusive`).
        feature_extractor: a module of yours in place of the recipe's backbone (see `wrap_module`). The model that is
            saved holds its tensors but not its code: load it with `feature_extractor=` again. It trains in one process.
        init_from: a model, or its folder, to start from. One of the same categories gives everything that fits, one of
            others its feature extractor alone; the recipe's backbone settings are not looked at.
        more_data: data sets to train on as well, such as renderings beside photographs (see `TrainingData.joined`).
            Calibration images are taken from `data` alone, and the crop and the usual rotations are fitted to it.
        images_per_category: train on so many images of each category of `data`, spread over its objects, and on all of
            `more_data`. A smaller number's images are among a larger one's with the same seed.
        repeat: how often each image of `data` comes up in an epoch. By default once, and with `more_data` as often as
            makes them half of the epoch.
        seed: of everything random; 0 by default.
        without: categories to leave out, so that they are unknown to the model.
        resume: go on from OUT/checkpoint.
        backbone_weights: folder of the pretrained backbone; by default the recipe's is looked for.
        backgrounds: folder of photographs to put behind the objects, in recipes with `augmentation.background_swap`;
            without one, backgrounds are parts of other training images, and drawn ones.
        from_scratch: start from random weights although the recipe has a pretrained backbone.
        device: where to train, such as "cpu" (by default) or "cuda".
        workers: further processes that prepare images, for each training process; by default one, or none where
            the training processes keep all cores busy, or on an accelerator one for each core but one, 16 at most. The
            result is the same.
        progress: show how far it is (by default): bars in a terminal, elsewhere a line for each epoch.
        stop_after: stop after this many epochs in all, leaving a checkpoint (the schedule stays the recipe's).
        checkpoint_minutes: write a checkpoint this often in the middle of an epoch, too; by default after epochs alone.
        processes: that train, each on its share of every batch; by default the recipe's number on a CPU, and one on an
            accelerator. Where a launcher such as torchrun has started several, each of them calls this function, and
            they train together.
        log: where to write the numbers as well: "tensorboard" (RUN/tensorboard), "wandb", or both.

    Returns:
        The trained model, in inference mode.

    Raises:
        CompNetError: if the data, the folder, the checkpoint or the module does not allow it; if another process writes
            the folder; if a loss, a gradient or a feature is not finite, which leaves the last checkpoint as it was.
        Terminated: after SIGTERM or SIGUSR1, once a checkpoint is written.
    """
    with _kept(out):
        return _train(recipe, data, Path(out), feature_extractor=feature_extractor, init_from=init_from, **options)


def _train(recipe: Recipe, data: str | Path | TrainingData, out: Path, **options: Any) -> TrainedModel:
    """`train` in a folder that is ours."""
    job = resolve_job(recipe, data, out, **options)
    if is_launched():
        job = replace(job, device=own_device(job.device))
        with _undisturbed(job.device), joined(job.device) as group:
            if group.is_rank_zero:
                job = job.going_on()
                _check(job)
            return train_in_group(group, job)
    _check(job)
    if job.processes == 1:
        with _undisturbed(job.device):
            return train_in_group(ProcessGroup(), job)
    launch(job)
    return _read(job)


@contextmanager
def _kept(out: str | Path) -> Iterator[None]:
    """Keep the run's folder for the processes of this training: rank 0 writes it."""
    with exclusive(out) if int(os.environ.get("RANK", "0")) == 0 or not is_launched() else nullcontext():
        yield


def _check(job: TrainingJob) -> None:
    """Before any process starts and any file is written, so that a refusal leaves the folder as it was."""
    check_folder(job.out, job.recipe, RunNotes.of(job), resume=job.resume)
    if job.resume:
        check_data(job.out, job.out / "checkpoint" / "model.json", job.data.categories, **job.counts)


def _read(job: TrainingJob) -> TrainedModel:
    """What other processes have trained: the model, or as far as a training is that was to stop before its end."""
    if recover_folder(job.out / "model").is_dir():
        return load_predictor(job.out / "model").to(job.device)
    model = untrained_model(job.out / "checkpoint" / "model.json")
    load_tensors_into(model, job.out / "checkpoint" / "model.safetensors")
    return model.to(job.device).eval()


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


def train_or_load(recipe: Recipe, data: str | Path, run: Path, **options: Unpack[TrainOptions]) -> TrainedModel:
    """The model of a run that is finished; one that stopped half-way goes on, and one that is not there begins.

    Args:
        recipe, data, options: see `train`.
        run: its folder.

    Raises:
        CompNetError: if the folder holds a run with other settings or categories; or see `train`.
    """
    # the model is written last, so where it is the run is finished, whatever else the folder holds
    if not recover_folder(run / "model").is_dir():
        with _kept(run):
            return _begin_or_go_on(recipe, data, run, **options)
    without, more = tuple(options.get("without", ())), options.get("more_data", ())
    count, repeat = options.get("images_per_category"), options.get("repeat")
    check_config(run / "config.json", recipe, RunNotes(options.get("seed", 0), without, count, repeat))
    # of a finished run the number of images is not compared: nothing is drawn by number any more
    check_data(run, run / "model" / "config.json", categories_of((data, *more), without))
    _say(f"already trained: {run / 'model'}")
    return load_predictor(run / "model").to(options.get("device", "cpu"))


def _begin_or_go_on(recipe: Recipe, data: str | Path, run: Path, **options: Unpack[TrainOptions]) -> TrainedModel:
    """The second half of `train_or_load`, in a folder that is ours."""
    options["resume"] = recover_folder(run / "checkpoint").is_dir()
    if options["resume"]:
        _say(f"going on where the training in {run} stopped")
    else:
        _say(f"training in {run} for {recipe.schedule.epochs} epochs")
    return _train(recipe, data, run, **options)


def _say(line: str) -> None:
    """One process alone of those that have joined."""
    if current_group().is_rank_zero:
        print(line, flush=True)
