"""Occluded-PASCAL3D+: a level of it, with the poses of PASCAL3D+.

ROOT/{images,annotations,lists}/{category}FGL{i}_BGL{i}: images, .npz files with masks, and a list, of level i. Its
images become the val split; there is no other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from compnet3d.data.annotations import Annotation
from compnet3d.data.images import hidden_shares
from compnet3d.data.importers.import_data import Record
from compnet3d.data.importers.import_report import LeftOut
from compnet3d.data.importers.names import cad_files, image_file, listed_names
from compnet3d.data.importers.pascal_record import RecordSource, entries_of
from compnet3d.data.unpickle import load_npz_objects
from compnet3d.errors import CompNetError
from compnet3d.utils.files import files_in

Level = Literal["L1", "L2", "L3"]


@dataclass(frozen=True)
class OccludedItem:
    """One occluded image, its masks, and the record of the image that was occluded."""

    category: str
    name: str
    image: Path
    record: Path
    masks: Path


@dataclass
class OccludedPascal3d(RecordSource):
    """A level of Occluded-PASCAL3D+.

    Attributes:
        root: its folder.
        pascal3d: the folder PASCAL3D+_release1.1, which has the poses and the CAD models.
        level: L1, L2 or L3.
    """

    format: ClassVar[str] = "occluded-pascal3d"
    root: Path
    pascal3d: Path
    level: Level

    def items(self) -> tuple[Sequence[OccludedItem], list[LeftOut], list[str]]:
        """The images of the level's lists, which must not be empty."""
        lists, number = self.root / "lists", self.level[1:]
        if not lists.is_dir():
            raise CompNetError(f"{self.root} has no folder lists; give the root of the unpacked data set")
        found = []
        for path in files_in(lists):
            # the data set pairs equal levels of object (FGL) and background (BGL) only; the name has both
            match = re.fullmatch(r"(?P<category>.+)FGL(?P<front>\d)_BGL(?P<back>\d)(\.txt)?", path.name)
            if match and match["front"] == match["back"] == number:
                found += [self._item(match["category"], name) for name in listed_names(path)]
        if not found:
            raise CompNetError(f"{lists} has no list CATEGORYFGL{number}_BGL{number}.txt that names an image")
        return found, [], []

    def _item(self, category: str, name: str) -> OccludedItem:
        folder = f"{category}FGL{self.level[1:]}_BGL{self.level[1:]}"
        # Poses come from the original data set: the occluded one's own files hold masks, and no viewpoint that is used
        record = self.pascal3d / "Annotations" / f"{category}_imagenet" / f"{name}.mat"
        masks = self.root / "annotations" / folder / f"{name}.npz"
        return OccludedItem(category, name, image_file(self.root / "images" / folder, name), record, masks)

    def taken(self, item: OccludedItem, record: Annotation) -> tuple[Sequence[Record], Sequence[LeftOut]]:
        """The image's first object, which is the one that occluders hide, with its masks."""
        entries, left_out = entries_of(record, item.record, item.image, item.category, only=(0,))
        if not entries:
            return (), left_out
        try:
            occluders, own, shares = _read_masks(item.masks)
        except CompNetError:
            return (), [*left_out, ("unreadable masks", str(item.masks))]
        more = {"occlusion_level": self.level, "occlusion_protocol": "generator", **shares}
        entries = [(where, entry | more) for where, entry in entries]
        return [Record(item.category, item.name, ("val",), item.image, entries, own, occluders)], left_out

    def models(self, category: str) -> Mapping[str, Path]:
        """Those of PASCAL3D+."""
        return cad_files(self.pascal3d / "CAD" / category)


def _read_masks(path: Path) -> tuple[np.ndarray, np.ndarray | None, dict[str, float]]:
    """Where the occluders are, where the object is (None if nothing says), and the shares that are hidden.

    Raises:
        CompNetError: if the file or its occluder mask cannot be read.
    """
    occluders = _mask(load_npz_objects(path, "occluder_mask"))
    if occluders is None:
        raise CompNetError(f"{path}: occluder_mask is not an image")
    try:
        own = _mask(load_npz_objects(path, "mask"))
    except CompNetError:  # some releases hold None there
        own = None
    # without the object's mask nobody knows the shares, and the reader leaves `hidden` open
    if own is None or own.shape != occluders.shape:
        return occluders, None, {}
    on_object, on_background = hidden_shares(occluders, own)
    return occluders, own, {"hidden_object": on_object, "hidden_background": on_background}


def _mask(value: Any) -> np.ndarray | None:
    """A mask of any kind (bool, 0 and 1, 0 to 255 with soft edges) as bool [H, W]; None if it is none."""
    if not isinstance(value, np.ndarray) or value.ndim != 2 or not value.size or value.dtype.kind not in "buif":
        return None
    # 0 and 1, or grey levels: half of the range either way
    return np.asarray(value > (127 if value.max() > 1 else 0))
