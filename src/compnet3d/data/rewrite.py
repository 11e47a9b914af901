"""A copy of a data set with other pictures: a split's images changed one by one, everything else carried over."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from compnet3d.data.imagenet3d import ImageNet3D, write_list
from compnet3d.data.images import load_image
from compnet3d.data.sample import Sample
from compnet3d.data.symmetry import FILE_NAME
from compnet3d.errors import CompNetError
from compnet3d.files import write_folder

Change = Callable[[Sample, np.ndarray], np.ndarray]


def rewrite_dataset(
    source: ImageNet3D | str | Path,
    out: str | Path,
    change: Change,
    split: str = "val",
    *,
    progress: bool = False,
) -> int:
    """Write one split of a data set with its pictures changed.

    Lists name the images that have a usable object; their annotations and masks, the CAD models of their categories
    and `symmetry.json` are copied. Pictures are PNG files, so that nothing but `change` alters them. They are upright,
    as the reader shows them, whatever the EXIF orientation was.

    Args:
        source: the data set, or its folder, in the ImageNet3D raw layout.
        out: folder to make; it must not exist or be empty. It appears only when everything is written.
        change: gets an image's first object and its picture, uint8 [H, W, 3], and returns a picture of that size.
        split: which list; the copy has no other.
        progress: draw a progress bar on stderr.

    Returns:
        The number of images written.

    Raises:
        CompNetError: if the split has no usable object, an image cannot be read, or `out` holds something or cannot be
            written.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CompNetError(f"{out} exists and is not an empty folder; choose another output folder or remove it first.")
    dataset = source if isinstance(source, ImageNet3D) else ImageNet3D(source)
    first: dict[str, dict[str, Sample]] = {}
    for sample in dataset.samples(split):
        first.setdefault(sample.category, {}).setdefault(sample.name, sample)
    samples = [sample for objects in first.values() for sample in objects.values()]

    def fill(root: Path) -> None:
        for category, objects in first.items():
            write_list(root, category, split, objects)
            _copy_folder(dataset.root / "CAD" / category, root / "CAD" / category)
            for part in ("images", "annotations", "masks"):
                (root / part / category).mkdir(parents=True, exist_ok=True)
        _copy(dataset.root / FILE_NAME, root / FILE_NAME)
        for sample in _tracked(samples, progress):
            _rewrite(dataset.root, root, sample, change)

    write_folder(out, fill)
    return len(samples)


def _rewrite(source: Path, root: Path, sample: Sample, change: Change) -> None:
    before = np.asarray(load_image(sample.image, size=(sample.width, sample.height)))
    after = change(sample, before)
    if after.shape != before.shape or after.dtype != np.uint8:
        raise ValueError(f"the change turned {list(before.shape)} into {after.dtype} {list(after.shape)}")
    Image.fromarray(after).save(root / "images" / sample.category / f"{sample.name}.png")
    for part, suffix in (("annotations", "npz"), ("masks", "png")):
        place = Path(part, sample.category, f"{sample.name}.{suffix}")
        _copy(source / place, root / place)


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        # contents alone: a read-only source shall not make a read-only copy
        shutil.copyfile(source, target)


def _copy_folder(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir(parents=True)
        for path in sorted(source.iterdir()):
            _copy(path, target / path.name)


def _tracked(samples: list[Sample], progress: bool) -> Iterable[Sample]:
    if not progress:
        return samples
    from rich.console import Console
    from rich.progress import track

    return track(samples, description="writing", console=Console(file=sys.stderr), transient=True)
