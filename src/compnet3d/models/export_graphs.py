"""Models as modules that torch.export can trace: products, maxima and gathers over constants, no loop over images.

Each comes with what the model itself answers, so that an exported file can be compared with it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compnet3d.data.transforms import CropMode
from compnet3d.inference.confidence import category_confidence
from compnet3d.inference.matching import cells_of
from compnet3d.inference.pose_hypotheses import PoseHypotheses, search_hypotheses
from compnet3d.models.backbones import FeatureExtractor
from compnet3d.models.compnet import CompNet
from compnet3d.models.dual_head import ImageEncoder
from compnet3d.models.registry import TrainedModel

# answers by name, the first axis of each the image's
Answers = dict[str, Tensor]


@dataclass(frozen=True)
class Graph:
    """A module to export.

    Attributes:
        name: of its files, without an ending.
        module: maps RGB crops uint8 [B, 3, height, width] to a tuple of tensors.
        outputs: what each of these is, by name.
        expected: what the model itself answers for crops; it is given what the file answered, because of several
            hypotheses that fit equally well any may be named.
        any_size: whether height and width may be any multiples of the network's unit from `LEAST_SIZE` on.
        category: whose poses it searches, if one category's.
    """

    name: str
    module: nn.Module
    outputs: dict[str, str]
    expected: Callable[[Tensor, Answers], Answers]
    any_size: bool = False
    category: str | None = None


# pixels of a side that is free: torch.export takes a map of a single row for a constant, and the coarsest maps of a
# ResNet have a cell for 32 pixels
LEAST_SIZE = 64

SCORES = {
    "scores": "the largest names the category, [B, Y] in the order of the categories",
    "confidence": "calibrated probability that the best-scoring category is right, [B]",
}
POSE = {
    "angles": "azimuth, elevation and theta in radians, [B, 3]",
    "distance": "of the object from the crop's camera, in CAD units, [B]",
    "principal_point": "where the object's origin is seen, pixels (u, v) of the crop, [B, 2]",
}


def float32_copy(model: TrainedModel) -> TrainedModel:
    """A copy on the CPU that computes in float32 throughout, as exported files do."""
    copied = copy.deepcopy(model).cpu().eval()
    for module in copied.modules():
        if isinstance(module, FeatureExtractor | ImageEncoder):
            module.amp = False
    return copied


def graphs_of(model: TrainedModel, crop: CropMode, categories: Sequence[str]) -> Iterator[Graph]:
    """The graphs of a float32 model: of its scores, and of the pose search of each of these categories.

    A dual head is one graph, which answers both. `crop` is how the crops will be cut.
    """
    if not isinstance(model, CompNet):
        yield _dual_head(model, crop)
        return
    yield _matching(model)
    for name in categories:
        yield _pose_search(model, name, crop)


def _matching(model: CompNet) -> Graph:
    def expected(images: Tensor, _: Answers) -> Answers:
        scores = model.classify_crops(images)
        confidence = category_confidence(scores, model.config.temperature, model.calibration.category)
        return {"feature_map": model(images), "scores": scores, "confidence": confidence}

    outputs = {"feature_map": "unit vectors, [B, D, height / stride, width / stride]", **SCORES}
    # tables of initial poses have the size of the input, and a transformer's position embedding is made for it
    any_size = model.config.backbone.family == "resnet" and model.config.pose_score_weight == 0
    any_size &= min(model.input_config.height, model.input_config.width) >= LEAST_SIZE
    return Graph("matching", _Matching(model), outputs, expected, any_size)


def _pose_search(model: CompNet, name: str, crop: CropMode) -> Graph:
    module = _PoseSearch(model, model.categories.index(name), crop)

    def expected(images: Tensor, answers: Answers) -> Answers:
        losses, lowest, place = module.losses_of(model, images), 1e-4, answers["hypothesis"]
        near = losses.gather(1, place[:, None])[:, 0] <= losses.amin(dim=1) + lowest
        best = torch.where(near, place, losses.argmin(dim=1))
        return {"hypothesis": best, "loss": losses.amin(dim=1), "losses": losses, **module.poses_at(best)}

    outputs = {
        "hypothesis": "number of the best initial pose, int64 [B]",
        **{name: f"{text}; of the best initial pose" for name, text in POSE.items()},
        "loss": "what the search compares initial poses by, Eq. 8 with its settings, of the best one, [B]",
        "losses": "of all initial poses, [B, P]",
    }
    return Graph(f"pose-{name}", module, outputs, expected, category=name)


def _dual_head(model: TrainedModel, crop: CropMode) -> Graph:
    module = _DualHead(model, crop)
    return Graph(
        "dual-head",
        module,
        SCORES | POSE,
        lambda images, _: dict(zip(SCORES | POSE, module(images), strict=True)),
    )


class _CompNetGraph(nn.Module):
    """What both graphs of a CompNet begin with: the network, and how its cells match the background."""

    vertex_features: Tensor
    background_features: Tensor

    def __init__(self, model: CompNet) -> None:
        super().__init__()
        self.network = model.feature_extractor
        self.offsets: list[int] = model.bank.offsets.tolist()
        self.register_buffer("vertex_features", model.bank.vertex_features.clone())
        self.register_buffer("background_features", model.bank.background.clone())

    def background(self, cells: Tensor) -> Tensor:
        """max_n f_i . beta_n of cells [B, H W, D], as `background_similarity`: [B, H W]."""
        if not len(self.background_features):
            return torch.zeros_like(cells[..., 0])
        return (cells @ self.background_features.T).amax(dim=-1)

    def similarity(self, cells: Tensor, category: int) -> Tensor:
        """f_i . C_k of a category, [B, H W, K]."""
        start, end = self.offsets[category : category + 2]
        return cells @ self.vertex_features[start:end].T


class _Matching(_CompNetGraph):
    """`CompNet.classify_crops` and the confidence."""

    def __init__(self, model: CompNet) -> None:
        super().__init__(model)
        self.temperature, self.calibration = model.config.temperature, model.calibration.category
        self.weight = model.config.pose_score_weight
        several = len(model.categories) > 1
        self.mirrored = several and model.config.mirrored_scores
        self.searches = nn.ModuleList()
        if several and self.weight:
            self.shortlist, settings = model.score_search.shortlist, model.score_search
            for number in range(len(model.categories)):
                table = model.pose_hypotheses(number)
                self.searches.append(_Hypotheses(table, settings.truncation, settings.margin))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.mirrored:
            # one pass over both sides: a second one would use the weights again, and exporters would then not merge
            # batch norms into them
            sides = self.network(torch.cat([images, images.flip(-1)])).unflatten(0, (2, -1))
            feature_map, scores = sides[0], self.scores(sides.flatten(0, 1)).unflatten(0, (2, -1)).mean(dim=0)
        else:
            feature_map = self.network(images)
            scores = self.scores(feature_map)
        return feature_map, scores, category_confidence(scores, self.temperature, self.calibration)

    def scores(self, feature_map: Tensor) -> Tensor:
        cells = cells_of(feature_map)
        background = self.background(cells)
        similarities = (self.similarity(cells, number) for number in range(len(self.offsets) - 1))
        if not len(self.searches):
            return torch.stack([_matched(similarity, background) for similarity in similarities], dim=1)
        matched, losses = [], []
        for similarity, search in zip(similarities, self.searches, strict=True):
            matched.append(_matched(similarity, background))
            losses.append(search(similarity, background).amin(dim=1))
        scores = torch.stack(matched, dim=1)
        found = _shortlisted(torch.stack(losses, dim=1), scores, self.shortlist)
        return (1 - self.weight) * scores - self.weight * found


def _matched(similarity: Tensor, background: Tensor) -> Tensor:
    """S_y of Eq. 7, [B]."""
    return torch.maximum(similarity.amax(dim=-1), background).mean(dim=1)


def _shortlisted(losses: Tensor, likely: Tensor, count: int) -> Tensor:
    """`search_categories` of losses [B, Y] that are all known: those off the shortlist get its largest."""
    if losses.shape[1] <= count:
        return losses
    chosen = torch.zeros_like(losses).scatter(1, likely.topk(count, dim=1).indices, 1.0) > 0
    worst = losses.masked_fill(~chosen, -torch.inf).amax(dim=1, keepdim=True)
    return torch.where(chosen, losses, worst)


class _Hypotheses(nn.Module):
    """`search_hypotheses` with one category's table, for all images at once."""

    places: Tensor

    def __init__(self, table: PoseHypotheses, truncation: float | None, margin: float) -> None:
        super().__init__()
        self.truncation, self.margin = truncation, margin
        self.shape = table.nearest_vertex.shape
        # as a number among all similarities of an image: one gather along one axis
        cell = torch.arange(self.shape[0])[:, None] * (table.vertex_count + 1)
        self.register_buffer("places", (cell + table.nearest_vertex.long()).flatten())

    def forward(self, similarity: Tensor, background: Tensor) -> Tensor:
        limit = background[..., None]
        covered = similarity if self.truncation is None else torch.maximum(similarity, limit - self.truncation)
        options = torch.cat([covered, limit - self.margin], dim=-1).flatten(1)
        return -(options.index_select(1, self.places).unflatten(1, self.shape).mean(dim=1) + self.margin)


