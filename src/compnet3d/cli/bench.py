"""`compnet3d bench`: speed and memory of the parts, as ratios of tasks timed in turn in one process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg, subcommand

from compnet3d.cli.options import (
    Count,
    Device,
    File,
    Folder,
    at_least,
    choose_device,
    command_line,
    require_folder,
)
from compnet3d.errors import CompNetError
from compnet3d.utils.files import Json

if TYPE_CHECKING:
    from compnet3d.bench.result import BenchResult


@dataclass(frozen=True)
class BenchOptions:
    """What all benchmarks share."""

    rounds: Count = None
    """How often each task is timed; the median counts. By default as often as its length allows."""
    threads: Count = None
    """Threads to compute with; one per core by default."""
    device: Device = "auto"
    """Where to run; auto takes the GPU if there is one."""
    json: File = None
    """Also write all metrics to this file."""

    def finish(self, kind: str, result: BenchResult) -> None:
        """Print the table and write the file."""
        from rich.console import Console
        from rich.table import Table

        from compnet3d.bench.timing import setting
        from compnet3d.reporting.provenance import provenance
        from compnet3d.utils.files import write_json

        table = Table(title=kind, title_justify="left", show_header=False)
        table.add_column()
        table.add_column(justify="right")
        for row in result.rows():
            table.add_row(*row)
        Console().print(table)
        if self.json is not None:
            where = provenance(command_line())
            write_json(self.json, {**result.to_dict(), **setting(), **where, "settings": {"bench": kind, **where}})
            print(f"wrote {self.json}")

    def start(self) -> Json:
        """Check the options, set the threads; the arguments of every benchmark."""
        at_least(1, rounds=self.rounds, threads=self.threads)
        import torch

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        chosen: Json = {"device": choose_device(self.device)}
        return chosen if self.rounds is None else {**chosen, "rounds": self.rounds}


@dataclass(frozen=True)
class BenchLoss(BenchOptions):
    """The loss step at the paper's sizes: 188 categories, K = 500, N = 32, 2560 background features."""

    pairs: Annotated[float, arg(metavar="N")] = 3.0
    """Contrasted categories per category where the grouping weights are sparse."""
    images: Annotated[int, arg(metavar="N")] = 4
    """Images in the batch; the paper's 38 need 37 GB of memory for the full contrast as it is usually written."""

    def run(self) -> None:
        """Run and print."""
        at_least(1, images=self.images)
        from compnet3d.bench.loss import bench_loss

        self.finish("loss", bench_loss(pairs=self.pairs, images=self.images, **self.start()))


@dataclass(frozen=True)
class BenchMatching(BenchOptions):
    """Matching (Eq. 7) of one image of 80 x 100 cells with 188 categories: exhaustive and pruned."""

    model: Folder = None
    """A trained model of many categories on which the two matchers' answers are compared (with --data)."""
    data: Folder = None
    """The data set whose val list is matched."""

    def run(self) -> None:
        """Run and print."""
        if (self.model is None) != (self.data is None):
            raise CompNetError("--model and --data belong together: give both, or neither")
        chosen = self.start()
        if self.model is not None and self.data is not None:
            require_folder(self.data, "--data")
            from compnet3d.models.checkpoint import find_model

            chosen |= {"model": find_model(self.model), "data": self.data}
        from compnet3d.bench.matching import bench_matching

        self.finish("matching", bench_matching(**chosen))


@dataclass(frozen=True)
class BenchPose(BenchOptions):
    """Pose of an object in 80 x 100 cells: search, whole estimate, all categories, and by rendering feature maps."""

    images: Annotated[int, arg(metavar="N")] = 4
    """Images in the batch that the times per image are of."""

    def run(self) -> None:
        """Run and print."""
        at_least(1, images=self.images)
        from compnet3d.bench.pose import bench_pose

        self.finish("pose", bench_pose(images=self.images, **self.start()))


@dataclass(frozen=True)
class BenchStep(BenchOptions):
    """The training step beside its bare ResNet-50 and ViT-B/14 at the paper's sizes (minutes on a CPU)."""

    workers: Annotated[int, arg(metavar="N")] = 2
    """Processes that prepare images where the waiting for them is measured."""
    images: Count = None
    """Images in a batch; by default 4, or the paper's 38 and 32 on a GPU."""

    def run(self) -> None:
        """Run and print."""
        at_least(1, workers=self.workers, images=self.images)
        from compnet3d.bench.step import bench_step

        self.finish("step", bench_step(workers=self.workers, images=self.images, **self.start()))


@dataclass(frozen=True)
class BenchScale(BenchOptions):
    """The loss step from 47 to 1504 categories, with all of them contrasted and with sparse grouping weights."""

    pairs: Annotated[float, arg(metavar="N")] = 3.0
    """Contrasted categories per category where the grouping weights are sparse."""
    figure: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Also draw the growth into this PNG or SVG file (needs matplotlib)."""

    def run(self) -> None:
        """Run and print."""
        from compnet3d.bench.scale import bench_scale, draw_scale
        from compnet3d.reporting.plots import check_figure

        if self.figure is not None:
            check_figure(self.figure, "--figure")  # now, and not after the minutes of the benchmark
        result = bench_scale(pairs=self.pairs, **self.start())
        self.finish("scale", result)
        if self.figure is not None:
            draw_scale(result, self.figure)
            print(f"wrote {self.figure}")


@dataclass(frozen=True)
class BenchInput(BenchOptions):
    """What a training crop of 640 x 800 pixels costs a core, decoding included."""

    images: Annotated[int, arg(metavar="N")] = 40
    """Images of 500 x 500 pixels that are gone through in each round."""

    def run(self) -> None:
        """Run and print."""
        at_least(1, images=self.images)
        from compnet3d.bench.input import bench_input

        chosen = self.start()
        self.finish("input", bench_input(images=self.images, rounds=chosen.get("rounds", 5)))


@dataclass(frozen=True)
class BenchDistributed(BenchOptions):
    """Images a second that one and several processes train on CPUs, one thread each (minutes)."""

    processes: Annotated[int, arg(metavar="N")] = 2
    """Several processes."""

    def run(self) -> None:
        """Run and print."""
        at_least(2, processes=self.processes)
        from compnet3d.bench.distributed import bench_distributed

        chosen = self.start()
        self.finish("distributed", bench_distributed(processes=self.processes, rounds=chosen.get("rounds", 3)))


@dataclass(frozen=True)
class Bench:
    """Measure speed and memory of the parts, each beside what it is compared with."""

    command: (
        Annotated[BenchLoss, subcommand("loss")]
        | Annotated[BenchMatching, subcommand("matching")]
        | Annotated[BenchPose, subcommand("pose")]
        | Annotated[BenchStep, subcommand("step")]
        | Annotated[BenchScale, subcommand("scale")]
        | Annotated[BenchInput, subcommand("input")]
        | Annotated[BenchDistributed, subcommand("distributed")]
    )

    def run(self) -> None:
        """Run the chosen benchmark."""
        self.command.run()
