"""Pose (Eq. 8) at the paper's sizes: search, whole estimate, all categories; and the same by rendering feature maps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.bench.result import BenchResult, megabytes, milliseconds, times
from compnet3d.bench.timing import peak_mb, time_in_turn
from compnet3d.data.transforms import InputConfig
from compnet3d.geometry.camera import Pose
from compnet3d.inference.matching import CropFeatures, background_similarity, cells_of, vertex_similarities
from compnet3d.inference.pose_hypotheses import search_hypotheses
from compnet3d.models.backbones import BackboneConfig
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.training.builtin_recipes import SMALL_RESNET


def paper_sized_model(
    categories: int, backbone: BackboneConfig | None = None, *, height: int = 640, width: int = 800, seed: int = 0
) -> CompNet:
    """K = 500, D = 128, N_b = 2560, random boxes and an untrained backbone, by default a small ResNet of stride 8."""
    generator = torch.Generator().manual_seed(seed)
    half = 0.5 * normalize(0.2 + torch.rand(categories, 3, generator=generator), dim=1)
    config = CompNetConfig(
        categories=tuple(f"category {number}" for number in range(categories)),
        bounds=tuple(((-x, -y, -z), (x, y, z)) for x, y, z in half.tolist()),
        backbone=backbone or BackboneConfig("resnet", SMALL_RESNET),
        input_config=InputConfig(height=height, width=width, focal=2500.0, distance=5.0, box_fill=0.7),
    )
    model = CompNet(config).eval()
    model.bank.update_background(normalize(torch.randn(2560, 128, generator=generator), dim=1))
    return model


@torch.no_grad()
def expected_maps(model: CompNet, category: Tensor, pose: Pose, noise: float = 0.05, seed: int = 0) -> Tensor:
    """Feature maps [B, D, H, W] as the model expects them at these poses, with noise."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.tensor([model.input_config.width / 2, model.input_config.height / 2], device=model.device)
    maps = _rendered_features(model, category, pose, centre.expand(len(category), 2))[0]
    maps = maps + noise * torch.randn(maps.shape, generator=generator).to(maps.device)
    return normalize(maps, dim=-1).unflatten(1, model.map_size).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class PoseResult(BenchResult):
    """Medians for one image, and peaks.

    Attributes:
        images: in the batch that the times per image are of; categories: Y for unknown objects.
        search_s: over 144 pose hypotheses, similarities given; category_s: one category's similarities and its search.
        estimate_s: with 30 refinement steps; all_categories_s: the search over all categories.
        rendered_maps_s: the whole estimate by rendering feature maps, beside single_estimate_s, ours of one image.
        hypotheses_mb: of a category's hypotheses; estimate_peak_mb, rendered_maps_peak_mb: most memory beyond what was
            there.
    """

    images: int
    categories: int
    search_s: float
    category_s: float
    estimate_s: float
    all_categories_s: float
    rendered_maps_s: float
    single_estimate_s: float
    hypotheses_mb: float
    estimate_peak_mb: float | None
    rendered_maps_peak_mb: float | None

    @property
    def all_categories_over_one(self) -> float:
        """What it costs not to know the category."""
        return self.all_categories_s / self.category_s

    @property
    def rendered_maps_over_estimate(self) -> float:
        """What rendering feature maps costs."""
        return self.rendered_maps_s / self.single_estimate_s

    def rows(self) -> list[tuple[str, str]]:
        """See `BenchResult`."""
        estimate = f"{milliseconds(self.estimate_s)}, {megabytes(self.estimate_peak_mb)}"
        rendered = f"{milliseconds(self.rendered_maps_s)}, {megabytes(self.rendered_maps_peak_mb)}"
        return [
            ("search over 144 pose hypotheses, similarities given, per image", milliseconds(self.search_s)),
            ("one category: similarities and search, per image", milliseconds(self.category_s)),
            ("whole estimate with 30 refinement steps, per image", estimate),
            (f"search over all {self.categories} categories, per image", milliseconds(self.all_categories_s)),
            ("all categories over one", times(self.all_categories_over_one)),
            ("pose hypotheses of a category", megabytes(self.hypotheses_mb)),
            ("the estimate by rendering feature maps, one image", rendered),
            ("rendering feature maps over ours, one image", times(self.rendered_maps_over_estimate)),
        ]


