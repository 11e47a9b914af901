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


@dataclass(frozen=True)
class Category:
    """A kind of object.

    Attributes:
        name: as in file names.
        build: makes one instance (not yet normalised) from random numbers.
        symmetry: what holds for every instance's shape.
    """

    name: str
    build: Callable[[Generator], Part]
    symmetry: Symmetry

    def instance(self, rng: Generator) -> Part:
        """One instance: centred, unit diagonal, front towards -y, z up.

        The parts vary freely, but the overall proportions are drawn towards the category's typical ones, as real things
        of a kind are: cars differ in every detail and yet hardly in how long, wide and high they are.
        """
        part = self.build(rng).normalised()
        pull = (_typical_extents(self) / _extents(part)) ** 0.7
        return part.scaled(*(float(x) for x in pull)).normalised()


def _extents(part: Part) -> Array:
    low, high = part.bounds()
    return np.maximum(high - low, 1e-6)


@lru_cache(maxsize=512)
def _typical_extents(category: Category) -> Array:
    """Geometric mean of the extents of a few instances."""
    typical_of = 12
    # seeds of their own: the typical proportions are the same in every data set
    parts = [category.build(np.random.default_rng(number)).normalised() for number in range(typical_of)]
    return np.exp(np.mean([np.log(_extents(part)) for part in parts], axis=0))


def _builtin() -> tuple[Category, ...]:
    mirror, lopsided = Symmetry(order=1, mirror=True), Symmetry(order=1, mirror=False)
    round_, half_turn = Symmetry(order=0, mirror=True), Symmetry(order=2, mirror=True)
    return (
        Category("car", vehicles.car, mirror),
        Category("chair", furniture.chair, mirror),
        Category("aeroplane", craft.aeroplane, mirror),
        Category("teapot", tools.teapot, mirror),
        Category("laptop", appliances.laptop, mirror),
        Category("hammer", tools.hammer, mirror),
        Category("sofa", furniture.sofa, mirror),
        Category("motorbike", vehicles.motorbike, mirror),
        Category("bottle", tools.bottle, round_),
        Category("bus", vehicles.bus, mirror),
        Category("tv", appliances.tv, mirror),
        Category("boat", craft.boat, mirror),
        Category("bed", furniture.bed, mirror),
        Category("power_drill", tools.power_drill, mirror),
        Category("watering_can", tools.watering_can, mirror),
        Category("helicopter", craft.helicopter, mirror),
        Category("desk", furniture.desk, lopsided),
        Category("iron", tools.iron, mirror),
        Category("mug", tools.mug, mirror),
        Category("dining_table", furniture.dining_table, half_turn),
        Category("washing_machine", appliances.washing_machine, lopsided),
        Category("train", vehicles.train, mirror),
        Category("desk_lamp", furniture.desk_lamp, mirror),
        Category("pan", tools.pan, mirror),
        Category("camera", appliances.camera, lopsided),
        Category("bench", furniture.bench, mirror),
        Category("toaster", appliances.toaster, mirror),
        Category("truck", vehicles.truck, mirror),
        Category("bookshelf", furniture.bookshelf, lopsided),
        Category("microwave", appliances.microwave, lopsided),
        Category("vase", tools.vase, round_),
    )


# the order matters: `--categories N` takes the first N, the first 24 make the quickstart
BUILTIN = _builtin()


def category(index: int) -> Category:
    """Category number `index` (0-based): a built-in one, or one that the shape grammar defines for that number."""
    if index < len(BUILTIN):
        return BUILTIN[index]
    genes = grammar.genome(index)
    return Category(f"shape{index + 1:04d}", genes.build, Symmetry(order=1, mirror=genes.mirror))


def category_names(count: int) -> list[str]:
    """Names of the first `count` categories, in order."""
    return [category(i).name for i in range(count)]
