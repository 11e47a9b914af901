"""What a model is trained on: samples with the CAD models of their categories, of one data set or of several."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path

import torch
from torch import Tensor

from compnet3d.data.imagenet3d import ImageNet3D, check_trainable
from compnet3d.data.packed import Broken, open_data, source_of
from compnet3d.data.sample import Sample, draw_images
from compnet3d.data.symmetry import Symmetry, measure_mirror, symmetry_orders
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh, cuboid_bounds


@dataclass(frozen=True)
class TrainingData:
    """What a model is trained on, wherever it comes from.

    Attributes:
        samples: one for each annotated object; their images are read from disk while training.
        meshes: CAD models of each category, one or more, in the units of the samples' distances; its order is that of
            the model's categories. Their common box is the category's cuboid.
        symmetry: of the categories that have one; a mirror symmetry that nobody states is measured on the meshes.
        root: the folder that it was read from, if any.
        more: samples of other data sets (see `joined`): they are trained on as well, and none is held out.
        sources: the paths or URLs that all of it was read from, for the record; the first is that of `samples`.

    Raises:
        CompNetError: if there is no category, or one without samples or meshes.
    """

    samples: Sequence[Sample]
    meshes: Mapping[str, Sequence[Mesh]]
    symmetry: Mapping[str, Symmetry] = field(default_factory=dict)
    root: Path | None = None
    more: Sequence[Sample] = ()
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = self.root or "the training data"
        if not self.meshes:
            raise CompNetError(f"{where}: no category to learn; give at least one with its meshes and samples")
        found = {sample.category for sample in (*self.samples, *self.more)}
        for category in found - set(self.meshes):
            raise CompNetError(f"{where}: has samples of {category!r} and no mesh of it; give one for its size")
        for category, models in self.meshes.items():
            if category not in found:
                raise CompNetError(f"{where}: no usable training object in {category!r}; leave it out, or add some")
            if not models:
                raise CompNetError(f"{where}: no mesh of {category!r}; give one for its size")

    @classmethod
    def read(cls, root: str | Path, without: Sequence[str] = (), broken: Broken = "stop") -> TrainingData:
        """The train list of a data set in the ImageNet3D raw layout; what is skipped is said on stderr.

        Args:
            root: its folder, or a packed one, its URL, or some of its shards (see `PackedSet`).
            without: categories to leave out.
            broken: what is done about broken shards.

        Raises:
            CompNetError: if the data set, one of the categories to leave out, or something to learn from is missing.
        """
        dataset = open_dataset(root, without, broken)
        samples = dataset.samples("train")
        check_trainable(dataset, samples)
        meshes = {name: dataset.meshes(name) for name in dataset.categories}
        return cls(samples, meshes, dataset.symmetry, dataset.root, sources=(source_of(root),))

    def leaving_out(self, without: Sequence[str]) -> TrainingData:
        """Without some of the categories, which must be there."""
        for name in without:
            if name not in self.meshes:
                raise CompNetError(f"the training data has no category {name!r} to leave out")
        kept = {name: models for name, models in self.meshes.items() if name not in set(without)}
        samples, more = ([s for s in some if s.category in kept] for some in (self.samples, self.more))
        # the symmetry table may keep entries of other categories: it is looked up by name
        return replace(self, samples=samples, meshes=kept, more=more)

    @classmethod
    def joined(cls, parts: Sequence[TrainingData]) -> TrainingData:
        """Several data sets as one; categories of the same name are one category.

        The first is what the model is for: calibration images are taken from it alone. A category's CAD models and
        symmetry are those of the first data set that has it, and the others' distances are brought to their units, so
        that the models of both are on average of one size. What the frames of a category's models seem to disagree in
        is said on stderr.

        Args:
            parts: one or more; the order of the categories is that of the first, then of the next.
        """
        first, *others = parts
        meshes, symmetry, more = dict(first.meshes), dict(first.symmetry), list(first.more)
        for part in others:
            factors = {}
            for name, models in part.meshes.items():
                if name in meshes:
                    factors[name] = mean_diagonal(meshes[name]) / mean_diagonal(models)
                    for note in frame_differences(meshes[name], models):
                        print(f"{part.root or 'more data'}: {name}: {note}", file=sys.stderr)
                    continue
                meshes[name] = models
                # what a data set says of a category that it does not have is about another one's CAD models
                symmetry.pop(name, None)
                if name in part.symmetry:
                    symmetry[name] = part.symmetry[name]
            for sample in (*part.samples, *part.more):
                if sample.category in factors:
                    # an object twice as large at twice the distance gives the same image; its own CAD model is not
                    # among the category's, of which any is near enough
                    distance = factors[sample.category] * sample.distance
                    sample = replace(sample, distance=distance, cad_index=1)
                more.append(sample)
        sources = tuple(source for part in parts for source in part.sources)
        return cls(first.samples, meshes, symmetry, first.root, more, sources)

    def drawn(self, count: int, seed: int) -> TrainingData:
        """With `count` images of each category, or all there are (see `draw_images`); `more` stays whole.

        Raises:
            CompNetError: if the count is below 1.
        """
        return replace(self, samples=draw_images(self.samples, count, seed))

    @property
    def categories(self) -> tuple[str, ...]:
        """Names, in the model's order."""
        return tuple(self.meshes)

    @property
    def symmetry_orders(self) -> Tensor:
        """Of the categories about their z axis, int [Y] (see `symmetric_rotation_error`)."""
        return symmetry_orders(self.categories, self.symmetry)

    @property
    def mirror_categories(self) -> frozenset[str]:
        """Categories whose mirrored images are images of the same category: as stated, else measured."""
        names = set()
        for category, models in self.meshes.items():
            # what is stated wins over what is measured: a CAD model can be symmetric where real objects of the
            # category, with their lettering or controls, are not
            stated = self.symmetry[category].mirror if category in self.symmetry else None
            if stated if stated is not None else measure_mirror(models):
                names.add(category)
        return frozenset(names)


