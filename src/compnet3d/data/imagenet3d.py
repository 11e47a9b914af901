"""The ImageNet3D raw layout on disk: the layout of every data set in this project.

- ROOT/images/{category}/{name}.JPEG, or another of `IMAGE_SUFFIXES`
- ROOT/annotations/{category}/{name}.npz: key `annotations`, an object array with one dict per object
- ROOT/lists/{category}_imagenet_{train,val}.txt: names without extension, one per line
- ROOT/CAD/{category}/{idx:02d}.off, or of another format of `data.shapes`: 1-based, named by cad_index
- ROOT/masks/{category}/{name}.png (or another of them) and ROOT/symmetry.json: optional
- ROOT/occluder_masks/{category}/{name}.png and ROOT/occlusion.json: of data sets that were occluded on purpose
"""

from __future__ import annotations

import codecs
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath, PureWindowsPath

import numpy as np

from compnet3d.data.annotations import (
    Annotation,
    OtherLayoutError,
    SkipObject,
    parse_object,
    read_annotation,
    write_annotation,
)
from compnet3d.data.images import OTHER_IMAGES
from compnet3d.data.importers.recognise import kind_of
from compnet3d.data.sample import Sample
from compnet3d.data.shapes.read import find_shapes, load_mesh
from compnet3d.data.symmetry import Symmetry, load_symmetry
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh
from compnet3d.utils.files import files_in, is_file, read_bytes, write_text

_SUFFIXES = ("jpeg", "jpg", "png", "webp", "tif", "tiff", "jfif", "jpe", "bmp")
# the data set's own spelling first: one look-up finds most files
IMAGE_SUFFIXES = (
    ".JPEG",
    *(f".{spell(suffix)}" for spell in (str.lower, str.upper, str.title) for suffix in _SUFFIXES),
)


