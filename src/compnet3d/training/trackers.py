"""Where a training writes its numbers besides log.jsonl: TensorBoard, Weights & Biases."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from compnet3d.errors import CompNetError
from compnet3d.utils.files import Json

TRACKERS = ("tensorboard", "wandb")


class Tracker(Protocol):
    """One of them."""

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Numbers by name, after so many steps of the whole training."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


class TensorBoard:
    """Event files in RUN/tensorboard."""

    def __init__(self, out: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard") from None
        self._writer: Any = SummaryWriter(str(out / "tensorboard"))

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """See `Tracker`."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Tracker`."""
        self._writer.close()


class WeightsAndBiases:
    """A run of the project `compnet3d`, called like the folder; a resumed training goes on with the same one."""

    def __init__(self, out: Path, config: Json) -> None:
        try:
            import wandb
        except ImportError:
            raise _missing("wandb") from None
        self._run: Any = wandb.init(
            project="compnet3d", name=out.name, id=out.name, dir=str(out), config=config, resume="allow"
        )

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """See `Tracker`."""
        self._run.log(numbers, step=step)

    def close(self) -> None:
        """See `Tracker`."""
        self._run.finish()


class Tracking(AbstractContextManager["Tracking"]):
    """A training's numbers on their way to its trackers: the loss every so many steps, everything after each epoch."""

    def __init__(self, trackers: list[Tracker], every: int = 50) -> None:
        self.trackers, self.every = trackers, every

    @classmethod
    def of(cls, names: tuple[str, ...], out: Path, config: Json) -> Tracking:
        """By their names.

        Raises:
            CompNetError: for an unknown one, or where its package is missing.
        """
        check_trackers(names)
        return cls([TensorBoard(out) if name == "tensorboard" else WeightsAndBiases(out, config) for name in names])

    def step(self, done: int, loss: float) -> None:
        """After a step of the training; `loss` is the mean over the epoch so far."""
        if done % self.every == 0:
            self._write(done, {"loss": loss})

    def epoch(self, done: int, entry: Json) -> None:
        """After an epoch; `entry` is that of the log, whose lists are left out."""
        numbers = {name: value for name, value in entry.items() if isinstance(value, int | float)}
        self._write(done, {f"epoch/{name}": value for name, value in numbers.items()})

    def _write(self, done: int, numbers: dict[str, float]) -> None:
        for tracker in self.trackers:
            tracker.write(done, numbers)

    def __exit__(self, *exception: Any) -> None:
        """Close them, whatever has happened."""
        for tracker in self.trackers:
            tracker.close()


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuse an unknown name.

    Raises:
        CompNetError: naming it and those that there are.
    """
    for name in names:
        if name not in TRACKERS:
            raise CompNetError(f"--log {name}: unknown; choose from {' and '.join(TRACKERS)}")


def _missing(package: str) -> CompNetError:
    return CompNetError(f'--log {package} needs the package {package}: pip install "compnet3d[{package}]"')