class _PoseSearch(_CompNetGraph):
    """The initial poses of one category compared by Eq. 8, and the best of them."""

    gain: Tensor
    poses: Tensor

    def __init__(self, model: CompNet, category: int, crop: CropMode) -> None:
        super().__init__(model)
        self.category, self.table = category, model.pose_hypotheses(category, crop)
        settings, bonus, pose = model.config.pose, model.render_and_compare.bonus, self.table.pose.wrapped()
        self.search = _Hypotheses(self.table, settings.truncation, settings.foreground_bonus)
        number = torch.full(pose.shape, category)
        gain = torch.zeros_like(pose.azimuth) if bonus is None else bonus(number, self.table.pose).detach()
        columns = [pose.azimuth, pose.elevation, pose.theta, pose.distance]
        self.register_buffer("gain", gain)
        self.register_buffer("poses", torch.cat([torch.stack(columns, dim=1), self.table.principal_point], dim=1))
        # of the bank only this category
        start, end = self.offsets[category : category + 2]
        self.vertex_features, self.offsets = self.vertex_features[start:end].clone(), [0, end - start]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        cells = cells_of(self.network(images))
        losses = self.search(self.similarity(cells, 0), self.background(cells)) - self.gain
        best = losses.argmin(dim=1)
        return best, *self.poses_at(best).values(), losses.amin(dim=1), losses

    def poses_at(self, place: Tensor) -> Answers:
        """Of hypotheses int64 [B], by the names of `POSE`."""
        chosen = self.poses.index_select(0, place)
        return {"angles": chosen[:, :3], "distance": chosen[:, 3], "principal_point": chosen[:, 4:]}

    @torch.no_grad()
    def losses_of(self, model: CompNet, images: Tensor) -> Tensor:
        """The same losses as the model's own search has them, [B, P]."""
        features, settings = model.features(images), model.config.pose
        similarity = features.cells @ model.bank.category_features(self.category).T
        losses = search_hypotheses(
            similarity,
            features.background,
            self.table,
            truncation=settings.truncation,
            margin=settings.foreground_bonus,
        )
        return losses - self.gain


class _DualHead(nn.Module):
    """A dual head's prediction as a tuple."""

    def __init__(self, model: TrainedModel, crop: CropMode) -> None:
        super().__init__()
        self.model, self.crop = model, crop

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = self.model.predict_crops(images, crop=self.crop)
        angles = torch.stack([found.pose.azimuth, found.pose.elevation, found.pose.theta], dim=1)
        return found.scores, found.confidence, angles, found.pose.distance, found.principal_point
