"""The rasteriser against plain loops, closed forms and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.mesh import Mesh
from compnet3d.rendering import MeshShape, render
from compnet3d.rendering import raster as raster_module
from compnet3d.rendering.raster import rasterize


def _brute_force(vertices, faces, focal, principal_point, height, width, stride=1.0):
    """Ray by ray and triangle by triangle: Cramer's rule for ray = combination of the corners."""
    best = np.full((height, width), -1)
    depth = np.full((height, width), np.inf)
    margin = np.full((height, width), np.inf)
    for i in range(height):
        for j in range(width):
            u, v = stride * (j + 0.5), stride * (i + 0.5)
            ray = np.array([(u - principal_point[0]) / focal, (principal_point[1] - v) / focal, -1.0])
            for f, face in enumerate(faces):
                corners = vertices[face].T
                if abs(np.linalg.det(corners)) < 1e-12:
                    continue
                weight = np.linalg.solve(corners, ray)
                share = weight / weight.sum()
                distance = 1 / weight.sum()
                if distance <= 0:
                    continue
                margin[i, j] = min(margin[i, j], np.abs(share).min())
                if share.min() >= 0 and distance < depth[i, j]:
                    depth[i, j], best[i, j] = distance, f
    return best, depth, margin


def _soup(seed, count, near=1.0):
    rng = np.random.default_rng(seed)
    centre = rng.uniform([-1.2, -1.2, -6], [1.2, 1.2, -near], (count, 1, 3))
    vertices = (centre + rng.normal(0, 0.6, (count, 3, 3))).reshape(-1, 3)
    return vertices, np.arange(3 * count).reshape(-1, 3)


def _run(vertices, faces, focal=14.0, principal_point=(8.3, 6.1), height=12, width=16, **options):
    return rasterize(
        torch.as_tensor(vertices, dtype=torch.float64)[None],
        torch.as_tensor(faces),
        focal=torch.tensor([focal], dtype=torch.float64),
        principal_point=torch.tensor([principal_point], dtype=torch.float64),
        height=height,
        width=width,
        **options,
    )


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), near=st.sampled_from([2.5, -1.0]), stride=st.sampled_from([1.0, 0.5, 2.5]))
def test_agrees_with_a_loop_over_pixels_and_triangles(seed, near, stride):
    # near = -1 puts triangles across the camera plane and behind the camera
    vertices, faces = _soup(seed, 9, near)
    expected, depth, margin = _brute_force(vertices, faces, 14.0, (8.3, 6.1), 12, 16, stride)
    found = _run(vertices, faces, stride=stride)
    clear = margin > 1e-9
    np.testing.assert_array_equal(found.face_index[0].numpy()[clear], expected[clear])
    hit = clear & (expected >= 0)
    np.testing.assert_allclose(found.depth[0].numpy()[hit], depth[hit], rtol=1e-6)


def test_barycentric_coordinates_are_perspective_correct():
    vertices, faces = _soup(3, 12)
    found = _run(vertices, faces)
    for i, j in (found.face_index[0] >= 0).nonzero().tolist():
        point = found.barycentric[0, i, j].numpy() @ vertices[faces[found.face_index[0, i, j]]]
        ray = np.array([(j + 0.5 - 8.3) / 14, (6.1 - i - 0.5) / 14, -1.0])
        np.testing.assert_allclose(point, ray * found.depth[0, i, j].item(), atol=1e-9)
    assert found.barycentric[0][found.face_index[0] < 0].abs().sum() == 0
    assert torch.isinf(found.depth[0][found.face_index[0] < 0]).all()


def test_nearer_of_two_parallel_triangles_wins_in_either_order():
    square = np.array([[-9.0, -9, 0], [9, -9, 0], [0, 9, 0]])
    for first, second, winner in ((-3.0, -5.0, 0), (-5.0, -3.0, 1)):
        vertices = np.concatenate([square + [0, 0, first], square + [0, 0, second]])
        found = _run(vertices, [[0, 1, 2], [3, 5, 4]])
        assert (found.face_index == winner).all()
        torch.testing.assert_close(found.depth, torch.full_like(found.depth, 3.0))


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_shared_edges_leave_no_holes(seed):
    # a fan around an inner point covers its whole square; with corners on cell centres most edges meet centres exactly
    rng = np.random.default_rng(seed)
    inner = rng.integers(2, 14, 2) + 0.5
    ring = np.array([[0.5, 0.5], [15.5, 0.5], [15.5, 15.5], [0.5, 15.5]])
    pixels = np.vstack([inner, ring])
    depth = rng.uniform(1, 4, 5)
    vertices = np.column_stack([pixels[:, 0] / 16 * depth, -pixels[:, 1] / 16 * depth, -depth])
    faces = [[0, 1, 2], [0, 2, 3], [0, 4, 3], [0, 4, 1]]
    found = _run(vertices, faces, focal=16.0, principal_point=(0.0, 0.0), height=16, width=16)
    assert (found.face_index[0, 1:15, 1:15] >= 0).all()


