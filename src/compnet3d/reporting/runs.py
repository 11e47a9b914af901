"""Several training runs side by side: `compnet3d runs`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from compnet3d.errors import CompNetError
from compnet3d.evaluation.metrics import PoseMetrics
from compnet3d.robustness.shift import Shift
from compnet3d.training.run_folder import read_log
from compnet3d.utils.exclusive import is_held
from compnet3d.utils.files import Json, read_json

State = Literal["done", "running", "stopped", "broken"]


@dataclass(frozen=True)
class FoundEvaluation:
    """A file of metrics.

    Attributes:
        file, data, split: which it is, and of what; images: how many, under which conditions.
        accuracy: top-1, a share; acc_pi6, acc_pi18: of the poses with the true category given, symmetry-aware;
            None where no pose was measured.
    """

    file: str
    data: str
    split: str
    images: str
    accuracy: float
    acc_pi6: float | None
    acc_pi18: float | None


@dataclass(frozen=True)
class RunSummary:
    """What a run's folder tells.

    Attributes:
        folder: where it is; state: "stopped" before its last epoch, "broken" where a file cannot be read, with the
            reason in `reason`.
        recipe, method, data: what was trained, on what; empty where config.json does not say it.
        epochs: planned; None where it is not said.
        history: one entry per epoch that was done, as in log.jsonl.
        date: when the log was last written, YYYY-MM-DD HH:MM; empty without one.
        evaluations: files of metrics in the folder, and of this run's model beside it.
    """

    folder: Path
    state: State
    reason: str = ""
    recipe: str = ""
    data: str = ""
    epochs: int | None = None
    history: tuple[Json, ...] = ()
    date: str = ""
    evaluations: tuple[FoundEvaluation, ...] = ()

    @property
    def loss(self) -> float | None:
        """That of the last epoch."""
        return self.history[-1].get("loss") if self.history else None

    @property
    def calibration_accuracy(self) -> float | None:
        """The last one in the log, a share."""
        return next((e["calibration_accuracy"] for e in reversed(self.history) if "calibration_accuracy" in e), None)

    @property
    def minutes(self) -> float:
        """That its epochs took."""
        return sum(float(entry.get("seconds", 0.0)) for entry in self.history) / 60

    def to_dict(self) -> Json:
        """For JSON: of the history only the losses and calibration accuracies."""
        names = ("epoch", "loss", "calibration_accuracy", "seconds")
        return asdict(self) | {
            "folder": str(self.folder),
            "loss": self.loss,
            "calibration_accuracy": self.calibration_accuracy,
            "minutes": self.minutes,
            "history": [{name: entry[name] for name in names if name in entry} for entry in self.history],
        }


def find_runs(folders: Sequence[Path]) -> list[RunSummary]:
    """The runs in these folders, which are runs or hold some, up to two levels below.

    Raises:
        CompNetError: if there is no run in any of them.
    """
    found = {place.resolve(): place for folder in folders for place in _places(folder)}
    if not found:
        names = ", ".join(map(str, folders))
        raise CompNetError(f"{names}: no training run in there; give folders that `compnet3d train --out` wrote")
    return [summarise(place) for place in found.values()]


def _places(folder: Path) -> Iterator[Path]:
    if folder.name == "model" and _is_run(folder.parent):
        yield folder.parent
        return
    for place in (folder, *sorted(folder.glob("*/")), *sorted(folder.glob("*/*/"))):
        if _is_run(place):
            yield place


def _is_run(folder: Path) -> bool:
    # also where some of it is lost
    return (folder / "log.jsonl").is_file() or (folder / "checkpoint" / "progress.json").is_file() or (
        (folder / "model").is_dir() and (folder / "config.json").is_file()
    )  # fmt: skip


def summarise(folder: Path) -> RunSummary:
    """What a run's folder tells; a broken one is told to be."""
    reasons: list[str] = []
    config = _config(folder, reasons)
    history = _history(folder, reasons)
    epochs = config.get("epochs")
    done, log = (folder / "model" / "config.json").is_file(), folder / "log.jsonl"
    if done and not (folder / "model" / "model.safetensors").is_file():
        reasons.append("model/model.safetensors is missing")
    state: State = "done" if done else "running" if is_held(folder) else "stopped"
    if reasons:
        state = "broken"
    elif done and isinstance(epochs, int) and len(history) < epochs:
        state, reasons = "broken", [f"there is a model, but the log ends after epoch {len(history)} of {epochs}"]
    return RunSummary(
        folder,
        state,
        "; ".join(reasons),
        config.get("recipe", ""),
        config.get("data", ""),
        epochs,
        tuple(history),
        datetime.fromtimestamp(log.stat().st_mtime).strftime("%Y-%m-%d %H:%M") if log.is_file() else "",
        tuple(_evaluations(folder)),
    )


