"""New categories for a trained model from a few posed images each: their vertex features are learned, all else stays.

The feature extractor has never contrasted the new categories, so their features lie among those of the old ones. The
mean of the observed features alone gives poses; which category an image is of needs vertices that differ from the old
ones', and a few steps of the new vertex features down two losses find those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader

from compnet3d.data.augment import Augmentation
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.loader import CACHE_BYTES, CropDataset
from compnet3d.data.sample import Sample, draw_images, split_calibration
from compnet3d.errors import CompNetError
from compnet3d.inference.confidence import least_evidence
from compnet3d.inference.matching import background_similarity, category_scores, cells_of
from compnet3d.losses.contrastive import in_category_loss
from compnet3d.losses.inputs import FeatureBank, Queries
from compnet3d.models.category_models import CategoryModel, add_category
from compnet3d.models.compnet import CompNet
from compnet3d.training.batch import Batch, observed
from compnet3d.training.build import rotations_of
from compnet3d.training.data import TrainingData
from compnet3d.training.held_out import calibrate_confidence
from compnet3d.training.objectives import excluded_vertices
from compnet3d.training.sampler import EpochSampler

# what changes neither a category nor a pose that a model of any recipe has learned to tell
_MILD = Augmentation(
    rotation=6.0,
    scale=(0.93, 1.07),
    shift=0.02,
    mirror=0.5,
    brightness=0.15,
    contrast=0.15,
    saturation=0.3,
    colour_jitter=0.1,
)


@dataclass(frozen=True)
class GrowSettings:
    """How new categories are learned while the feature extractor stays as it is.

    Attributes:
        passes: draws of the augmentation that each image is seen in: for the mean, and again in the steps.
        learning_rate: of the steps, which falls to zero; 0 keeps the mean.
        batch_size: images.
        near_radius: vertices so near to each other, in fractions of the box's diagonal, are not told apart.
        rehearsed: images of each old category, where there are any, that the steps look at.
        seed: of the draws.
        augmentation: of the crops.
    """

    passes: int = 10
    learning_rate: float = 0.01
    batch_size: int = 32
    near_radius: float = 0.1
    rehearsed: int = 20
    seed: int = 0
    augmentation: Augmentation = field(default_factory=lambda: _MILD)

    def __post_init__(self) -> None:
        for name in ("passes", "batch_size", "rehearsed"):
            if getattr(self, name) < 1:
                raise CompNetError(f"{name} must be at least 1, not {getattr(self, name)}")


def add_categories(
    model: CompNet, data: TrainingData, old: TrainingData | None = None, settings: GrowSettings | None = None
) -> CompNet:
    """A model that knows the categories of `data` as well, the last ones; the features of the old ones are its own.

    Args:
        model: trained; it stays as it is.
        data: images, poses and CAD models of the new categories.
        old: of the old categories: images that the new vertices are contrasted with.
        settings: of the fit.

    Returns:
        The larger model, in inference mode. Its confidences are those of `model`; the evidence below which an answer is
        unknown is lower where new objects show less (see `unseen_evidence`).

    Raises:
        CompNetError: if a category is there already, or nothing of one can be seen.
    """
    settings = settings or GrowSettings()
    grown = fitted(model, data, old, settings)
    before = model.calibration.least_evidence
    if before is not None:
        lowest = least_evidence(unseen_evidence(model, data, old, settings))
        grown.calibrate(
            grown.config.temperature,
            replace(grown.calibration, least_evidence=before if lowest is None else min(before, lowest)),
        )
    return grown


def fitted(model: CompNet, data: TrainingData, old: TrainingData | None, settings: GrowSettings) -> CompNet:
    """`add_categories` with the confidences of `model`, whatever its evidence of the new categories is."""
    grown = begun(model, data)
    crops = crops_of(grown, data, settings.augmentation, settings.seed)
    fit_means(grown, crops, settings)
    if settings.learning_rate > 0:
        rehearsal = [] if old is None else rehearsal_of(old, settings.rehearsed, settings.seed)
        fit_contrast(grown, len(model.categories), crops.of([*data.samples, *rehearsal]), settings)
    return grown


def unseen_evidence(model: CompNet, data: TrainingData, old: TrainingData | None, settings: GrowSettings) -> Tensor:
    """The evidence (see `Prediction`) of new objects that the fit has not seen: each half's, after a fit to the other.

    Returns:
        [N], of the images of categories that can be halved.
    """
    halves = split_calibration(data.samples, 0.5, settings.seed)
    found = [torch.zeros(0)]
    for shown, asked in (halves, halves[::-1]):
        names = {sample.category for sample in shown} & {sample.category for sample in asked}
        if not names:
            continue
        part = without_samples(data.leaving_out([name for name in data.categories if name not in names]), asked)
        grown = fitted(model, part, old, settings)
        held_out = [sample for sample in asked if sample.category in names]
        crops = CropDataset(held_out, grown.categories, grown.input_config)
        for batch in DataLoader(crops, batch_size=settings.batch_size):
            evidence = grown.predict_crops(batch["image"]).evidence
            assert evidence is not None  # a CompNet tells it
            found.append(evidence.cpu())
    return torch.cat(found)


def begun(model: CompNet, data: TrainingData) -> CompNet:
    """The model with the categories of `data`, whose vertex features are those that training starts from."""
    grown, orders = model, data.symmetry_orders.tolist()
    for name, order in zip(data.categories, orders, strict=True):
        meshes, rotations = data.meshes[name], rotations_of(data.samples, name)
        grown = add_category(grown, CategoryModel.begun(grown, name, meshes, rotations, order))
    if len(model.categories) == 1:
        # of one category alone no temperature could be fitted
        grown.calibrate(type(model.config).temperature, grown.config.calibration)
    return grown


def read_new(
    root: str | Path, model: CompNet, categories: Sequence[str] = (), images: int | None = None, seed: int = 0
) -> TrainingData:
    """The train list of new categories.

    Args:
        root: a data set in the ImageNet3D layout.
        model: that is to learn them.
        categories: which; by default all that the model does not know.
        images: of each, spread over its objects (see `draw_images`); by default all.
        seed: of that draw.

    Raises:
        CompNetError: if there is none, the model knows one, or one lacks images or CAD models.
    """
    dataset = ImageNet3D(root, categories or None)
    for name in set(categories) & set(model.categories):
        raise CompNetError(
            f"the model has a category {name!r} already; rename that one, or remove it to learn it anew from {root}"
        )
    chosen = [name for name in dataset.categories if name not in model.categories]
    if not chosen:
        raise CompNetError(f"{root}: the model knows all of its categories; give --data with new ones")
    others = [name for name in ImageNet3D(root).categories if name not in chosen]
    data = TrainingData.read(root, others)
    return data if images is None else data.drawn(images, seed)


def read_old(root: str | Path, model: CompNet) -> TrainingData:
    """The train list of the categories that a model knows already.

    Raises:
        CompNetError: if there is none of them.
    """
    found = ImageNet3D(root).categories
    if not set(found) & set(model.categories):
        raise CompNetError(f"{root}: has none of the model's categories; give --old-data what it was trained on")
    return TrainingData.read(root, [name for name in found if name not in model.categories])


def without_samples(data: TrainingData, samples: Sequence[Sample]) -> TrainingData:
    """The data without some samples, of which a category must have others."""
    keys = {sample.key for sample in samples}
    return replace(data, samples=[sample for sample in data.samples if sample.key not in keys])


def rehearsal_of(old: TrainingData, count: int, seed: int) -> list[Sample]:
    """So many images of each old category."""
    return draw_images(old.samples, count, seed)


def crops_of(model: CompNet, data: TrainingData, augmentation: Augmentation, seed: int) -> CropDataset:
    """The crops of the new images; `CropDataset.of` gives others."""
    return CropDataset(
        data.samples,
        model.categories,
        model.input_config,
        augmentation=augmentation,
        mirror_categories=data.mirror_categories,
        seed=seed,
        cache_bytes=CACHE_BYTES,
    )


@torch.no_grad()
def fit_means(model: CompNet, crops: CropDataset, settings: GrowSettings) -> None:
    """Vertex features as means of what is observed: Eq. 6 without momentum, over all draws at once.

    A vertex that no image shows keeps the feature that training starts from, which is like its neighbours' starting
    features and like nothing else.

    Args:
        model: in inference mode; the vertices of the crops' categories are changed.
        crops: of the new categories.
        settings: see there.

    Raises:
        CompNetError: naming a category of which no vertex is visible in any image.
    """
    bank = model.bank
    vertices, features = [], []
    for batch in _batches(model, crops, settings):
        seen = observed(model, model(batch.images), batch)
        vertices.append((bank.offsets[batch.category][:, None] + seen.vertex)[seen.valid])
        features.append(seen.features[seen.valid])
    flat = torch.cat(vertices)
    shown = torch.bincount(torch.bucketize(flat, bank.offsets, right=True) - 1, minlength=bank.categories)
    for name in {sample.category for sample in crops.samples}:
        if not shown[model.categories.index(name)]:
            raise CompNetError(f"no image shows a vertex of {name!r}; look over its annotations (compnet3d data show)")
    bank.update_vertices(flat, torch.cat(features), momentum=0.0)


def fit_contrast(model: CompNet, first: int, crops: CropDataset, settings: GrowSettings) -> None:
    """Move the vertex features of the last categories so that they are told from the old ones, and from each other.

    The losses are the cross-entropy of the categories' scores (Eq. 7) at the model's temperature, and Eq. 2 without the
    background; both go down the vertex features in place of the network.

    Args:
        model: in inference mode; it is changed.
        first: the number of the first new category.
        crops: of the new categories, and of old ones if there are any.
        settings: see there.
    """
    start = int(model.bank.offsets[first])
    learned = model.bank.vertex_features[start:].clone().requires_grad_()
    optimizer = torch.optim.Adam([learned], lr=settings.learning_rate)
    steps = settings.passes * len(EpochSampler(len(crops), settings.batch_size, settings.seed))
    for number, batch in enumerate(_batches(model, crops, settings)):
        optimizer.param_groups[0]["lr"] = settings.learning_rate * (1 - number / steps)
        loss = new_vertices_loss(model, first, normalize(learned, dim=1), batch, settings.near_radius)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        with torch.no_grad():
            learned.copy_(normalize(learned, dim=1))
    model.bank.vertex_features[start:] = learned.detach()


def new_vertices_loss(model: CompNet, first: int, features: Tensor, batch: Batch, near_radius: float) -> Tensor:
    """What `fit_contrast` goes down, with a gradient with respect to the new vertex features alone.

    Args:
        model: its categories from `first` on are the new ones.
        first: the number of the first new category.
        features: their vertex features in place of the bank's, unit vectors [sum of K, D].
        batch: crops of any categories.
        near_radius: see `GrowSettings`.
    """
    bank = model.bank
    start = int(bank.offsets[first])
    limits = (bank.offsets[first:] - start).tolist()
    own = [features[a:b] for a, b in zip(limits, limits[1:], strict=False)]
    with torch.no_grad():
        feature_map = model(batch.images)
        cells = cells_of(feature_map)
        background = background_similarity(cells, bank.background)
        known = FeatureBank.of([bank.category_features(number) for number in range(first)], bank.background)
        scores = category_scores(feature_map, known, background)
        seen = observed(model, feature_map, batch)
    new = [torch.maximum((cells @ some.T).amax(dim=-1), background).mean(dim=1) for some in own]
    scores = torch.cat([scores, torch.stack(new, dim=1)], dim=1)
    loss = cross_entropy(model.config.temperature * scores, batch.category)
    near = excluded_vertices(model, Queries(seen.features, batch.category, seen.vertex, seen.valid), near_radius)
    for number, some in enumerate(own, start=first):
        shown = seen.valid & (batch.category == number)[:, None]
        terms = in_category_loss(
            seen.features[shown],
            seen.vertex[shown],
            some,
            bank.background,
            kappa=model.config.kappa,
            excluded=near[shown][:, : len(some)],
            background_weight=0.0,
        )
        # the mean over all queries: of old categories they have nothing to move
        loss = loss + terms.sum() / seen.valid.sum().clamp_min(1)
    return loss


def calibrate_grown(model: CompNet, held_out: Sequence[Sample]) -> None:
    """Fit the confidences of a model with new categories on held-out images of the old ones.

    New categories have too few images to hold any out; that old images may now be taken for one of them is measured.
    The threshold of the evidence is lowered at most, since new objects show less of it than old ones.
    """
    before = model.calibration.least_evidence
    orders = model.calibration.orders(torch.arange(len(model.categories)))
    calibrate_confidence(model, CropDataset(held_out, model.categories, model.input_config), orders)
    now = model.calibration.least_evidence
    if before is not None and now is not None:
        model.calibrate(model.config.temperature, replace(model.calibration, least_evidence=min(before, now)))


def _batches(model: CompNet, crops: CropDataset, settings: GrowSettings) -> Iterator[Batch]:
    sampler = EpochSampler(len(crops), settings.batch_size, settings.seed)
    for draw in range(settings.passes):
        sampler.epoch = draw
        for values in DataLoader(crops, batch_sampler=sampler):
            yield Batch.of(values, model.device)
