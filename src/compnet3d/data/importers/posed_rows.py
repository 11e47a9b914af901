"""Lines that each state an object in an image with its pose, as a source: what `table` and `coco` have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from compnet3d.data.annotations import Annotation, SkipObject, annotation_dict
from compnet3d.data.images import image_size
from compnet3d.data.importers.columns import Row, meanings_of
from compnet3d.data.importers.import_data import Mask, Record, Source
from compnet3d.data.importers.import_report import LeftOut
from compnet3d.data.importers.names import drawn_splits, safe_name, unique_names
from compnet3d.data.importers.posed_row import Box, Placed, RowForm, mask_path, place_row, row_box, row_rotation
from compnet3d.data.importers.rle import mask_of
from compnet3d.data.importers.shapes import Shapes, Size, View, box_of_size, fitted_size, number_of, outline
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera, Pose, fit_to_box
from compnet3d.geometry.mesh import Mesh
from compnet3d.utils.files import Json, is_file

MOST_VIEWS = 1000  # of each category, for the fit of its size


@dataclass(frozen=True)
class RowItem:
    """One image with lines of one category."""

    category: str
    name: str
    split: str
    image: Path
    rows: tuple[Row, ...]


@dataclass
class PosedRows:
    """Makes items of lines, and records of items.

    Attributes:
        form: how the lines' numbers are to be understood.
        shapes: where the categories' shapes come from.
        folder: of the images and masks; category: of all lines, where they have none.
        sizes: of categories without CAD models; known when the items are.
    """

    form: RowForm
    shapes: Shapes
    folder: Path
    category: str | None = None
    sizes: dict[str, Size] = field(default_factory=dict)
    outlines: dict[tuple[str, int], torch.Tensor] = field(default_factory=dict)  # what each process has read

    def items(self, rows: Sequence[Row], where: Path) -> tuple[list[RowItem], list[LeftOut], list[str]]:
        """The lines by their images, lines that are none, and what is assumed.

        Raises:
            CompNetError: if the columns do not say enough.
        """
        meanings = meanings_of(rows)
        if "image" not in meanings:
            raise CompNetError(f"{where}: has no column of images; name it image, or give --columns image=COLUMN")
        if "category" not in meanings and self.category is None:
            raise CompNetError(
                f"{where}: has no column of categories; name it category, or give --category NAME for all lines"
            )
        self.form.check(meanings, str(where))
        usable, left_out = self._usable(rows)
        items, torn = _grouped(usable)
        items = [replace(item, image=self.folder / item.image) for item in items]
        notes = [*self._assumed(meanings), *self._find_sizes(usable)]
        return items, [*left_out, *torn], notes

    def _usable(self, rows: Iterable[Row]) -> tuple[list[Row], list[LeftOut]]:
        """The lines that name an image and a category and have a pose."""
        usable: list[Row] = []
        left_out: list[LeftOut] = []
        for where, values in rows:
            category = safe_name(str(values.get("category", self.category or "")))
            if "image" not in values or category == "_":
                left_out.append(("no image" if "image" not in values else "no category", where))
                continue
            try:
                row_rotation(values, self.form)
                row_box(values, self.form)
            except SkipObject as reason:
                left_out.append((str(reason), where))
                continue
            image = str(values["image"]).replace("\\", "/")
            usable.append((where, {**values, "category": category, "image": image}))
        return usable, left_out

    def _assumed(self, meanings: set[str]) -> list[str]:
        notes = []
        if not {"focal", "fx", "camera"} & meanings and self.form.focal is None:
            notes.append("no focal length is stated: 1.2 times the image's longer side is taken (give --focal)")
        if not {"distance", "translation", "tx"} & meanings:
            notes.append("no distances are stated: those at which the category's shape fills the boxes are taken")
        if not {"theta", "theta_deg", "theta_rad", "rotation", "r11", "qw"} & meanings and not any(
            name.startswith("quaternion") for name in meanings
        ):
            notes.append("no theta is stated: 0 (upright) is taken")
        if "split" not in meanings:
            kind = "objects" if "instance" in meanings else "images"
            notes.append(f"no split is stated: a fifth of each category's {kind} is val")
        return notes

    def _find_sizes(self, rows: Sequence[Row]) -> list[str]:
        """Find the sizes of the categories without CAD models, and say which were fitted."""
        by_category: dict[str, list[Row]] = {}
        for row in rows:
            by_category.setdefault(row[1]["category"], []).append(row)
        stated = {safe_name(name): size for name, size in self.shapes.stated_sizes().items()}
        fitted = []
        for category, members in by_category.items():
            if self.shapes.models(category):
                continue
            if category in stated:
                self.sizes[category] = stated[category]
                continue
            views = [
                view for _, values in members[:: max(1, len(members) // MOST_VIEWS)] for view in self._view(values)
            ]
            if views:
                size = self.sizes[category] = fitted_size(views)
                longest = max(size)
                fitted.append(f"{category} {' x '.join(f'{side / longest:.2f}' for side in size)}")
        if not fitted:
            return []
        more = f" and {len(fitted) - 10} more" if len(fitted) > 10 else ""
        return [
            "no CAD models or sizes are stated (--cad, --sizes): boxes (width x depth x height) were fitted to the "
            f"boxes and poses: {', '.join(fitted[:10])}{more}"
        ]

    def _view(self, values: Mapping[str, Any]) -> list[View]:
        box = row_box(values, self.form)
        if box is None:
            return []
        ratio = None
        if {"distance", "translation", "tx"} & values.keys() or self.form.relative:
            try:
                placed = place_row(values, self.form, self._size(values, self.folder / values["image"]))
            except (SkipObject, CompNetError, OSError):
                return []
            box = placed.box or box
            ratio = None if placed.distance is None else placed.distance / placed.focal
        return [(row_rotation(values, self.form), box, ratio)]

    def models(self, category: str) -> Mapping[str, Path | Mesh]:
        """The category's CAD models, or a box of its size."""
        models = self.shapes.models(category)
        if models or category not in self.sizes:
            return models
        return {"01.off": box_of_size(self.sizes[category])}

    def read(self, item: RowItem) -> tuple[Sequence[Record], Sequence[LeftOut]]:
        """The image with its objects: one record, or one for each object where they have masks of their own."""
        if not is_file(item.image):
            return (), [("missing image", str(item.image))]
        left_out: list[LeftOut] = []
        found: list[tuple[str, Annotation, Mask | None]] = []
        for where, values in item.rows:
            try:
                size = self._size(values, item.image)
                entry = self._entry(values, item.category, size)
                found.append((where, entry, self._mask(values, size)))
            except SkipObject as reason:
                left_out.append((str(reason), where))
            except CompNetError:
                left_out.append(("unreadable image", str(item.image)))
        together = len(found) < 2 or all(mask is None for *_, mask in found)
        parts = [found] if together else [[entry] for entry in found]
        return [
            Record(
                item.category,
                item.name if together else f"{item.name}_object{place}",
                (item.split,),
                item.image,
                [(where, entry) for where, entry, _ in part],
                part[0][2],
            )
            for place, part in enumerate(parts)
            if part
        ], left_out

    def _outline(self, category: str, cad_index: int) -> torch.Tensor:
        if (category, cad_index) not in self.outlines:
            self.outlines[category, cad_index] = outline(self.models(category), cad_index)
        return self.outlines[category, cad_index]

    def _size(self, values: Mapping[str, Any], image: Path) -> tuple[int, int]:
        width, height = (number_of(values.get(name), 0) for name in ("width", "height"))
        return (width, height) if width > 0 and height > 0 else image_size(image)

    def _mask(self, values: Mapping[str, Any], size: tuple[int, int]) -> Mask | None:
        if "mask" not in values:
            return None
        path = mask_path(values, self.folder)
        return mask_of(values["mask"], size) if path is None else path

    def _entry(self, values: Mapping[str, Any], category: str, size: tuple[int, int]) -> Annotation:
        placed = place_row(values, self.form, size)
        cad_index = number_of(values.get("cad_index"), 1)
        models = self.models(category)
        distance, point, box = placed.distance, placed.principal_point, placed.box
        if models and (distance is None or point is None or box is None):
            distance, point, box = completed(placed, self._outline(category, cad_index), size)
        if distance is None or point is None or box is None:
            raise SkipObject("no box" if box is None else "no distance")
        pose = Pose.from_matrix(placed.rotmat)
        entry = annotation_dict(
            category=category,
            azimuth=float(pose.azimuth),
            elevation=float(pose.elevation),
            theta=float(pose.theta),
            distance=distance,
            focal=placed.focal,
            principal_point=point,
            bbox=box,
            width=size[0],
            height=size[1],
            cad_index=cad_index,
        )
        return entry if placed.camera is None else entry | {"camera_matrix": placed.camera}


