"""ImageNet3D: the raw download, and both layouts that its tools make of it.

- raw: ROOT/{images,annotations,lists,CAD}, as ours; copied as far as it is complete
- ROOT/{train,val}/{images,annotations,lists}/{category}/..., the lists called mesh01.txt, mesh02.txt, ...
- ROOT/{images,annotations,lists}/{category}_{split}/..., likewise

The tools cut each object out and write its numbers at the top level of an .npz file, the bottom of its box moved by the
padding below the image where that above it is meant; this is undone. They write no size, which is the image's. Files of
NeMo, an earlier tool, keep the numbers of the whole image and say how the object was cut out, which is done to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from compnet3d.data.annotations import Annotation, SkipObject, annotation_dict, read_annotation
from compnet3d.data.imagenet3d import is_image_name, read_list
from compnet3d.data.images import image_size
from compnet3d.data.importers.import_data import Record, Source
from compnet3d.data.importers.import_report import LeftOut
from compnet3d.data.importers.names import cad_files, image_file, without_suffix
from compnet3d.data.unpickle import load_npz_objects
from compnet3d.errors import CompNetError
from compnet3d.utils.files import Json, files_in, folders_in, is_file, read_json

_CUT = ("azimuth", "elevation", "theta", "distance", "focal", "viewport", "principal", "cad_index", "bbox")
_MAYBE = ("px", "py", "padding_params", "bbox_original", "py_original", "resize_rate", "box", "padding", "class")


@dataclass(frozen=True)
class ImageNet3dItem:
    """One image and its annotation; `cut` if it is of a layout of the tools."""

    category: str
    name: str
    splits: tuple[str, ...]
    image: Path
    annotation: Path
    cut: bool


@dataclass
class ImageNet3dSource(Source):
    """ImageNet3D in any of its layouts.

    Attributes:
        root: the folder, or one that holds it.
        cad: the folder with the CAD models, one folder for each category; ROOT/CAD by default.
    """

    format: ClassVar[str] = "imagenet3d"
    root: Path
    cad: Path | None = None
    places: tuple[Path, ...] = field(default=(), init=False, repr=False)

    def items(self) -> tuple[Sequence[ImageNet3dItem], list[LeftOut], list[str]]:
        """The images of all lists."""
        self.places = (self.root, *folders_in(self.root))
        found: dict[tuple[str, str], ImageNet3dItem] = {}
        left_out: list[LeftOut] = []
        for item in self._listed():
            if not is_image_name(item.name):
                left_out.append(("list entry is not an image name", f"{item.category}: {ascii(item.name[:60])}"))
                continue
            earlier = found.get((item.category, item.name))
            splits = tuple(dict.fromkeys((*(earlier.splits if earlier else ()), *item.splits)))
            found[item.category, item.name] = ImageNet3dItem(
                item.category, item.name, splits, item.image, item.annotation, item.cut
            )
        if not found:
            raise CompNetError(
                f"{self.root}: has no list of an image; it needs lists/CATEGORY_imagenet_train.txt, or of the tools' "
                "layouts lists/CATEGORY/mesh01.txt"
            )
        return list(found.values()), left_out, []

    def _listed(self) -> Iterator[ImageNet3dItem]:
        for place in self.places:
            lists = place / "lists"
            if not lists.is_dir():
                continue
            for path in files_in(lists):
                match = re.fullmatch(r"(.+)_imagenet_([A-Za-z0-9-]+)\.txt", path.name)
                for name in read_list(path) if match else ():
                    yield _item(place, match[1], match[1], match[2], name, False)  # type: ignore[index]
            for folder in folders_in(lists):
                match = re.fullmatch(r"(.+)_(train|val|test)", folder.name)
                category, split = (match[1], match[2]) if match else (folder.name, place.name)
                for path in files_in(folder):
                    for name in read_list(path) if path.suffix == ".txt" else ():
                        yield _item(place, folder.name, category, split, name, True)

    def read(self, item: ImageNet3dItem) -> tuple[Sequence[Record], Sequence[LeftOut]]:
        """The image's objects."""
        if not is_file(item.image):
            return (), [("missing image", str(item.image))]
        if not is_file(item.annotation):
            return (), [("missing annotation", str(item.annotation))]
        try:
            entries = [_cut_entry(item)] if item.cut else read_annotation(item.annotation)
        except SkipObject as reason:
            return (), [(str(reason), str(item.annotation))]
        except CompNetError:
            return (), [("unreadable annotation", str(item.annotation))]
        if not entries:
            return (), [("annotation without objects", str(item.annotation))]
        mask: Path | None = item.image.parents[2] / "masks" / item.category / f"{item.name}.png"
        mask = mask if mask is not None and not item.cut and is_file(mask) else None
        where = [(str(item.annotation), entry) for entry in entries]
        return [Record(item.category, item.name, item.splits, item.image, where, mask)], []

    def models(self, category: str) -> Mapping[str, Path]:
        """The data set's, by their numbers."""
        if self.cad is not None:
            return cad_files(self.cad / category)
        found = (cad_files(place / "CAD" / category) for place in self.places)
        return next((files for files in found if files), {})

    def symmetry(self) -> Json:
        """That of a copy in our layout, which may have one."""
        path = next((place / "symmetry.json" for place in self.places if is_file(place / "symmetry.json")), None)
        values = {} if path is None else read_json(path)
        return values if isinstance(values, dict) else {}


