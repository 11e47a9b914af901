"""PASCAL3D+ (release 1.1) and Occluded-PASCAL3D+ converted to our layout, so that one reader serves all.

- ROOT/Image_sets/{category}_imagenet_{train,val}.txt: names, one per line
- ROOT/Images/{category}_imagenet/{name}.JPEG and ROOT/Annotations/{category}_imagenet/{name}.mat
- ROOT/CAD/{category}/{NN}.off
- OCCLUDED/{images,annotations,lists}/{category}FGL{i}_BGL{i}: images, .npz files and a list of level i

Only the ImageNet part is read: it is the one that neural-mesh papers use. Angles there are degrees. Pixel coordinates
are taken as they are, as other readers do: MATLAB's, which are at most a pixel off ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from compnet3d.data.annotations import Annotation, SkipObject, annotation_dict, parse_object, write_annotation
from compnet3d.data.imagenet3d import IMAGE_SUFFIXES, ReadReport, is_image_name, read_list, write_list
from compnet3d.data.images import hidden_shares, load_image
from compnet3d.data.mat_reader import MatReader
from compnet3d.data.unpickle import load_npz_objects
from compnet3d.errors import CompNetError
from compnet3d.utils.exclusive import building, require_empty
from compnet3d.utils.files import copy_file, is_file
from compnet3d.utils.progress import tracked

Level = Literal["L1", "L2", "L3"]
COARSE_ONLY = "distance = 0: a coarse label only"


@dataclass(frozen=True)
class _Image:
    """One image to convert: where its image and its record are, and for occluded ones the file of masks."""

    category: str
    name: str
    split: str
    image: Path
    record: Path
    masks: Path | None = None


def import_pascal3d(
    root: str | Path,
    out: str | Path,
    *,
    occluded: str | Path | None = None,
    level: Level | None = None,
    all_objects: bool = False,
    progress: bool = False,
) -> ReadReport:
    """Write PASCAL3D+ or a level of Occluded-PASCAL3D+ in our layout.

    Args:
        root: the folder PASCAL3D+_release1.1.
        out: the folder to write; it must not exist or be empty. It appears only when everything is written.
        occluded: the folder of Occluded-PASCAL3D+; its images then make up the val split, and there is no other.
        level: of the occluded images.
        all_objects: take every object of the category, not only each image's first.
        progress: draw a progress bar on stderr.

    Returns:
        What was kept and what was left out, by reason.

    Raises:
        CompNetError: if a folder is not what it should be, nothing usable is in it, or `out` is not empty or cannot be
            written.
    """
    root, out = Path(root), Path(out)
    if (occluded is None) != (level is None):
        raise CompNetError("occluded images need both their folder and a level (L1, L2 or L3)")
    if occluded is not None and all_objects:
        raise CompNetError("occluders hide each image's first object: all objects cannot be taken from occluded images")
    require_empty(out)
    if occluded is None or level is None:
        images = _find_images(root)
    else:
        images = _find_occluded(root, Path(occluded), level)
    report = ReadReport()
    with building(out) as folder:
        names: dict[tuple[str, str], list[str]] = {}
        with MatReader() as reader:
            for image in tracked(images, "converting", enabled=progress):
                if _convert(image, reader, folder, level, all_objects, report):
                    names.setdefault((image.category, image.split), []).append(image.name)
        if not names:
            raise CompNetError(f"{root} has no usable object: {report}.")
        for (category, split), members in names.items():
            write_list(folder, category, split, members)
        # only of categories that have an image: the others would have meshes and no list
        for category in sorted({category for category, _ in names}):
            _copy_models(root, folder, category)
    return report


def _find_images(root: Path) -> list[_Image]:
    found = [
        image
        for path in _listing(root, "Image_sets")
        if (match := re.fullmatch(r"(?P<category>.+)_imagenet_(?P<split>train|val)\.txt", path.name))
        for image in _listed(root, match["category"], match["split"], path)
    ]
    if not found:
        raise CompNetError(
            f"{root / 'Image_sets'} names no image in CATEGORY_imagenet_train.txt or _val.txt; "
            "give the folder PASCAL3D+_release1.1"
        )
    return found


def _listed(root: Path, category: str, split: str, path: Path) -> Iterator[_Image]:
    folder = f"{category}_imagenet"
    for name in _names(path):
        image = _image_file(root / "Images" / folder, name)
        yield _Image(category, name, split, image, root / "Annotations" / folder / f"{name}.mat")


def _find_occluded(root: Path, occluded: Path, level: Level) -> list[_Image]:
    number, found = level[1:], []
    for path in _listing(occluded, "lists"):
        match = re.fullmatch(r"(?P<category>.+)FGL(?P<front>\d)_BGL(?P<back>\d)(\.txt)?", path.name)
        # the data set pairs equal levels of object (FGL) and background (BGL) only; the name has both
        if match is None or match["front"] != number or match["back"] != number:
            continue
        category, folder = match["category"], f"{match['category']}FGL{number}_BGL{number}"
        for name in _names(path):
            image = _image_file(occluded / "images" / folder, name)
            # Poses come from the original data set: the occluded one's own files hold masks, and no viewpoint that is
            # used here.
            record = root / "Annotations" / f"{category}_imagenet" / f"{name}.mat"
            masks = occluded / "annotations" / folder / f"{name}.npz"
            found.append(_Image(category, name, "val", image, record, masks))
    if not found:
        raise CompNetError(f"{occluded / 'lists'} has no list CATEGORYFGL{number}_BGL{number}.txt that names an image")
    return found


def _listing(root: Path, name: str) -> list[Path]:
    if not (root / name).is_dir():
        raise CompNetError(f"{root} has no folder {name}; give the root of the unpacked data set")
    return sorted(path for path in (root / name).iterdir() if is_file(path))


def _names(path: Path) -> list[str]:
    """Names of a list, without the extension that the occluded set's have; paths are no names."""
    names = [next((n.removesuffix(s) for s in IMAGE_SUFFIXES if n.endswith(s)), n) for n in read_list(path)]
    odd = next((name for name in names if not is_image_name(name)), None)
    if odd is not None:
        raise CompNetError(f"{path}: {odd[:40]!r} is not an image name; restore the list")
    return list(dict.fromkeys(names))


