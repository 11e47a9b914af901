"""What training on 200, 2,000 and 20,000 categories and 10^5 to 10^9 images takes: measured constants, and formulas.

    python tools/scaling.py DATA OUT [--gpu-images-per-second 229] [--rounds 5]

Times and sizes are measured on this machine: the loss step, the pruned matching, a category's pose hypotheses, the
checksum and the exchange of features at up to 10,000 categories, and the memory of a sample and the size of an image of
DATA (a data set). The rate of a GPU is given: that of docs/results/speed.md. OUT is a JSON file of the tables.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shlex
import socket
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from rich.filesize import decimal
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.bench.loss import LossProblem, count_operations, grouped_step, sparse_weights
from compnet3d.bench.matching import bench_matching
from compnet3d.bench.pose import paper_sized_model
from compnet3d.bench.timing import time_in_turn
from compnet3d.data.epoch_order import epoch_batches
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.sample_table import SampleTable
from compnet3d.reporting.provenance import provenance
from compnet3d.reporting.tables import Row, Table
from compnet3d.training.data_parallel import checksum
from compnet3d.utils.distributed import ProcessGroup, joined
from compnet3d.utils.files import write_json

# the paper's: vertices of a category, length of a feature, visible vertices, images of a GPU
VERTICES, DIMENSION, VISIBLE, IMAGES = 500, 128, 250, 38
# of the ResNet-50 with its head, float32
PARAMETERS = 27_000_000
EPOCHS, BATCH = 30, 128
MEASURED, CATEGORIES = (200, 2_000, 10_000), (200, 2_000, 20_000)
SIZES, GPUS = (10**5, 10**7, 10**9), (1, 8, 64)


def loss_steps(rounds: int) -> tuple[dict[int, float], int]:
    """Seconds of a loss step of four images by the number of categories, and its operations, which do not grow."""
    problems = {
        count: LossProblem.random(count).with_weights(sparse_weights(count, 1.7)) for count in reversed(MEASURED)
    }
    seconds = time_in_turn({str(n): lambda p=p: grouped_step(p) for n, p in problems.items()}, rounds=rounds)
    return {n: seconds[str(n)] for n in MEASURED}, count_operations(lambda: grouped_step(problems[MEASURED[0]]))


def hypotheses() -> tuple[float, int]:
    """Seconds and bytes of what a pose search keeps of one category: fragments of 144 hypotheses."""
    model, seconds, size = paper_sized_model(8), [], 0
    for number in range(8):
        start = time.perf_counter()
        found = model.pose_hypotheses(number)
        seconds.append(time.perf_counter() - start)
        size = sum(tensor.numel() * tensor.itemsize for tensor in vars(found).values() if isinstance(tensor, Tensor))
    return median(seconds[1:]), size


def bank_checksum(rounds: int) -> float:
    """Seconds of the checksum of a bank of 2,000 categories."""
    bank = torch.randn(2_000 * VERTICES, DIMENSION)
    return time_in_turn({"checksum": lambda: checksum([bank])}, rounds=rounds)["checksum"]


def _exchange(rank: int, port: int, rounds: int, answer: multiprocessing.SimpleQueue[float]) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    rows = 4 * VISIBLE
    flat, features = torch.arange(rows), normalize(torch.randn(rows, DIMENSION), dim=1)
    with joined("cpu") as group:
        seconds = time_in_turn({"gather": lambda: _gather(group, flat, features)}, rounds=4 * rounds)["gather"]
    if rank == 0:
        answer.put(seconds)


def _gather(group: ProcessGroup, flat: Tensor, features: Tensor) -> None:
    group.gather_later(flat, features, counts=[len(flat)] * group.size)()


def exchange(rounds: int) -> float:
    """Seconds in which two processes of this machine tell each other what four images each show."""
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answer = context.SimpleQueue()
    processes = [context.Process(target=_exchange, args=(rank, port, rounds, answer)) for rank in (0, 1)]
    for process in processes:
        process.start()
    seconds = answer.get()
    for process in processes:
        process.join()
    return seconds


def sample_memory(data: Path) -> tuple[float, float, float]:
    """Bytes of a sample in the table of a training, of its image on the disk, and of its place in an epoch's order."""
    samples = ImageNet3D(data).samples("train")
    tracemalloc.start()
    table = SampleTable(samples)
    listed = tracemalloc.get_traced_memory()[0] / len(table)
    tracemalloc.stop()
    stored = sum(Path(str(sample.image)).stat().st_size for sample in samples) / len(samples)
    tracemalloc.start()
    order = epoch_batches([None] * 100_000, 100_000 // BATCH, torch.Generator())
    place = tracemalloc.get_traced_memory()[0] / 100_000
    tracemalloc.stop()
    assert len(order) == 100_000 // BATCH
    return listed, stored, place


def readable(size: float) -> str:
    """Bytes with a unit."""
    return decimal(round(size))


def duration(hours: float) -> str:
    """Hours, or days where they are many."""
    return f"{hours:,.1f} h" if hours < 48 else f"{hours / 24:,.0f} days"


def line(at: dict[int, float], count: int) -> float:
    """Seconds at a number of categories, on the line through those at the two largest that were measured."""
    (x0, y0), (x1, y1) = sorted(at.items())[-2:]
    return at[count] if count in at else y0 + (y1 - y0) * (count - x0) / (x1 - x0)


def of_categories(loss: dict[int, float], matching: dict[int, float], pose: tuple[float, int]) -> Table:
    """Memory and time that grow with the number of categories."""
    rows = (
        ("bank: Y K D 4 bytes", *(readable(y * VERTICES * DIMENSION * 4) for y in CATEGORIES)),
        ("grouping weights: Y^2 4 bytes", *(readable(y * y * 4) for y in CATEGORIES)),
        ("pose hypotheses, all categories kept", *(readable(y * pose[1]) for y in CATEGORIES)),
        ("making them, one core", *(duration(y * pose[0] / 3600) for y in CATEGORIES)),
        ("loss step of 4 images (sparse weights)", *(f"{1000 * line(loss, y):.3g} ms" for y in CATEGORIES)),
        ("pruned matching of an image", *(f"{1000 * line(matching, y):.3g} ms" for y in CATEGORIES)),
        ("exact matching: 8000 cells, 2 Y K D", *(f"{8000 * 2 * y * VERTICES * DIMENSION / 1e12:.3g} TFLOP"
                                                  for y in CATEGORIES)),
    )  # fmt: skip
    note = f"Times at {CATEGORIES[-1]:,} are on the line through those at {MEASURED[-2]:,} and {MEASURED[-1]:,}."
    head = ("", *(f"{y:,} categories" for y in CATEGORIES))
    return Table("categories", "categories", head, tuple(Row(name, tuple(cells)) for name, *cells in rows), (note,))


def of_images(listed: float, stored: float, place: float, rate: float) -> Table:
    """Storage, memory and time that grow with the number of images."""
    rows = (
        ("storage", *(readable(n * stored) for n in SIZES)),
        ("shards of 512 MB", *(f"{max(1, round(n * stored / 512e6)):,}" for n in SIZES)),
        ("table of samples, each training process", *(readable(n * listed) for n in SIZES)),
        ("order of an epoch, each training process", *(readable(n * place) for n in SIZES)),
        *((f"an epoch on {g} GPU{'s' * (g > 1)}", *(duration(n / rate / g / 3600) for n in SIZES)) for g in GPUS),
        (f"GPU hours of {EPOCHS} epochs", *(f"{EPOCHS * n / rate / 3600:,.0f}" for n in SIZES)),
    )
    note = f"One GPU trains {rate:g} images a second (ResNet-50, 640 x 800, a H100), several as many each."
    head = ("", *(f"{n:.0e} images".replace("e+0", "e") for n in SIZES))
    return Table("images", "images", head, tuple(Row(name, tuple(cells)) for name, *cells in rows), (note,))


def of_gpus(rate: float) -> Table:
    """What a GPU sends and receives in a step."""
    step = IMAGES / rate
    gradients = [2 * (g - 1) / g * 4 * PARAMETERS for g in GPUS]
    features = [(g - 1) * IMAGES * VISIBLE * (4 * DIMENSION + 8) for g in GPUS]
    network = [(a + b) / step for a, b in zip(gradients, features, strict=True)]
    rows = (
        ("gradients: 2 (W-1)/W 4 P bytes", *map(readable, gradients)),
        ("visible features: (W-1) B V (4 D + 8) bytes", *map(readable, features)),
        ("in a step of that many seconds", *[f"{step:.3f}"] * len(GPUS)),
        ("so a second, were nothing to wait", *(f"{readable(size)}/s" for size in network)),
    )
    note = f"B = {IMAGES} images a GPU, V = {VISIBLE} visible vertices, P = {PARAMETERS:,} parameters."
    head = ("", *(f"{g} GPU{'s' * (g > 1)}" for g in GPUS))
    return Table("gpus", "GPUs", head, tuple(Row(name, tuple(cells)) for name, *cells in rows), (note,))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the tables and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--gpu-images-per-second", type=float, default=229.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    listed, stored, place = sample_memory(options.data)
    pose = hypotheses()
    sent = exchange(options.rounds)
    summed = bank_checksum(options.rounds)
    growth = bench_matching(rounds=options.rounds, categories=200, growth=MEASURED).growth
    matching = {count: growth[str(count)] for count in MEASURED}
    loss, operations = loss_steps(options.rounds)
    rate = options.gpu_images_per_second
    constants = Table(
        "constants",
        "measured",
        ("", "measured"),
        (
            *(Row(f"loss step, {count:,} categories", (f"{1000 * s:.1f} ms",)) for count, s in loss.items()),
            Row("its operations, 4 images", (f"{operations / 1e9:.2f} GFLOP",)),
            *(Row(f"pruned matching, {count:,} categories", (f"{1000 * s:.1f} ms",)) for count, s in matching.items()),
            Row("pose hypotheses of a category", (f"{1000 * pose[0]:.1f} ms, {readable(pose[1])}",)),
            Row("two processes exchange the features of 4 images each", (f"{1000 * sent:.2f} ms",)),
            Row("checksum of a bank of 2,000 categories", (f"{1000 * summed:.0f} ms",)),
            Row("a sample in memory, an image on the disk", (f"{readable(listed)}, {readable(stored)}",)),
        ),
    )
    tables = [constants, of_categories(loss, matching, pose), of_images(listed, stored, place, rate), of_gpus(rate)]
    settings = provenance(shlex.join(["python", *sys.argv]))
    write_json(options.out, {"tables": [table.to_dict() for table in tables], "settings": settings})
    for table in tables:
        print(table.markdown())


if __name__ == "__main__":
    main()
