"""Writes a data set as tar files in the layout of WebDataset, with an index by which each image can be read alone."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compnet3d.data.annotations import read_annotation
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.sample import Sample
from compnet3d.data.shapes.read import copy_shapes
from compnet3d.errors import CompNetError
from compnet3d.utils.exclusive import building, require_empty
from compnet3d.utils.files import Json, copy_file, read_bytes, sha256_of, write_json, write_text
from compnet3d.utils.progress import tracked
from compnet3d.utils.workers import spread_out

# what a packed data set is known by, in its folder
INDEX_FILE = "index.json"


@dataclass(frozen=True)
class _Picture:
    """An image with what belongs to it: its place in the split's list, its usable objects and its files by suffix."""

    place: int
    category: str
    name: str
    objects: tuple[int, ...]
    files: tuple[tuple[str, Path], ...]

    @property
    def bytes(self) -> int:
        """About what it takes in a tar file."""
        return sum(1024 + path.stat().st_size for _, path in self.files)


def pack_dataset(
    source: str | Path,
    out: str | Path,
    *,
    shard_bytes: int = 512 * 2**20,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = False,
) -> Json:
    """Write all splits of a data set as shards `SPLIT-NNNNNN.tar`, each with an index `SPLIT-NNNNNN.jsonl`.

    A shard holds images in a random order, so that neighbours are of different categories; an image is followed by its
    annotation and its masks: `CATEGORY/NAME.JPEG`, `.npz`, `.mask.png`, `.occluders.png`. In NAME, a dot is `%2E` and a
    percent sign `%25`, since WebDataset takes what follows the first dot for the suffix. Lists, CAD models and tables
    lie beside the shards as they did. Images without a usable object are left out. The bytes follow from the data set,
    the size and the seed alone.

    Args:
        source: a data set in our layout.
        out: folder to make; it must not exist or be empty.
        shard_bytes: about how large a shard is, > 0.
        seed: of the order.
        workers: processes; None takes one per core as far as there are shards.
        progress: draw a progress bar on stderr.

    Returns:
        What `index.json` holds: of each split the shards with their sizes, checksums (SHA-256) and counts, and of each
        file beside them name, size and checksum.

    Raises:
        CompNetError: if the source cannot be read, or `out` holds something or cannot be written.
    """
    if shard_bytes < 1:
        raise CompNetError(f"a shard must have at least 1 byte, not {shard_bytes}")
    require_empty(out)
    dataset = ImageNet3D(source)
    parts = {split: _parts(dataset, split, shard_bytes, seed) for split in dataset.splits}
    names = [f"{split}-{number:06d}" for split, shards in parts.items() for number in range(len(shards))]
    tasks = list(zip(names, (pictures for shards in parts.values() for pictures in shards), strict=True))
    with building(out) as root:
        with closing(spread_out(_Writer(dataset.root, root), tasks, workers)) as results:
            shards = list(tracked(results, "packing", total=len(tasks), enabled=progress))
        _copy_rest(dataset, root)
        beside = [path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix not in (".tar", ".jsonl")]
        index: Json = {
            "format": "compnet3d packed data set",
            "version": 1,
            "splits": {
                split: [shard for shard in shards if shard["name"].rpartition("-")[0] == split] for split in parts
            },
            "files": [
                {"name": path.relative_to(root).as_posix(), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
                for path in beside
            ],
            "left_out": dict(dataset.report.skipped),
        }
        write_json(root / INDEX_FILE, index)
    return index


def _parts(dataset: ImageNet3D, split: str, shard_bytes: int, seed: int) -> list[list[_Picture]]:
    """The images of each shard of a split."""
    by_image: dict[tuple[str, str], list[Sample]] = {}
    for sample in dataset.samples(split):
        by_image.setdefault((sample.category, sample.name), []).append(sample)
    pictures = [_picture(dataset.root, place, samples) for place, samples in enumerate(by_image.values())]
    order = np.random.default_rng(seed).permutation(len(pictures))
    # shards of nearly one size instead of full ones and a small rest
    ends = np.cumsum([pictures[place].bytes for place in order])
    count = -(-int(ends[-1]) // shard_bytes)
    shards: list[list[_Picture]] = [[] for _ in range(count)]
    for place, end in zip(order, ends, strict=True):
        shards[min(count - 1, int(end - 1) * count // int(ends[-1]))].append(pictures[place])
    return [shard for shard in shards if shard]


def _picture(root: Path, place: int, samples: Sequence[Sample]) -> _Picture:
    first = samples[0]
    image, annotation = Path(str(first.image)), root / "annotations" / first.category / f"{first.name}.npz"
    files = [(image.suffix, image), (".npz", annotation)]
    if first.mask is not None:
        mask = Path(str(first.mask))
        files.append((f".mask{mask.suffix}", mask))
    hidden = next((sample.occluder_mask for sample in samples if sample.occluder_mask is not None), None)
    if hidden is not None:
        files.append((".occluders.png", Path(str(hidden))))
    objects = tuple(sample.object_index for sample in samples)
    return _Picture(place, first.category, first.name, objects, tuple(files))


def _copy_rest(dataset: ImageNet3D, root: Path) -> None:
    """Copy lists, CAD models and tables."""
    for category in dataset.categories:
        copy_shapes(dataset.root / "CAD" / category, root / "CAD" / category)
        for split in dataset.splits:
            if dataset.has_list(category, split):
                list_path = dataset.list_path(category, split)
                copy_file(list_path, root / "lists" / list_path.name)
    for path in sorted(dataset.root.glob("*.json")):
        if path.name != INDEX_FILE and path.is_file():
            copy_file(path, root / path.name)


@dataclass(frozen=True)
class _Writer:
    """Writes a shard and its index; returns what `index.json` says of them."""

    source: Path
    root: Path

    def __call__(self, task: tuple[str, Sequence[_Picture]]) -> Json:
        name, pictures = task
        path, lines = self.root / f"{name}.tar", []
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            for picture in pictures:
                plain = picture.name.replace("%", "%25").replace(".", "%2E")
                files = {
                    suffix: _add(archive, f"{picture.category}/{plain}{suffix}", read_bytes(file, 2 * 2**30))
                    for suffix, file in picture.files
                }
                own = read_annotation(dict(picture.files)[".npz"])
                objects = [[number, _readable(own[number])] for number in picture.objects]
                entry = {"place": picture.place, "category": picture.category, "name": picture.name}
                lines.append(json.dumps({**entry, "files": files, "objects": objects}))
        write_text(self.root / f"{name}.jsonl", "".join(f"{line}\n" for line in lines))
        return {
            "name": name,
            "bytes": path.stat().st_size,
            "sha256": sha256_of(path),
            "index_sha256": sha256_of(self.root / f"{name}.jsonl"),
            "images": len(pictures),
            "objects": sum(len(picture.objects) for picture in pictures),
        }


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> list[int]:
    """Append a file; where its bytes begin, how many they are, and their CRC-32."""
    member = tarfile.TarInfo(name)  # of no owner and no time, so that the bytes follow from the contents
    member.size = len(data)
    offset = archive.offset + len(member.tobuf(archive.format, archive.encoding or "utf-8", archive.errors or "strict"))
    archive.addfile(member, io.BytesIO(data))
    return [offset, len(data), zlib.crc32(data)]


def _readable(entry: Json) -> Json:
    """What `parse_object` reads of an object, as JSON has it: numbers stay what they are to the last bit."""
    keys = ("azimuth", "elevation", "theta", "distance", "focal", "viewport", "px", "py", "height", "width", "bbox")
    more = ("cad_index", "object_status", "class", "ignore", "hidden_object", "hidden_background")
    return {key: _plain(entry[key]) for key in (*keys, *more) if key in entry}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.reshape(-1)[0]) if value.size == 1 else [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if isinstance(value, int | float | str) else str(value)
