"""The analytic ray-caster against a brute-force one that knows only triangles."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compnet3d.geometry.camera import Camera, Pose, feature_grid
from compnet3d.geometry.cuboid import CuboidMesh, Cuboids, cuboid_mesh
from compnet3d.geometry.mesh import Mesh
from compnet3d.rendering import CuboidShape, Fragments, GaussianShape, MeshShape, render
from compnet3d.rendering.raycast import visible_lattice_vertices

HEIGHT, WIDTH, STRIDE = 12, 15, 8.0
BOXES = [(1.0, 1.0, 1.0), (1.0, 0.02, 0.3), (0.3, 0.9, 0.4)]


def view(shift: tuple[float, float] = (0.0, 0.0)) -> Camera:
    centre = [WIDTH * STRIDE / 2 + shift[0], HEIGHT * STRIDE / 2 + shift[1]]
    return Camera(
        focal=torch.tensor(160.0, dtype=torch.float64),
        principal_point=torch.tensor(centre, dtype=torch.float64),
        height=int(HEIGHT * STRIDE),
        width=int(WIDTH * STRIDE),
    )


def draw(cuboid: CuboidMesh, pose: Pose, camera: Camera, softness: float = 0.0) -> Fragments:
    return render(CuboidShape.of(cuboid), pose, camera, STRIDE, softness=softness)


def brute_force(
    cuboid: CuboidMesh, pose: Pose, focal: float, principal_point: list[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest triangle hit of every cell's ray (Moeller-Trumbore), as hit mask and points in the object frame."""
    rotation, centre = pose.to_matrix().numpy(), pose.camera_centre().numpy()
    triangles = cuboid.mesh.vertices[cuboid.mesh.faces].double().numpy()
    a, ab, ac = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    hits, points = [], []
    for u, v in feature_grid(HEIGHT, WIDTH, STRIDE, dtype=torch.float64).reshape(-1, 2).tolist():
        ray = rotation.T @ np.array([(u - principal_point[0]) / focal, -(v - principal_point[1]) / focal, -1.0])
        p = np.cross(ray, ac)
        determinant = (ab * p).sum(1)
        safe = np.where(np.abs(determinant) < 1e-14, np.inf, determinant)
        t = centre - a
        first = (t * p).sum(1) / safe
        q = np.cross(t, ab)
        second = (q @ ray) / safe
        along = (q * ac).sum(1) / safe
        tolerance = 1e-9
        inside = (first >= -tolerance) & (second >= -tolerance) & (first + second <= 1 + tolerance) & (along > 0)
        inside &= np.isfinite(safe)
        hits.append(bool(inside.any()))
        points.append(centre + along[inside].min() * ray if inside.any() else np.zeros(3))
    return np.array(hits), np.array(points)


@settings(max_examples=25)
@given(
    st.sampled_from(BOXES) | st.tuples(*[st.floats(0.02, 1.2)] * 3),
    st.floats(0, 6.28),
    st.floats(-1.57, 1.57),
    st.floats(-3.1, 3.1),
    st.floats(1.2, 4.0),
    st.tuples(st.floats(-30, 30), st.floats(-30, 30)),
)
def test_agrees_with_brute_force(
    extents: tuple[float, ...],
    azimuth: float,
    elevation: float,
    theta: float,
    distance: float,
    shift: tuple[float, float],
) -> None:
    cuboid = cuboid_mesh(torch.tensor(extents, dtype=torch.float32), 60)
    pose = Pose.of([azimuth], [elevation], [theta], [distance], dtype=torch.float64)
    camera = view(shift)
    fragments = draw(cuboid, pose, camera)
    hit, points = brute_force(cuboid, pose[0], 160.0, camera.principal_point.tolist())
    ours = fragments.foreground[0].reshape(-1).numpy() > 0
    # a ray through an edge to within rounding may fall on either side; anything else must agree
    assert (ours != hit).sum() <= (0 if min(extents) > 0.05 else 1)
    both = torch.from_numpy(ours & hit)
    weight, index = fragments.weight[0].reshape(-1, 4)[both], fragments.vertex_index[0].reshape(-1, 4)[both]
    drawn = (cuboid.vertices.double()[index] * weight[..., None]).sum(1)
    np.testing.assert_allclose(drawn.numpy(), points[both.numpy()], atol=2e-6)
    np.testing.assert_allclose(weight.sum(-1).numpy(), 1.0, atol=1e-9)
    assert (weight >= 0).all()


def test_a_mixed_batch_equals_one_at_a_time() -> None:
    cuboids = [cuboid_mesh(torch.tensor(e), 100) for e in BOXES]
    category = torch.tensor([2, 0, 1, 2])
    pose = Pose.of([0.1, 1, 2, 3], [0.2, 0.5, -0.3, 1.0], [0.0, 0.3, 0.1, 0], [2.0, 3, 2, 4], dtype=torch.float64)
    whole = render(CuboidShape(Cuboids(cuboids), category), pose, view(), STRIDE)
    for b in range(4):
        alone = draw(cuboids[category[b]], pose[b : b + 1], view())
        assert torch.equal(whole.vertex_index[b], alone.vertex_index[0])
        torch.testing.assert_close(whole.weight[b], alone.weight[0])
        assert torch.equal(whole.foreground[b], alone.foreground[0])


