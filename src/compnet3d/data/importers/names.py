"""Names that every file system takes, and splits of images that have none; both follow from the source alone."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from compnet3d.data.imagenet3d import IMAGE_SUFFIXES, is_image_name, read_list
from compnet3d.data.shapes.read import find_shapes
from compnet3d.errors import CompNetError
from compnet3d.utils.files import is_file

VAL_SHARE = 0.2


def safe_name(text: str) -> str:
    """A text as a file's name: what some file system does not take becomes _, and it has at most 160 bytes."""
    longest = 160
    plain = unicodedata.normalize("NFC", text)
    plain = "".join("_" if unicodedata.category(c)[0] == "C" or c in '<>:"/\\|?*' else c for c in plain)
    plain = re.sub(r"\s+", " ", plain).strip(" .") or "_"
    if len(plain.encode()) > longest:
        # what was cut off still tells it from others
        rest = f"_{zlib.crc32(plain.encode()):08x}"
        plain = plain.encode()[: longest - len(rest)].decode(errors="ignore") + rest
    return plain


def unique_names(images: Iterable[str]) -> dict[str, str]:
    """A name for each image's path (with `/`): its stem where no other has it, else with the folders before it.

    Capitals do not tell names apart, as they do not on all file systems.
    """
    paths = list(dict.fromkeys(images))
    names = {path: safe_name(PurePosixPath(path).stem) for path in paths}
    names |= {path: safe_name("_".join(PurePosixPath(path).with_suffix("").parts)) for path in _clashing(names)}
    # a.jpg and a.png, or what became one by `safe_name`
    for path in _clashing(names):
        names[path] = f"{names[path]}_{zlib.crc32(path.encode(errors='surrogatepass')):08x}"
    return names


def _clashing(names: Mapping[str, str]) -> list[str]:
    """The paths whose names others have, too."""
    held: dict[str, list[str]] = {}
    for path, name in names.items():
        held.setdefault(name.casefold(), []).append(path)
    return [path for paths in held.values() if len(paths) > 1 for path in paths]


def drawn_splits(groups: Mapping[str, Iterable[str]], share: float = VAL_SHARE) -> dict[tuple[str, str], str]:
    """The split of each (category, group): about `share` of a category's groups are val, at least one of two.

    What is drawn follows from the groups' names alone, so that a group that several categories have tends to be on one
    side.

    Args:
        groups: of each category, what must not be torn apart: objects, or images.
        share: of the groups that become val.
    """
    splits: dict[tuple[str, str], str] = {}
    for category, members in groups.items():
        order = sorted(set(members), key=lambda group: (zlib.crc32(group.encode(errors="surrogatepass")), group))
        count = min(max(1, round(share * len(order))), len(order) - 1)
        splits |= {(category, group): "val" if place < count else "train" for place, group in enumerate(order)}
    return splits


def listed_names(path: Path) -> list[str]:
    """The image names of a list, without their suffixes.

    Raises:
        CompNetError: if the list cannot be read, or an entry is no name of an image.
    """
    names = [without_suffix(name) for name in read_list(path)]
    odd = next((name for name in names if not is_image_name(name)), None)
    if odd is not None:
        raise CompNetError(f"{path}: {odd[:40]!r} is not an image name; restore the list")
    return list(dict.fromkeys(names))


def without_suffix(name: str) -> str:
    """A name without the suffix of an image."""
    return next((name.removesuffix(suffix) for suffix in IMAGE_SUFFIXES if name.endswith(suffix)), name)


def image_file(folder: Path, name: str, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> Path:
    """The image of a name; a path even where there is none, so that the report can name what is missing."""
    paths = (folder / (name + suffix) for suffix in suffixes)
    return next((path for path in paths if is_file(path)), folder / f"{name}{suffixes[0]}")


def cad_files(folder: Path) -> dict[str, Path]:
    """The model files of a folder by their names, in order; maybe none."""
    return {path.name: path for path in find_shapes(folder)}
