"""A training run: its state, and its folder with config.json, checkpoint, logs and model."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.models.registry import TrainedModel
from compnet3d.models.tensors import flatten_state, load_optimizer, load_tensors_into, save_tensors
from compnet3d.training.job import TrainingJob
from compnet3d.training.recipe import Recipe
from compnet3d.training.run_checks import RunNotes
from compnet3d.utils.distributed import ProcessGroup
from compnet3d.utils.files import (
    Json,
    read_bytes,
    read_json,
    write_folder,
    write_json,
    write_text,
)
from compnet3d.utils.settings import check_ranges, known, read, setting, shown


def read_log(path: str | Path, *, whole: bool = True) -> list[Json]:
    """The epochs in a run's log.jsonl, one entry each; lines on single steps are left out.

    Args:
        path: the file.
        whole: refuse a missing or broken one; else what can be read up to the break is enough.

    Raises:
        CompNetError: if it is missing or broken.
    """
    entries: list[Json] = []
    try:
        # entries up to a broken line stay in `entries`, which is what `whole=False` gives
        for number, line in enumerate(read_bytes(path).decode("utf-8").splitlines(), start=1):
            entry = json.loads(line)
            if not isinstance(entry, dict) or "epoch" not in entry:
                raise ValueError(f"line {number} is no epoch")
            if "step" not in entry:
                entries.append(_checked_entry(entry, ("epoch", "seconds") if whole else ("epoch",)))
    except (OSError, ValueError, RecursionError, CompNetError) as error:
        if whole:
            raise CompNetError(f"{path}: cannot be read ({error}); delete the run's folder and train again") from None
    return entries


def _checked_entry(entry: Json, needed: Sequence[str] = ("epoch", "seconds")) -> Json:
    """An epoch of a log, once its numbers are known to be some.

    Raises:
        ValueError: naming what is not.
    """
    for name in needed:
        if name not in entry:
            raise ValueError(f"an epoch has no {name}")
    read(Epoch, known(Epoch, entry))
    for name, value in entry.items():
        if name not in ("confusion", "flips", "outliers") and (
            isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf
        ):
            raise ValueError(f"{name} of an epoch must be a number, not {shown(value)}")
    return entry


@dataclass(frozen=True)
class Epoch:
    """What an entry of a log must be; it has more numbers.

    Attributes:
        epoch: its number, from 1.
        confusion: counts of the calibration split where it was looked at: row = true category, column = predicted one.
        flips: share of each category's poses that are flipped there, if the training asks for it.
        outliers: its batches whose loss was far out of line, which have lines of their own in log.jsonl.
    """

    epoch: int = setting(1, least=1)
    confusion: tuple[tuple[int, ...], ...] = setting((), least=0)
    flips: tuple[float, ...] = setting((), least=0, most=1)
    outliers: tuple[Json, ...] = ()

    def __post_init__(self) -> None:
        check_ranges(self)
        if any(len(row) != len(self.confusion) for row in self.confusion):
            raise ValueError("confusion must have as many columns as rows")


@dataclass(frozen=True)
class PartOfEpoch:
    """How far an epoch is.

    Attributes:
        steps: done.
        sums: of the losses over these, by name.
        outliers: see `Run.history`.
        seconds, waited: that it has taken, and of these for images.
    """

    steps: int = setting(0, least=0)
    sums: dict[str, float] = field(default_factory=dict)
    outliers: tuple[Json, ...] = ()
    seconds: float = setting(0.0, least=0)
    waited: float = setting(0.0, least=0)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a checkpoint is.

    Attributes:
        epoch: epochs done; seed: of everything random; history: one entry per epoch.
        part: of the epoch that was not done yet, if any.
    """

    epoch: int = setting(least=0)
    seed: int
    history: tuple[Json, ...]
    part: PartOfEpoch | None = None

    @classmethod
    def read(cls, path: Path) -> Progress:
        """From progress.json.

        Raises:
            CompNetError: naming the file and the entry that is missing or of another type.
        """
        try:
            progress = read(cls, known(cls, read_json(path)))
            check_ranges(progress)
            epochs = [_checked_entry(entry)["epoch"] for entry in progress.history]
            if len(epochs) != progress.epoch or epochs != list(range(1, len(epochs) + 1)):
                raise ValueError("history must be one entry for each epoch")
            if not epochs and progress.part is None:
                raise ValueError("epoch must be at least 1 where no part of one is done")
        except (TypeError, ValueError) as error:
            raise CompNetError(
                f"{path}: has no progress ({error}); copy it again, or train in another folder"
            ) from None
        return progress


