"""Pose search: the table against plain loops, and known poses found again from maps drawn at them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from compnet3d.data.transforms import InputConfig
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.rotations import rotmat_geodesic_distance
from compnet3d.inference.pose_hypotheses import PoseGrid, search_hypotheses
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.models.backbones import BackboneConfig
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from tests.networks import TINY_RESNET, crop_features, estimate_poses


def make_model(renderer: str = "cuboid", **pose: object) -> CompNet:
    """Smooth vertex features (functions of the position), as training makes them, and an orthogonal background."""
    bounds = (((-0.2, -0.45, -0.15), (0.2, 0.45, 0.15)), ((-0.3, -0.3, -0.3), (0.3, 0.3, 0.3)))
    config = CompNetConfig(
        categories=("long", "cube"),
        bounds=bounds,
        backbone=BackboneConfig("resnet", TINY_RESNET, dimension=32),
        input_config=InputConfig(height=128, width=160, focal=500.0, distance=5.0, box_fill=0.7),
        vertex_count=300,
        background_size=8,
        renderer=renderer,
        pose=replace(PoseSettings(), **pose),  # type: ignore[arg-type]
    )
    model = CompNet(config).eval()
    generator = torch.Generator().manual_seed(0)
    for number, cuboid in enumerate(model.cuboids):
        basis = torch.randn(3, 31, generator=generator) * 4
        phase = torch.rand(31, generator=generator) * 6.28
        waves = torch.cos(cuboid.vertices @ basis + phase)
        features = normalize(torch.cat([waves, torch.zeros(len(waves), 1)], dim=1), dim=1)
        start, end = model.bank.offsets[number], model.bank.offsets[number + 1]
        model.bank.vertex_features[start:end] = features
    model.bank.update_background(torch.eye(32)[31:])
    return model


def draw(model: CompNet, category: torch.Tensor, pose: Pose, principal_point: torch.Tensor) -> torch.Tensor:
    """The feature map that the model expects at a pose: rendered vertex features over the background."""
    fragments = model.render(category, pose, principal_point)
    flat = model.bank.offsets[category][:, None, None, None] + fragments.vertex_index
    features = (model.bank.vertex_features[flat] * fragments.weight[..., None]).sum(-2)
    covered = fragments.foreground[..., None] > 0
    features = torch.where(covered, features, model.bank.background[0])
    return normalize(features, dim=-1).permute(0, 3, 1, 2)


def random_poses(count: int) -> tuple[torch.Tensor, Pose, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    draw_ = torch.rand(count, 5, generator=generator)
    pose = Pose.of(
        draw_[:, 0] * 2 * math.pi, draw_[:, 1] * 1.4 - 0.4, draw_[:, 2] - 0.5, 5.0 * torch.exp(0.2 * draw_[:, 3] - 0.1)
    )
    principal_point = torch.tensor([80.0, 64.0]) + 10 * (draw_[:, 3:] - 0.5)
    return torch.arange(count) % 2, pose, principal_point


@pytest.mark.parametrize("cost", [None, 1.0])
@pytest.mark.parametrize(("renderer", "degrees"), [("cuboid", 2.0), ("gaussian", 5.0)])
def test_known_poses_are_found_again(cost: float | None, renderer: str, degrees: float) -> None:
    """After an oracle crop: distance and principal point are known."""
    count = 10 if renderer == "cuboid" else 4
    model = make_model(renderer, truncation=cost)
    category, pose, _ = random_poses(count)
    pose = replace(pose, distance=torch.full_like(pose.distance, 5.0))
    principal_point = torch.tensor([80.0, 64.0]).expand(count, 2)
    found = estimate_poses(model, draw(model, category, pose, principal_point), category)
    error = torch.rad2deg(rotmat_geodesic_distance(found.pose.to_matrix(), pose.to_matrix()))
    assert float(error.median()) < degrees and (error < 10).float().mean() >= 0.75, error
    assert torch.equal(found.principal_point, principal_point) and (found.pose.distance == 5).all()


def test_unknown_distance_and_principal_point_are_found_too() -> None:
    model = make_model(starts=4, truncation=None)
    category, pose, principal_point = random_poses(10)
    found = estimate_poses(model, draw(model, category, pose, principal_point), category, "box")
    error = torch.rad2deg(rotmat_geodesic_distance(found.pose.to_matrix(), pose.to_matrix()))
    assert float(error.median()) < 3 and (error < 12).float().mean() >= 0.75, error
    assert float((found.principal_point - principal_point).norm(dim=1).median()) < 4
    assert float((found.pose.distance / pose.distance).log().abs().median()) < 0.05


def test_occlusion_is_forgiven() -> None:
    """Half of the object's cells turned into background: the aware loss still finds the pose."""
    model = make_model(truncation=0.3, starts=4)
    category, pose, _ = random_poses(8)
    pose = replace(pose, distance=torch.full_like(pose.distance, 5.0))
    principal_point = torch.tensor([80.0, 64.0]).expand(8, 2)
    feature_map = draw(model, category, pose, principal_point)
    feature_map[:, :, :, :10] = model.bank.background[0][:, None, None]
    found = estimate_poses(model, feature_map, category)
    error = torch.rad2deg(rotmat_geodesic_distance(found.pose.to_matrix(), pose.to_matrix()))
    assert float(error.median()) < 5
    hidden = found.foreground[:, :, :10]
    assert not hidden.any() and found.foreground[:, :, 10:].any()


