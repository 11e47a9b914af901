"""Published protocols: which categories of a data set take part, its split, the categories that tables single out.

The protocols are the JSON files in `protocols`. The paper says that it takes 188 of ImageNet3D's 200 categories "with
enough images" and how many images that makes, but not which; the rule here is explicit instead. Categories are taken
in the order of their usable images in the list train, most first, those with as many in alphabetical order, until there
are as many categories as the protocol has. The split is that of the data set's own lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from compnet3d.data.annotations import plain_name
from compnet3d.errors import CompNetError
from compnet3d.utils.files import read_json

_FOLDER = Path(__file__).parent / "protocols"

# images with a usable object, by category and split
Images = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Protocol:
    """What a published protocol says.

    Attributes:
        name: of its file.
        categories: how many take part.
        images: how many there are of them, by split.
        unseen: categories that table 3 leaves out of the training.
        elongated: categories that table 7 leaves out.
        confused: true category and prediction of table 5, most confused first.
    """

    name: str
    categories: int
    images: Mapping[str, int]
    unseen: tuple[str, ...]
    elongated: tuple[str, ...]
    confused: tuple[tuple[str, str], ...]

    def chosen(self, images: Images) -> list[str]:
        """The categories that take part, in alphabetical order; all that have images where there are too few."""
        filled = [name for name in images if images[name].get("train", 0) > 0]
        return sorted(sorted(filled, key=lambda name: (-images[name]["train"], name))[: self.categories])

    def deviations(self, images: Images) -> list[str]:
        """How a copy of the data set differs from the protocol, one sentence each; empty where it does not."""
        found = []
        chosen = self.chosen(images)
        if left_out := sorted(set(images) - set(chosen)):
            found.append(
                f"{len(images)} categories where the protocol takes {self.categories}; train with --without "
                f"{' '.join(left_out)}"
            )
        if len(chosen) < self.categories:
            found.append(f"{len(chosen)} categories with training images where the protocol has {self.categories}")
        for split, wanted in self.images.items():
            there = sum(images[name].get(split, 0) for name in chosen)
            if there != wanted:
                share = 100 * (there - wanted) / wanted
                found.append(f"{there:,} usable images in {split} where the protocol has {wanted:,} ({share:+.1f} %)")
        confused = tuple(name for pair in self.confused for name in pair)
        for table, names in (("3", self.unseen), ("7", self.elongated), ("5", confused)):
            if missing := missing_names(names, chosen):
                found.append(f"table {table} cannot be made as printed: no {', '.join(missing)}")
        return found


def missing_names(wanted: Iterable[str], there: Iterable[str]) -> list[str]:
    """Which names are not there, whatever their case, spaces, underscores and hyphens; each once."""
    known = {plain_name(name) for name in there}
    return [name for name in dict.fromkeys(wanted) if plain_name(name) not in known]


def protocol_names() -> list[str]:
    """The protocols that the package knows."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


@lru_cache
def load_protocol(name: str) -> Protocol:
    """A protocol by its name.

    Raises:
        CompNetError: if the package has none of that name.
    """
    if name not in protocol_names():
        raise CompNetError(f"protocol {name!r} is unknown; use one of {', '.join(protocol_names())}")
    values = read_json(_FOLDER / f"{name}.json")
    return Protocol(
        name=name,
        categories=values["categories"],
        images=values["images"],
        unseen=tuple(values["unseen"]),
        elongated=tuple(values["elongated"]),
        confused=tuple((true, predicted) for true, predicted in values["confused"]),
    )