@dataclass
class ReadReport:
    """What the reader kept and what it left out, and why.

    `skipped` counts objects (or whole files, where no object could be read) by reason; `examples` names the first
    file of each reason.
    """

    kept: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def total_skipped(self) -> int:
        """The number of skipped objects and files, over all reasons."""
        return sum(self.skipped.values())

    def skip(self, reason: str, where: Path | str) -> None:
        """Count one skipped object or file."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        self.examples.setdefault(reason, str(where))

    def __str__(self) -> str:
        lines = [f"{self.kept} objects read, {self.total_skipped} skipped"]
        for reason, count in sorted(self.skipped.items(), key=lambda item: -item[1]):
            lines.append(f"  {count} x {reason} (first: {self.examples[reason]})")
        return "\n".join(lines)


class ImageNet3D:
    """A data set in the ImageNet3D raw layout.

    Attributes:
        root: the folder.
        categories: those that have a list file, in alphabetical order, or the chosen ones.
        symmetry: of the categories that `symmetry.json` mentions.
        report: what `samples` has kept and skipped so far.
    """

    def __init__(self, root: Path | str, categories: Sequence[str] | None = None) -> None:
        """Open the folder; nothing but the names of the list files and `symmetry.json` is read yet.

        Args:
            root: the data set's folder.
            categories: restrict to these, in this order; all by default.

        Raises:
            CompNetError: if the folder or its lists are missing, or a chosen category does not exist.
        """
        self.root = Path(root)
        self.report = ReadReport()
        self._splits = _find_lists(self.root)
        found = sorted(self._splits)
        if categories is not None:
            unknown = [c for c in categories if c not in self._splits]
            if unknown:
                raise CompNetError(
                    f"{self.root / 'lists'} has no list for {', '.join(unknown)}; it has {_shorten(found)}."
                )
            # in the caller's order, which becomes that of the model's indices; a name given twice is one category
            found = list(dict.fromkeys(categories))
        self.categories = found
        self.symmetry: dict[str, Symmetry] = load_symmetry(self.root)

    @property
    def splits(self) -> list[str]:
        """The names of the splits that any category has a list for, usually ["train", "val"]."""
        return sorted({split for splits in self._splits.values() for split in splits})

    def has_list(self, category: str, split: str) -> bool:
        """Whether the category has a list file for this split."""
        return split in self._splits.get(category, {})

    def list_path(self, category: str, split: str) -> Path:
        """The category's list file of a split that it has."""
        return self._splits[category][split]

    def names(self, category: str, split: str) -> list[str]:
        """The image names in one list file, without duplicates; empty if the category has no such list.

        Entries as `ls` and `find` write them, with suffix and folder (`images/mug/a.JPEG`, `a.npz`), are names, too.
        """
        path = self._splits.get(category, {}).get(split)
        entries = [] if path is None else read_list(path)
        return list(dict.fromkeys(self._as_name(category, entry) for entry in entries))

    def samples(self, split: str) -> list[Sample]:
        """All usable objects of a split, categories in order, images in list order, objects in file order.

        Objects that cannot be used are skipped and counted in `report`. Images are not decoded.

        Raises:
            CompNetError: if no category has this list, or no object is left.
        """
        if split not in self.splits:
            raise CompNetError(
                f"{self.root / 'lists'} has no list for split {split!r} (CATEGORY_imagenet_{split}.txt); "
                f"it has {_shorten(self.splits)}."
            )
        # a report of this split alone, so that the error below does not speak of another one that was read before
        report, found = ReadReport(), []
        for category in self.categories:
            for name in self.names(category, split):
                found += read_objects(self.root, category, name, report)
        self._add(report)
        if not found:
            detail = str(report) if report.skipped else "its lists are empty"
            if not (self.root / "images").is_dir() and is_file(self.root / "index.json"):
                detail = "it is packed, which train, evaluate, calibrate and data check alone read"
            raise CompNetError(f"{self.root} has no usable object in split {split!r}: {detail}.")
        return found

    def cad_paths(self, category: str) -> list[Path]:
        """The category's CAD files in the order of their index (01.off is cad_index 1); maybe empty.

        Raises:
            CompNetError: if there are two for one index.
        """
        return find_shapes(self.root / "CAD" / category)

    def meshes(self, category: str) -> list[Mesh]:
        """The category's CAD models, in the order of `cad_paths`.

        Raises:
            CompNetError: if there are none, two for one index, or one is broken.
        """
        paths = self.cad_paths(category)
        if not paths:
            raise CompNetError(
                f"{self.root / 'CAD' / category} has no CAD model; put at least one there as 01.off "
                "(x right, y backward, z up), .obj, .ply, .stl, .glb, .gltf or .dae."
            )
        return [load_mesh(path) for path in paths]

    def advice(self) -> str:
        """What was skipped so far, and what lists it all."""
        return f"{self.report}\n  `compnet3d data check {self.root}` names every file"

    def _as_name(self, category: str, entry: str) -> str:
        path = PureWindowsPath(entry)  # whose parts are parted by / and by \\
        # no other folder than the category's: a list must not lead out of the data set
        if ".." not in path.parts and (path.parent.name == category or not path.parent.parts):
            entry = path.name
        if path.suffix not in (*IMAGE_SUFFIXES, ".npz") or not is_image_name(entry):
            return entry
        # a name may hold what looks like a suffix: the image a.jpg.JPEG
        itself = is_file(self.root / "images" / category / entry)
        return path.stem if itself or find_image(self.root, category, entry) is None else entry

    def _add(self, report: ReadReport) -> None:
        self.report.kept += report.kept
        for reason, count in report.skipped.items():
            self.report.skipped[reason] = self.report.skipped.get(reason, 0) + count
            self.report.examples.setdefault(reason, report.examples[reason])


