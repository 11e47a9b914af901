"""Any mesh as a shape: vertices spread over it, what is seen of them, and a soft edge that gradients can move."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from compnet3d.geometry.camera import Camera, Pose, feature_grid
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.mesh import Mesh
from compnet3d.rendering import (
    CuboidShape,
    Fragments,
    GaussianShape,
    MeshShape,
    Shape,
    Surface,
    render,
    spread_vertices,
)
from compnet3d.rendering.spread import representative, simplify
from compnet3d.rendering.surface import Surfaces

STRIDE = 8.0
CAMERA = Camera.centred(170.0, 96, 120, dtype=torch.float64)
BOX = cuboid_mesh(torch.tensor([0.5, 0.9, 0.4]), 60)


def coarse_box(low: tuple[float, ...] = (-0.25, -0.45, -0.2), high: tuple[float, ...] = (0.25, 0.45, 0.2)) -> Mesh:
    """Twelve large triangles."""
    return cuboid_mesh(torch.tensor([low, high]), 8).mesh


def two_boxes() -> Mesh:
    """A small one in front of a large one."""
    back, front = coarse_box(), coarse_box((-0.1, -0.9, -0.1), (0.1, -0.8, 0.1))
    return Mesh(torch.cat([back.vertices, front.vertices]), torch.cat([back.faces, front.faces + 8]))


def poses(*azimuth: float) -> Pose:
    return Pose.of(azimuth, 0.4, 0.2, 2.5, dtype=torch.float64)


def segment_hits(mesh: Mesh, start: Tensor, end: Tensor) -> bool:
    """Whether a face lies strictly between two points: Moeller-Trumbore, one triangle after the other."""
    ray = end - start
    for triangle in mesh.vertices.double()[mesh.faces]:
        a, ab, ac = triangle[0], triangle[1] - triangle[0], triangle[2] - triangle[0]
        p = torch.linalg.cross(ray, ac)
        determinant = float(ab @ p)
        if abs(determinant) < 1e-12:
            continue
        first = float((start - a) @ p) / determinant
        q = torch.linalg.cross(start - a, ab)
        second, along = float(ray @ q) / determinant, float(ac @ q) / determinant
        if first >= 0 and second >= 0 and first + second <= 1 and 1e-6 < along < 1 - 0.01:
            return True
    return False


def test_vertices_are_even_exact_in_number_and_the_same_each_time() -> None:
    mesh = coarse_box()
    surface = spread_vertices(mesh, 80)
    assert surface.vertices.shape == surface.normals.shape == (80, 3)
    assert torch.equal(spread_vertices(mesh, 80).vertices, surface.vertices)
    outside = (surface.vertices.abs() - torch.tensor([0.25, 0.45, 0.2])).amax(dim=1)
    torch.testing.assert_close(outside, torch.zeros(80), atol=1e-6, rtol=0)  # on the surface, none within
    gaps = torch.cdist(surface.vertices, surface.vertices).fill_diagonal_(9).amin(dim=1)
    assert float(gaps.min()) > 0.6 * float(gaps.max()) and surface.spacing == pytest.approx(float(gaps.median()))
    along = (surface.vertices * surface.normals).sum(dim=1)
    assert (along > 0.19).all()  # normals point outwards


def test_what_nobody_sees_carries_no_vertices() -> None:
    inner, outer = coarse_box((-0.1, -0.1, -0.1), (0.1, 0.1, 0.1)), coarse_box()
    mesh = Mesh(torch.cat([outer.vertices, inner.vertices]), torch.cat([outer.faces, inner.faces + 8]))
    vertices = spread_vertices(mesh, 60).vertices
    assert ((vertices.abs() - torch.tensor([0.25, 0.45, 0.2])).amax(dim=1) > -1e-5).all()


def test_every_lattice_point_stands_for_the_nearest_vertex_of_its_side() -> None:
    surface = spread_vertices(coarse_box(), 80)
    start = 0
    for number, n in enumerate(surface.divisions.tolist()):
        a, b, c = surface.mesh.vertices[surface.mesh.faces[number]]
        normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=0)
        longest = max(float((a - b).norm()), float((b - c).norm()), float((c - a).norm()))
        assert n == math.ceil(longest / surface.spacing)
        for i in range(0, n + 1, 2):
            for j in range(0, n + 1 - i, 2):
                point = a + i / n * (b - a) + j / n * (c - a)
                apart = (surface.vertices - point).square().sum(1) / surface.spacing**2
                apart += (surface.normals - normal).square().sum(1) / 4
                chosen = int(surface.lookup[start + i * (n + 1) + j])
                assert float(apart[chosen]) <= float(apart.min()) + 1e-4
        start += (n + 1) ** 2
    assert start == len(surface.lookup)


@pytest.mark.parametrize("softness", [0.0, 0.5])
def test_what_is_drawn_is_where_it_is_seen(softness: float) -> None:
    surface, pose = spread_vertices(coarse_box(), 200), poses(0.3, 2.0, 4.4)
    seen = render(MeshShape.of(surface), pose, CAMERA, STRIDE, softness=softness)
    exact = render(CuboidShape.of(BOX), pose, CAMERA, STRIDE).foreground > 0
    assert seen.vertex_index.shape == (3, 12, 15, 3)
    assert ((seen.foreground > 0.5) == exact).all()
    torch.testing.assert_close(seen.weight.sum(-1)[exact], torch.ones(int(exact.sum()), dtype=torch.float64))
    assert (seen.weight >= 0).all()
    drawn = (surface.vertices.double()[seen.vertex_index] * seen.weight[..., None]).sum(-2)
    pixels, _ = CAMERA.project(drawn.flatten(1, 2), pose)
    apart = (pixels - feature_grid(12, 15, STRIDE).reshape(-1, 2)).norm(dim=-1).reshape(exact.shape)[exact]
    spacing = surface.spacing * 170.0 / 2.0  # in pixels, at the nearest
    assert float(apart.max()) < spacing and float(apart.mean()) < spacing / 2


def test_visible_vertices_are_those_that_nothing_hides() -> None:
    surface, pose = spread_vertices(two_boxes(), 50), poses(0.1, 1.0)
    visible = MeshShape.of(surface).visible(pose)
    agreed = 0
    for number in range(2):
        centre = pose.camera_centre()[number]
        for k, vertex in enumerate(surface.vertices.double()):
            agreed += bool(visible[number, k]) != segment_hits(surface.mesh, centre, vertex)
    assert agreed >= 98  # of 100; the brute force and the depth test have tolerances of their own
    assert 20 < int(visible.sum()) < 80


def test_a_batch_of_categories_equals_one_at_a_time() -> None:
    parts = [spread_vertices(coarse_box(), 40), spread_vertices(two_boxes(), 60)]
    surfaces, category, pose = Surfaces(parts), torch.tensor([1, 0, 1]), poses(0.3, 2.0, 4.4)
    shape = MeshShape(surfaces, category)
    for softness in (0.0, 0.5):
        whole = render(shape, pose, CAMERA, STRIDE, softness=softness)
        for b, y in enumerate(category.tolist()):
            alone = render(MeshShape.of(parts[y]), pose[b : b + 1], CAMERA, STRIDE, softness=softness)
            covered = alone.foreground[0] > 0
            assert torch.equal(whole.vertex_index[b][covered], alone.vertex_index[0][covered])
            torch.testing.assert_close(whole.weight[b], alone.weight[0])
            torch.testing.assert_close(whole.foreground[b], alone.foreground[0])
    visible = shape.visible(pose)
    assert visible.shape == (3, 60) and not visible[1, 40:].any()
    assert torch.equal(visible[1, :40], MeshShape.of(parts[0]).visible(pose[1:2])[0])


def test_the_soft_edge_moves_as_the_outline_does() -> None:
    """Its area's gradient against finite differences of a fine hard mask's area, averaged over small turns."""
    shape = MeshShape.of(spread_vertices(coarse_box(), 100))

    def area(distance: float) -> float:
        pose = Pose.of(0.3, 0.4, 0.2, distance, dtype=torch.float64)
        return float(render(shape, pose, CAMERA, 0.5).foreground.sum()) / 256

    found = []
    for distance in torch.linspace(2.4, 2.6, 5, dtype=torch.float64):
        value = distance.clone().requires_grad_()
        flat = torch.tensor([0.3, 0.4, 0.2], dtype=torch.float64)
        pose = Pose(azimuth=flat[0], elevation=flat[1], theta=flat[2], distance=value)
        soft = render(shape, pose, CAMERA, STRIDE, softness=0.5).foreground.sum()
        assert float(soft.detach()) == pytest.approx(area(float(distance)), rel=0.1)
        found.append(float(torch.autograd.grad(soft, value)[0]))
    expected = (area(2.6) - area(2.4)) / 0.2
    assert sum(found) / 5 == pytest.approx(expected, rel=0.3) and expected < 0


def test_surfaces_are_saved_and_loaded_by_their_sizes() -> None:
    parts = [spread_vertices(coarse_box(), 40), spread_vertices(two_boxes(), 60)]
    saved, empty = Surfaces(parts), Surfaces.empty(Surfaces.sizes(parts))
    assert not empty.vertices.any()
    empty.load_state_dict(saved.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(saved.buffers(), empty.buffers(), strict=True))
    assert torch.equal(empty.mesh(1).vertices, parts[1].mesh.vertices)
    assert torch.equal(empty.mesh(1).faces, parts[1].mesh.faces)


def test_a_mesh_of_many_faces_is_simplified() -> None:
    fine = cuboid_mesh(torch.tensor([0.5, 0.9, 0.4]), 1000).mesh
    simple = simplify(fine, 400)
    assert len(fine.faces) > 1500 and 150 < len(simple.faces) <= 400
    torch.testing.assert_close(simple.vertices.amax(0), fine.vertices.amax(0), atol=0.05, rtol=0)
    assert simplify(simple, 400) is simple
    pose = poses(0.3, 2.0)
    masks = [render(MeshShape.of(mesh), pose, CAMERA, 2).foreground for mesh in (fine, simple)]
    assert float((masks[0] - masks[1]).abs().mean()) < 0.04


def test_the_model_nearest_to_the_usual_sides_stands_for_its_category() -> None:
    boxes = [coarse_box((-a, -b, -0.2), (a, b, 0.2)) for a, b in ((0.1, 0.9), (0.25, 0.45), (0.3, 0.4))]
    assert representative(boxes) is boxes[1]


def shapes() -> list[Shape]:
    cuboid = CuboidShape.of(BOX)
    return [cuboid, GaussianShape(cuboid), MeshShape.of(coarse_box()), MeshShape.of(spread_vertices(coarse_box(), 40))]


@pytest.mark.parametrize("shape", shapes(), ids=["cuboid", "gaussian", "mesh", "surface"])
def test_every_shape_has_the_one_signature(shape: Shape) -> None:
    grid = Pose.of(torch.tensor([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]]), 0.3, 0.0, 2.5)
    camera = Camera.centred(170.0, 96, 120)
    whole: Fragments = render(shape, grid, camera, STRIDE)
    assert whole.foreground.shape == (2, 3, 12, 15)
    one = render(shape, grid[1, 2], camera, STRIDE)
    assert one.foreground.shape == (12, 15) and torch.equal(one.foreground, whole.foreground[1, 2])
    torch.testing.assert_close(one.weight, whole.weight[1, 2])
    visible = shape.visible(grid[1])
    assert visible.shape == (3, len(shape.vertices)) and 0 < int(visible.sum()) < visible.numel()
    assert float(shape.spacing) > 0 and shape.real.all()


@pytest.mark.parametrize("shape", shapes(), ids=["cuboid", "gaussian", "mesh", "surface"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": 0.0}, "stride"),
        ({"stride": 97.0}, "stride"),
        ({"softness": -0.1}, "softness"),
        ({"camera": Camera.centred(100.0, 96, 120)}, None),
    ],
)
def test_render_names_what_does_not_fit(shape: Shape, change: dict[str, float], message: str | None) -> None:
    options = {"pose": Pose.of([0.1], 0.2, 0.0, 2.5), "camera": Camera.centred(170.0, 96, 120), "stride": STRIDE}
    if message is None:
        render(shape, **{**options, **change})  # type: ignore[arg-type]
        many = Camera(focal=torch.ones(3), principal_point=torch.zeros(3, 2), height=96, width=120)
        with pytest.raises(ValueError, match="camera"):
            render(shape, **{**options, "camera": many})  # type: ignore[arg-type]
        return
    with pytest.raises(ValueError, match=f"^{message} "):
        render(shape, **{**options, **change})  # type: ignore[arg-type]


def test_shapes_refuse_what_does_not_fit() -> None:
    pose = poses(0.1, 0.2)
    surfaces = Surfaces([Surface.of(coarse_box())])
    for shape in (
        CuboidShape(CuboidShape.of(BOX).stack, torch.zeros(3).long()),
        MeshShape(surfaces, torch.zeros(3).long()),
    ):
        with pytest.raises(ValueError, match="^shape "):
            render(shape, pose, CAMERA, STRIDE)
    for wrong in (torch.tensor(0.0), torch.zeros(1, 1, dtype=torch.int64)):
        with pytest.raises(ValueError, match="^category "):
            MeshShape(surfaces, wrong)
        with pytest.raises(ValueError, match="^category "):
            CuboidShape(CuboidShape.of(BOX).stack, wrong)
    with pytest.raises(ValueError, match="^sigma "):
        GaussianShape(CuboidShape.of(BOX), sigma=0.0)
    with pytest.raises(ValueError, match="^vertex_count "):
        spread_vertices(coarse_box(), 3)
    with pytest.raises(ValueError, match="^mesh "):
        spread_vertices(Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]])), 8)
    with pytest.raises(ValueError, match="at least one"):
        Surfaces([])