def test_no_holes_on_an_awkward_closed_surface():
    mesh = _sphere(40, 30)
    generator = torch.Generator().manual_seed(1)
    pose = Pose.of(*(torch.rand(3, 4, generator=generator) * 3), 3.7)
    camera = Camera.centred(211.3, 128, 128)
    found = render(MeshShape.of(mesh), pose, camera)
    for silhouette in found.foreground:
        filled = silhouette.cummax(dim=1).values * silhouette.flip(1).cummax(dim=1).values.flip(1)
        assert (filled == silhouette).all()


def _sphere(segments, rings, radius=0.5):
    theta = np.linspace(0, np.pi, rings + 1)[1:-1]
    phi = np.arange(segments) * 2 * np.pi / segments
    body = [[np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)] for t in theta for p in phi]
    vertices = radius * np.array([*body, [0, 0, 1], [0, 0, -1]])
    faces = []
    for i in range(len(theta) - 1):
        for j in range(segments):
            a, b = i * segments + j, i * segments + (j + 1) % segments
            faces += [[a, a + segments, b], [b, a + segments, b + segments]]
    last = (len(theta) - 1) * segments
    for j in range(segments):
        faces += [[len(body), j, (j + 1) % segments], [len(body) + 1, last + (j + 1) % segments, last + j]]
    return Mesh(torch.tensor(vertices, dtype=torch.float32), torch.tensor(faces))


def test_silhouette_of_a_sphere_is_the_analytic_cone():
    mesh, distance, focal = _sphere(96, 64), 2.5, 120.0
    pose = Pose.of([0.3, 2.0], [0.4, -0.7], [0.1, 5.0], distance)
    camera = Camera(focal=torch.tensor([focal]), principal_point=torch.tensor([[50.0, 47.5]]), height=96, width=100)
    found = render(MeshShape.of(mesh), pose, camera).foreground
    u, v = np.meshgrid(np.arange(100) + 0.5 - 50.0, np.arange(96) + 0.5 - 47.5)
    # the viewing cone of a sphere of radius r at distance d has tan = r / sqrt(d^2 - r^2)
    radius = focal * 0.5 / math.sqrt(distance**2 - 0.25)
    away = np.hypot(u, v)
    for silhouette in found.numpy():
        assert (silhouette[away < radius - 0.3] == 1).all()
        assert (silhouette[away > radius + 0.01] == 0).all()


def test_fragments_reproduce_the_projected_position():
    mesh = _sphere(14, 9)
    pose = Pose.of([0.3, 1.0, 4.0], 0.5, -0.2, 3.0)
    camera = Camera.centred(150.0, 96, 120)
    found = render(MeshShape.of(mesh), pose, camera, stride=8)
    assert found.vertex_index.shape == (3, 12, 15, 3) and found.foreground.shape == (3, 12, 15)
    torch.testing.assert_close(found.weight.sum(-1), found.foreground)
    for b, i, j in found.foreground.nonzero().tolist():
        point = found.weight[b, i, j] @ mesh.vertices[found.vertex_index[b, i, j]]
        uv, _ = camera.project(point[None], pose[b])
        torch.testing.assert_close(uv[0], torch.tensor([8 * (j + 0.5), 8 * (i + 0.5)]), atol=2e-3, rtol=0)


def test_weights_are_differentiable_in_the_pose():
    mesh = _sphere(12, 8)
    azimuth = torch.tensor([0.3], requires_grad=True)
    ones = torch.ones(1)
    camera = Camera.centred(80.0, 32, 32)

    def value(angle):
        pose = Pose(azimuth=angle, elevation=0.2 * ones, theta=0.1 * ones, distance=2.5 * ones)
        found = render(MeshShape.of(mesh), pose, camera, stride=4)
        return (found.weight * found.vertex_index.sin()).sum()

    value(azimuth).backward()
    step = 1e-2
    with torch.no_grad():
        numeric = (value(azimuth + step) - value(azimuth - step)) / (2 * step)
    assert azimuth.grad is not None and torch.isfinite(azimuth.grad).all()
    assert abs(azimuth.grad.item() - numeric.item()) < 0.35 * abs(numeric.item()) + 1.0


