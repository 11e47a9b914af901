"""What a training shows: progress bars in a terminal, a line for each epoch elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from typing import Any, Protocol

from typing_extensions import Self

from compnet3d.training.build import backbone_source
from compnet3d.training.job import TrainingJob
from compnet3d.training.memory_need import MemoryNeed
from compnet3d.training.run_folder import Run
from compnet3d.utils.files import Json


class Output(Protocol):
    """Where a training shows how far it is."""

    def advance(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """A step of an epoch (from 0) is done; `loss` is the mean over its steps so far."""
        ...

    def end_epoch(self, entry: Json) -> None:
        """An epoch is done; `entry` is that of the log."""
        ...

    def say(self, text: str) -> None:
        """A line of its own."""
        ...


def make_output(job: TrainingJob, run: Run, need: MemoryNeed) -> AbstractContextManager[Output]:
    """Silence without progress and in all processes but one; else a first line, then bars in a terminal or lines."""
    if not job.progress or not run.group.is_rank_zero:
        return Silence()
    print(first_line(job, run, need), flush=True)
    kind = Bars if sys.stdout.isatty() else Lines
    return kind(run.epoch, job.recipe.schedule.epochs)


def first_line(job: TrainingJob, run: Run, need: MemoryNeed) -> str:
    """Device, images, categories, the backbone and where it comes from, and what memory it takes."""
    device = job.device if job.processes == 1 else f"{job.device} ({job.processes} processes)"
    images = f"{len(job.data.samples)} images of {len(job.data.categories)} categories"
    parts = [f"training on {device}: {images}, {len(job.calibration)} of them for calibration"]
    if job.data.more:
        share = 1 - len(job.data.more) / len(job.epoch_samples(held_out=True))
        parts.append(f"{100 * share:.0f} % of an epoch are of these, beside {len(job.data.more)} images of more data")
    each = " each" if job.processes > 1 else ""
    memory = f"about {need.total:,.0f} MB{each} for gradients and activations"
    return "; ".join([*parts, f"backbone {_backbone(job, run)}", *_backgrounds(job), memory])


def _backgrounds(job: TrainingJob) -> list[str]:
    """What is said of other backgrounds, where the recipe asks for them."""
    share = job.recipe.augmentation.background_swap
    if share == 0:
        return []
    samples = [*job.data.samples, *job.data.more]
    masks = sum(sample.mask is not None for sample in samples)
    every = masks == len(samples)
    by = "masks" if every else "masks and silhouettes" if masks else "silhouettes of the CAD models"
    sources = [f"{len(job.backgrounds)} photographs"] if job.backgrounds else []
    sources += ["parts of other images", "drawn ones"]
    return [f"{100 * share:.0f} % of the crops get another background by {by} ({', '.join(sources)})"]


def _backbone(job: TrainingJob, run: Run) -> str:
    if job.resume:
        return "from the checkpoint"
    if job.feature_extractor is not None:
        return f"{type(job.feature_extractor).__name__}, as given"
    if job.init_from is not None:
        same = tuple(job.init_from.categories) == job.data.categories
        return "of the model to start from" + ("" if same else " (its categories are others, and begin anew)")
    settings = job.recipe.backbone
    source = backbone_source(settings, job.data.root, job.backbone_weights, job.from_scratch)
    return f"{run.model.config.backbone.family} from {'scratch' if source is None else source}"


class Silence(AbstractContextManager["Silence"]):
    """Shows nothing."""

    def advance(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """See `Output`."""

    def end_epoch(self, entry: Json) -> None:
        """See `Output`."""

    def say(self, text: str) -> None:
        """See `Output`."""

    def __exit__(self, *exception: Any) -> None:
        """Nothing is open."""


class Lines(AbstractContextManager["Lines"]):
    """One line for each epoch, with the time left for the whole run."""

    def __init__(self, done: int, epochs: int) -> None:
        """Begin: `done` of the run's `epochs` are done already."""
        self.first, self.epochs, self.started = done, epochs, time.perf_counter()

    def advance(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """See `Output`."""

    def end_epoch(self, entry: Json) -> None:
        """See `Output`."""
        parts = [f"loss {entry['loss']:.3f}{_of_parts(entry)}", f"{entry['images_per_second']:.3g} images/s"]
        waited = 100 * entry["input_wait_seconds"] / max(1e-9, entry["seconds"])
        if waited >= 1:
            parts.append(f"waited {waited:.0f} %")
        if "calibration_accuracy" in entry:
            parts.append(f"calibration accuracy {100 * entry['calibration_accuracy']:.1f} %")
        parts.append(f"{entry['seconds']:.1f} s")
        if left := self.time_left(entry["epoch"]):
            parts.append(f"{left} left")
        width = len(str(self.epochs))
        print(f"epoch {entry['epoch']:{width}}/{self.epochs}: {', '.join(parts)}", flush=True)

    def say(self, text: str) -> None:
        """See `Output`."""
        print(text, flush=True)

    def time_left(self, epoch: int) -> str:
        """For the epochs after this one, from what those of this call took; empty after the last."""
        # of this call's epochs only: those before a resume may have run elsewhere
        each = (time.perf_counter() - self.started) / max(1, epoch - self.first)
        return duration(each * (self.epochs - epoch)) if epoch < self.epochs else ""

    def __exit__(self, *exception: Any) -> None:
        """Nothing is open."""


def _of_parts(entry: Json) -> str:
    """The parts of the loss, such as " (in 5.985, cross 4.812)"; those that are zero are left out."""
    parts = {
        name.removesuffix("_loss").removesuffix("_category"): value
        for name, value in entry.items()
        if name.endswith("_loss") and value != 0
    }
    return f" ({', '.join(f'{name} {value:.3f}' for name, value in parts.items())})" if parts else ""


def duration(seconds: float) -> str:
    """About how long: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


class Bars(AbstractContextManager["Bars"]):
    """One bar for each epoch, with the mean loss so far and the time left for the whole run."""

    def __init__(self, done: int, epochs: int) -> None:
        """Begin: `done` of the run's `epochs` are done already."""
        self.lines = Lines(done, epochs)
        self.left = ""
        self.tasks: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Take over the terminal's last lines."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.bars = Progress(
            TextColumn("epoch {task.fields[epoch]:>3}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[left]}"),
        ).__enter__()
        return self

    def advance(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """See `Output`."""
        # a bar begins with the epoch's first step, whose number of steps is not known before
        if epoch not in self.tasks:
            self.tasks[epoch] = self.bars.add_task("", total=steps, epoch=epoch + 1, loss=loss, left=self.left)
        self.bars.update(self.tasks[epoch], completed=step, loss=loss)

    def end_epoch(self, entry: Json) -> None:
        """See `Output`."""
        left = self.lines.time_left(entry["epoch"])
        self.left = f"all: {left}" if left else ""
        # tasks count epochs from 0, entries of the log from 1
        if entry["epoch"] - 1 in self.tasks:
            self.bars.update(self.tasks[entry["epoch"] - 1], left="")

    def say(self, text: str) -> None:
        """See `Output`."""
        self.bars.console.print(text, markup=False, highlight=False)

    def __exit__(self, *exception: Any) -> None:
        """Leave the terminal to others."""
        self.bars.__exit__(*exception)