def _image_file(folder: Path, name: str) -> Path:
    paths = (folder / (name + suffix) for suffix in IMAGE_SUFFIXES)
    # a path even where there is no file, so that the report can name what is missing
    return next((path for path in paths if is_file(path)), folder / f"{name}.JPEG")


def _copy_models(root: Path, out: Path, category: str) -> None:
    paths = sorted((root / "CAD" / category).glob("*.off"))
    if not paths:
        raise CompNetError(f"{root / 'CAD' / category} has no CAD model; unpack the whole release")
    for path in paths:
        copy_file(path, out / "CAD" / category / path.name)


def _convert(
    image: _Image, reader: MatReader, out: Path, level: Level | None, all_objects: bool, report: ReadReport
) -> bool:
    """Write one image with the objects that can be used; whether there is one."""
    if not is_file(image.image):
        report.skip("missing image", image.image)
        return False
    try:
        record = read_record(image.record, reader)
    except CompNetError:
        report.skip("unreadable annotation", image.record)
        return False
    entries = _entries(record, image, all_objects, report)
    if entries and image.masks is not None:
        try:
            keys = _write_masks(image, out)
        except CompNetError:
            report.skip("unreadable masks", image.masks)
            return False
        entries = [entry | {"occlusion_level": level, "occlusion_protocol": "generator"} | keys for entry in entries]
    if not entries:
        return False
    copy_file(image.image, out / "images" / image.category / (image.name + image.image.suffix))
    annotation = out / "annotations" / image.category / f"{image.name}.npz"
    annotation.parent.mkdir(parents=True, exist_ok=True)
    write_annotation(annotation, entries)
    report.kept += len(entries)
    return True


def _entries(record: Annotation, image: _Image, all_objects: bool, report: ReadReport) -> list[Annotation]:
    # a record may hold objects of other categories, too
    own = [entry for entry in record["objects"] if str(entry.get("class")) == image.category]
    if not own:
        report.skip("no object of the category", image.record)
    if not all_objects:
        for _ in own[1:]:
            report.skip("not the image's first object", image.record)
        # neural-mesh papers train and test on each image's first object
        own = own[:1]
    entries = []
    for entry in own:
        try:
            made = pascal3d_annotation(entry, image.category, _image_size(record, image.image))
            # what our reader would leave out is left out here, with its reason
            parse_object(made, image=image.image, category=image.category, name=image.name)
            entries.append(made)
        except SkipObject as reason:
            report.skip(str(reason), image.record)
    return entries


def read_record(path: Path | str, reader: MatReader | None = None) -> Annotation:
    """What is used of a PASCAL3D+ annotation, as plain dicts and numbers; `objects` is always a list of dicts.

    Args:
        path: the `.mat` file.
        reader: to read many files with; without it a process is started for this one.

    Raises:
        CompNetError: naming the file, if it is missing, broken, or holds no such record.
    """
    if reader is not None:
        return reader.read(path)
    with MatReader() as own:
        return own.read(path)


