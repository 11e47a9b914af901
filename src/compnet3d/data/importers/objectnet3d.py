"""ObjectNet3D: 100 categories, several objects and categories in an image, records as PASCAL3D+ has them.

- ROOT/Image_sets/{train,val,test}.txt: names, one per line
- ROOT/Images/{name}.JPEG and ROOT/Annotations/{name}.mat
- ROOT/CAD/off/{category}/{NN}.off, or ROOT/CAD/{category}/{NN}.off
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from compnet3d.data.annotations import Annotation
from compnet3d.data.importers.import_data import Record
from compnet3d.data.importers.import_report import LeftOut
from compnet3d.data.importers.names import cad_files, image_file, listed_names, safe_name
from compnet3d.data.importers.pascal_record import RecordSource, entries_of
from compnet3d.errors import CompNetError
from compnet3d.utils.files import is_file


@dataclass(frozen=True)
class ObjectNet3dItem:
    """One image and its record."""

    name: str
    splits: tuple[str, ...]
    image: Path
    record: Path


@dataclass
class ObjectNet3d(RecordSource):
    """ObjectNet3D, all objects of all images.

    Attributes:
        root: its folder.
        cad: the folder with the CAD models, one folder for each category; that of the data set by default.
    """

    format: ClassVar[str] = "objectnet3d"
    root: Path
    cad: Path | None = None

    def items(self) -> tuple[Sequence[ObjectNet3dItem], list[LeftOut], list[str]]:
        """The images of the sets, each once."""
        found: dict[str, ObjectNet3dItem] = {}
        for split in ("train", "val", "test"):
            path = self.root / "Image_sets" / f"{split}.txt"
            for name in listed_names(path) if is_file(path) else ():
                image = image_file(self.root / "Images", name)
                item = ObjectNet3dItem(name, (), image, self.root / "Annotations" / f"{name}.mat")
                earlier = found.setdefault(name, item)
                found[name] = replace(earlier, splits=(*earlier.splits, split))
        if not found:
            raise CompNetError(f"{self.root / 'Image_sets'} has no train.txt, val.txt or test.txt that names an image")
        return list(found.values()), [], []

    def taken(self, item: ObjectNet3dItem, record: Annotation) -> tuple[Sequence[Record], Sequence[LeftOut]]:
        """The image's objects, a record for each category."""
        categories = list(dict.fromkeys(safe_name(str(entry.get("class", ""))) for entry in record["objects"]))
        records: list[Record] = []
        left_out: list[LeftOut] = [] if categories else [("annotation without objects", str(item.record))]
        for category in categories:
            entries, more = entries_of(record, item.record, item.image, category)
            left_out += more
            if entries:
                records.append(Record(category, item.name, item.splits, item.image, entries))
        return records, left_out

    def models(self, category: str) -> Mapping[str, Path]:
        """The data set's, by their numbers."""
        roots = [self.cad] if self.cad is not None else [self.root / "CAD" / "off", self.root / "CAD"]
        return next((files for root in roots if (files := cad_files(root / category))), {})
