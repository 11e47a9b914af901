"""Which formats a folder or file looks like, so that a wrong one is named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from compnet3d.data.images import images_in
from compnet3d.data.video import VIDEO_SUFFIXES
from compnet3d.errors import CompNetError
from compnet3d.utils.files import folders_in, is_file

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class Format:
    """A format that can be imported.

    Attributes:
        name: as it is typed.
        title: as it is known.
        holds: what the source must hold, as a user would look for it.
        is_like: whether a folder or file looks like it, by the names in it.
    """

    name: str
    title: str
    holds: str
    is_like: Callable[[Path], bool]


def check_format(source: Path, name: str) -> None:
    """Check that a source looks like the format that was named.

    Raises:
        CompNetError: if it is not there, or looks like another one, or like none.
    """
    if not source.exists():
        raise CompNetError(f"{source}: does not exist; give SRC an existing folder or file")
    chosen = next(entry for entry in FORMATS if entry.name == name)
    if chosen.is_like(source):
        return
    if kind := kind_of(source):
        raise CompNetError(f"{source}: looks like {kind}")
    raise CompNetError(f"{source}: does not look like {chosen.title}; SRC must be {chosen.holds}")


def kind_of(source: Path) -> str | None:
    """What a folder or file looks like, and what to do with it, to follow "looks like "; None for nothing known."""
    found = next((entry for entry in FORMATS if entry.is_like(source)), None)
    if found is not None:
        return f"{found.title}; use `data import {found.name}`"
    title = next((title for title, is_like in _STRANGERS if is_like(source)), None)
    advice = "which has no importer: write its boxes and poses into a table and use `data import table`"
    return None if title is None else f"{title}, {advice}"


def _folders(root: Path, *names: str) -> bool:
    return all((root / name).is_dir() for name in names)


def _names(folder: Path, most: int = 20_000) -> Iterable[str]:
    """The names in a folder; none where there is no folder."""
    return [path.name for path in islice(folder.iterdir(), most)] if folder.is_dir() else []


def _any(folder: Path, pattern: str) -> bool:
    return any(re.fullmatch(pattern, name) for name in _names(folder))


def _is_pascal3d(root: Path) -> bool:
    return _folders(root, "Annotations") and _any(root / "Annotations", r".+_(imagenet|pascal)")


def _is_objectnet3d(root: Path) -> bool:
    return _folders(root, "Annotations", "Image_sets") and _any(root / "Annotations", r".+\.mat")


def _is_occluded(root: Path) -> bool:
    return _folders(root, "annotations") and _any(root / "annotations", r".+FGL\d_BGL\d")


def _is_ood_cv(root: Path) -> bool:
    lists = r"TrainSet\.txt|.+_(context|pose|shape|texture|weather)\.txt"
    return _folders(root, "annotations") and _any(root / "lists", lists) and _has_file(root / "annotations", "*/*.mat")


def _is_imagenet3d(root: Path) -> bool:
    return any(_is_layout(place) for place in (root, *folders_in(root)))


def _is_layout(root: Path) -> bool:
    whole = _folders(root, "images", "annotations", "lists") and not _is_occluded(root)
    return whole and _has_file(root / "annotations", "*/*.npz")


def _is_coco(path: Path) -> bool:
    if path.suffix.lower() != ".json" or not is_file(path):
        return False
    with path.open("rb") as file:
        head = file.read(2**16).lstrip()
    # a COCO file is one object; which of its keys comes first is not said
    return head.startswith(b"{") and any(key in head for key in (b'"images"', b'"annotations"', b'"categories"'))


def _is_bop(root: Path) -> bool:
    return any((folder / "scene_gt.json").is_file() for folder in (root, *folders_in(root), *_folders_below(root)))


def _folders_below(root: Path) -> list[Path]:
    return [inner for folder in folders_in(root) for inner in folders_in(folder)[:3]]


def _is_table(path: Path) -> bool:
    return is_file(path) and path.suffix.lower() in TABLE_SUFFIXES


def _has_file(folder: Path, pattern: str) -> bool:
    return next(folder.glob(pattern), None) is not None


def _is_walk(path: Path) -> bool:
    if path.suffix.lower() in VIDEO_SUFFIXES and is_file(path):
        return True
    # photographs and nothing else, or it is some data set
    return path.is_dir() and not folders_in(path) and len(images_in(path)) >= 3


def _labels(folder: str, suffix: str) -> Callable[[Path], bool]:
    """Tells files of a suffix in a folder called so or in one of it, and folders that hold such, by their names."""

    def is_like(path: Path) -> bool:
        if is_file(path):
            return path.suffix.lower() == suffix and folder in [place.name for place in path.resolve().parents][:2]
        places = [place for place in (path, *folders_in(path), *_folders_below(path)) if place.name == folder]
        return any(_any(inner, rf".+\{suffix}") for place in places for inner in (place, *folders_in(place)))

    return is_like


# what people have and nothing here imports
_STRANGERS = (
    ("KITTI", _labels("label_2", ".txt")),
    ("YOLO", _labels("labels", ".txt")),
    ("PASCAL VOC", _labels("Annotations", ".xml")),
)

FORMATS = (
    Format(
        "ood-cv",
        "OOD-CV",
        "its folder with images, annotations and lists such as TrainSet.txt and CATEGORY_context.txt",
        _is_ood_cv,
    ),
    Format("imagenet3d", "ImageNet3D", "a folder with images, annotations (.npz) and lists", _is_imagenet3d),
    Format("objectnet3d", "ObjectNet3D", "its folder with Annotations, Images and Image_sets", _is_objectnet3d),
    Format("coco", "a file of COCO", "an instances file (.json)", _is_coco),
    Format("bop", "a data set of BOP", "a folder with models and SPLIT/SCENE/scene_gt.json", _is_bop),
    Format("table", "a table", "a file .csv, .tsv or .jsonl with a line for each object", _is_table),
    Format("pascal3d", "PASCAL3D+", "its folder PASCAL3D+_release1.1 with Annotations/CATEGORY_imagenet", _is_pascal3d),
    Format(
        "occluded-pascal3d",
        "Occluded-PASCAL3D+",
        "its folder with images, annotations and lists of CATEGORYFGL1_BGL1",
        _is_occluded,
    ),
    Format("walk", "a walk round an object", "a video, or a folder of photographs of one object", _is_walk),
)