def check_trainable(dataset: ImageNet3D, samples: Sequence[Sample]) -> None:
    """Print what the reader skipped, and refuse a training list that nothing can be learned from.

    Raises:
        CompNetError: if there is a category without any sample.
    """
    if dataset.report.total_skipped:
        print(dataset.advice(), file=sys.stderr)
    absent = sorted(set(dataset.categories) - {sample.category for sample in samples})
    if absent:
        raise CompNetError(
            f"{dataset.root}: no usable training object in {_shorten(absent)}; fill "
            f"lists/{absent[0]}_imagenet_train.txt or remove the category's lists (see data check)"
        )


def _find_lists(root: Path) -> dict[str, dict[str, Path]]:
    if not root.is_dir():
        raise CompNetError(f"{root} is not a folder; give the root of a data set that holds images/ and lists/.")
    folder = root / "lists"
    if not folder.is_dir():
        kind = kind_of(root)
        needed = f"it looks like {kind}" if kind else "it needs lists/CATEGORY_imagenet_train.txt and _val.txt"
        raise CompNetError(f"{root} has no lists/ folder; {needed}.")
    found: dict[str, dict[str, Path]] = {}
    for path in files_in(folder):
        # "_imagenet_" comes from PASCAL3D+, which has lists of other sources beside it
        if match := re.fullmatch(r"(?P<category>.+)_imagenet_(?P<split>[A-Za-z0-9-]+)\.txt", path.name):
            found.setdefault(match["category"], {})[match["split"]] = path
    if not found:
        raise CompNetError(f"{folder} holds no list; it needs files named CATEGORY_imagenet_train.txt and _val.txt.")
    return found


