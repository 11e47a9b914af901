"""CompNet: the feature extractor, the bank and the shapes, composed into one model of category and pose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, normalize, pad

from compnet3d.data.transforms import CropMode
from compnet3d.geometry.camera import Camera, Pose, fit_to_box, pose_grid
from compnet3d.geometry.cuboid import CuboidMesh, _Shapes, cuboid_mesh
from compnet3d.geometry.mesh import Mesh
from compnet3d.inference.matching import background_similarity, category_scores, spaced_cells
from compnet3d.inference.pose_search import (
    Bonus,
    PoseEstimate,
    PoseHypotheses,
    build_pose_hypotheses,
    estimate_pose,
    loss_of_matches,
    search_hypotheses,
)
from compnet3d.inference.prediction import Prediction
from compnet3d.inference.pruned_matching import Pruning, category_centroids, pruned_scores
from compnet3d.losses.blockwise import padded_category_features
from compnet3d.losses.sampling import near_vertices, uniform
from compnet3d.models.backbones import FeatureExtractor, build_extractor
from compnet3d.models.bank import VertexFeatureBank, smooth_features
from compnet3d.models.base import Model
from compnet3d.models.config import CompNetConfig
from compnet3d.models.observation import Observation
from compnet3d.models.rotation_prior import RotationPrior
from compnet3d.rendering.fragments import Fragments
from compnet3d.rendering.gaussian import render_gaussians
from compnet3d.rendering.raycast import render_cuboids, visible_lattice_vertices
from compnet3d.utils.matmul import fast_matmul

# A step of the refinement costs about the same for a few cells as for these: 64 maps of the quickstart.
REFINED_CELLS = 64 * 12 * 12
# Categories, the likeliest by Eq. 7, whose poses are searched for their score.
POSE_SCORED = 5
RENDERERS = ("cuboid", "gaussian")


class CompNet(Model):
    """A 3D compositional model of every category, over one feature extractor.

    Attributes:
        config: everything but the tensors.
        feature_extractor: Phi_w.
        bank: vertex features, background features, grouping weights.
        prior: the categories' usual rotations; None where the pose settings give them no weight.
        cuboids: the categories' boxes, in the categories' order.
        cad_meshes: one CAD model for some categories, for drawing.
        pruning: None matches every category exhaustively (Eq. 7); otherwise only the most likely ones.
    """

    kind: ClassVar[str] = "compnet"
    config: CompNetConfig

    def __init__(self, config: CompNetConfig, feature_extractor: FeatureExtractor | None = None) -> None:
        super().__init__()
        if config.renderer not in RENDERERS:
            raise ValueError(f"renderer must be one of {RENDERERS}, got {config.renderer!r}")
        self.config = config
        self.feature_extractor = feature_extractor or build_extractor(config.backbone)
        self.cuboids: list[CuboidMesh] = [cuboid_mesh(torch.tensor(b), config.vertex_count) for b in config.bounds]
        self.bank = VertexFeatureBank(_starting_features(self.cuboids, config), config.background_size)
        self.prior = RotationPrior(len(config.categories)) if config.pose.prior_weight > 0 else None
        self.cad_meshes: dict[str, Mesh] = {}
        self.pruning: Pruning | None = None
        self._shapes = _Shapes.of(self.cuboids)
        self._tables: dict[tuple[int, str, torch.device], PoseHypotheses] = {}
        self._centroids: tuple[Tensor, int, Tensor] | None = None

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> CompNet:
        """With random tensors, from config.json."""
        return cls(CompNetConfig.from_dict(values))

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

    def forward(self, images: Tensor) -> Tensor:
        """Feature map of images: unit vectors [B, D, H, W]."""
        return self.feature_extractor(images)

    # -- learning ------------------------------------------------------------------------------------------------

    def observe(
        self, feature_map: Tensor, category: Tensor, pose: Pose, principal_point: Tensor, occluded: Tensor | None = None
    ) -> Observation:
        """Read the features at the projections of the visible vertices (bilinear, so neighbours differ).

        Args:
            feature_map: [B, D, H, W]; category: int64 [B]; pose: [B]; principal: [B, 2].
            occluded: bool [B, height, width], pixels where something else hides the object.
        """
        shapes = self._placed_shapes()
        vertices, lattice = shapes.vertices[category], shapes.lattice[category]
        camera = self._camera(principal_point)
        pixels, depth = camera.project(vertices, pose)
        size = pixels.new_tensor([self.input_config.width, self.input_config.height])
        visible = visible_lattice_vertices(
            lattice, shapes.stack.segments[category], shapes.stack.bounds[category], pose.camera_centre()
        )
        visible &= ((pixels >= 0) & (pixels < size)).all(dim=-1) & (depth > 0) & shapes.real[category]
        if occluded is not None:
            u, v = (pixels.clamp_min(0).minimum(size - 1)).long().unbind(-1)
            visible &= ~occluded[torch.arange(len(u), device=u.device)[:, None], v, u]
        count = max(1, int(visible.sum(dim=1).max())) if len(visible) else 1
        valid, vertex = visible.to(torch.uint8).sort(dim=1, descending=True, stable=True)
        valid, vertex = valid[:, :count].bool(), vertex[:, :count]
        at = pixels.gather(1, vertex[..., None].expand(-1, -1, 2))
        sampled = grid_sample(
            feature_map, (2 * at / size - 1)[:, None], mode="bilinear", padding_mode="border", align_corners=False
        )
        return Observation(normalize(sampled[:, :, 0].transpose(1, 2), dim=-1), vertex, valid)

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
        """Up to `count` features per image from cells that the projected object does not touch, [<= B count, D].

        Cells that are mostly hidden by something else (`occluded`, see `observe`) count as background too.
        """
        covered = self.render(category, pose, principal_point).foreground > 0
        covered = torch.nn.functional.max_pool2d(covered[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
        if occluded is not None:
            stride = self.feature_extractor.stride
            covered &= torch.nn.functional.avg_pool2d(occluded[:, None].float(), stride)[:, 0] < 0.9
        free = ~covered.flatten(1)
        draw = uniform(free.shape, generator, free.device).masked_fill(~free, -1.0)
        value, cell = draw.topk(min(count, free.shape[1]), dim=1)
        features = feature_map.flatten(2).transpose(1, 2)
        picked = features.gather(1, cell[..., None].expand(-1, -1, features.shape[2]))
        return picked[value >= 0]

    def pose_scores(self, feature_map: Tensor, category: Tensor, pose: Pose, principal_point: Tensor) -> Tensor:
        """- L(alpha) of Eq. 8, the mean over cells, of images at several poses each; differentiable in the features.

        Args:
            feature_map: [B, D, H, W]; category: int64 [B]; pose: [B, P]; principal: [B, 2], for all poses of an image.

        Returns:
            [B, P].
        """
        images, count = pose.azimuth.shape
        image = torch.arange(images, device=self.device).repeat_interleave(count)
        place = torch.arange(count, device=self.device).repeat(images)
        with torch.no_grad():
            seen = self.render(category[image], pose[image, place], principal_point[image])
        cells = feature_map.flatten(2).transpose(1, 2)
        own, _ = padded_category_features(self.bank.vertex_features, self.bank.offsets, category)
        similarity = torch.bmm(cells, own.transpose(1, 2))
        background = background_similarity(cells, self.bank.background)
        # cells first, so that one gather serves all poses of an image
        index, weight = (
            x.flatten(1, 2).unflatten(0, (images, count)).transpose(1, 2) for x in (seen.vertex_index, seen.weight)
        )
        matched = (similarity.gather(2, index.flatten(2)).unflatten(2, index.shape[2:]) * weight).sum(dim=-1)
        foreground = seen.foreground.flatten(1).unflatten(0, (images, count))
        cost = self.config.pose.truncation
        return -loss_of_matches(matched.transpose(1, 2), background[:, None], foreground, cost)[0]

    def near_vertices(self, category: Tensor, vertex: Tensor, radius: float) -> Tensor:
        """Which vertices lie near each query's vertex [B, Q, K]; `radius` in fractions of the box's diagonal."""
        shapes = self._placed_shapes()
        diagonal = torch.linalg.vector_norm(shapes.stack.bounds[:, 1] - shapes.stack.bounds[:, 0], dim=-1)[category]
        return near_vertices(shapes.vertices[category] / diagonal[:, None, None], vertex, radius)

    # -- rendering -----------------------------------------------------------------------------------------------

    def render(self, category: Tensor, pose: Pose, principal_point: Tensor, softness: float = 0.0) -> Fragments:
        """Render categories [N] at poses [N] and principal points [N, 2] into fragments of the feature map."""
        shapes = self._placed_shapes()
        height, width = self.map_size
        view: dict[str, Any] = {
            "focal": torch.full_like(pose.azimuth, self.input_config.focal),
            "principal_point": principal_point,
            "height": height,
            "width": width,
            "stride": float(self.feature_extractor.stride),
        }
        if self.config.renderer == "gaussian":
            return render_gaussians(
                shapes.vertices[category],
                shapes.real[category],
                pose,
                sigma=shapes.spacing[category] / 2,
                foreground_threshold=self.config.foreground_threshold,
                softness=softness,
                **view,
            )
        return render_cuboids(shapes.stack, category, pose, softness=softness, **view)

    def pose_hypotheses(self, category: int, crop: CropMode = "oracle") -> PoseHypotheses:
        """The rendered initial poses of a category, made on first use.

        After an oracle crop distance and principal point are known; after a box crop each initial pose gets those
        with which the category's mesh fills the box.
        """
        key = category, crop, self.device
        if key not in self._tables:
            pose = pose_grid(**asdict(self.config.grid), distance=self.input_config.distance).to(self.device)
            principal_point = self._centre().expand(len(pose.azimuth), 2)
            if crop == "box":
                points = self.mesh(self.categories[category]).vertices.to(self.device)
                side = self.input_config.box_fill * min(self.input_config.height, self.input_config.width)
                pose, principal_point = fit_to_box(points, pose, self._camera(principal_point), side)
            count = len(self.cuboids[category].vertices)
            self._tables[key] = build_pose_hypotheses(self.render, category, count, pose, principal_point)
        return self._tables[key]

    def fit_prior(self, rotations: Sequence[Tensor]) -> None:
        """Learn which rotations are usual from the training images; see `RotationPrior.fit`.

        Raises:
            ValueError: if the pose settings give a prior no weight, or if the rotations are none.
        """
        if self.prior is None:
            raise ValueError("this model's pose settings have a prior_weight of 0")
        self.prior.fit(rotations)

    def _bonus(self) -> Bonus | None:
        prior, weight = self.prior, self.config.pose.prior_weight
        if prior is None:
            return None
        return lambda category, pose: weight * prior(category, pose.rotmat())

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
        """max_n f_i . beta_n of each cell, [B, H W]. Names and poses both need it."""
        return background_similarity(feature_map.flatten(2).transpose(1, 2), self.bank.background)

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters that no pretraining provides."""
        return self.feature_extractor.head_parameters()

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

    def _classification_scores(self, feature_map: Tensor, crop: CropMode, background: Tensor | None = None) -> Tensor:
        share = self.config.pose_score_weight
        if share == 0:
            return self.category_scores(feature_map, background)
        background = self.background(feature_map) if background is None else background
        matched = self.category_scores(feature_map, background)
        margin = self.config.pose.foreground_bonus
        losses = self.search_categories(
            feature_map, crop, background, shortlist=POSE_SCORED, likely=matched, margin=margin
        )
        return (1 - share) * matched - share * losses

    def category_scores(self, feature_map: Tensor, background: Tensor | None = None) -> Tensor:
        """S_y of Eq. 7, [B, Y]; with `pruning` set, exact for the likely categories alone (see `pruned_scores`)."""
        features = (self.bank.vertex_features, self.bank.offsets, self.bank.background)
        if self.pruning is None:
            return category_scores(feature_map, *features, background)
        return pruned_scores(
            feature_map, *features, self._category_centroids(self.pruning.centroids), self.pruning, background
        )

    def _category_centroids(self, count: int) -> Tensor:
        """Codes of the vertex features, made on first use and again when the features have changed."""
        features = self.bank.vertex_features
        made = self._centroids
        # a tensor counts the changes made to it
        if made is None or made[0] is not features or made[1] != features._version or made[2].shape[1] != count:
            self._centroids = features, features._version, category_centroids(features, self.bank.offsets, count)
            return self._centroids[2]
        return made[2]

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
        """Eq. 8 for the given category of each image.

        `chunk` images at a time bound the memory; by default 16 or, where their maps are small, as many as have
        REFINED_CELLS cells together (32 times as many on an accelerator).
        """
        if chunk is None:
            cells = REFINED_CELLS if self.device.type == "cpu" else 32 * REFINED_CELLS
            chunk = max(16, cells // math.prod(feature_map.shape[2:]))
        background = self.background(feature_map) if background is None else background
        parts = []
        for maps, numbers, limit in zip(
            feature_map.split(chunk), category.split(chunk), background.split(chunk), strict=True
        ):
            tables = [self.pose_hypotheses(int(y), crop) for y in numbers]
            parts.append(
                estimate_pose(
                    self.similarities(maps, numbers),
                    limit,
                    numbers,
                    tables,
                    self.render,
                    self.config.pose,
                    bonus=self._bonus(),
                    translation_known=crop == "oracle",
                )
            )
        return PoseEstimate(
            Pose.cat([p.pose for p in parts]),
            torch.cat([p.principal_point for p in parts]),
            torch.cat([p.loss for p in parts]),
            torch.cat([p.foreground for p in parts]),
        )

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

    @torch.no_grad()
    def reconstructing_category(
        self, feature_map: Tensor, crop: CropMode = "oracle", background: Tensor | None = None, *, candidates: int = 3
    ) -> Tensor:
        """The category with the lowest reconstruction loss (section 5.3), int64 [B].

        All categories compete with their initial poses; the best `candidates` are refined.
        """
        background = self.background(feature_map) if background is None else background
        losses = self.search_categories(feature_map, crop, background)
        best = losses.topk(min(candidates, losses.shape[1]), dim=1, largest=False).indices
        refined = torch.stack(
            [self.estimate_poses(feature_map, numbers, crop, background).loss for numbers in best.unbind(1)], dim=1
        )
        return best.gather(1, refined.argmin(dim=1, keepdim=True))[:, 0]

    @torch.no_grad()
    @fast_matmul()
    def search_categories(
        self,
        feature_map: Tensor,
        crop: CropMode = "oracle",
        background: Tensor | None = None,
        *,
        cells: int = 1000,
        shortlist: int = 8,
        likely: Tensor | None = None,
        margin: float = 0.0,
    ) -> Tensor:
        """The lowest loss of Eq. 8 among each category's initial poses, [B, Y].

        The `shortlist` are searched in all cells: those that `likely` [B, Y] puts first or, without it, those that do
        best where evenly spaced cells, at most `cells` of them, speak for all. The others keep what the few cells say,
        but no less than the shortlist' largest loss. `margin` is that of `search_hypotheses`.
        """
        maps = feature_map.flatten(2).transpose(1, 2)
        limits = self.background(feature_map) if background is None else background
        some = spaced_cells(feature_map.shape[2], feature_map.shape[3], cells).to(self.device)
        everything, everyone = torch.arange(len(maps), device=self.device), range(len(self.categories))

        def lowest(images: Tensor, number: int, seen: Tensor | None = None) -> Tensor:
            table = self.pose_hypotheses(number, crop)
            features, limit = maps[images], limits[images]
            if seen is not None:
                table, features, limit = table.at(seen), features[:, seen], limit[:, seen]
            similarity = features @ self.bank.category_features(number).T
            cost = self.config.pose.truncation
            return search_hypotheses(similarity, limit, table, truncation=cost, margin=margin).amin(dim=1)

        if len(everyone) <= shortlist or (likely is None and len(some) == maps.shape[1]):
            return torch.stack([lowest(everything, number) for number in everyone], dim=1)
        if likely is None:
            losses = torch.stack([lowest(everything, number, some) for number in everyone], dim=1)
            likely = -losses
        else:
            losses = torch.full_like(likely, -torch.inf)
        chosen = torch.zeros_like(losses, dtype=torch.bool)
        chosen.scatter_(1, likely.topk(shortlist, dim=1).indices, True)
        for number in chosen.any(dim=0).nonzero()[:, 0].tolist():
            images = chosen[:, number].nonzero()[:, 0]
            losses[images, number] = lowest(images, number)
        worst = losses.masked_fill(~chosen, -torch.inf).amax(dim=1, keepdim=True)
        return torch.where(chosen, losses, torch.maximum(losses, worst))

    @torch.no_grad()
    def feature_activation(self, images: Tensor, category: Tensor) -> Tensor:
        """How strongly each cell looks like some vertex of the category: max_k f_i . C_k, [B, H, W]."""
        feature_map = self(images.to(self.device))
        similarity = self.similarities(feature_map, category.to(self.device))
        return similarity.amax(dim=-1).unflatten(1, feature_map.shape[2:])

    def _placed_shapes(self) -> _Shapes:
        """The shapes where the model lives, moved there once."""
        self._shapes = self._shapes.to(self.device)
        return self._shapes

    def _camera(self, principal_point: Tensor) -> Camera:
        focal = principal_point.new_tensor(self.input_config.focal).expand(principal_point.shape[:-1])
        return Camera(
            focal=focal, principal_point=principal_point, height=self.input_config.height, width=self.input_config.width
        )

    def _centre(self) -> Tensor:
        return torch.tensor([[self.input_config.width / 2, self.input_config.height / 2]], device=self.device)


def _starting_features(cuboids: Sequence[CuboidMesh], config: CompNetConfig) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = []
    for cuboid in cuboids:
        diagonal = torch.linalg.vector_norm(cuboid.bounds[1] - cuboid.bounds[0])
        features.append(
            smooth_features(
                cuboid.vertices / diagonal,
                cuboid.vertex_normals(),
                config.backbone.dimension,
                config.feature_length,
                generator,
            )
        )
    return features