@pytest.mark.parametrize("softness", [0.0, 0.7])
def test_differentiable_in_every_unknown(softness: float) -> None:
    """Gradients of a smooth function of the fragments against finite differences."""
    cuboid = cuboid_mesh(torch.tensor([0.5, 0.9, 0.4]), 60)
    values = torch.rand(len(cuboid.vertices), generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def energy(x: torch.Tensor) -> torch.Tensor:
        pose = Pose(azimuth=x[0:1], elevation=x[1:2], theta=x[2:3], distance=x[3:4])
        fragments = draw(cuboid, pose, replace(view(), principal_point=x[4:6]), softness)
        drawn = (values[fragments.vertex_index] * fragments.weight).sum(-1)
        return (drawn * fragments.foreground).sum()

    start = torch.tensor([0.4, 0.3, 0.2, 2.0, 61.3, 47.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(energy, (start,), eps=1e-7, atol=1e-4, rtol=1e-3)


def test_a_soft_silhouette_approaches_the_hard_one() -> None:
    cuboid = cuboid_mesh(torch.tensor([0.5, 0.9, 0.4]), 60)
    pose = Pose.of([0.4], [0.3], [0.2], [2.0], dtype=torch.float64)
    hard = draw(cuboid, pose, view())
    soft = draw(cuboid, pose, view(), 1e-6)
    torch.testing.assert_close(soft.foreground, hard.foreground)
    wide = draw(cuboid, pose, view(), 1.0)
    assert ((wide.foreground > 0.5) == (hard.foreground > 0)).all() and 0 < float(wide.foreground.min()) < 0.1


@settings(max_examples=25)
@given(st.sampled_from(BOXES), st.floats(0, 6.28), st.floats(-1.5, 1.5), st.floats(1.5, 4.0))
def test_visible_vertices_are_those_that_nothing_hides(
    extents: tuple[float, ...], azimuth: float, elevation: float, distance: float
) -> None:
    """A vertex is visible if the open segment from the camera to it stays outside the box: tested by walking it."""
    cuboid = cuboid_mesh(torch.tensor(extents), 60)
    pose = Pose.of(azimuth, elevation, 0.0, distance, dtype=torch.float64)
    centre = pose.camera_centre()
    bounds = cuboid.bounds.double()
    visible = visible_lattice_vertices(cuboid.lattice_index, torch.tensor(cuboid.segments), bounds, centre)
    steps = 1 - torch.logspace(-7, 0, 400, dtype=torch.float64)
    for k, vertex in enumerate(cuboid.vertices.double()):
        walk = centre + steps[:, None] * (vertex - centre)
        inside = ((walk > bounds[0] + 1e-9) & (walk < bounds[1] - 1e-9)).all(dim=1).any()
        facing = (centre - bounds).abs().min() > 1e-3
        if facing:
            assert bool(visible[k]) == (not bool(inside))
    assert torch.equal(CuboidShape.of(cuboid).visible(pose), visible)


def test_gaussian_volume_sees_the_front_of_the_box() -> None:
    """Where both renderers see the object, the Gaussian volume's heaviest vertex is near the ray-caster's hit."""
    cuboid = cuboid_mesh(torch.tensor([0.6, 0.9, 0.5]), 400)
    pose = Pose.of([0.5], [0.4], [0.2], [2.5], dtype=torch.float64)
    spacing = 0.9 / cuboid.segments[1]
    exact = draw(cuboid, pose, view())
    volume = render(GaussianShape(CuboidShape.of(cuboid)), pose, view(), STRIDE)
    both = (exact.foreground > 0) & (volume.foreground > 0)
    assert both.sum() > 0.8 * (exact.foreground > 0).sum()
    assert ((exact.foreground > 0) != (volume.foreground > 0)).double().mean() < 0.12
    positions = cuboid.vertices.double()
    seen = (positions[volume.vertex_index] * volume.weight[..., None]).sum(-2)[both]
    hit = (positions[exact.vertex_index] * exact.weight[..., None]).sum(-2)[both]
    assert float((seen - hit).norm(dim=-1).median()) < spacing
    torch.testing.assert_close(volume.weight.sum(-1)[both], torch.ones(int(both.sum()), dtype=torch.float64))


def test_gaussian_weights_against_numerical_integration() -> None:
    """One ray, three Gaussians: density and order of the closed form against the integral along the ray."""
    vertices = torch.tensor([[[0.0, 0.3, 0.02], [0.05, -0.3, 0.0], [0.0, 0.0, -0.05]]], dtype=torch.float64)
    pose = Pose.of([0.0], [0.0], [0.0], [2.0], dtype=torch.float64)
    sigma, absorption = 0.08, 2.0
    points = MeshShape.of(Mesh(vertices[0], torch.tensor([[0, 1, 2]])))
    volume = GaussianShape(points, sigma=sigma / float(points.spacing), absorption=absorption, keep=3)
    centre = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    camera = Camera(focal=torch.tensor([100.0], dtype=torch.float64), principal_point=centre, height=1, width=1)
    fragments = render(volume, pose, camera)
    # from azimuth 0 the camera is at y = -2 and looks along +y: depth of a vertex is its y + 2
    expected = []
    depth = [float(v[1]) + 2 for v in vertices[0]]
    density = [math.exp(-(float(v[0]) ** 2 + float(v[2]) ** 2) / (2 * sigma**2)) for v in vertices[0]]
    for k in range(3):
        passed = 0.0
        for m in range(3):
            t = np.linspace(0, depth[k], 200_001)
            bell = np.exp(-((t - depth[m]) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
            passed += density[m] * float(np.trapezoid(bell, t))
        expected.append(density[k] * math.exp(-absorption * passed))
    ours = torch.zeros(3, dtype=torch.float64).scatter_(0, fragments.vertex_index[0, 0, 0], fragments.weight[0, 0, 0])
    np.testing.assert_allclose(ours.numpy(), np.array(expected) / sum(expected), rtol=1e-5)
