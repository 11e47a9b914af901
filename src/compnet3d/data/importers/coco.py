"""COCO: boxes and segmentations of an instances file, with poses in a table beside it.

The table has the columns of `table` for the pose, and annotation_id, or image_id where an image shows one object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from compnet3d.data.importers.columns import Row, read_table
from compnet3d.data.importers.import_report import LeftOut
from compnet3d.data.importers.posed_row import RowForm
from compnet3d.data.importers.posed_rows import PosedRows, RowItem, RowSource
from compnet3d.data.importers.shapes import Shapes
from compnet3d.errors import CompNetError
from compnet3d.utils.files import Json, read_json


@dataclass
class Coco(RowSource):
    """A file of COCO with a table of poses.

    Attributes:
        root: the instances file; images are relative to `images`, by default to its folder.
        poses: the table; form: how its numbers are to be understood; columns: MEANING=COLUMN of it.
        shapes: where the categories' shapes come from.
    """

    format: ClassVar[str] = "coco"
    root: Path
    poses: Path
    form: RowForm = RowForm()
    shapes: Shapes = Shapes()
    images: Path | None = None
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        folder = self.root.parent if self.images is None else self.images
        self.rows = PosedRows(self.form, self.shapes, folder)

    def items(self) -> tuple[Sequence[RowItem], list[LeftOut], list[str]]:
        """The annotations that have a pose, by their images."""
        largest = 2**30
        values = read_json(self.root, largest)
        try:
            images = {str(entry["id"]): entry for entry in values["images"]}
            names = {str(entry["id"]): str(entry["name"]) for entry in values["categories"]}
            annotations = [dict(entry) for entry in values["annotations"]]
        except (KeyError, TypeError, ValueError):
            raise CompNetError(
                f"{self.root}: is not a file of COCO; it needs images, annotations and categories"
            ) from None
        lines, left_out = read_table(self.poses, self.columns)
        poses = self._by_id(lines, left_out)
        joined: list[Row] = []
        used: set[str] = set()
        for annotation in annotations:
            where = f"{self.root}, annotation {str(annotation.get('id'))[:40]}"
            row = self._joined(annotation, images, names, poses, used)
            if isinstance(row, str):
                left_out.append((row, where))
            else:
                joined.append((where, row))
        left_out += [("a pose of no annotation", where) for key, (where, _) in poses.items() if key not in used]
        if not joined:
            raise CompNetError(f"{self.root}: none of its annotations has a pose in {self.poses}")
        items, more, notes = self.rows.items(joined, self.root)
        return items, [*left_out, *more], notes

    def _by_id(self, lines: Sequence[Row], left_out: list[LeftOut]) -> dict[str, Row]:
        key = next((key for key in ("annotation_id", "image_id") if any(key in values for _, values in lines)), None)
        if key is None:
            raise CompNetError(f"{self.poses}: has no column annotation_id or image_id; name it so, or give --columns")
        found: dict[str, Row] = {}
        for where, values in lines:
            if key not in values:
                left_out.append((f"no {key}", where))
            elif f"{key} {values[key]}" in found:
                left_out.append((f"a second pose of the same {key}", where))
            else:
                found[f"{key} {values[key]}"] = where, values
        return found

    def _joined(
        self,
        annotation: Json,
        images: Mapping[str, Json],
        names: Mapping[str, str],
        poses: Mapping[str, Row],
        used: set[str],
    ) -> Json | str:
        """An annotation with its pose as a line of a table, or why there is none."""
        keys = [f"annotation_id {annotation.get('id')}", f"image_id {annotation.get('image_id')}"]
        key = next((key for key in keys if key in poses), None)
        if key is None:
            return "no pose"
        if key in used:
            return "several annotations of an image whose table names images alone"
        image = images.get(str(annotation.get("image_id")))
        category = names.get(str(annotation.get("category_id")))
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str) or category is None:
            return "no image or category of this number"
        if annotation.get("iscrowd"):
            return "a crowd"
        used.add(key)
        pose = {name: value for name, value in poses[key][1].items() if name not in ("annotation_id", "image_id")}
        row: Json = {"image": image["file_name"], "category": category, "box_xywh": annotation.get("bbox")}
        row |= {name: image[name] for name in ("width", "height") if name in image}
        if annotation.get("segmentation"):
            row["mask"] = annotation["segmentation"]
        return {**row, **pose}
