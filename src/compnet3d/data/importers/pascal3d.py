"""PASCAL3D+, release 1.1.

- ROOT/Image_sets/{category}_imagenet_{train,val}.txt: names, one per line
- ROOT/Images/{category}_{imagenet,pascal}/{name} and ROOT/Annotations/{category}_{imagenet,pascal}/{name}.mat
- ROOT/CAD/{category}/{NN}.off
- ROOT/PASCAL/VOCdevkit/VOC2012/ImageSets/Main/{category}_{train,val}.txt: the image sets of PASCAL VOC 2012, lines of a
  name and 1, 0 or -1; they split the pascal part

Neural-mesh papers use the ImageNet part and each image's first object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from compnet3d.data.annotations import Annotation
from compnet3d.data.imagenet3d import read_list
from compnet3d.data.importers.import_data import Record
from compnet3d.data.importers.import_report import LeftOut
from compnet3d.data.importers.names import cad_files, image_file, listed_names
from compnet3d.data.importers.pascal_record import Entries, RecordSource, entries_of
from compnet3d.errors import CompNetError
from compnet3d.utils.files import files_in, folders_in, is_file

Subset = Literal["imagenet", "pascal", "both"]


@dataclass(frozen=True)
class Pascal3dItem:
    """One image, and its record."""

    category: str
    name: str
    splits: tuple[str, ...]
    image: Path
    record: Path


@dataclass
class Pascal3d(RecordSource):
    """PASCAL3D+.

    Attributes:
        root: the folder PASCAL3D+_release1.1.
        subset: which part: images of ImageNet, of PASCAL VOC, or both.
        all_objects: take every object of the category, not only each image's first.
        voc: the folder ImageSets/Main of PASCAL VOC 2012; within the release by default.
    """

    format: ClassVar[str] = "pascal3d"
    root: Path
    subset: Subset = "imagenet"
    all_objects: bool = False
    voc: Path | None = None

    def items(self) -> tuple[Sequence[Pascal3dItem], list[LeftOut], list[str]]:
        """The images of the lists, which must not be empty."""
        found: list[Pascal3dItem] = []
        if self.subset != "pascal":
            found += self._of_imagenet()
        if self.subset != "imagenet":
            found += self._of_pascal()
        return merged(found), [], []

    def taken(self, item: Pascal3dItem, record: Annotation) -> tuple[Sequence[Record], Sequence[LeftOut]]:
        """The image's objects of its category."""
        only = None if self.all_objects else (0,)
        entries, left_out = entries_of(record, item.record, item.image, item.category, only=only)
        return as_records(item, entries), left_out

    def models(self, category: str) -> Mapping[str, Path]:
        """The release's, by their numbers."""
        return cad_files(self.root / "CAD" / category)

    def _of_imagenet(self) -> list[Pascal3dItem]:
        folder = self.root / "Image_sets"
        if not folder.is_dir():
            raise CompNetError(f"{self.root} has no folder Image_sets; give the root of the unpacked data set")
        found = [
            item
            for path in files_in(folder)
            if (match := re.fullmatch(r"(?P<category>.+)_imagenet_(?P<split>train|val)\.txt", path.name))
            for item in self._listed(match["category"], "imagenet", match["split"], listed_names(path))
        ]
        if not found:
            raise CompNetError(
                f"{folder} names no image in CATEGORY_imagenet_train.txt or _val.txt; "
                "give the folder PASCAL3D+_release1.1"
            )
        return found

    def _of_pascal(self) -> list[Pascal3dItem]:
        main = self.voc or self.root / "PASCAL" / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main"
        folders = [path for path in folders_in(self.root / "Annotations") if path.name.endswith("_pascal")]
        found = [
            item
            for folder in folders
            for split in ("train", "val")
            if is_file(path := main / f"{folder.name.removesuffix('_pascal')}_{split}.txt")
            for item in self._listed(folder.name.removesuffix("_pascal"), "pascal", split, _of_category(path))
        ]
        if not found:
            raise CompNetError(
                f"{main} has no image set CATEGORY_train.txt of images in {self.root / 'Annotations'}/CATEGORY_pascal; "
                "give the folder ImageSets/Main of PASCAL VOC 2012"
            )
        return found

    def _listed(self, category: str, part: str, split: str, names: Sequence[str]) -> Iterator[Pascal3dItem]:
        folder = f"{category}_{part}"
        for name in names:
            record = self.root / "Annotations" / folder / f"{name}.mat"
            # an image set of VOC names images that PASCAL3D+ has no record of
            if part == "imagenet" or is_file(record):
                image = image_file(self.root / "Images" / folder, name)
                yield Pascal3dItem(category, name, (split,), image, record)


def merged(items: Sequence[Pascal3dItem]) -> list[Pascal3dItem]:
    """Each image once, with all of its splits."""
    found: dict[tuple[str, str], Pascal3dItem] = {}
    for item in items:
        earlier = found.get((item.category, item.name))
        splits = item.splits if earlier is None else (*earlier.splits, *item.splits)
        found[item.category, item.name] = replace(earlier or item, splits=tuple(dict.fromkeys(splits)))
    return list(found.values())


def as_records(item: Pascal3dItem, entries: Entries) -> list[Record]:
    """The image with its objects, if there are any."""
    return [Record(item.category, item.name, item.splits, item.image, entries)] if entries else []


def _of_category(path: Path) -> list[str]:
    """The names that an image set of PASCAL VOC marks as showing the category, or as difficult (0)."""
    fields = (line.split() for line in read_list(path))
    return list(dict.fromkeys(words[0] for words in fields if len(words) < 2 or words[1] != "-1"))
