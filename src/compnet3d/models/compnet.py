"""CompNet: the feature extractor, the bank and the shapes, composed into one model of category and pose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from compnet3d.data.transforms import CropMode
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.cuboid import Cuboids, cuboid_mesh
from compnet3d.geometry.mesh import Mesh
from compnet3d.inference import category_search
from compnet3d.inference.category_search import CategorySearch
from compnet3d.inference.matching import background_similarity, category_scores
from compnet3d.inference.pose_search import (
    Bonus,
    InitialPoses,
    Matches,
    PoseEstimate,
    PoseHypotheses,
    PoseSearch,
    estimate_pose,
    image_chunks,
)
from compnet3d.inference.prediction import Prediction
from compnet3d.inference.pruned_matching import Centroids, Pruning, pruned_scores
from compnet3d.inference.reconstruction import pose_scores
from compnet3d.losses.blockwise import padded_category_features
from compnet3d.losses.sampling import near_vertices
from compnet3d.models.backbones import FeatureExtractor, build_extractor
from compnet3d.models.bank import VertexFeatureBank, starting_features
from compnet3d.models.base import Model
from compnet3d.models.config import CompNetConfig
from compnet3d.models.observation import Observation, observe, sample_background
from compnet3d.models.rotation_prior import RotationPrior
from compnet3d.rendering.fragments import Fragments
from compnet3d.rendering.gaussian import GaussianShape
from compnet3d.rendering.raycast import CuboidShape
from compnet3d.rendering.shape import Shape, render
from compnet3d.rendering.surface import MeshShape, Surface, Surfaces
from compnet3d.utils.matmul import fast_matmul


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
        self._pose_search, self._centroids = PoseSearch(), Centroids()

    @classmethod
    def from_config(cls, values: dict[str, Any], feature_extractor: FeatureExtractor | None = None) -> CompNet:
        """With random tensors, from config.json; over that feature extractor, or over a new one."""
        return cls(CompNetConfig.from_dict(values), feature_extractor)

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

    # -- learning ------------------------------------------------------------------------------------------------

    def observe(
        self, feature_map: Tensor, category: Tensor, pose: Pose, principal_point: Tensor, occluded: Tensor | None = None
    ) -> Observation:
        """The features at the visible vertices of categories [B], see `observation.observe`."""
        return observe(feature_map, self.shape(category), pose, self.input_config.camera(principal_point), occluded)

    @torch.no_grad()
    def sample_background(
        self,
        feature_map: Tensor,
        category: Tensor,
        pose: Pose,
        principal_point: Tensor,
        count: int,
        generator: torch.Generator,
        occluded: Tensor | None = None,
    ) -> Tensor:
        """Features from beside the object, see `observation.sample_background`."""
        covered = self.render(category, pose, principal_point).foreground > 0
        return sample_background(feature_map, covered, count, generator, occluded)

    def pose_scores(self, feature_map: Tensor, category: Tensor, pose: Pose, principal_point: Tensor) -> Tensor:
        """- L(alpha) of Eq. 8 of images [B] at poses [B, P], with one principal point [B, 2] each: [B, P]."""
        image = torch.arange(len(category), device=self.device).repeat_interleave(pose.shape[1])
        place = torch.arange(pose.shape[1], device=self.device).repeat(len(category))
        with torch.no_grad():
            seen = self.render(category[image], pose[image, place], principal_point[image])
        cells = feature_map.flatten(2).transpose(1, 2)
        own, _ = padded_category_features(self.bank.vertex_features, self.bank.offsets, category)
        similarity = torch.bmm(cells, own.transpose(1, 2))
        return pose_scores(similarity, self.background(feature_map), seen, self.config.pose.truncation)

    def near_vertices(self, category: Tensor, vertex: Tensor, radius: float) -> Tensor:
        """Which vertices lie near each query's vertex [B, Q, K]; `radius` in fractions of the box's diagonal."""
        diagonal = self.cuboids.diagonals()[category]
        return near_vertices(self.shape(category).vertices / diagonal[:, None, None], vertex, radius)

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
        self, images: Tensor, *, category: Tensor | None = None, unknown: bool = False, crop: CropMode = "oracle"
    ) -> Prediction:
        """Classify the objects in crops and estimate their poses; see `Predictor.predict_crops`."""
        images = images.to(self.device)
        feature_map = self(images)
        background = self.background(feature_map)
        scores = self.crop_scores(images, feature_map, crop, background)
        confidence = (self.config.temperature * scores).softmax(dim=-1).amax(dim=-1)
        if category is not None:
            chosen = category.to(self.device)
        elif unknown:
            chosen = self.reconstructing_category(feature_map, crop, background)
        else:
            chosen = scores.argmax(dim=-1)
        estimate = self.estimate_poses(feature_map, chosen, crop, background)
        return Prediction(
            categories=self.categories,
            category_index=chosen,
            scores=scores,
            confidence=confidence,
            pose=estimate.pose.wrapped(),
            focal=torch.full_like(estimate.loss, self.input_config.focal),
            principal_point=estimate.principal_point,
            reconstruction_score=-estimate.loss,
            foreground=estimate.foreground,
        )

    @torch.no_grad()
    def classify_crops(self, images: Tensor) -> Tensor:
        """Scores of crops [B, 3, height, width] after an oracle crop, [B, Y]; see `crop_scores`."""
        images = images.to(self.device)
        return self.crop_scores(images, self(images))

    def background(self, feature_map: Tensor) -> Tensor:
        """max_n f_i . beta_n of each cell, [B, H W]. Classification and pose both need it."""
        return background_similarity(feature_map.flatten(2).transpose(1, 2), self.bank.background)

    def crop_scores(
        self, images: Tensor, feature_map: Tensor, crop: CropMode = "oracle", background: Tensor | None = None
    ) -> Tensor:
        """What classifies the object in crops whose feature maps are at hand, [B, Y]: the largest wins.

        S_y; with `pose_score_weight` the category's best initial pose counts, too, and with `mirrored_scores` it is
        the mean over both sides. `background` is that of the feature maps, where it is known already.
        """
        scores = self._classification_scores(feature_map, crop, background)
        if not self.config.mirrored_scores:
            return scores
        return (scores + self._classification_scores(self(images.flip(-1)), crop)) / 2

    def _classification_scores(
        self, feature_map: Tensor, crop: CropMode, background: Tensor | None = None, shortlist: int = 5
    ) -> Tensor:
        weight = self.config.pose_score_weight
        if weight == 0:
            return self.category_scores(feature_map, background)
        background = self.background(feature_map) if background is None else background
        matched = self.category_scores(feature_map, background)
        margin = self.config.pose.foreground_bonus
        losses = self.search_categories(
            feature_map, crop, background, shortlist=shortlist, likely=matched, margin=margin
        )
        return (1 - weight) * matched - weight * losses

    def category_scores(self, feature_map: Tensor, background: Tensor | None = None) -> Tensor:
        """S_y of Eq. 7, [B, Y]; with `pruning` set, exact for the likely categories alone (see `pruned_scores`)."""
        features = (self.bank.vertex_features, self.bank.offsets, self.bank.background)
        if self.pruning is None:
            return category_scores(feature_map, *features, background)
        centroids = self._centroids.of(self.bank.vertex_features, self.bank.offsets, self.pruning.centroids)
        return pruned_scores(feature_map, *features, centroids, self.pruning, background)

    @torch.no_grad()
    def estimate_poses(
        self,
        feature_map: Tensor,
        category: Tensor,
        crop: CropMode = "oracle",
        background: Tensor | None = None,
        *,
        chunk: int | None = None,
    ) -> PoseEstimate:
        """Eq. 8 for the given category of each image, `chunk` images at a time (see `image_chunks`)."""
        limits = self.background(feature_map) if background is None else background
        parts = []
        for some in image_chunks(feature_map, chunk):
            numbers = category[some]
            matches = Matches(self.similarities(feature_map[some], numbers), limits[some], numbers)
            tables = [self.pose_hypotheses(number, crop) for number in numbers.tolist()]
            known = crop == "oracle"
            settings = self.config.pose
            parts.append(
                estimate_pose(matches, tables, self.render, settings, bonus=self._bonus(), translation_known=known)
            )
        return PoseEstimate.cat(parts)

    def _bonus(self) -> Bonus | None:
        prior, weight = self.prior, self.config.pose.prior_weight
        if prior is None:
            return None
        return lambda category, pose: weight * prior(category, pose.to_matrix())

    @fast_matmul()
    def similarities(self, feature_map: Tensor, category: Tensor) -> Tensor:
        """f_i . C_k of each image's category, [B, H W, K_max] (-1 where padded)."""
        cells = feature_map.flatten(2).transpose(1, 2)
        widest = int(self.bank.offsets.diff().max())
        rows = []
        for image, number in zip(cells, category.tolist(), strict=True):
            similarity = image @ self.bank.category_features(number).T
            rows.append(pad(similarity, (0, widest - similarity.shape[1]), value=-1.0))
        return torch.stack(rows)

    def reconstructing_category(
        self, feature_map: Tensor, crop: CropMode = "oracle", background: Tensor | None = None
    ) -> Tensor:
        """The category with the lowest reconstruction loss (section 5.3), int64 [B]."""
        background = self.background(feature_map) if background is None else background
        losses = self.search_categories(feature_map, crop, background)
        return category_search.reconstructing_category(
            losses, lambda numbers: self.estimate_poses(feature_map, numbers, crop, background).loss
        )

    def search_categories(
        self,
        feature_map: Tensor,
        crop: CropMode = "oracle",
        background: Tensor | None = None,
        *,
        likely: Tensor | None = None,
        **search: Any,
    ) -> Tensor:
        """The lowest loss of Eq. 8 among each category's initial poses, [B, Y]; `search` as of `CategorySearch`."""
        limits = self.background(feature_map) if background is None else background
        closely = CategorySearch(**search, truncation=self.config.pose.truncation)
        bank, tables = self.bank.feature_bank, lambda number: self.pose_hypotheses(number, crop)
        return category_search.search_categories(feature_map, limits, bank, tables, closely, likely)

    @torch.no_grad()
    def feature_activation(self, images: Tensor, category: Tensor) -> Tensor:
        """How strongly each cell looks like some vertex of the category: max_k f_i . C_k, [B, H, W]."""
        feature_map = self(images.to(self.device))
        similarity = self.similarities(feature_map, category.to(self.device))
        return similarity.amax(dim=-1).unflatten(1, feature_map.shape[2:])
