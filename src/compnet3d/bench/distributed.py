"""How many images a second one and two processes train, on CPUs, one thread each."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from compnet3d.bench.result import BenchResult, times
from compnet3d.procedural.writer import make_dataset
from compnet3d.training.builtin_recipes import get_recipe
from compnet3d.training.run_folder import read_log
from compnet3d.training.train import train
from compnet3d.utils.exclusive import scratch_folder


@dataclass(frozen=True)
class DistributedResult(BenchResult):
    """Of the quickstart's recipe.

    Attributes:
        one, several: images a second, medians over trainings in turn; processes: several.
        apart: those of as many trainings at a time that have nothing to do with each other, together: what the machine
            can do.
    """

    one: float
    several: float
    processes: int
    apart: float

    @property
    def gain(self) -> float:
        """How much faster several processes are."""
        return self.several / self.one

    def rows(self) -> list[tuple[str, str]]:
        """See `BenchResult`."""
        return [
            ("1 process", f"{self.one:,.1f} images/s"),
            (f"{self.processes} processes", f"{self.several:,.1f} images/s"),
            ("gain", times(self.gain)),
            (f"{self.processes} trainings that do not talk to each other", f"{self.apart:,.1f} images/s"),
            ("their gain: what the machine can do", times(self.apart / self.one)),
        ]


def bench_distributed(*, processes: int = 2, rounds: int = 3, epochs: int = 4) -> DistributedResult:
    """Train with one process, with several, and several times at once, in turn; first epochs are not counted."""
    one, several, apart = [], [], []
    with scratch_folder() as folder, ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        make_dataset(folder / "data", categories=24, train=20, val=1, size=128, seed=0)
        for turn in range(rounds):
            one.append(pool.submit(_rate, folder, f"one-{turn}", 1, epochs).result())
            # the launcher starts processes of its own
            several.append(pool.submit(_rate, folder, f"several-{turn}", processes, epochs).result())
            alone = [pool.submit(_rate, folder, f"apart-{turn}-{number}", 1, epochs) for number in range(processes)]
            apart.append(sum(future.result() for future in alone))
    return DistributedResult(median(one), median(several), processes, median(apart))


def _rate(folder: Path, name: str, processes: int, epochs: int) -> float:
    """Images a second of a training, without its first epoch, which warms up."""
    recipe = get_recipe("quickstart").with_settings(
        # no calibration, and its images in every epoch
        {"schedule.epochs": epochs, "schedule.held_out_epochs": 0, "schedule.calibrate_every": epochs + 1}
    )
    # shared out among the processes: one for each
    torch.set_num_threads(processes)
    train(recipe, folder / "data", folder / name, processes=processes, workers=0, progress=False)
    return median(entry["images_per_second"] for entry in read_log(folder / name / "log.jsonl")[1:])