def _item(place: Path, folder: str, category: str, split: str, name: str, cut: bool) -> ImageNet3dItem:
    name = without_suffix(name)
    image = image_file(place / "images" / folder, name)
    return ImageNet3dItem(category, name, (split,), image, place / "annotations" / folder / f"{name}.npz", cut)


def _cut_entry(item: ImageNet3dItem) -> Annotation:
    """The numbers of an object that was cut out, for the image that was made of it.

    Raises:
        SkipObject: if one is missing.
        CompNetError: if the file cannot be read, or an array has another shape.
    """
    values = _top_level(item.annotation)
    width, height = image_size(item.image)
    try:
        principal, box = _vector(values, "principal", 2), _vector(values, "bbox", 4)
        scale = 1.0
        if "box" in values and "resize_rate" in values:  # NeMo's: of the whole image
            scale = float(values["resize_rate"])
            top, _, left, *_ = _vector(values, "box", 6)
            padding = np.asarray(values["padding"], dtype=np.float64).reshape(3, 2)
            # resized, padded on the left and above, then cut
            shift = np.array([padding[1, 0] - left, padding[0, 0] - top])
            principal, box = principal * scale + shift, box * scale + np.tile(shift, 2)
        else:
            if "px" in values and "py" in values:
                principal = np.array([float(values["px"]), float(values["py"])])
            box = _mended(box, values, principal)
        return annotation_dict(
            category=item.category,
            azimuth=float(values["azimuth"]),
            elevation=float(values["elevation"]),
            theta=float(values["theta"]),
            distance=float(values["distance"]),
            focal=float(values["focal"]) * float(values["viewport"]) * scale,
            principal_point=(float(principal[0]), float(principal[1])),
            bbox=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            width=width,
            height=height,
            cad_index=int(values["cad_index"]),
            viewport=max(1, int(values["viewport"])),
        )
    except (TypeError, ValueError, OverflowError):
        raise CompNetError(f"{item.annotation}: its numbers are none") from None


def _mended(box: np.ndarray, values: Mapping[str, Any], principal: np.ndarray) -> np.ndarray:
    """The box with its bottom where it belongs: the tool adds the padding below the image, not that above."""
    if "padding_params" in values:
        above, below = _vector(values, "padding_params", 6)[:2]
        return box + [0.0, 0.0, 0.0, above - below]
    if "bbox_original" in values and "py_original" in values and "resize_rate" in values:
        below_principal = _vector(values, "bbox_original", 4)[3] - float(values["py_original"])
        return np.array([*box[:3], principal[1] + below_principal * float(values["resize_rate"])])
    return box


def _top_level(path: Path) -> Json:
    found: Json = {}
    for key in (*_CUT, *_MAYBE):
        try:
            found[key] = load_npz_objects(path, key)
        except CompNetError as error:
            if key in _CUT and f"it has no key '{key}" in str(error):
                raise SkipObject(f"missing key {key}") from None
            if key in _CUT:
                raise
    return found


def _vector(values: Mapping[str, Any], key: str, length: int) -> np.ndarray:
    vector = np.asarray(values[key], dtype=np.float64).ravel()
    if len(vector) != length or not np.isfinite(vector).all():
        raise ValueError(key)
    return vector