def completed(placed: Placed, points: torch.Tensor, size: tuple[int, int]) -> tuple[float, tuple[float, float], Box]:
    """Distance, principal point and box of an object; those that are not stated follow from its shape.

    Args:
        placed: what is stated; a box, or both of the others.
        points: of the object's shape, float64 [V, 3].
        size: (width, height) of the image.

    Raises:
        SkipObject: if too little is stated, or the camera would stand inside the object.
    """
    width, height = size
    pose = Pose.from_matrix(placed.rotmat[None], placed.distance or 1.0)
    camera = Camera(
        focal=torch.tensor([placed.focal], dtype=torch.float64),
        principal_point=torch.tensor([placed.principal_point or (0.0, 0.0)], dtype=torch.float64),
        height=height,
        width=width,
    )
    if placed.distance is None:
        if placed.box is None:
            raise SkipObject("no box")
        x1, y1, x2, y2 = placed.box
        # from afar first: near the object, the size does not fall with the distance
        span = float((points.amax(dim=0) - points.amin(dim=0)).norm())
        start = Pose.from_matrix(placed.rotmat[None], max(placed.focal * span / max(x2 - x1, y2 - y1), 2 * span))
        pose, _ = fit_to_box(points, start, camera, max(x2 - x1, y2 - y1))
    pixels, depth = camera.project(points[None], pose)
    if not bool((depth > 0).all()):
        raise SkipObject("the camera would stand inside the object")
    low, high = pixels[0].amin(dim=0), pixels[0].amax(dim=0)
    if placed.principal_point is not None:
        point = placed.principal_point
    elif placed.box is None:
        raise SkipObject("no box")
    else:
        x1, y1, x2, y2 = placed.box
        middle = (low + high) / 2
        point = ((x1 + x2) / 2 - float(middle[0]), (y1 + y2) / 2 - float(middle[1]))
    box = placed.box or (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    return float(pose.distance), point, box


@dataclass
class RowSource(Source):
    """A `Source` of lines that each state an object with its pose.

    Attributes:
        rows: makes items and records of them.
    """

    rows: PosedRows = field(init=False, repr=False)

    def read(self, item: RowItem) -> tuple[Sequence[Record], Sequence[LeftOut]]:
        """The image with its objects."""
        return self.rows.read(item)

    def models(self, category: str) -> Mapping[str, Path | Mesh]:
        """The user's CAD models, or a box."""
        return self.rows.models(category)


def _grouped(rows: Sequence[Row]) -> tuple[list[RowItem], list[LeftOut]]:
    """The lines by image, category and object, each with a name and a split."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for where, values in rows:
        instance = str(values.get("instance", ""))
        groups.setdefault((values["category"], instance, values["image"]), []).append((where, values))
    names = _named(groups)
    # objects stay together where they are told, images elsewhere
    drawn: dict[str, list[str]] = {}
    for category, instance, image in groups:
        drawn.setdefault(category, []).append(instance or image)
    splits = drawn_splits(drawn)
    items: list[RowItem] = []
    left_out: list[LeftOut] = []
    for (category, instance, image), members in groups.items():
        split = _split(members[0][1]) or splits[category, instance or image]
        fitting = [row for row in members if _split(row[1]) in (None, split)]
        left_out += [
            ("another split than its image", where) for where, values in members if (where, values) not in fitting
        ]
        kept = tuple((where, _without(values)) for where, values in fitting)
        items.append(RowItem(category, names[category, instance, image], split, Path(image), kept))
    return items, left_out


def _named(groups: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
    """A name of each group; `OBJECT_iNUMBER_vNUMBER` where objects are told, so that they stay together later, too."""
    by_image = unique_names(image for _, instance, image in groups if not instance)
    numbers: dict[str, dict[str, tuple[int, int]]] = {}
    names: dict[tuple[str, str, str], str] = {}
    for category, instance, image in groups:
        if not instance:
            names[category, instance, image] = by_image[image]
            continue
        known = numbers.setdefault(category, {})
        number, view = known.get(instance, (len(known) + 1, 0))
        known[instance] = number, view + 1
        names[category, instance, image] = f"{safe_name(instance)}_i{number:02d}_v{view:03d}"
    return names


def _split(values: Mapping[str, Any]) -> str | None:
    usual = {"training": "train", "validation": "val", "valid": "val", "dev": "val"}
    stated = str(values.get("split", "")).strip().lower()
    plain = "".join(c if c.isalnum() and c.isascii() else "-" for c in usual.get(stated, stated))
    return plain or None


def _without(values: Mapping[str, Any]) -> Json:
    return {key: value for key, value in values.items() if key not in ("image", "category", "split", "instance")}
