"""A copy of a data set with other images: a split's objects one by one, everything else carried over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from compnet3d.data.annotations import Annotation, read_annotation, write_annotation
from compnet3d.data.imagenet3d import ImageNet3D, write_list
from compnet3d.data.images import load_image
from compnet3d.data.members import Member
from compnet3d.data.sample import Sample
from compnet3d.data.shapes.read import copy_shapes
from compnet3d.data.symmetry import FILE_NAME
from compnet3d.errors import CompNetError
from compnet3d.utils.files import copy_file, write_bytes
from compnet3d.utils.progress import tracked
from compnet3d.utils.shards import Shard, build_in_shards, require_free
from compnet3d.utils.workers import spread_out


@dataclass(frozen=True)
class Rewritten:
    """An object's new image.

    Attributes:
        image: of the image's size.
        keys: to add to the object's annotation; as JSON has them, where the work is done in shards.
        masks: further images that belong to it, bool [H, W], by the folder that they go to.
    """

    image: Image.Image
    keys: Annotation = field(default_factory=dict)
    masks: dict[str, np.ndarray] = field(default_factory=dict)


Change = Callable[[Sample, Image.Image], Rewritten]


def rewrite_dataset(
    source: ImageNet3D | str | Path,
    out: str | Path,
    change: Change,
    split: str = "val",
    *,
    finish: Callable[[Path, Sequence[Annotation]], None] | None = None,
    workers: int | None = 1,
    progress: bool = False,
    shard: Shard | None = None,
) -> int:
    """Write one split of a data set with its images changed, each object with an image of its own.

    An image with one usable object keeps its name; of an image with several, object i becomes `{name}_object{i}`, in
    which only that object is annotated: what is changed may depend on it. CAD models, masks (of occluders, too) and
    `symmetry.json` are copied. Images are PNG files, so that nothing but `change` alters them. They are upright, as
    the reader shows them, whatever the EXIF orientation was.

    Args:
        source: the data set, or its folder, in the ImageNet3D raw layout.
        out: folder to make; it must not exist or be empty. It appears only when everything is written.
        change: gets an object and its image; for several processes it must be something that can be pickled. If it has
            an attribute `settings` (JSON), these must be the same for all shards.
        split: which list; the copy has no other.
        finish: writes more into the new folder at the end; also gets the keys that each object's annotation was given.
        workers: processes; None takes one per core as far as each has 32 objects, 1 works in this process. A script
            that asks for more needs `if __name__ == "__main__":`.
        progress: draw a progress bar on stderr.
        shard: which share of the objects to write now; the folder appears, and `finish` is called, with the last.

    Returns:
        The number of images written.

    Raises:
        CompNetError: if the split has no usable object, an image cannot be read, two objects would get one name, or
            `out` holds something or cannot be written.
    """
    shard = shard or Shard()
    require_free(out, shard)
    dataset = source if isinstance(source, ImageNet3D) else ImageNet3D(source)
    samples = dataset.samples(split)
    # before anything is written: a clash of names is found at once
    names = _new_names(samples)
    # one task for each object, in the order of the list
    share = shard.of([(sample, names[sample.key]) for sample in samples])

    def work(root: Path) -> list[Annotation]:
        # `keys` come in the order of the tasks, however many processes there are; closed before the folder goes that
        # these write into
        with closing(spread_out(_Rewriter(dataset.root, root, change), share, workers, worthwhile=32)) as keys:
            return list(tracked(keys, "writing", total=len(share), enabled=progress))

    def complete(root: Path, added: Sequence[Annotation]) -> None:
        _carry_over(dataset, root)
        lists: dict[str, list[str]] = {}
        for sample in samples:
            lists.setdefault(sample.category, []).append(names[sample.key])
        for category, members in lists.items():
            write_list(root, category, split, members)
        if finish is not None:
            finish(root, added)

    stated = {
        "source": str(dataset.root),
        "categories": dataset.categories,
        "split": split,
        **getattr(change, "settings", {}),
    }
    build_in_shards(out, shard, stated, work, complete)
    return len(share)


def _carry_over(dataset: ImageNet3D, root: Path) -> None:
    """Copy what belongs to the whole data set."""
    for category in dataset.categories:
        copy_shapes(dataset.root / "CAD" / category, root / "CAD" / category)
    if (dataset.root / FILE_NAME).is_file():
        copy_file(dataset.root / FILE_NAME, root / FILE_NAME)


@dataclass(frozen=True)
class _Rewriter:
    """Writes an object under a new name into the new data set, and returns the keys that its annotation was given."""

    source: Path
    root: Path
    change: Change

    def __call__(self, task: tuple[Sample, str]) -> Annotation:
        sample, name = task
        image = load_image(sample.image, size=(sample.width, sample.height))
        new = self.change(sample, image)
        if new.image.size != image.size or new.image.mode != "RGB":
            raise ValueError(f"the change turned {image.size} into {new.image.mode} {new.image.size}")
        path = _place(self.root, "images", sample.category, f"{name}.png")
        new.image.save(path, compress_level=4)  # half of the time of the default for 2 % more bytes
        for folder, mask in new.masks.items():
            layer = Image.fromarray(mask.astype(np.uint8) * 255)
            layer.save(_place(self.root, folder, sample.category, f"{name}.png"))
        if sample.mask is not None:
            _copy_mask(sample.mask, _place(self.root, "masks", sample.category, f"{name}.png"))
        if sample.occluder_mask is not None:
            _copy_mask(sample.occluder_mask, _place(self.root, "occluder_masks", sample.category, f"{name}.png"))
        # read again instead of made from the sample: keys that the reader does not know are carried over
        own = read_annotation(self.source / "annotations" / sample.category / f"{sample.name}.npz")
        target = _place(self.root, "annotations", sample.category, f"{name}.npz")
        write_annotation(target, [own[sample.object_index] | new.keys])
        return new.keys


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


def _copy_mask(mask: Path | Member, target: Path) -> None:
    write_bytes(target, mask.read()) if isinstance(mask, Member) else copy_file(mask, target)


def _place(root: Path, *parts: str) -> Path:
    """A path in the new data set, whose folder is made."""
    path = root.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
