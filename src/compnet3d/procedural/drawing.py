"""How many images a drawn data set has, and how they are drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TypedDict

from compnet3d.data.backgrounds import find_photographs
from compnet3d.errors import CompNetError
from compnet3d.procedural.variation import PLAIN, Variation
from compnet3d.utils.files import Json
from compnet3d.utils.shards import Shard


class DrawOptions(TypedDict, total=False):
    """How a data set is drawn.

    Attributes:
        seed: the same seed gives the same bytes; 0 by default.
        workers: processes; None, the default, takes one per CPU, 1 works in this process.
        variation: how the images differ: views of each instance, style, photographs, angles.
        shard: which share of the images is drawn now; all by default. The folder appears with the last share.
    """

    seed: int
    workers: int | None
    variation: Variation
    shard: Shard


@dataclass(frozen=True)
class Drawing:
    """How many images of each category are drawn, of which size, and how (see `DrawOptions`).

    Raises:
        CompNetError: for impossible numbers, or a folder of backgrounds without any.
    """

    train: int
    val: int
    size: int
    seed: int = 0
    workers: int | None = None
    variation: Variation = PLAIN
    shard: Shard = Shard()

    def __post_init__(self) -> None:
        check_numbers(train=(self.train, 0), val=(self.val, 0), size=(self.size, 16), seed=(self.seed, 0))
        if self.train + self.val < 1:
            raise CompNetError("train and val are both 0: ask for at least one image of each category.")
        if self.variation.backgrounds is not None:
            find_photographs(self.variation.backgrounds)

    @property
    def settings(self) -> Json:
        """What changes the images."""
        return {name: value for name, value in asdict(self).items() if name not in ("workers", "shard")}

    def plan(self) -> dict[str, list[tuple[int, tuple[int, ...]]]]:
        """Instance numbers and their views for each split; val goes on counting after train."""
        plan, first, views = {}, 0, self.variation.views
        for split, images in zip(("train", "val"), (self.train, self.val), strict=True):
            # the last instance may have fewer views
            counts = [min(views, images - start) for start in range(0, images, views)]
            plan[split] = [(first + i, tuple(range(n))) for i, n in enumerate(counts)]
            first += len(counts)
        return plan


def check_numbers(**limits: tuple[int, int]) -> None:
    """Check whole numbers, each given with the least that it may be.

    Raises:
        CompNetError: for the first that is less.
    """
    for name, (value, least) in limits.items():
        if value < least:
            raise CompNetError(f"{name} must be at least {least}, not {value}.")
