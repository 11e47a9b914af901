"""Photographs and the data set that their annotations go into: what the annotation page reads and writes."""

from __future__ import annotations

import io
import re
import threading
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from compnet3d.apps.annotation_photographs import notes_path, read_notes
from compnet3d.apps.annotation_shapes import cuboid_of, is_cuboid, read_shapes, write_off
from compnet3d.data.annotations import (
    Annotation,
    SkipObject,
    annotation_dict,
    parse_object,
    plain_name,
    read_annotation,
    write_annotation,
)
from compnet3d.data.imagenet3d import find_image, is_image_name, read_list, write_list
from compnet3d.data.images import load_image
from compnet3d.data.sample import Sample
from compnet3d.data.shapes.read import indexed_shapes
from compnet3d.data.symmetry import load_symmetry, symmetry_orders
from compnet3d.data.transforms import match_image_size
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh
from compnet3d.utils.files import Json, explain, is_file, write_bytes, write_json

VIEWPORT = 3000  # focal length in pixels where nothing else is known, as in ImageNet3D


class ChangedElsewhere(CompNetError):
    """What is to be saved was changed in another window since it was read."""


@dataclass(frozen=True)
class Item:
    """One object in one image.

    Attributes:
        name: of the image in the data set, without extension; index: which of its objects, from 0.
    """

    name: str
    index: int = 0

    @property
    def key(self) -> str:
        """What the page calls it."""
        return f"{self.name}#{self.index}"

    @classmethod
    def of(cls, key: str) -> Item:
        """The item of a key.

        Raises:
            CompNetError: if it is none.
        """
        name, _, index = key.rpartition("#")
        if not name or not re.fullmatch(r"[0-9]{1,3}", index):
            raise CompNetError(f"{key[:80]}: is no object of these images; load the page anew")
        return cls(name, int(index))


@dataclass(frozen=True)
class Placement:
    """Where an object is in its image, as `Sample` says it; elevation in [-pi, pi], all else in its units."""

    azimuth: float
    elevation: float
    theta: float
    distance: float
    focal: float
    principal_point: tuple[float, float]
    bbox: tuple[float, float, float, float]
    cad_index: int = 1

    def to_json(self) -> Json:
        """For the page."""
        names = ("azimuth", "elevation", "theta", "distance", "focal")
        u, v = self.principal_point
        return {**{n: getattr(self, n) for n in names}, "u": u, "v": v, "box": [*self.bbox], "cad": self.cad_index}


