"""CompNet: the feature extractor, the bank and the shapes, composed into one model of category and pose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from compnet3d.data.images import image_tensor, read_rgb
from compnet3d.data.transforms import BoxCrop, CropMode, crop_box
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.cuboid import Cuboids, cuboid_mesh, cuboid_vertex_count
from compnet3d.geometry.mesh import Mesh
from compnet3d.inference.category_search import CategorySearch
from compnet3d.inference.confidence import category_confidence
from compnet3d.inference.detection import Box, Detector
from compnet3d.inference.explanation import (
    CategoryExplanation,
    Explanation,
    Subject,
    explain_category,
    fine_crop,
)
from compnet3d.inference.matching import CropFeatures, category_scores, vertex_similarities
from compnet3d.inference.pose_hypotheses import InitialPoses, PoseHypotheses, PoseSearch
from compnet3d.inference.pose_search import Bonus
from compnet3d.inference.prediction import ImageLike, Prediction, predict_boxes
from compnet3d.inference.pruned_matching import Centroids, Pruning, pruned_scores
from compnet3d.inference.render_and_compare import RenderAndCompare
from compnet3d.models.backbones import FeatureExtractor, build_extractor
from compnet3d.models.bank import VertexFeatureBank, starting_features
from compnet3d.models.base import Model
from compnet3d.models.config import CompNetConfig
from compnet3d.models.object_search import ObjectSearch
from compnet3d.models.rotation_prior import RotationPrior
from compnet3d.models.tensors import TensorShape
from compnet3d.rendering.fragments import Fragments
from compnet3d.rendering.gaussian import GaussianShape
from compnet3d.rendering.raycast import CuboidShape
from compnet3d.rendering.shape import Shape, render
from compnet3d.rendering.surface import MeshShape, Surface, Surfaces
from compnet3d.utils.files import Json


class CompNet(Model):
    """A 3D compositional model of every category, over one feature extractor.

    Attributes:
        config: everything but the tensors.
        feature_extractor: Phi_w.
        bank: vertex features, background features, grouping weights.
        prior: the categories' usual rotations; None where the pose settings give them no weight.
        cuboids: the categories' boxes, in the categories' order.
        surfaces: the categories' CAD surfaces where these carry the vertices (`CompNetConfig.shape`), else None.
        cad_meshes: one CAD model for some categories, for drawing.
        pruning: None matches every category exhaustively (Eq. 7); otherwise only the most likely ones.
    """

    kind: ClassVar[str] = "compnet"
    config: CompNetConfig

    def __init__(
        self,
        config: CompNetConfig,
        feature_extractor: FeatureExtractor | None = None,
        surfaces: Sequence[Surface] | None = None,
    ) -> None:
        """With random tensors; a model whose shape is the mesh starts from `surfaces`, or from empty ones to load."""
        super().__init__()
        self.config = config
        self.feature_extractor = feature_extractor or build_extractor(config.backbone)
        self.feature_extractor.check_input(config.input_config.height, config.input_config.width)
        self.cuboids = Cuboids([cuboid_mesh(torch.tensor(b), config.vertex_count) for b in config.bounds])
        self.surfaces: Surfaces | None = None
        if config.shape == "mesh":
            self.surfaces = Surfaces.empty(config.surface_sizes) if surfaces is None else Surfaces(surfaces)
        start = starting_features(
            self.surfaces or self.cuboids, self.cuboids.diagonals(), config.backbone.dimension, config.feature_length
        )
        self.bank = VertexFeatureBank(start, config.background_size)
        self.prior = RotationPrior(len(config.categories)) if config.pose.prior_weight > 0 else None
        self.cad_meshes: dict[str, Mesh] = {}
        self.pruning: Pruning | None = None
        # caches and no modules: what they hold follows from the rest and is not saved
        self._pose_search, self._centroids = PoseSearch(), Centroids()

    @classmethod
    def from_config(cls, values: Json, feature_extractor: FeatureExtractor | None = None) -> CompNet:
        """With random tensors, from config.json; over that feature extractor, or over a new one."""
        return cls(CompNetConfig.from_dict(values), feature_extractor)

    @classmethod
    def tensor_shapes(cls, values: Json, feature_extractor: FeatureExtractor | None = None) -> dict[str, TensorShape]:
        """Of the tensors of the model that `from_config` gives, found without taking memory for it."""
        return _tensor_shapes(CompNetConfig.from_dict(values), feature_extractor)

    def check_loaded(self) -> None:
        """See `Model.check_loaded`."""
        if self.surfaces is not None:
            self.surfaces.check_loaded(self.config.surface_sizes)
        self.bank.check_loaded((self.surfaces or self.cuboids).real.sum(dim=1))

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.bank.vertex_features.device

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the feature map in cells."""
        stride = self.feature_extractor.stride
        return self.input_config.height // stride, self.input_config.width // stride

    def mesh(self, category: str) -> Mesh:
        """A mesh to draw: the category's CAD model where one was saved, else its cuboid."""
        return self.cad_meshes.get(category, self.cuboids[self.categories.index(category)].mesh)

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters that no pretraining provides."""
        return self.feature_extractor.head_parameters()

    def forward(self, images: Tensor) -> Tensor:
        """Feature map of images: unit vectors [B, D, H, W]."""
        return self.feature_extractor(images)

    # -- shapes --------------------------------------------------------------------------------------------------

    def shape(self, category: Tensor) -> Shape:
        """The shapes of categories, int64 [N] or []."""
        surface = CuboidShape(self.cuboids, category) if self.surfaces is None else MeshShape(self.surfaces, category)
        gaussian = self.config.renderer == "gaussian"
        return GaussianShape(surface, self.config.foreground_threshold) if gaussian else surface

    def render(self, category: Tensor, pose: Pose, principal_point: Tensor, softness: float = 0.0) -> Fragments:
        """Render categories [N] at poses [N] and principal points [N, 2] into fragments of the feature map."""
        camera, stride = self.input_config.camera(principal_point), float(self.feature_extractor.stride)
        return render(self.shape(category), pose, camera, stride, softness=softness)

    def pose_hypotheses(self, category: int, crop: CropMode = "oracle") -> PoseHypotheses:
        """The rendered initial poses of a category, made on first use and when they are out of date."""
        config, stride = self.config, self.feature_extractor.stride
        drawn = (config.renderer, config.foreground_threshold, stride)
        initial = InitialPoses(config.grid, self.input_config, crop, drawn, self.device)
        count = len(self.bank.category_features(category))
        mesh = self.mesh(self.categories[category])
        return self._pose_search.hypotheses(category, count, initial, mesh, self.render)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """See `torch.nn.Module`; rendered initial poses of other surfaces are forgotten."""
        self._pose_search = PoseSearch()
        return super().load_state_dict(state_dict, strict, assign)

    # -- learning ------------------------------------------------------------------------------------------------

    def fit_prior(self, rotations: Sequence[Tensor]) -> None:
        """Learn which rotations are usual from the training images; see `RotationPrior.fit`.

        Raises:
            ValueError: if the pose settings give a prior no weight, or if the rotations are none.
        """
        if self.prior is None:
            raise ValueError("this model's pose settings have a prior_weight of 0")
        self.prior.fit(rotations)

    # -- inference -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict_crops(
        self, images: Tensor, *, category: Tensor | None = None, unseen: bool = False, crop: CropMode = "oracle"
    ) -> Prediction:
        """Classify the objects in crops and estimate their poses; see `Predictor.predict_crops`."""
        images = images.to(self.device)
        features = self.features(images, crop)
        scores = self._crop_scores(images, features)
        calibration = self.calibration
        if category is not None:
            chosen = category.to(self.device)
        elif unseen:
            chosen = self.render_and_compare.reconstructing_category(features)
        else:
            chosen = scores.argmax(dim=-1)
        estimate = self.render_and_compare.estimate_poses(features, chosen)
        score = -estimate.loss
        return Prediction(
            categories=self.categories,
            category_index=chosen,
            scores=scores,
            confidence=category_confidence(scores, self.config.temperature, calibration.category),
            pose=estimate.pose.wrapped(),
            focal=torch.full_like(estimate.loss, self.input_config.focal),
            principal_point=estimate.principal_point,
            reconstruction_score=score,
            foreground=estimate.foreground,
            pose_log_odds=estimate.log_odds,
            pose_confidence=calibration.pose_confidence(estimate.log_odds, score),
            runner_up=estimate.runner_up.wrapped(),
            evidence=score,
            unknown=calibration.is_unknown(score),
            occluded=estimate.occluded,
        )

    def object_search(self) -> Detector:
        """See `Model.object_search`."""
        return ObjectSearch(self)

    @torch.no_grad()
    def classify_crops(self, images: Tensor) -> Tensor:
        """What classifies the object in crops [B, 3, height, width] after an oracle crop, [B, Y]: the largest wins.

        S_y; with `pose_score_weight` the category's best initial pose counts, too, and with `mirrored_scores` it is
        the mean over both sides. Of one category alone it is S_y.
        """
        images = images.to(self.device)
        return self._crop_scores(images, self.features(images))

    @torch.no_grad()
    def feature_activation(self, images: Tensor, category: Tensor) -> Tensor:
        """How strongly each cell looks like some vertex of the category: max_k f_i . C_k, [B, H, W]."""
        feature_map = self(images.to(self.device))
        similarity = vertex_similarities(feature_map, self.bank.feature_bank, category.to(self.device))
        return similarity.amax(dim=-1).unflatten(1, feature_map.shape[2:])

    def explain(
        self, image: ImageLike, *, box: Box | Literal["whole"] | None = None, against: str | None = None
    ) -> Explanation:
        """Why the model answers as it does for one object; see `Model.explain`."""
        source = read_rgb(image)
        if isinstance(box, str) and box != "whole":
            raise CompNetError(f'box must be four numbers or "whole", not {box!r}')
        if box is None:
            found = self.object_search().detect(source, 1).boxes.tolist()
            if not found:
                raise CompNetError('no object was found; give its box, or take the image as a whole: box="whole"')
            box = found[0]
        place = None if isinstance(box, str) else box
        return self.explain_crop(source, crop_box(source, place, self.input_config), against)

    @torch.no_grad()
    def explain_crop(self, image: Image.Image, crop: BoxCrop, against: str | None = None) -> Explanation:
        """`explain` for a crop that `crop_box` cut out of an image in RGB."""
        answer = predict_boxes(self, [crop])[0]
        ranked = sorted(self.categories, key=lambda name: -answer.scores[name])
        if against is not None and (against not in self.categories or against == ranked[0]):
            known = ", ".join(ranked[1:4]) or "a model of more categories"
            raise CompNetError(f"the answer {ranked[0]!r} cannot be compared with {against!r}; take {known}")
        others = ranked[1:2] if against is None else [against]
        features = self.features(image_tensor(crop.image)[None].to(self.device), crop="box")
        best, *rest = (self._explain_category(features, name) for name in (ranked[0], *others))
        return Explanation(answer, self.input_config, fine_crop(image, crop, self.input_config), best, *rest)

    def features(self, images: Tensor, crop: CropMode = "oracle") -> CropFeatures:
        """What classification and pose estimation need to know of crops [B, 3, height, width]."""
        return CropFeatures.of(self(images), self.bank.feature_bank, crop)

    def category_scores(self, features: CropFeatures) -> Tensor:
        """S_y of Eq. 7, [B, Y]; with `pruning` set, exact for the likely categories alone (see `pruned_scores`)."""
        bank = self.bank.feature_bank
        if self.pruning is None:
            return category_scores(features.feature_map, bank, features.background)
        centroids = self._centroids.of(bank, self.pruning.centroids)
        return pruned_scores(features.feature_map, bank, centroids, self.pruning, features.background)

    @property
    def render_and_compare(self) -> RenderAndCompare:
        """Eq. 8 with this model's features, shapes and usual rotations."""
        prior, settings = self.prior, self.config.pose
        bonus: Bonus | None = None
        if prior is not None:
            bonus = lambda category, pose: settings.prior_weight * prior(category, pose.to_matrix())  # noqa: E731
        orders = self.calibration.orders
        return RenderAndCompare(self.bank.feature_bank, self.render, self.pose_hypotheses, settings, bonus, orders)

    @property
    def score_search(self) -> CategorySearch:
        """How closely categories are looked at where their poses count for the scores."""
        settings = self.config.pose
        return CategorySearch(shortlist=5, truncation=settings.truncation, margin=settings.foreground_bonus)

    def _explain_category(self, features: CropFeatures, category: str) -> CategoryExplanation:
        number = self.categories.index(category)
        shape = self.shape(torch.tensor(number, device=self.device))
        subject = Subject(number, category, self.mesh(category), shape.vertices[shape.real])
        return explain_category(self.render_and_compare, features, subject)

    def _crop_scores(self, images: Tensor, features: CropFeatures) -> Tensor:
        if len(self.categories) == 1:
            return self.category_scores(features)  # nothing to decide: the second look and the poses would be in vain
        scores = self._one_sided_scores(features)
        if not self.config.mirrored_scores:
            return scores
        return (scores + self._one_sided_scores(self.features(images.flip(-1), features.crop))) / 2

    def _one_sided_scores(self, features: CropFeatures) -> Tensor:
        matched, weight = self.category_scores(features), self.config.pose_score_weight
        if weight == 0:
            return matched
        losses = self.render_and_compare.search_categories(features, self.score_search, likely=matched)
        return (1 - weight) * matched - weight * losses


def _tensor_shapes(config: CompNetConfig, feature_extractor: FeatureExtractor | None) -> dict[str, TensorShape]:
    counts = [cuboid_vertex_count(torch.tensor(box), config.vertex_count) for box in config.bounds]
    if config.shape == "mesh":
        counts = [vertices for vertices, *_ in config.surface_sizes]
    with torch.device("meta"):
        start = [torch.empty(count, config.backbone.dimension) for count in counts]
        parts: dict[str, nn.Module] = {
            "feature_extractor": feature_extractor or build_extractor(config.backbone),
            "bank": VertexFeatureBank(start, config.background_size),
        }
        if config.pose.prior_weight > 0:
            parts["prior"] = RotationPrior(len(config.categories))
    shapes = {name: tuple(tensor.shape) for name, tensor in nn.ModuleDict(parts).state_dict().items()}
    if config.shape == "mesh":
        shapes |= {f"surfaces.{name}": shape for name, shape in Surfaces.shapes(config.surface_sizes).items()}
    return shapes
