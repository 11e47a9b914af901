"""OOD-CV: training images, and test images that are shifted in one of five ways.

- ROOT/lists/TrainSet.txt, ROOT/lists/{category}_{context,pose,shape,texture,weather}.txt: lines of a name and the
  place of the object in its record, counted from 0
- ROOT/images/{category}/{name}.JPEG and ROOT/annotations/{category}/{name}.mat, records as PASCAL3D+ has them

The training images become the split train, each shift a split of its name, and all of them together val.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from compnet3d.data.annotations import Annotation, SkipObject, plain_name
from compnet3d.data.imagenet3d import is_image_name, read_list
from compnet3d.data.importers.import_data import Record
from compnet3d.data.importers.import_report import LeftOut
from compnet3d.data.importers.names import cad_files, image_file, without_suffix
from compnet3d.data.importers.pascal_record import Entries, RecordSource, pascal3d_annotation, record_size
from compnet3d.errors import CompNetError
from compnet3d.utils.files import files_in, folders_in, is_file

SHIFTS = ("context", "pose", "shape", "texture", "weather")


@dataclass(frozen=True)
class OodCvItem:
    """One image of a category, the places of its objects in the record, and its splits."""

    category: str
    name: str
    splits: tuple[str, ...]
    places: tuple[int, ...]
    image: Path
    record: Path


@dataclass
class OodCv(RecordSource):
    """OOD-CV.

    Attributes:
        root: its folder.
        cad: the folder with the CAD models of PASCAL3D+, one folder for each category; ROOT/CAD by default.
    """

    format: ClassVar[str] = "ood-cv"
    root: Path
    cad: Path | None = None

    def items(self) -> tuple[Sequence[OodCvItem], list[LeftOut], list[str]]:
        """The images of the lists, each once."""
        lists = self.root / "lists"
        if not lists.is_dir():
            raise CompNetError(f"{self.root} has no folder lists; give the root of the unpacked data set")
        found: dict[tuple[str, str], tuple[list[str], list[int]]] = {}
        left_out: list[LeftOut] = []
        for split, category, name, place, where in self._lines(lists):
            if category is None or not is_image_name(name):
                left_out.append(("missing image" if is_image_name(name) else "list entry is not an image name", where))
                continue
            splits, places = found.setdefault((category, name), ([], []))
            splits += ["train"] if split == "train" else [split, "val"]
            places.append(place)
        if not found:
            raise CompNetError(
                f"{lists} has no TrainSet.txt or CATEGORY_context.txt that names an image of the data set"
            )
        return [self._item(*key, *value) for key, value in found.items()], left_out, []

    def _lines(self, lists: Path) -> Iterator[tuple[str, str | None, str, int, str]]:
        """Split, category, name, place of the object, and where it says so."""
        categories = [folder.name for folder in folders_in(self.root / "images")]
        for path in files_in(lists):
            match = re.fullmatch(rf"(.+)_({'|'.join(SHIFTS)})\.txt", path.name)
            if match is None and path.name != "TrainSet.txt":
                continue
            for line in read_list(path):
                words = line.replace("\\", "/").split()
                place = int(words[-1]) if len(words) > 1 and words[-1].isdecimal() and len(words[-1]) < 6 else 0
                folder, _, name = words[0].rpartition("/")
                name = without_suffix(name)
                if match:
                    name = name if folder in ("", match[1]) else words[0]
                    yield match[2], match[1], name, place, f"{path}: {line[:60]}"
                    continue
                stated = [folder.rpartition("/")[2], words[1] if len(words) > 2 else ""]
                of = next((c for c in categories if c in stated), None)
                if of is None and is_image_name(name):
                    places = self.root / "images"
                    of = next((c for c in categories if is_file(image_file(places / c, name))), None)
                yield "train", of, name, place, f"{path}: {line[:60]}"

    def _item(self, category: str, name: str, splits: Sequence[str], places: Sequence[int]) -> OodCvItem:
        image = image_file(self.root / "images" / category, name)
        record = self.root / "annotations" / category / f"{name}.mat"
        return OodCvItem(category, name, tuple(dict.fromkeys(splits)), tuple(sorted({*places})), image, record)

    def taken(self, item: OodCvItem, record: Annotation) -> tuple[Sequence[Record], Sequence[LeftOut]]:
        """The image's listed objects."""
        entries: Entries = []
        left_out: list[LeftOut] = []
        for place in item.places:
            try:
                if place >= len(record["objects"]):
                    raise SkipObject("the record has no object of this number")
                entry = record["objects"][place]
                if plain_name(str(entry.get("class"))) != plain_name(item.category):
                    raise SkipObject("object of another class")
                made = pascal3d_annotation(entry, item.category, record_size(record, item.image))
                entries.append((str(item.record), made))
            except SkipObject as reason:
                left_out.append((str(reason), f"{item.record}, object {place}"))
        return [Record(item.category, item.name, item.splits, item.image, entries)] if entries else [], left_out

    def models(self, category: str) -> Mapping[str, Path]:
        """Those of PASCAL3D+."""
        return cad_files((self.cad or self.root / "CAD") / category)