@dataclass
class Run:
    """A training run in progress.

    Attributes:
        recipe, seed: its settings.
        out: its folder.
        model, optimizer: what is trained.
        group: the processes that train it.
        epoch: epochs done; part: of the next one, in the middle of it.
        history: one entry per epoch, as in log.jsonl; "outliers" are its batches whose loss was far out of line.
    """

    recipe: Recipe
    seed: int
    out: Path
    model: TrainedModel
    optimizer: torch.optim.AdamW
    group: ProcessGroup = field(default_factory=ProcessGroup)
    epoch: int = 0
    part: PartOfEpoch | None = None
    history: list[Json] = field(default_factory=list)


def write_config(run: Run, job: TrainingJob, places: Sequence[str]) -> None:
    """Write what is needed to repeat the run to OUT/config.json, and where each of its processes is."""
    write_json(
        run.out / "config.json",
        {
            "recipe": run.recipe.to_dict(),
            "data": job.data.sources[0] if job.data.sources else None,
            "more_data": list(job.data.sources[1:]),
            **asdict(RunNotes.of(job)),
            "backbone": run.model.config.backbone.to_dict(),
            "processes": [{"rank": rank, "place": place} for rank, place in enumerate(places)],
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        },
    )


def _parameter_names(run: Run) -> dict[int, str]:
    """Parameter names by their number in the optimizer's state."""
    # PyTorch numbers the parameters through all groups in turn. In a file they go by name, so that it can be checked
    # against the model, and still fits if the groups come in another order.
    names = {id(p): n for n, p in run.model.named_parameters()}
    ordered = [names[id(p)] for group in run.optimizer.param_groups for p in group["params"]]
    return dict(enumerate(ordered))


def save_checkpoint(run: Run) -> None:
    """Replace OUT/checkpoint by the run as it is now."""

    def fill(folder: Path) -> None:
        # model.json and not config.json: a checkpoint is no model's folder that `load_predictor` would take for a
        # finished one
        write_json(folder / "model.json", run.model.config.to_dict())
        save_tensors(folder / "model.safetensors", run.model.state_dict())
        # Not in it: the random generators, since every draw is seeded by epoch and step, and the learning rate, which
        # follows from the epoch.
        save_tensors(folder / "optimizer.safetensors", flatten_state(run.optimizer.state_dict(), _parameter_names(run)))
        progress = {"epoch": run.epoch, "seed": run.seed, "history": run.history}
        write_json(folder / "progress.json", progress | ({"part": asdict(run.part)} if run.part else {}))

    write_folder(run.out / "checkpoint", fill)


def load_checkpoint(run: Run) -> None:
    """Set the run to what OUT/checkpoint holds.

    Raises:
        CompNetError: if the checkpoint is broken or was made with another seed.
    """
    folder = run.out / "checkpoint"
    progress = Progress.read(folder / "progress.json")
    if progress.seed != run.seed:
        raise CompNetError(f"{folder}: was made with seed {progress.seed}, not {run.seed}; resume with that seed")
    # in place: the optimizer goes on with these very parameters
    load_tensors_into(run.model, folder / "model.safetensors")
    load_optimizer(run.optimizer, folder / "optimizer.safetensors", _parameter_names(run))
    run.epoch, run.history, run.part = progress.epoch, list(progress.history), progress.part


def last_flips(run: Run) -> Tensor | None:
    """Each category's share of flipped poses when the calibration split was last asked for it, float64 [Y]; else None.

    Raises:
        CompNetError: if the checkpoint has them for another number of categories.
    """
    found = [entry["flips"] for entry in run.history if "flips" in entry]
    if found and len(found[-1]) != len(run.model.categories):
        raise CompNetError(
            f"{run.out / 'checkpoint' / 'progress.json'}: has flips of {len(found[-1])} categories, not of "
            f"{len(run.model.categories)}; copy it again, or train in another folder"
        )
    # the history is in the checkpoint, and JSON keeps every bit: a resumed run weighs with the same numbers
    return torch.tensor(found[-1], dtype=torch.float64) if found else None


def write_log(run: Run) -> None:
    """Write OUT/log.jsonl and OUT/log.csv, one line per epoch; in log.jsonl those of its outliers come before it."""
    lines: list[Json] = []
    rows: list[Json] = []
    for entry in run.history:
        epoch = {key: value for key, value in entry.items() if key != "outliers"}
        lines += [*entry.get("outliers", ()), epoch]
        # neither a matrix nor a list of categories has a place in a column
        rows.append({key: value for key, value in epoch.items() if key not in ("confusion", "flips")})
    # the whole log each time, from the history in the checkpoint: epochs after the one that a run was resumed from go
    write_text(run.out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    # the first epoch's entries give the order; what only some epochs have, such as the calibration, follows by name
    columns = list(rows[0]) if rows else []
    columns += sorted({key for row in rows for key in row} - set(columns))
    cells = [",".join(columns)] + [",".join(str(row.get(c, "")) for c in columns) for row in rows]
    write_text(run.out / "log.csv", "\n".join(cells) + "\n")
