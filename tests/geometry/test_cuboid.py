from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compnet3d.geometry.cuboid import Cuboids, cuboid_mesh

SIZE = st.floats(0.01, 3.0)


@settings(max_examples=40)
@given(SIZE, SIZE, SIZE, st.integers(8, 1200))
def test_vertices_are_unique_on_the_surface_and_near_the_count(x: float, y: float, z: float, count: int) -> None:
    extents = torch.tensor([x, y, z])
    cuboid = cuboid_mesh(extents, count)
    vertices = cuboid.vertices
    assert len(torch.unique(cuboid.lattice_index, dim=0)) == len(vertices)
    assert (vertices.abs() <= extents / 2 * (1 + 1e-5)).all()
    on_face = (vertices.abs() - extents / 2).abs() <= 1e-5 * extents
    assert on_face.any(dim=1).all()
    nearest = min(
        abs(2 * (a * b + b * c + c * a) + 2 - count)
        for a, b, c in itertools.product(
            _around(cuboid.segments[0]), _around(cuboid.segments[1]), _around(cuboid.segments[2])
        )
    )
    miss = abs(len(vertices) - count)
    assert miss <= max(0.05 * count, nearest)


def _around(n: int) -> range:
    return range(max(1, n - 1), n + 2)


@pytest.mark.parametrize("extents", [(1, 1, 1), (1, 0.02, 0.3), (0.2, 3.0, 0.5)])
@pytest.mark.parametrize("count", [8, 60, 500])
def test_faces_are_closed_and_outward(extents: tuple[float, ...], count: int) -> None:
    cuboid = cuboid_mesh(torch.tensor(extents, dtype=torch.float32), count)
    mesh = cuboid.mesh
    centres = mesh.vertices[mesh.faces].mean(dim=1)
    normals = mesh.face_normals()
    assert ((normals * centres).sum(-1) > 0).all()
    # closed: every directed edge meets its opposite exactly once; and the area is the box's
    edges = torch.cat([mesh.faces[:, [a, (a + 1) % 3]] for a in range(3)]).tolist()
    forward = {tuple(e) for e in edges}
    assert len(forward) == len(edges) and all((b, a) in forward for a, b in forward)
    x, y, z = extents
    assert float(normals.norm(dim=1).sum()) / 2 == pytest.approx(2 * (x * y + y * z + z * x), rel=1e-4)


def test_cells_are_nearly_square_on_a_thin_box() -> None:
    cuboid = cuboid_mesh(torch.tensor([1.0, 0.02, 0.3]), 500)
    nx, ny, nz = cuboid.segments
    assert ny == 1
    assert 0.6 < (1.0 / nx) / (0.3 / nz) < 1.6


def test_bounds_need_not_be_centred() -> None:
    bounds = torch.tensor([[0.0, -1.0, 2.0], [1.0, 0.0, 4.0]])
    vertices = cuboid_mesh(bounds, 100).vertices
    assert torch.equal(vertices.amin(0), bounds[0]) and torch.equal(vertices.amax(0), bounds[1])


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        cuboid_mesh(torch.ones(3), 7)
    with pytest.raises(ValueError, match="upper > lower"):
        cuboid_mesh(torch.tensor([1.0, 0.0, 1.0]), 100)


def test_stack_keeps_every_lookup() -> None:
    cuboids = [cuboid_mesh(torch.tensor(e), 50) for e in ([1.0, 1, 1], [1.0, 0.1, 0.4])]
    stack = Cuboids(cuboids)
    for number, cuboid in enumerate(cuboids):
        start = int(stack.lookup_offset[number])
        held = stack.vertex_lookup[start : start + cuboid.vertex_lookup.numel()]
        assert torch.equal(held, cuboid.vertex_lookup.reshape(-1))


def test_cuboids_are_buffers_that_move_and_are_not_saved() -> None:
    cuboids = [cuboid_mesh(torch.tensor(e), 50) for e in ([1.0, 1, 1], [1.0, 0.1, 0.4])]
    stack = Cuboids(cuboids)
    assert not stack.state_dict() and len(stack) == 2
    for number, cuboid in enumerate(cuboids):
        real = stack.real[number]
        assert torch.equal(stack.vertices[number][real], cuboid.vertices)
        assert torch.equal(stack.lattice_index[number][real], cuboid.lattice_index)
        assert torch.equal(stack.normals[number][real], cuboid.vertex_normals())
        assert not stack.vertices[number][~real].any()
        assert torch.equal(stack[number].vertices, cuboid.vertices) and stack[number].segments == cuboid.segments
        cells = (cuboid.bounds[1] - cuboid.bounds[0]) / torch.tensor(cuboid.segments)
        assert float(stack.spacing[number]) == float(cells.max())
    torch.testing.assert_close(stack.diagonals(), torch.tensor([math.sqrt(3), math.sqrt(1.17)]))
    stack.to("meta")
    assert {buffer.device.type for buffer in stack.buffers()} == {"meta"}
    double = Cuboids(cuboids).double()
    assert double.bounds.dtype == torch.float64 and double.segments.dtype == torch.int64
    with pytest.raises(ValueError, match="at least one"):
        Cuboids([])
