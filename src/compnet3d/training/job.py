"""What a training works on, resolved once: data, split, starting point and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from compnet3d.data.backgrounds import find_photographs
from compnet3d.data.imagenet3d import ImageNet3D, check_trainable
from compnet3d.data.sample import Sample, split_calibration
from compnet3d.data.symmetry import Symmetry, measure_mirror, symmetry_orders
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh
from compnet3d.models.registry import TrainedModel, load_predictor
from compnet3d.training.recipe import Recipe
from compnet3d.utils.workers import available_cores


@dataclass(frozen=True)
class TrainingData:
    """What a model is trained on, wherever it comes from.

    Attributes:
        samples: one for each annotated object; their images are read from disk while training.
        meshes: CAD models of each category, one or more, in the units of the samples' distances; its order is that of
            the model's categories. Their common box is the category's cuboid.
        symmetry: of the categories that have one; a mirror symmetry that nobody states is measured on the meshes.
        root: the folder that it was read from, if any.

    Raises:
        CompNetError: if there is no category, or one without samples or meshes.
    """

    samples: Sequence[Sample]
    meshes: Mapping[str, Sequence[Mesh]]
    symmetry: Mapping[str, Symmetry] = field(default_factory=dict)
    root: Path | None = None

    def __post_init__(self) -> None:
        where = self.root or "the training data"
        if not self.meshes:
            raise CompNetError(f"{where}: no category to learn; give at least one with its meshes and samples")
        found = {sample.category for sample in self.samples}
        for category in found - set(self.meshes):
            raise CompNetError(f"{where}: has samples of {category!r} and no mesh of it; give one for its size")
        for category, models in self.meshes.items():
            if category not in found:
                raise CompNetError(f"{where}: no usable training object in {category!r}; leave it out, or add some")
            if not models:
                raise CompNetError(f"{where}: no mesh of {category!r}; give one for its size")

    @classmethod
    def read(cls, root: str | Path, without: Sequence[str] = ()) -> TrainingData:
        """The train list of a data set in the ImageNet3D raw layout; what is skipped is said on stderr.

        Raises:
            CompNetError: if the data set, one of the categories to leave out, or something to learn from is missing.
        """
        dataset = open_dataset(root, without)
        samples = dataset.samples("train")
        check_trainable(dataset, samples)
        meshes = {name: dataset.meshes(name) for name in dataset.categories}
        return cls(samples, meshes, dataset.symmetry, dataset.root)

    def leaving_out(self, without: Sequence[str]) -> TrainingData:
        """Without some of the categories, which must be there."""
        for name in without:
            if name not in self.meshes:
                raise CompNetError(f"the training data has no category {name!r} to leave out")
        kept = {name: models for name, models in self.meshes.items() if name not in set(without)}
        # the symmetry table may keep entries of other categories: it is looked up by name
        return TrainingData([s for s in self.samples if s.category in kept], kept, self.symmetry, self.root)

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


class TrainOptions(TypedDict, total=False):
    """Options of `train`; see there."""

    seed: int
    without: Sequence[str]
    resume: bool
    backbone_weights: str | Path | None
    backgrounds: str | Path | None
    from_scratch: bool
    device: str
    workers: int | None
    progress: bool
    stop_after: int | None


@dataclass(frozen=True)
class TrainingJob:
    """A training, resolved: the processes that share it are handed it as it is.

    Attributes:
        recipe, data, out: what is trained, on what, and the run's folder.
        training, calibration: the split of the data's samples.
        feature_extractor, init_from: of the user's, see `train`.
        seed, without, resume, backbone_weights, from_scratch, device, progress, stop_after: see `train`.
        backgrounds: photographs for the augmentation's `background_swap`.
        workers: further processes that prepare images, for each training process.
        processes: that train.
    """

    recipe: Recipe
    data: TrainingData
    out: Path
    training: Sequence[Sample]
    calibration: Sequence[Sample]
    feature_extractor: nn.Module | None = None
    init_from: TrainedModel | None = None
    seed: int = 0
    without: tuple[str, ...] = ()
    resume: bool = False
    backbone_weights: Path | None = None
    backgrounds: tuple[Path, ...] = ()
    from_scratch: bool = False
    device: str = "cpu"
    workers: int = 0
    progress: bool = True
    stop_after: int | None = None
    processes: int = 1

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of images, as config.json has them."""
        counts = {"samples": len(self.data.samples), "calibration": len(self.calibration)}
        return counts | {"backgrounds": len(self.backgrounds)}


def resolve_job(
    recipe: Recipe,
    data: str | Path | TrainingData,
    out: str | Path,
    *,
    feature_extractor: nn.Module | None = None,
    init_from: str | Path | TrainedModel | None = None,
    **options: Unpack[TrainOptions],
) -> TrainingJob:
    """Open the data and split it, load what training starts from, choose the processes; see `train`.

    Raises:
        CompNetError: if the data or the model to start from is not there.
    """
    seed, without = options.get("seed", 0), tuple(options.get("without", ()))
    if isinstance(data, TrainingData):
        data = data.leaving_out(without)
    else:
        data = TrainingData.read(data, without)
    training, calibration = split_calibration(data.samples, recipe.schedule.calibration_fraction, seed)
    backgrounds = options.get("backgrounds")
    device, workers, weights = options.get("device", "cpu"), options.get("workers"), options.get("backbone_weights")
    processes = 1  # more on one accelerator would only stand in line; a module of the user's stays in its own process
    if torch.device(device).type == "cpu" and feature_extractor is None:
        # each process must have an image in every batch, or it would have nothing to average (see `EpochSampler`)
        processes = max(1, min(recipe.schedule.processes, recipe.schedule.batch_size, len(training)))
    if isinstance(init_from, str | Path):
        # here, and not in each process: the others get it with the job, and a wrong folder is refused before any starts
        init_from = load_predictor(init_from, feature_extractor=feature_extractor)
    return TrainingJob(
        recipe,
        data,
        Path(out),
        training,
        calibration,
        feature_extractor=feature_extractor,
        init_from=init_from,
        seed=seed,
        without=without,
        resume=options.get("resume", False),
        backbone_weights=None if weights is None else Path(weights),
        backgrounds=() if backgrounds is None else find_photographs(backgrounds),
        from_scratch=options.get("from_scratch", False),
        device=device,
        workers=_default_workers(processes, device) if workers is None else workers,
        progress=options.get("progress", True),
        stop_after=options.get("stop_after"),
        processes=processes,
    )


def open_dataset(data: str | Path, without: Sequence[str]) -> ImageNet3D:
    """The data set without some of its categories, which must be there."""
    dataset = ImageNet3D(data)
    if not without:
        return dataset
    # opened for its check alone: it refuses a category that does not exist, which is most likely misspelt
    ImageNet3D(data, categories=without)
    return ImageNet3D(data, categories=[name for name in dataset.categories if name not in set(without)])


def _default_workers(processes: int, device: str) -> int:
    cores = available_cores()
    if torch.device(device).type != "cpu":
        # one core is left to the process that feeds the accelerator
        return min(16, max(1, cores - 1))
    # a worker beside training processes on all cores would only take turns with them
    return 0 if processes > 1 and processes >= cores else 1