def _shorten(names: Sequence[str], limit: int = 12) -> str:
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def read_list(path: Path) -> list[str]:
    """The names in a list file: one per line; quotes, blank lines, comments (# ...) and repetitions are dropped.

    Raises:
        CompNetError: if the file cannot be read as text.
    """
    try:
        data = read_bytes(path, limit=16 * 2**20)  # a million names
        # PowerShell's > writes two bytes for each character, and some editors begin with a byte order mark
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        lines = data.decode("utf-16" if wide else "utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CompNetError(f"{path} cannot be read as a list of image names ({error}).") from error
    names = (line.strip().strip("\"'") for line in lines if not line.startswith("# "))
    return list(dict.fromkeys(name for name in names if name))


def is_image_name(name: str) -> bool:
    """Whether a list's entry can be an image's name: one part of a path, not hidden, that every file system takes."""
    # bytes, with the longest ending and what new files are called before they are complete
    longest = 200
    return (
        PurePath(name).name == name
        and "\\" not in name
        and not name.startswith(".")
        # control characters, and bytes of other encodings
        and not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
        and len(name.encode()) <= longest
    )


def find_image(root: Path, category: str, name: str) -> Path | None:
    """The image file of a name: `.JPEG`, or another of `IMAGE_SUFFIXES`; None if there is none."""
    return _find(root / "images" / category, name, IMAGE_SUFFIXES)


def _find(folder: Path, name: str, suffixes: Sequence[str]) -> Path | None:
    # joined as text: paths of many objects would take longer than the looks at the disk
    stem = os.path.join(folder, name)
    return next((Path(stem + suffix) for suffix in suffixes if os.path.isfile(stem + suffix)), None)


def find_mask(root: Path, category: str, name: str) -> Path | None:
    """The mask of a name: `.png`, or another of `IMAGE_SUFFIXES`; None if there is none."""
    folder = root / "masks" / category
    # asked first: most data sets have none, and there are many suffixes
    return _find(folder, name, (".png", *IMAGE_SUFFIXES)) if folder.is_dir() else None


def _annotation_of_another_kind(root: Path, category: str, name: str) -> str | None:
    """What is there in the place of an annotation, for a data set in another layout."""
    kinds = {".mat": "MATLAB file, as PASCAL3D+ has", ".json": "JSON file", ".txt": "text file, as YOLO has",
             ".xml": "XML file, as PASCAL VOC has"}  # fmt: skip
    places = [root / part / category for part in ("annotations", "images", "labels")]
    found = (kind for suffix, kind in kinds.items() for place in places if is_file(place / (name + suffix)))
    return next(found, None)


def read_objects(root: Path, category: str, name: str, report: ReadReport) -> list[Sample]:
    """The usable objects of one image; what is left out is counted in `report`."""
    annotation = root / "annotations" / category / f"{name}.npz"
    # before any file is opened: a list must not lead out of the data set's folders
    if not is_image_name(name):
        report.skip("list entry is not an image name", f"{category}: {ascii(name[:60])}")
        return []
    image = find_image(root, category, name)
    if image is None:
        folder = root / "images" / category
        unread = _find(
            folder, name, [spell(suffix) for suffix in (".gif", *OTHER_IMAGES) for spell in (str.lower, str.upper)]
        )
        reason = f"image is {unread.suffix.lower()}, not read: convert it to JPEG" if unread else "missing image"
        report.skip(reason, unread or folder / f"{name}.JPEG")
        return []
    if not is_file(annotation):
        other = _annotation_of_another_kind(root, category, name)
        reason = "missing annotation" if other is None else f"annotation is a {other}, not .npz: see `data import`"
        report.skip(reason, annotation)
        return []
    try:
        objects = read_annotation(annotation)
    except OtherLayoutError as error:
        report.skip(str(error), annotation)
        return []
    except CompNetError:
        report.skip("unreadable annotation", annotation)
        return []
    # one mask for each image; objects that share an image share it
    found_mask = find_mask(root, category, name)
    occluders = root / "occluder_masks" / category / f"{name}.png"
    samples = []
    for index, entry in enumerate(objects):
        try:
            sample = parse_object(entry, image=image, category=category, name=name, mask=found_mask, object_index=index)
            # asked of occluded images alone: the others would cost a look at the disk for nothing
            hidden = sample.hidden is not None and is_file(occluders)
            samples.append(replace(sample, occluder_mask=occluders) if hidden else sample)
            report.kept += 1
        except SkipObject as reason:
            report.skip(str(reason), annotation)
    if not objects:
        report.skip("annotation without objects", annotation)
    return samples


def write_object(
    root: Path | str,
    category: str,
    name: str,
    image: np.ndarray,
    objects: Sequence[Annotation],
    mask: np.ndarray | None = None,
    quality: int = 92,
) -> None:
    """Write one image with its annotation (and mask) under `root`.

    Args:
        root: the data set's folder; sub-folders are made.
        category: the folder.
        name: of the image, without extension.
        image: uint8 [H, W, 3].
        objects: `annotation_dict`s.
        mask: bool or uint8 [H, W]; anything but 0 is object. Written as an 8-bit PNG of 0 and 255.
        quality: of the JPEG.

    Raises:
        CompNetError: if the disk is full or the folder cannot be written.
    """
    from PIL import Image

    root = Path(root)
    try:
        for part in ("images", "annotations", *(() if mask is None else ("masks",))):
            (root / part / category).mkdir(parents=True, exist_ok=True)
        # The annotation comes last: an image without one is skipped and counted by the reader, the other way round the
        # annotation would name a missing image.
        Image.fromarray(image).save(root / "images" / category / f"{name}.JPEG", quality=quality)
        if mask is not None:
            layer = Image.fromarray((mask != 0).astype(np.uint8) * 255)
            layer.save(root / "masks" / category / f"{name}.png")
        write_annotation(root / "annotations" / category / f"{name}.npz", objects)
    except OSError as error:
        raise CompNetError(
            f"{category}/{name} cannot be written under {root} ({error.strerror or error}); "
            "free some space or choose another place."
        ) from error


def list_file(category: str, split: str) -> str:
    """The name of a list in the folder `lists`."""
    return f"{category}_imagenet_{split}.txt"


def write_list(root: Path | str, category: str, split: str, names: Iterable[str]) -> None:
    """Write `lists/{category}_imagenet_{split}.txt`."""
    text = "".join(f"{name}\n" for name in names)
    write_text(Path(root) / "lists" / list_file(category, split), text)