def bench_pose(*, rounds: int = 5, categories: int = 188, images: int = 4, device: str = "cpu") -> PoseResult:
    """Time per image and memory of pose estimation.

    Args:
        rounds: how often each is timed; categories: Y for unknown objects; images: in a batch; device: where.
    """
    model = paper_sized_model(categories).to(device)
    generator = torch.Generator().manual_seed(1)
    draw = torch.rand(images, 3, generator=generator).to(device)
    category = torch.arange(images, device=device) % categories
    distance = torch.full((images,), model.input_config.distance, device=device)
    pose = Pose.of(2 * math.pi * draw[:, 0], draw[:, 1] - 0.3, 0.6 * draw[:, 2] - 0.3, distance)
    maps = expected_maps(model, category, pose)
    bank, estimator = model.bank.feature_bank, model.render_and_compare
    similarity, background = vertex_similarities(maps, bank, category), CropFeatures.of(maps, bank).background
    tables = [model.pose_hypotheses(number) for number in range(categories)]
    cost = model.config.pose.truncation

    def search() -> None:
        for row, number in enumerate(category.tolist()):
            search_hypotheses(similarity[row : row + 1], background[row : row + 1], tables[number], truncation=cost)

    def one_category() -> None:
        seen, behind = vertex_similarities(maps, bank, category), CropFeatures.of(maps, bank).background
        for row, number in enumerate(category.tolist()):
            search_hypotheses(seen[row : row + 1], behind[row : row + 1], tables[number], truncation=cost)

    tasks = {
        "search_s": search,
        "category_s": one_category,
        "estimate_s": lambda: estimator.estimate_poses(CropFeatures.of(maps, bank), category),
        "all_categories_s": lambda: estimator.search_categories(CropFeatures.of(maps, bank)),
    }
    seconds = {name: value / images for name, value in time_in_turn(tasks, rounds=rounds).items()}
    slow = {
        "estimate_s": lambda: estimator.estimate_poses(CropFeatures.of(maps[:1], bank), category[:1]),
        "rendered_maps_s": lambda: estimate_by_rendering(model, maps[:1], category[:1]),
    }
    pair = time_in_turn(slow, rounds=1, warm_up=0)
    vertices = tables[0].nearest_vertex
    return PoseResult(
        images=images,
        categories=categories,
        **seconds,
        rendered_maps_s=pair["rendered_maps_s"],
        single_estimate_s=pair["estimate_s"],
        hypotheses_mb=vertices.numel() * vertices.element_size() / 1e6,
        estimate_peak_mb=peak_mb(slow["estimate_s"], device),
        rendered_maps_peak_mb=peak_mb(slow["rendered_maps_s"], device),
    )


def estimate_by_rendering(model: CompNet, maps: Tensor, category: Tensor) -> tuple[Pose, Tensor]:
    """Eq. 8 as it is usually computed: a D-dimensional map is drawn for every pose and compared with the image's.

    The hypotheses, steps and loss of `RenderAndCompare.estimate_poses`, one image; the last poses [starts] and losses.
    """
    settings, number = model.config.pose, int(category[0])
    table = model.pose_hypotheses(number)
    cells = cells_of(maps)
    background = background_similarity(cells, model.bank.background)

    def loss(pose: Pose, principal_point: Tensor, softness: float) -> Tensor:
        rendered, foreground = _rendered_features(
            model, category.expand(len(principal_point)), pose, principal_point, softness
        )
        gain = (rendered * cells).sum(-1) - background
        if settings.truncation is not None:
            gain = gain.clamp_min(-settings.truncation)
        return -(background + foreground * gain).mean(dim=-1)

    with torch.no_grad():
        found = torch.cat(
            # eight at a time: a map of D dimensions for each of 144 poses takes 0.59 GB at the paper's size
            [loss(table.pose[i : i + 8], table.principal_point[i : i + 8], 0.0) for i in range(0, 144, 8)]
        )
    best = found.topk(settings.starts, largest=False).indices
    start, principal_point = table.pose[best], table.principal_point[best]
    angles = torch.stack([start.azimuth, start.elevation, start.theta], dim=1).requires_grad_(True)
    optimizer = torch.optim.Adam([angles], lr=settings.learning_rate, betas=settings.betas)
    for _ in range(settings.steps + 1):
        pose = replace(start, azimuth=angles[:, 0], elevation=angles[:, 1], theta=angles[:, 2])
        value = loss(pose, principal_point, settings.softness)
        optimizer.zero_grad()
        value.sum().backward()
        optimizer.step()
    return replace(start, azimuth=angles[:, 0], elevation=angles[:, 1], theta=angles[:, 2]).detach(), value.detach()


def _rendered_features(
    model: CompNet, category: Tensor, pose: Pose, principal_point: Tensor, softness: float = 0.0
) -> tuple[Tensor, Tensor]:
    """C^ of Eq. 8 [N, H W, D], the first background feature where nothing is drawn, and the foreground [N, H W]."""
    fragments = model.render(category, pose, principal_point, softness)
    flat = model.bank.offsets[category][:, None, None] + fragments.vertex_index.flatten(1, 2)
    features = (model.bank.vertex_features[flat] * fragments.weight.flatten(1, 2)[..., None]).sum(-2)
    foreground = fragments.foreground.flatten(1)
    if softness == 0:
        features = torch.where(foreground[..., None] > 0, features, model.bank.background[0])
    return features, foreground