def test_boxes_are_filled_by_the_projected_mesh() -> None:
    model = make_model()
    table = model.pose_hypotheses(0, "box")
    points = model.mesh("long").vertices
    for number in (0, 50, 143):
        camera = Camera(focal=torch.tensor(500.0), principal_point=table.principal_point[number], height=128, width=160)
        pixels, _ = camera.project(points, table.pose[number])
        low, high = pixels.amin(0), pixels.amax(0)
        assert float((high - low).max()) == pytest.approx(0.7 * 128, rel=1e-3)
        torch.testing.assert_close((low + high) / 2, torch.tensor([80.0, 64.0]), atol=0.05, rtol=0)


@pytest.mark.parametrize("cost", [None, 0.3])
def test_padding_of_smaller_categories_is_never_looked_up(cost: float | None) -> None:
    model = make_model()
    smaller = min((0, 1), key=lambda number: len(model.cuboids[number].vertices))
    count = len(model.cuboids[smaller].vertices)
    assert count < len(model.cuboids[1 - smaller].vertices)
    table = model.pose_hypotheses(smaller)
    generator = torch.Generator().manual_seed(1)
    similarity, background = torch.rand(2, 320, count, generator=generator), torch.rand(2, 320, generator=generator)
    padded = torch.nn.functional.pad(similarity, (0, 9), value=-1.0)
    losses = [search_hypotheses(x, background, table, truncation=cost) for x in (similarity, padded)]
    assert torch.equal(*losses)
    some = torch.tensor([3, 77, 319])
    expected = search_hypotheses(similarity[:, some], background[:, some], table.at(some), truncation=cost)
    everything = search_hypotheses(similarity, background, table, truncation=cost)
    assert expected.shape == everything.shape and not torch.allclose(expected, everything)


@pytest.mark.parametrize("margin", [0.0, 0.25])
@pytest.mark.parametrize("cost", [None, 0.3])
def test_search_equals_loops(cost: float | None, margin: float) -> None:
    model = make_model()
    table = model.pose_hypotheses(0)
    assert table.nearest_vertex.shape == (16 * 20, 144) and table.nearest_vertex.dtype == torch.int16
    generator = torch.Generator().manual_seed(1)
    vertices = len(model.cuboids[0].vertices)
    similarity = torch.rand(2, 320, vertices, generator=generator)
    background = torch.rand(2, 320, generator=generator)
    losses = search_hypotheses(similarity, background, table, truncation=cost, margin=margin)
    fragments = model.render(torch.zeros(144, dtype=torch.int64), table.pose, table.principal_point)
    for image, pose in ((0, 0), (1, 77), (0, 143)):
        total = 0.0
        for cell in range(320):
            i, j = divmod(cell, 20)
            value = float(background[image, cell])
            if fragments.foreground[pose, i, j] > 0:
                k = int(fragments.vertex_index[pose, i, j, fragments.weight[pose, i, j].argmax()])
                seen = float(similarity[image, cell, k])
                value = margin + (seen if cost is None else max(seen, value - cost))
            total -= value
        assert float(losses[image, pose]) == pytest.approx(total / 320, rel=1e-5)


def test_refinement_never_ends_worse_than_an_initial_pose() -> None:
    model = make_model()
    category, pose, principal_point = random_poses(6)
    feature_map = draw(model, category, pose, principal_point)
    refined = estimate_poses(model, feature_map, category)
    model.config = replace(model.config, pose=replace(model.config.pose, steps=0))
    assert (refined.loss <= estimate_poses(model, feature_map, category).loss + 1e-3).all()


def test_the_category_that_reconstructs_best() -> None:
    model = make_model(starts=2, steps=5)
    category, pose, principal_point = random_poses(6)
    features = crop_features(model, draw(model, category, pose, principal_point))
    assert torch.equal(model.render_and_compare.reconstructing_category(features), category)


def test_other_grids() -> None:
    model = make_model()
    model.config = replace(model.config, grid=PoseGrid(azimuths=4, elevations=1, thetas=1))
    assert model.pose_hypotheses(1).nearest_vertex.shape[1] == 4