def gather(
    data: str | Path | TrainingData, more: Sequence[str | Path | TrainingData] = (), without: Sequence[str] = ()
) -> TrainingData:
    """A data set, or several as one (`TrainingData.joined`), without some of the categories.

    Args:
        data: the data set's folder, or what stands for one.
        more: further ones.
        without: categories to leave out; one of the data sets must have each.

    Raises:
        CompNetError: as `TrainingData.read`.
    """
    if not more:
        return data.leaving_out(without) if isinstance(data, TrainingData) else TrainingData.read(data, without)
    unknown = sorted(set(without).difference(categories_of((data, *more))))
    if unknown:
        raise CompNetError(f"none of the data sets has a category {unknown[0]!r} to leave out")
    parts: list[TrainingData] = []
    for part in (data, *more):
        names = categories_of((part,))
        left_out = [name for name in names if name in set(without)]
        # of the first something must be left, which reading it makes sure of
        if not parts or len(left_out) < len(names):
            parts.append(gather(part, without=left_out))
    return TrainingData.joined(parts)


def categories_of(parts: Sequence[str | Path | TrainingData], without: Sequence[str] = ()) -> list[str]:
    """The categories that `gather` finds, in its order; of folders no more than the names of their lists is read."""
    found: dict[str, None] = {}
    for part in parts:
        found |= dict.fromkeys(part.categories if isinstance(part, TrainingData) else open_data(part).categories)
    return [name for name in found if name not in set(without)]


def open_dataset(data: str | Path, without: Sequence[str], broken: Broken = "stop") -> ImageNet3D:
    """The data set, a folder or packed, without some of its categories, which must be there."""
    dataset = open_data(data, broken=broken)
    unknown = [name for name in without if name not in dataset.categories]
    if unknown:
        raise CompNetError(
            f"{data} has no category {unknown[0]!r} to leave out; it has {', '.join(dataset.categories)}."
        )
    dataset.categories = [name for name in dataset.categories if name not in set(without)]
    return dataset


def mean_diagonal(models: Sequence[Mesh]) -> float:
    """The mean of the diagonals of CAD models' boxes, in their units."""
    return sum(float((box[1] - box[0]).norm()) for box in map(_box, models)) / len(models)


def frame_differences(first: Sequence[Mesh], other: Sequence[Mesh]) -> list[str]:
    """What two data sets' CAD models of a category seem to disagree in, as sentences: axes, or the origin.

    Only boxes are compared: that the front is at the back, or left at the right, is not seen.
    """
    found = []
    boxes = [cuboid_bounds(models).double() for models in (first, other)]
    sides = [(box[1] - box[0]) / (box[1] - box[0]).norm() for box in boxes]

    def mismatch(order: Sequence[int]) -> float:
        return float((sides[0] / sides[1][list(order)]).log().abs().max())

    best = min(permutations(range(3)), key=mismatch)
    # shapes of one category differ in their proportions as well, so that the axes as they are must fit badly and others
    # much better
    if mismatch((0, 1, 2)) > 0.3 and mismatch(best) < mismatch((0, 1, 2)) / 2:
        shown = " and ".join(" x ".join(f"{side:.2f}" for side in some.tolist()) for some in sides)
        found.append(
            f"the CAD models seem to be turned against the first data set's ({shown}); turn them, and the poses"
        )
    centres = [(box[0] + box[1]) / 2 / (box[1] - box[0]).norm() for box in boxes]
    if float((centres[0] - centres[1]).norm()) > 0.05:
        found.append(
            "the CAD models' origin is elsewhere in their box than the first data set's; move it, and the poses"
        )
    return found


def _box(mesh: Mesh) -> Tensor:
    return torch.stack([mesh.vertices.amin(dim=0), mesh.vertices.amax(dim=0)]).double()
