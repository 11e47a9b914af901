"""One annotated object on disk, and the split of a training list into training and calibration samples."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compnet3d.data.members import Member
from compnet3d.errors import CompNetError


def parse_instance(name: str) -> str | None:
    """The physical object that an image's name stands for, or None where each image shows its own.

    Three rules, in this order: ImageNet names (`n` + 8 digits + `_...`) stand for none; `OBJECT_EEE_AAA` (letters and a
    number, then elevation and azimuth in three digits each) is of `OBJECT`; `NAME_iNUMBER_vNUMBER` is of
    `NAME_iNUMBER`. Any other name stands for none.

    >>> parse_instance("car01_022_090"), parse_instance("car_i012_v03"), parse_instance("n02958343_1234")
    ('car01', 'car_i012', None)
    """
    # "n02958343_1234": an ImageNet image; every image shows an object of its own
    if re.fullmatch(r"n\d{8}_.*", name):
        return None
    # "car01_022_090": a turntable image named OBJECT_ELEVATION_AZIMUTH in whole degrees (ETH-80)
    turntable = r"(?P<instance>[A-Za-z][A-Za-z-]*\d{1,4})_\d{3}_\d{3}"
    # "car_i012_v03": a rendered image named CATEGORY_iINSTANCE_vVIEW (the procedural data and `data render`)
    rendered = r"(?P<instance>.+_i\d+)_v\d+"
    match = re.fullmatch(turntable, name) or re.fullmatch(rendered, name)
    return match["instance"] if match else None


@dataclass(frozen=True)
class Sample:
    """One annotated object.

    Angles are radians: azimuth and theta in [0, 2 pi), elevation in (-pi, pi]. `distance` is in CAD units, `focal`
    (viewport * focal) and all coordinates in pixels of the image, column first, with the origin at the top-left
    corner of the top-left pixel. `bbox` is (x1, y1, x2, y2); `width` and `height` are those the annotation states.
    `hidden` is known of data sets that were occluded on purpose: the shares of the object's and of the other pixels
    that occluders hide; `occluder_mask` is the image of where they are.
    """

    image: Path | Member
    category: str
    name: str
    azimuth: float
    elevation: float
    theta: float
    distance: float
    focal: float
    principal_point: tuple[float, float]
    bbox: tuple[float, float, float, float]
    width: int
    height: int
    cad_index: int = 1
    mask: Path | Member | None = None
    instance: str | None = None
    object_index: int = 0
    hidden: tuple[float, float] | None = None
    occluder_mask: Path | Member | None = None

    @property
    def key(self) -> str:
        """Unique within a data set: `category/name#object_index`."""
        return f"{self.category}/{self.name}#{self.object_index}"


def split_calibration(samples: Sequence[Sample], fraction: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Hold out a part of the training samples: `(train, calibration)`, each in the given order.

    Whole instances are held out where names distinguish instances, whole images elsewhere, so that no object is on
    both sides. Per category, `fraction` of the instances (at least one, never all) is drawn from `seed` and the
    category's name alone, whatever the order of the samples. A category with one instance is split by image instead,
    and one with a single image stays in the training part.

    Args:
        samples: the training list.
        fraction: of the instances, in [0, 1); 0 holds out nothing.
        seed: of the draw.

    Raises:
        CompNetError: if the fraction is out of range.
    """
    if not 0.0 <= fraction < 1.0:
        raise CompNetError(f"The calibration fraction must be in [0, 1), not {fraction}; try 0.15.")
    if fraction == 0.0:
        return list(samples), []
    by_category: dict[str, list[Sample]] = {}
    for sample in samples:
        by_category.setdefault(sample.category, []).append(sample)
    held_out: set[tuple[str, str]] = set()
    for category, members in by_category.items():
        # of several objects in one image, all go to the same side: they are told by the image's name
        groups = {s.instance or s.name for s in members}
        by_image = len(groups) == 1
        # sorted: sets have no order, and the draw must not depend on that of the list
        names = sorted({s.name for s in members} if by_image else groups)
        # 0 of a single image: training needs it more
        count = min(max(1, round(fraction * len(names))), len(names) - 1)
        # crc32, as Python's own hash of a text differs from process to process; a category's split stays the same when
        # others are left out
        rng = np.random.default_rng([seed, zlib.crc32(category.encode())])
        chosen = [names[i] for i in rng.permutation(len(names))[:count]]
        if by_image:
            held_out.update((category, name) for name in chosen)
        else:
            kept = {s.name for s in members if (s.instance or s.name) in chosen}
            held_out.update((category, name) for name in kept)
    train = [s for s in samples if (s.category, s.name) not in held_out]
    calibration = [s for s in samples if (s.category, s.name) in held_out]
    return train, calibration


def draw_images(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """The samples of `count` images of each category, or of all that it has, in the given order.

    The images are spread over the instances: as many of each as there can be. The draw depends on `seed` and the
    category's name alone, and a smaller one is part of a larger one.

    Args:
        samples: the training list.
        count: images of each category, at least 1.
        seed: of the draw.

    Raises:
        CompNetError: if the count is below 1.
    """
    if count < 1:
        raise CompNetError(f"images per category must be at least 1, not {count}")
    by_category: dict[str, dict[str, set[str]]] = {}
    for sample in samples:
        by_category.setdefault(sample.category, {}).setdefault(sample.instance or sample.name, set()).add(sample.name)
    kept: set[tuple[str, str]] = set()
    for category, instances in by_category.items():
        # the last number keeps the draw apart from that of the calibration split
        rng = np.random.default_rng([seed, zlib.crc32(category.encode()), 1])
        groups = [sorted(instances[name]) for name in rng.permutation(sorted(instances)).tolist()]
        shuffled = [[names[i] for i in rng.permutation(len(names))] for names in groups]
        # the first of each instance, then the second of each
        in_turn = [names[i] for i in range(max(map(len, shuffled))) for names in shuffled if i < len(names)]
        kept.update((category, name) for name in in_turn[:count])
    return [sample for sample in samples if (sample.category, sample.name) in kept]