class AnnotationSet:
    """The images of one category that are annotated, in a data set of our layout; its methods may run in any thread.

    Attributes:
        root: the data set; category: of all objects.
        names: of the images, in the order in which they are shown.
        symmetry_order: of the category about its upright axis; 0: any turn changes nothing.
        meshes: CAD models by cad_index; a cuboid may still be replaced as long as nothing was saved.
    """

    def __init__(
        self,
        root: Path,
        category: str,
        photographs: dict[str, Path] | None,
        mesh: Mesh | None = None,
        val_every: int | None = None,
    ) -> None:
        """Read what has been annotated so far.

        Args:
            root: the data set, which is made with the first object.
            category: of the objects.
            photographs: file of each name, copied into the data set when they are annotated; None: those of its lists.
            mesh: the shape, for a category without CAD models.
            val_every: every so many-th image goes into the val list instead of the train list.

        Raises:
            CompNetError: if the data set cannot be read, or has other CAD models than `mesh`.
        """
        self.root, self.category, self.val_every = root, category, val_every
        self._photographs = photographs or {}
        self._lock = threading.RLock()
        self._lists = self._read_lists()
        # a list must not lead out of the data set's folders
        listed = [name for names in self._lists.values() for name in names if is_image_name(name)]
        self.names = list(self._photographs) or list(dict.fromkeys(listed))
        self._problems: dict[str, str] = {}
        self._objects = {name: self._read_objects(name) for name in self.names}
        notes = read_notes(root).get(category, {})
        self._skipped = set(notes.get("skipped", []))
        self._last: str | None = notes.get("last")
        self.symmetry_order = int(symmetry_orders([category], load_symmetry(root)))
        self.meshes = read_shapes(root / "CAD" / category, mesh)

    # -- reading -----------------------------------------------------------------------------------------------------

    def items(self) -> list[Item]:
        """Every object of the category, image by image; an image without any is one item."""
        with self._lock:
            return [Item(name, index) for name in self.names for index in self._own(self._objects[name])]

    def _own(self, objects: Sequence[Annotation]) -> list[int]:
        own = [i for i, entry in enumerate(objects) if self._is_shown(entry)]
        return own or [len(objects)]

    def _is_shown(self, entry: Annotation) -> bool:
        """Whether an object is of the category and to be used, as `parse_object` says."""
        label, ignored = entry.get("class", self.category), entry.get("ignore", 0)
        return plain_name(str(label)) == plain_name(self.category) and not (isinstance(ignored, int) and ignored > 0)

    def status(self, item: Item) -> Literal["new", "saved", "skipped", "unreadable"]:
        """How far it is."""
        if item.name in self._problems:
            return "unreadable"
        if self._entry(item) is not None and self.split(item) is not None:
            return "saved"
        return "skipped" if item.key in self._skipped else "new"

    def problem(self, item: Item) -> str | None:
        """Why its image cannot be shown, where it cannot."""
        return self._problems.get(item.name)

    def split(self, item: Item) -> str | None:
        """In which list its image is."""
        return next((split for split, names in self._lists.items() if item.name in names), None)

    def title(self, item: Item) -> str:
        """The file that the user knows it by."""
        return self._source(item.name).name

    def version(self, item: Item) -> str:
        """Another one after every change of what is saved."""
        entry = self._entry(item)
        return "" if entry is None else f"{zlib.crc32(repr(sorted(entry.items(), key=str)).encode()):08x}"

    def image(self, name: str) -> Image.Image:
        """An image in RGB, upright, with the pixels that its annotations are in.

        Raises:
            CompNetError: naming the file, if it cannot be read; it is unreadable from now on.
        """
        self._require(name)
        try:
            return load_image(self._source(name), size=self._annotated_size(name))
        except CompNetError as error:
            self._problems[name] = str(error)
            raise

    def placement(self, item: Item, size: tuple[int, int]) -> Placement | None:
        """Where the object is in its image of this (width, height); None where nothing usable is saved."""
        entry = self._entry(item)
        try:
            sample = None if entry is None else match_image_size(self._sample(item, entry), size)
        except (SkipObject, CompNetError):  # to be annotated anew
            return None
        return None if sample is None else placement_of(sample)

    def _annotated_size(self, name: str) -> tuple[int, int] | None:
        for entry in self._objects[name]:
            with suppress(SkipObject):
                sample = self._sample(Item(name), entry)
                return sample.width, sample.height
        return None

    def angles(self, item: Item) -> tuple[float, float, float] | None:
        """Azimuth, elevation and theta that are saved, radians."""
        entry = self._entry(item)
        try:
            sample = None if entry is None else self._sample(item, entry)
        except SkipObject:
            return None
        return None if sample is None else (sample.azimuth, sample.elevation, sample.theta)

    @property
    def last(self) -> Item | None:
        """What was saved last, also by an earlier session."""
        last = None if self._last is None else Item.of(self._last)
        return last if last is not None and last.name in self._objects and self._entry(last) is not None else None

    @property
    def size_is_open(self) -> bool:
        """Whether the cuboid's proportions may still be changed: no CAD model is written yet."""
        return not self._cad_path(1).exists() and is_cuboid(self.meshes[1])

    # -- writing -----------------------------------------------------------------------------------------------------

    def save(self, item: Item, placed: Placement, version: str, size: Sequence[float] | None = None) -> None:
        """Write one object: image, CAD model and list where they are missing, and its annotation.

        Args:
            item: an object that there is, or the next of its image.
            placed: where it is; version: what the page last saw of it.
            size: width, depth and height of the cuboid, as long as `size_is_open`.

        Raises:
            CompNetError: if it was changed elsewhere meanwhile, cannot be used for training, or cannot be written;
                what was saved before is still there.
        """
        with self._lock:
            self._require(item.name)
            if version != self.version(item):
                raise ChangedElsewhere(f"{self.title(item)}: was changed in another window; save again to replace that")
            objects = list(self._objects[item.name])
            if item.index > len(objects):
                raise CompNetError(f"{self.title(item)}: has {len(objects)} objects; load the page anew")
            if placed.cad_index not in self.meshes:
                raise CompNetError(f"there is no CAD model {placed.cad_index}; load the page anew")
            pixels = self.image(item.name)
            entry = self._with(objects[item.index] if item.index < len(objects) else {}, placed, pixels.size)
            objects[item.index : item.index + 1] = [entry]
            try:
                self._sample(item, entry)
            except SkipObject as reason:
                raise CompNetError(f"{self.title(item)}: cannot be saved ({reason}); correct it") from None
            self._write(item.name, pixels, objects, size)
            self._objects[item.name] = objects
            self._skipped.discard(item.key)
            self._last = item.key
            self._write_notes()

    def clear(self, item: Item, version: str) -> None:
        """Take back what was saved of an object; an image without any leaves the list."""
        with self._lock:
            self._require(item.name)
            objects = list(self._objects[item.name])
            if version != self.version(item) or item.index >= len(objects):
                raise ChangedElsewhere(f"{self.title(item)}: was changed in another window; load the page anew")
            del objects[item.index]
            if objects:
                write_annotation(self._annotation_path(item.name), objects)
            else:
                self._remove(item.name)
            self._objects[item.name] = objects

    def skip(self, item: Item, skipped: bool) -> None:
        """Note that an image is left out, or no longer."""
        with self._lock:
            self._require(item.name)
            (self._skipped.add if skipped else self._skipped.discard)(item.key)
            self._write_notes()

    # -- files -------------------------------------------------------------------------------------------------------

    def _write(self, name: str, pixels: Image.Image, objects: list[Annotation], size: Sequence[float] | None) -> None:
        """In this order: what the list names is there, whenever this stops."""
        if size is not None and self.size_is_open:
            self.meshes[1] = cuboid_of(size)
        if not self._cad_path(1).exists() and 1 in self.meshes:
            write_off(self._cad_path(1), self.meshes[1])
        if find_image(self.root, self.category, name) is None:
            stream = io.BytesIO()
            pixels.save(stream, "JPEG", quality=95)
            write_bytes(self.root / "images" / self.category / f"{name}.JPEG", stream.getvalue())
        path = self._annotation_path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_annotation(path, objects)
        except OSError as error:
            raise CompNetError(explain(error, path)) from None
        if self.split(Item(name)) is None:
            count = sum(map(len, self._lists.values())) + 1
            split = "val" if self.val_every is not None and count % self.val_every == 0 else "train"
            longer = dict.fromkeys([*self._lists.get(split, []), name])
            write_list(self.root, self.category, split, longer)
            self._lists[split] = longer

    def _remove(self, name: str) -> None:
        """Take an image out of its list, then out of the data set if it is a copy of a photograph."""
        for split, names in self._lists.items():
            if name in names:
                self._lists[split] = dict.fromkeys(other for other in names if other != name)
                write_list(self.root, self.category, split, self._lists[split])
        self._annotation_path(name).unlink(missing_ok=True)
        copy = find_image(self.root, self.category, name)
        if name in self._photographs and copy is not None:
            copy.unlink()

    def _write_notes(self) -> None:
        notes = read_notes(self.root)
        notes[self.category] = {**notes.get(self.category, {}), "skipped": sorted(self._skipped), "last": self._last}
        write_json(notes_path(self.root), notes)

    def _with(self, entry: Annotation, placed: Placement, size: tuple[int, int]) -> Annotation:
        """An entry with another placement; what else the file says of the object stays."""
        new = annotation_dict(
            category=self.category,
            azimuth=placed.azimuth,
            elevation=placed.elevation,
            theta=placed.theta,
            distance=placed.distance,
            focal=placed.focal,
            principal_point=placed.principal_point,
            bbox=placed.bbox,
            width=size[0],
            height=size[1],
            cad_index=placed.cad_index,
            viewport=VIEWPORT,
        )
        kept = ("object_status", "dense", "ignore", "class")
        return {**new, **entry, **{key: value for key, value in new.items() if key not in kept}}

    def _read_lists(self) -> dict[str, dict[str, None]]:
        """The names in the list of each split; a dict finds one among many at once, and keeps their order."""
        pattern = f"{self.category}_imagenet_"
        folder = self.root / "lists"
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        splits = {p.stem.removeprefix(pattern): p for p in paths if p.name.startswith(pattern) and p.suffix == ".txt"}
        return {split: dict.fromkeys(read_list(path)) for split, path in splits.items()}

    def _read_objects(self, name: str) -> list[Annotation]:
        path = self._annotation_path(name)
        try:
            return read_annotation(path) if is_file(path) else []
        except CompNetError as error:  # to be repaired: saving would replace what it holds
            self._problems[name] = str(error)
            return []

    def _require(self, name: str) -> None:
        if name not in self._objects:
            raise CompNetError(f"{name[:80]}: is none of these images; load the page anew")

    def _entry(self, item: Item) -> Annotation | None:
        objects = self._objects.get(item.name, [])
        return objects[item.index] if item.index < len(objects) else None

    def _sample(self, item: Item, entry: Annotation) -> Sample:
        return parse_object(entry, image=self._source(item.name), category=self.category, name=item.name)

    def _source(self, name: str) -> Path:
        copy = find_image(self.root, self.category, name)
        # the copy first: annotations are in its pixels
        return copy or self._photographs.get(name) or self.root / "images" / self.category / f"{name}.JPEG"

    def _annotation_path(self, name: str) -> Path:
        return self.root / "annotations" / self.category / f"{name}.npz"

    def _cad_path(self, index: int) -> Path:
        folder = self.root / "CAD" / self.category
        return indexed_shapes(folder).get(index, folder / f"{index:02d}.off")


def placement_of(sample: Sample) -> Placement:
    """What the page shows of a sample."""
    names = ("azimuth", "elevation", "theta", "distance", "focal", "principal_point", "bbox", "cad_index")
    return Placement(**{name: getattr(sample, name) for name in names})
