"""The table of built-in categories; beyond them the shape grammar goes on for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator

from compnet3d.data.symmetry import Symmetry
from compnet3d.procedural import grammar
from compnet3d.procedural.objects import appliances, craft, furniture, tools, vehicles
from compnet3d.procedural.parts import Array, Part

Builder = Callable[[Generator], Part]
PULL = 0.7
TYPICAL_OF = 12


@dataclass(frozen=True)
class Category:
    """A kind of object.

    Attributes:
        name: as in file names.
        build: makes one instance (not yet normalised) from random numbers.
        symmetry: what holds for every instance's shape.
    """

    name: str
    build: Builder
    symmetry: Symmetry

    def instance(self, rng: Generator) -> Part:
        """One instance: centred, unit diagonal, front towards -y, z up.

        The parts vary freely, but the overall proportions are drawn towards the category's typical ones, as real things
        of a kind are: cars differ in every detail and yet hardly in how long, wide and high they are.
        """
        part = self.build(rng).normalised()
        pull = (_typical_extents(self) / _extents(part)) ** PULL
        return part.scaled(*(float(x) for x in pull)).normalised()


def _extents(part: Part) -> Array:
    low, high = part.bounds()
    return np.maximum(high - low, 1e-6)


@lru_cache(maxsize=512)
def _typical_extents(category: Category) -> Array:
    """Geometric mean of the extents of a few instances."""
    parts = [category.build(np.random.default_rng(number)).normalised() for number in range(TYPICAL_OF)]
    return np.exp(np.mean([np.log(_extents(part)) for part in parts], axis=0))


_MIRROR = Symmetry(order=1, mirror=True)
_LOPSIDED = Symmetry(order=1, mirror=False)
_ROUND = Symmetry(order=0, mirror=True)
_HALF_TURN = Symmetry(order=2, mirror=True)

# the order matters: `--categories N` takes the first N, the first 24 make the quickstart
BUILTIN: tuple[Category, ...] = (
    Category("car", vehicles.car, _MIRROR),
    Category("chair", furniture.chair, _MIRROR),
    Category("aeroplane", craft.aeroplane, _MIRROR),
    Category("teapot", tools.teapot, _MIRROR),
    Category("laptop", appliances.laptop, _MIRROR),
    Category("hammer", tools.hammer, _MIRROR),
    Category("sofa", furniture.sofa, _MIRROR),
    Category("motorbike", vehicles.motorbike, _MIRROR),
    Category("bottle", tools.bottle, _ROUND),
    Category("bus", vehicles.bus, _MIRROR),
    Category("tv", appliances.tv, _MIRROR),
    Category("boat", craft.boat, _MIRROR),
    Category("bed", furniture.bed, _MIRROR),
    Category("power_drill", tools.power_drill, _MIRROR),
    Category("watering_can", tools.watering_can, _MIRROR),
    Category("helicopter", craft.helicopter, _MIRROR),
    Category("desk", furniture.desk, _LOPSIDED),
    Category("iron", tools.iron, _MIRROR),
    Category("mug", tools.mug, _MIRROR),
    Category("dining_table", furniture.dining_table, _HALF_TURN),
    Category("washing_machine", appliances.washing_machine, _LOPSIDED),
    Category("train", vehicles.train, _MIRROR),
    Category("desk_lamp", furniture.desk_lamp, _MIRROR),
    Category("pan", tools.pan, _MIRROR),
    Category("camera", appliances.camera, _LOPSIDED),
    Category("bench", furniture.bench, _MIRROR),
    Category("toaster", appliances.toaster, _MIRROR),
    Category("truck", vehicles.truck, _MIRROR),
    Category("bookshelf", furniture.bookshelf, _LOPSIDED),
    Category("microwave", appliances.microwave, _LOPSIDED),
    Category("vase", tools.vase, _ROUND),
)


def category(index: int) -> Category:
    """Category number `index` (0-based): a built-in one, or one that the shape grammar defines for that number."""
    if index < len(BUILTIN):
        return BUILTIN[index]
    genes = grammar.genome(index)
    return Category(f"shape{index + 1:04d}", genes.build, Symmetry(order=1, mirror=genes.mirror))


def category_names(count: int) -> list[str]:
    """Names of the first `count` categories, in order."""
    return [category(i).name for i in range(count)]
