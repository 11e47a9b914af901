"""Occluded data sets on disk: a split of any data set with occluders on its photographs, in the same layout."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from compnet3d.benchmarks.occlusion import (
    Level,
    Occluded,
    Occlusion,
    Protocol,
    gather_occluders,
    level_ranges,
    occluder_samples,
    within_ranges,
)
from compnet3d.data.imagenet3d import ImageNet3D, read_annotation, write_annotation, write_list
from compnet3d.data.images import load_image
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError
from compnet3d.files import write_folder, write_json

SUMMARY = "occlusion.json"
Change = Callable[[Image.Image, Sample, str], tuple[Image.Image, dict[str, Any]]]


def occlude_dataset(
    source: str | Path,
    out: str | Path,
    level: Level,
    *,
    occluders: str | Path = "blobs",
    protocol: Protocol = "generator",
    seed: int = 0,
    split: str = "val",
    progress: bool = False,
) -> dict[str, Any]:
    """Write one split of a data set with occluders on its photographs; each object gets a picture of its own.

    An image with one usable object keeps its name; of an image with several, object i becomes `{name}_object{i}`, in
    which only that object is annotated, because its occluders are placed for it alone. Pictures are PNGs: evaluating
    the new data set shows the same pixels as occluding the old one while it is evaluated.

    Args:
        source: a data set in our layout.
        out: the folder to write; it must not exist or be empty. It appears only when everything is written.
        level: "L1", "L2" or "L3".
        occluders: "blobs", "objects" (of other categories, from the train list) or a folder of cut-outs.
        protocol: whose levels, "generator" or "paper".
        seed: of all draws, >= 0.
        split: the list to occlude.
        progress: draw a progress bar on stderr.

    Returns:
        What `occlusion.json` says: the settings, the number of images, and mean, least and largest reached share of the
        object and of the background with the range that was asked for, and how many images miss a range.

    Raises:
        CompNetError: if the source cannot be read or is occluded already, there are no occluders, or `out` is not empty
            or cannot be written.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CompNetError(f"{out} exists and is not an empty folder; choose another output folder or remove it first.")
    dataset = ImageNet3D(source)
    samples = dataset.samples(split)
    if any(sample.hidden is not None for sample in samples):
        raise CompNetError(f"{dataset.root} is occluded already; occlude the data set that it was made from")
    lenders = occluder_samples(dataset, split) if occluders == "objects" else []
    occlusion = Occlusion(level, protocol, seed, gather_occluders(occluders, lenders, seed=seed))
    told = {"occlusion_level": level, "occlusion_protocol": protocol, "occluder_seed": seed}
    reached: list[tuple[float, float]] = []
    summary: dict[str, Any] = {}

    def fill(root: Path) -> None:
        def change(photograph: Image.Image, sample: Sample, name: str) -> tuple[Image.Image, dict[str, Any]]:
            occluded = occlusion.apply(photograph, sample)
            _write_mask(root / "occluder_masks" / sample.category / f"{name}.png", occluded.mask)
            reached.append((occluded.hidden_object, occluded.hidden_background))
            return occluded.image, told | _measured(occluded)

        _carry_over(dataset, root, split, samples, change, progress)
        summary.update(_summary(reached, level, protocol))
        summary.update(source=str(dataset.root), split=split, occluders=str(occluders), seed=seed)
        write_json(root / SUMMARY, summary)

    write_folder(out, fill)
    return summary


def _carry_over(
    dataset: ImageNet3D, root: Path, split: str, samples: Sequence[Sample], change: Change, progress: bool
) -> None:
    """Write the samples of a split anew under `root`, each object with a picture and keys of its own.

    `change` gets the photograph, the sample and its new name, and returns the new picture (of the same size) and keys
    to add to the annotation. CAD models, masks and `symmetry.json` come along as they are.
    """
    _copy_common(dataset, root)
    names = _new_names(samples)
    lists: dict[str, list[str]] = {}
    for sample in _tracked(samples, progress):
        name = names[sample.key]
        photograph = load_image(sample.image, size=(sample.width, sample.height))
        picture, keys = change(photograph, sample, name)
        path = root / "images" / sample.category / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, compress_level=4)  # half of the time of the default for 2 % more bytes
        if sample.mask is not None:
            _copy(sample.mask, root / "masks" / sample.category / f"{name}.png")
        annotation = root / "annotations" / sample.category / f"{name}.npz"
        annotation.parent.mkdir(parents=True, exist_ok=True)
        write_annotation(annotation, [_entry(dataset, sample) | keys])
        lists.setdefault(sample.category, []).append(name)
    for category, members in lists.items():
        write_list(root, category, split, members)


def _copy_common(dataset: ImageNet3D, root: Path) -> None:
    for category in dataset.categories:
        for path in dataset.cad_paths(category):
            _copy(path, root / "CAD" / category / path.name)
    if (dataset.root / "symmetry.json").is_file():
        _copy(dataset.root / "symmetry.json", root / "symmetry.json")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _entry(dataset: ImageNet3D, sample: Sample) -> dict[str, Any]:
    """The sample's own dict in its annotation file."""
    path = dataset.root / "annotations" / sample.category / f"{sample.name}.npz"
    return read_annotation(path)[sample.object_index]


def _new_names(samples: Sequence[Sample]) -> dict[str, str]:
    """A name for each sample's key, unique in its category.

    Raises:
        CompNetError: if an image already has the name that an object of another one would get.
    """
    objects = Counter((sample.category, sample.name) for sample in samples)
    names, used = {}, set()
    for sample in samples:
        alone = objects[sample.category, sample.name] == 1
        name = sample.name if alone else f"{sample.name}_object{sample.object_index}"
        if (sample.category, name) in used:
            raise CompNetError(f"{sample.image}: its objects would take the name {name} of another image; rename it")
        used.add((sample.category, name))
        names[sample.key] = name
    return names


def _measured(occluded: Occluded) -> dict[str, float]:
    return {"hidden_object": occluded.hidden_object, "hidden_background": occluded.hidden_background}


def _write_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def _summary(reached: Sequence[tuple[float, float]], level: Level, protocol: Protocol) -> dict[str, Any]:
    """The reached shares (object, background) of all images, at least one, as figures."""
    figures: dict[str, Any] = {"level": level, "protocol": protocol, "images": len(reached)}
    for what, shares, limits in zip(
        ("hidden_object", "hidden_background"), zip(*reached, strict=True), level_ranges(level, protocol), strict=True
    ):
        mean = sum(shares) / len(shares)
        figures[what] = {"mean": mean, "min": min(shares), "max": max(shares), "range": list(limits)}
    figures["outside_range"] = sum(not within_ranges(shares, level, protocol) for shares in reached)
    return figures


def _tracked(samples: Sequence[Sample], progress: bool) -> Iterable[Sample]:
    if not progress:
        return samples
    from rich.console import Console
    from rich.progress import track

    return track(samples, description="occluding", console=Console(stderr=True), transient=True)