def test_chunks_change_nothing(monkeypatch):
    mesh = _sphere(20, 12)
    pose = Pose.of(torch.linspace(0, 6, 5), 0.4, 0.1, 3.0)
    camera = Camera.centred(100.0, 64, 64)
    whole = render(MeshShape.of(mesh), pose, camera)
    monkeypatch.setattr(raster_module, "_PAIRS_PER_CHUNK", 50)
    pieces = render(MeshShape.of(mesh), pose, camera)
    assert torch.equal(whole.vertex_index, pieces.vertex_index) and torch.equal(whole.weight, pieces.weight)


def test_batch_shapes_and_empty_views():
    mesh = _sphere(8, 6)
    camera = Camera.centred(50.0, 32, 48)
    assert render(MeshShape.of(mesh), Pose.of(0.1, 0.2, 0.3, 2.0), camera, 8).foreground.shape == (4, 6)
    grid = Pose.of(torch.zeros(2, 3), 0.2, 0.3, 2.0)
    assert render(MeshShape.of(mesh), grid, camera, 8).foreground.shape == (2, 3, 4, 6)
    away = Camera(focal=torch.tensor(50.0), principal_point=torch.tensor([900.0, 900.0]), height=32, width=48)
    assert render(MeshShape.of(mesh), grid, away, 8).foreground.sum() == 0
    with pytest.raises(ValueError, match=r"\[B, V, 3\]"):
        rasterize(
            torch.zeros(4, 3),
            torch.zeros(1, 3, dtype=torch.long),
            focal=torch.ones(1),
            principal_point=torch.zeros(2),
            height=2,
            width=2,
        )


def visible_vertices(mesh, pose, camera):
    """Which vertices the mesh does not hide and project into the image."""
    pixels, depth = camera.project(mesh.vertices.expand(*pose.shape, -1, 3), pose)
    inside = ((pixels >= 0) & (pixels < torch.tensor([camera.width, camera.height]))).all(-1) & (depth > 0)
    return MeshShape.of(mesh).visible(pose) & inside


@pytest.mark.parametrize("distance", [1.2, 3.0, 20.0])
def test_visible_vertices_of_a_sphere(distance):
    mesh = _sphere(24, 16)
    pose = Pose.of([0.0, 1.1], [0.0, 0.9], 0.3, distance)
    camera = Camera.centred(60.0 * distance, 128, 128)
    visible = visible_vertices(mesh, pose, camera)
    # on a convex mesh a vertex is seen if and only if one of its faces looks at the camera
    normals = torch.nn.functional.normalize(mesh.face_normals(), dim=-1)
    first = mesh.vertices[mesh.faces[:, 0]]
    facing = ((pose.camera_centre()[:, None] - first) * normals).sum(-1)
    best = torch.full(visible.shape, -torch.inf)
    for corner in range(3):
        index = mesh.faces[:, corner].expand(len(facing), -1)
        best = best.scatter_reduce(1, index, facing, "amax")
    clear = best.abs() > 0.02 * distance
    assert torch.equal(visible[clear], (best > 0)[clear]) and clear.float().mean() > 0.85


def test_visibility_through_thin_parts_and_outside_the_image():
    plate = [[-1.0, y, z] for y in (-0.5, -0.49) for z in (-1.0, 1.0)] + [
        [1.0, y, z] for y in (-0.5, -0.49) for z in (-1.0, 1.0)
    ]
    faces = [
        [0, 1, 5],
        [0, 5, 4],
        [2, 7, 3],
        [2, 6, 7],
        [0, 2, 3],
        [0, 3, 1],
        [4, 5, 7],
        [4, 7, 6],
        [1, 3, 7],
        [1, 7, 5],
        [0, 4, 6],
        [0, 6, 2],
    ]
    probe = [[0.2, -0.53, 0.1], [0.2, -0.46, 0.1], [0.3, -0.53, 0.1]]
    mesh = Mesh(torch.tensor(plate + probe), torch.tensor([*faces, [8, 8, 10], [9, 9, 9]]))
    pose = Pose.of(0.0, 0.0, 0.0, 5.0)
    camera = Camera.centred(100.0, 128, 128)
    assert visible_vertices(mesh, pose, camera)[8:].tolist() == [True, False, True]
    # the four far corners hide behind a plate a two-hundredth of its size thick
    assert visible_vertices(mesh, pose, camera)[[2, 3, 6, 7]].tolist() == [False] * 4
    shifted = Camera(focal=torch.tensor(100.0), principal_point=torch.tensor([-2.0, 64.0]), height=128, width=128)
    assert visible_vertices(mesh, pose, shifted)[8:].tolist() == [True, False, True]
    assert not visible_vertices(mesh, pose, shifted)[:4].any()