def _config(folder: Path, reasons: list[str]) -> Json:
    """Recipe, data and epochs that config.json names."""
    try:
        values = read_json(folder / "config.json")
        recipe, data = values["recipe"], values["data"]
        return {
            "recipe": str(recipe["name"]),
            "data": "" if data is None else str(data),
            "epochs": int(recipe["schedule"]["epochs"]),
        }
    except CompNetError as error:
        reasons.append(str(error).removeprefix(f"{folder}/"))
    except (KeyError, TypeError, ValueError):
        reasons.append("config.json is not that of a run")
    return {}


def _history(folder: Path, reasons: list[str]) -> list[Json]:
    log = folder / "log.jsonl"
    if not log.is_file():
        return []  # stopped in its first epoch
    try:
        return read_log(log)
    except CompNetError as error:
        reasons.append(str(error).removeprefix(f"{folder}/").partition("; delete")[0])
        return read_log(log, whole=False)


def _evaluations(folder: Path) -> Iterator[FoundEvaluation]:
    """Those in the run's folder, and those beside it that name its model."""
    most = 500  # files that are looked into
    inside = sorted(folder.glob("*.json"))
    beside = sorted(folder.resolve().parent.glob("*.json"))[:most]
    for path, own in [*((path, True) for path in inside), *((path, False) for path in beside)]:
        try:
            values = read_json(path, 64 * 2**20)
            if not isinstance(values, dict) or not {"classification", "pose", "settings"} <= values.keys():
                continue
            for part in (values, values.get("occluded")):
                if part and (own or _names(part["settings"].get("model"), folder)):
                    yield _found(path, part)
        except (CompNetError, LookupError, TypeError, ValueError, AttributeError):
            continue  # of another kind, or of another version


def _names(model: Any, folder: Path) -> bool:
    """Whether a file of metrics says that it is of this run's model."""
    place = Path(str(model or ""))
    place = place.parent if place.name == "model" else place
    # by name: the path is that of the machine and folder where it was measured
    return place.name == folder.resolve().name


def _found(path: Path, values: Json) -> FoundEvaluation:
    # entry by entry, since other versions have more or fewer of them
    settings, plain = values["settings"], Shift().to_dict()
    shift = Shift.from_dict(plain | {name: value for name, value in settings.items() if name in plain})
    pose = PoseMetrics.from_dict(values["pose"]["symmetry_aware"]["true_category"])
    return FoundEvaluation(
        path.name,
        Path(str(settings.get("data", ""))).name,
        str(settings.get("split", "")),
        f"{int(values['images'])} {shift.label}",
        float(values["classification"]["accuracy"]),
        pose.acc_pi6,
        pose.acc_pi18,
    )


def labels(runs: Sequence[RunSummary]) -> list[str]:
    """A short name for each run: its folder without what all of them share."""
    paths = [str(run.folder.resolve()) for run in runs]
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, shared) for path in paths]


def print_runs(runs: Sequence[RunSummary]) -> None:
    """Print a table of the runs, what is wrong with the broken ones, and a table of their evaluations."""
    from rich.text import Text

    from compnet3d.reporting.terminal import new_table, percent, terminal
    from compnet3d.utils.text import printable

    numbers = ["epochs", "last\nloss", "calibration\naccuracy [%]", "minutes", "written"]
    table = new_table("runs", ["run", "state", "recipe", "data"], numbers)
    pose = ["top-1\n[%]", "sym. pi/6\n[%]", "sym. pi/18\n[%]"]
    evaluations = new_table("evaluations, poses with the true category given", ["run", "file", "data", "images"], pose)
    for label, run in zip(labels(runs), runs, strict=True):
        words = [label, run.state, run.recipe, Path(run.data).name]
        epochs = f"{len(run.history)}/{'?' if run.epochs is None else run.epochs}"
        loss = "-" if run.loss is None else f"{run.loss:.3f}"
        cells = (epochs, loss, percent(run.calibration_accuracy), f"{run.minutes:.0f}", run.date[:10] or "-")
        table.add_row(*(Text(printable(word)) for word in words), *cells)
        for entry in run.evaluations:
            words = [label, entry.file, f"{entry.data} {entry.split}", entry.images]
            shares = (entry.accuracy, entry.acc_pi6, entry.acc_pi18)
            evaluations.add_row(*(Text(printable(word)) for word in words), *map(percent, shares))
    console = terminal()
    console.print(table)
    for run in runs:
        if run.state == "broken":
            console.print(Text(printable(f"{run.folder} is broken: {run.reason}"), "red"))
        elif run.state == "stopped":
            console.print(Text(printable(f"{run.folder} is not finished: train --resume goes on with it"), "yellow"))
    if evaluations.row_count:
        console.print(evaluations)
