"""What reading from shards costs against a folder, and whether memory stays flat: images a second, and MB.

    python tools/streaming.py SOURCE WORK OUT [--images 100000] [--rounds 3] [--each 3000]

The images of SOURCE (a data set) are hard-linked in WORK under so many names, and packed. Then a worker process, as a
training has one, reads and decodes images in the order of an epoch: from the folder, from its shards, from shards over
HTTP from a server on this machine; in turn, so that other work on the machine slows all of them alike. At last all
images are gone through once, and the memory of both processes is looked at five times. OUT is a JSON file.
"""

from __future__ import annotations

import argparse
import http.server
import os
import re
import shlex
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from compnet3d.data.epoch_order import epoch_batches
from compnet3d.data.imagenet3d import ImageNet3D, list_file
from compnet3d.data.loader import CropDataset
from compnet3d.data.packed import open_data
from compnet3d.data.packing import pack_dataset
from compnet3d.data.shapes.read import copy_shapes
from compnet3d.data.transforms import InputConfig
from compnet3d.reporting.provenance import provenance
from compnet3d.reporting.tables import Row, Table
from compnet3d.utils.files import write_json, write_text

BATCH = 64


class Ranges(http.server.BaseHTTPRequestHandler):
    """Serves parts of the files of a folder."""

    protocol_version = "HTTP/1.1"
    wbufsize = 2**16

    def __init__(self, *arguments: Any, folder: Path) -> None:
        self.folder = folder
        super().__init__(*arguments)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """The size alone."""
        self._answer(False)

    def do_GET(self) -> None:
        """The part that is asked for, or all."""
        self._answer(True)

    def _answer(self, body: bool) -> None:
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        size = path.stat().st_size
        first, end = (int(part[1]), int(part[2]) + 1) if part else (0, size)
        self.send_response(206 if part else 200)
        self.send_header("Content-Length", str(min(end, size) - first))
        self.end_headers()
        if body:
            with path.open("rb") as file:
                file.seek(first)
                self.wfile.write(file.read(end - first))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of a folder that another process serves."""
    port = 20_000 + os.getpid() % 20_000
    child = os.fork()
    if child == 0:
        with http.server.ThreadingHTTPServer(("127.0.0.1", port), partial(Ranges, folder=folder)) as server:
            server.serve_forever()
    time.sleep(1)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def linked(source: Path, out: Path, images: int) -> Path:
    """A data set whose train list has so many names, hard links to the images and annotations of another."""
    if (out / "lists").is_dir():
        return out
    dataset = ImageNet3D(source)
    samples = dataset.samples("train")
    unique = list({(s.category, s.name): s for s in samples}.values())
    lists: dict[str, list[str]] = {}
    for number in range(images):
        sample = unique[number % len(unique)]
        name = f"{sample.name}_i{number:06d}"
        lists.setdefault(sample.category, []).append(name)
        annotation = source / "annotations" / sample.category / f"{sample.name}.npz"
        for file, folder in ((Path(str(sample.image)), "images"), (annotation, "annotations")):
            target = out / folder / sample.category / f"{name}{file.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(file.resolve(), target)
    for category in lists:
        copy_shapes(source / "CAD" / category, out / "CAD" / category)
    for category, names in lists.items():
        write_text(out / "lists" / list_file(category, "train"), "\n".join(names))
    return out


class Batches(torch.utils.data.Sampler[list[tuple[int, int]]]):
    """The batches of an epoch."""

    def __init__(self, data: CropDataset, epoch: int) -> None:
        generator = torch.Generator().manual_seed(epoch)
        self.epoch, self.batches = epoch, epoch_batches(data.samples.shards, -(-len(data) // BATCH), generator)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self.batches:
            yield [(self.epoch, index) for index in batch]


def batches_of(data: CropDataset, epoch: int) -> Iterator[Any]:
    """What a training would get, from one worker process."""
    return iter(DataLoader(data, batch_sampler=Batches(data, epoch), num_workers=1, prefetch_factor=2))


def speed(data: CropDataset, epoch: int, count: int) -> float:
    """Images a second, after the worker has started."""
    batches = batches_of(data, epoch)
    next(batches)
    start = time.perf_counter()
    for _ in islice(batches, count // BATCH):
        pass
    return count // BATCH * BATCH / (time.perf_counter() - start)


def resident() -> float:
    """Memory of this process and its children, MB, without what they share."""
    found = 0
    for process in [os.getpid(), *children()]:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        found += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return found / 1000


def children() -> list[int]:
    """Processes that this one has started and that still run."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(number) for number in listed]


def memory(data: CropDataset) -> list[tuple[int, float]]:
    """Memory at five places of an epoch."""
    found, steps = [], -(-len(data) // BATCH)
    # not at the very end, where the worker ends and Python, tidying up, writes to all of its memory
    wanted = {steps * share // 100 for share in (10, 25, 50, 75, 99)}
    for number, _ in enumerate(batches_of(data, 100), start=1):
        if number in wanted:
            found.append((min(len(data), number * BATCH), resident()))
            print(*found[-1], flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--each", type=int, default=3_000)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = linked(options.source, options.work / "folder", options.images)
    if not (options.work / "packed").is_dir():
        pack_dataset(folder, options.work / "packed", workers=1, progress=True)
    spec = InputConfig(height=128, width=128, focal=300.0, distance=3.0, box_fill=0.8)
    with served(options.work / "packed") as url:
        data = {
            name: CropDataset(opened.samples("train"), opened.categories, spec)
            for name, opened in (
                ("a folder", open_data(folder)),
                ("shards", open_data(options.work / "packed")),
                ("shards over HTTP", open_data(url)),
            )
        }
        for crops in data.values():
            speed(crops, 99, BATCH)
        speeds = {name: [] for name in data}
        for number in range(options.rounds):
            for name, crops in data.items():
                speeds[name].append(speed(crops, number, options.each))
                print(name, round(speeds[name][-1], 1), flush=True)
    base = statistics.median(speeds["a folder"])
    rows = [
        Row(f"images/s from {name}", (f"{statistics.median(values):.0f}", f"{statistics.median(values) / base:.2f}"))
        for name, values in speeds.items()
    ]
    packed = data["shards"]
    del data
    rows += [Row(f"memory after {images:,} images", (f"{used:.0f} MB", "")) for images, used in memory(packed)]
    note = (
        f"{options.images:,} images, {options.rounds} rounds in turn of {options.each:,} images each, medians; one "
        "worker process, crops of 128 x 128 without augmentation. Memory is that of both processes, the shards' "
        "index in it."
    )
    table = Table("streaming", "from shards", ("", "measured", "over a folder"), tuple(rows), (note,))
    write_json(options.out, {"tables": [table.to_dict()], "settings": provenance(shlex.join(["python", *sys.argv]))})
    print(table.markdown())


if __name__ == "__main__":
    main()