def _image_size(record: Annotation, image: Path) -> tuple[int, int]:
    """(width, height) as annotated (`imgsize` also has the number of channels), else that of the image."""
    # ravel: MATLAB knows no scalars and no vectors, and what comes back may have any number of dimensions
    largest = 65535  # what annotations can state
    size = np.ravel(record.get("imgsize", ()))
    if len(size) >= 2 and all(1 <= side <= largest for side in size[:2]):
        return int(size[0]), int(size[1])
    try:
        width, height = load_image(image).size
    except CompNetError:
        raise SkipObject("unknown image size") from None
    if max(width, height) > largest:
        raise SkipObject("image size is out of range")
    return width, height


def pascal3d_annotation(entry: Annotation, category: str, size: tuple[int, int]) -> Annotation:
    """One object of a record as our annotation: radians instead of degrees, the rest as it is.

    Args:
        entry: an element of `record["objects"]`.
        category: of the object.
        size: (width, height) of the image.

    Raises:
        SkipObject: if the object has no viewpoint or a coarse one only, or a number is missing, not finite, or one that
            no camera and no image have.
    """
    viewpoint = entry.get("viewpoint")
    if not isinstance(viewpoint, dict):
        raise SkipObject("no viewpoint")
    # before the numbers are checked: of an object with a coarse label alone they mean nothing
    if "distance" in viewpoint and np.size(viewpoint["distance"]) and not np.any(viewpoint["distance"]):
        raise SkipObject(COARSE_ONLY)
    keys = ("azimuth", "elevation", "theta", "distance", "focal", "viewport", "px", "py")
    largest = dict.fromkeys(("azimuth", "elevation", "theta"), math.degrees(1000.0))
    view = {key: _number(viewpoint, key, largest.get(key, 1e6)) for key in keys}
    if view["viewport"] < 1:
        raise SkipObject("viewport < 1")
    box = np.ravel(entry.get("bbox", ()))
    if len(box) != 4 or box.dtype.kind not in "buif":
        raise SkipObject("missing key bbox")
    names = ("occluded", "truncated", "difficult")
    flags = {name: int(_number(entry, name)) if np.size(entry.get(name, ())) else 0 for name in names}
    # ImageNet3D's word for both; reports tell them apart by the flags, which are kept
    partial = flags["occluded"] or flags["truncated"]
    made = annotation_dict(
        category=category,
        azimuth=math.radians(view["azimuth"]),
        elevation=math.radians(view["elevation"]),
        theta=math.radians(view["theta"]),
        distance=view["distance"],
        focal=view["focal"] * view["viewport"],
        principal_point=(view["px"], view["py"]),
        bbox=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        width=size[0],
        height=size[1],
        cad_index=int(_number(entry, "cad_index")),
        status="status_partially" if partial else "status_good",
        viewport=int(view["viewport"]),
    )
    return made | flags


def _number(values: Annotation, key: str, largest: float = 1e6) -> float:
    value = np.ravel(values.get(key, ()))
    if len(value) != 1 or value.dtype.kind not in "buif":
        raise SkipObject(f"missing key {key}")
    if not math.isfinite(value[0]):
        raise SkipObject(f"{key} is not finite")
    if abs(value[0]) > largest:
        raise SkipObject(f"{key} is out of range")
    return float(value[0])


def _write_masks(image: _Image, out: Path) -> dict[str, float]:
    """Write the masks of an occluded image and return the shares that they hide; nothing where there is no mask.

    Raises:
        CompNetError: if the file or its occluder mask cannot be read.
    """
    assert image.masks is not None
    occluders = _mask(load_npz_objects(image.masks, "occluder_mask"))
    if occluders is None:
        raise CompNetError(f"{image.masks}: occluder_mask is not an image")
    _save_mask(occluders, out / "occluder_masks" / image.category / f"{image.name}.png")
    try:
        own = _mask(load_npz_objects(image.masks, "mask"))
    except CompNetError:  # some releases hold None there
        own = None
    # without the object's mask nobody knows the shares, and the reader leaves `hidden` open
    if own is None or own.shape != occluders.shape:
        return {}
    _save_mask(own, out / "masks" / image.category / f"{image.name}.png")
    on_object, on_background = hidden_shares(occluders, own)
    return {"hidden_object": on_object, "hidden_background": on_background}


def _mask(value: Any) -> np.ndarray | None:
    """A mask of any kind (bool, 0 and 1, 0 to 255 with soft edges) as bool [H, W]; None if it is none."""
    if not isinstance(value, np.ndarray) or value.ndim != 2 or not value.size or value.dtype.kind not in "buif":
        return None
    # 0 and 1, or grey levels: half of the range either way
    return np.asarray(value > (127 if value.max() > 1 else 0))


def _save_mask(mask: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
