"""How many images a second one and two processes train, on CPUs, one thread each."""

from __future__ import annotations

from dataclasses import dataclass
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
    """

    one: float
    several: float
    processes: int

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
        ]


def bench_distributed(*, processes: int = 2, rounds: int = 3, epochs: int = 4) -> DistributedResult:
    """Train with one process and with several in turn; the first epoch of each training warms up and is not counted."""
    found: dict[int, list[float]] = {1: [], processes: []}
    recipe = get_recipe("quickstart").with_settings(
        # no calibration, and its images in every epoch
        {"schedule.epochs": epochs, "schedule.held_out_epochs": 0, "schedule.calibrate_every": epochs + 1}
    )
    threads = torch.get_num_threads()
    with scratch_folder() as folder:
        images = 24 * 20
        make_dataset(folder / "data", categories=24, train=20, val=1, size=128, seed=0)
        try:
            for turn in range(rounds):
                for count in found:
                    # shared out among the processes: one for each
                    torch.set_num_threads(count)
                    out = folder / f"run-{count}-{turn}"
                    train(recipe, folder / "data", out, processes=count, workers=0, progress=False)
                    seconds = [entry["seconds"] for entry in read_log(out / "log.jsonl")[1:]]
                    found[count].append(images / median(seconds))
        finally:
            torch.set_num_threads(threads)
    return DistributedResult(median(found[1]), median(found[processes]), processes)
