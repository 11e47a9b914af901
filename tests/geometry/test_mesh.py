from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh, cuboid_bounds, load_off, save_off

TETRAHEDRON = Mesh(
    torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)


@given(st.lists(st.tuples(*[st.floats(-1e3, 1e3, width=32)] * 3), min_size=3, max_size=8))
def test_off_round_trip_is_exact(tmp_path_factory: pytest.TempPathFactory, points: list[tuple[float, ...]]) -> None:
    path = tmp_path_factory.mktemp("off") / "mesh.off"
    mesh = Mesh(torch.tensor(points, dtype=torch.float32), torch.tensor([[0, 1, 2]]))
    side = float((mesh.vertices.amax(0) - mesh.vertices.amin(0)).max())
    assume(side > 1e-5)
    a, b, c = mesh.vertices[:3].double()
    # three points on a line are no surface
    assume(float(torch.linalg.cross(b - a, c - a).norm()) > 1e-9 * side**2)
    save_off(path, mesh)
    back = load_off(path)
    assert torch.equal(back.vertices, mesh.vertices) and torch.equal(back.faces, mesh.faces)


@pytest.mark.parametrize(
    "text",
    [
        "OFF\n4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n3 0 1 2\n",
        "OFF 4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n3 0 1 2\n",
        "off\n# made by hand\n\n4 2\n0 0 0 # corner\n1 0 0\n\n1 1 0\n0 1 0\n4  0 1 2 3  255 0 0\n3 0 1 2\n",
    ],
)
def test_comments_blank_lines_quads_and_colours(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.off"
    path.write_text(text)
    mesh = load_off(path)
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("PLY\n1 1 0\n", "not an OFF file"),
        ("OFF\nmany\n", "numbers of vertices"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n", "cut short"),
        ("OFF\n3 1 0\n0 0 0\n1 0 x\n0 1 0\n3 0 1 2\n", "vertex 1"),
        ("OFF\n3 1 0\n0 0 0\n1 0\n0 1 0\n3 0 1 2\n", "vertex 1"),
        ("OFF\n3 1 0\n0 0 0\n1 0 nan\n0 1 0\n3 0 1 2\n", "vertex 1"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 3\n", "face 0"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\nx 0 1 2\n", "face 0"),
        ("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "no vertices or no faces"),
        ("OFF\n1000000000000 1000000000000 0\n0 0 0\n", "cut short"),
        ("OFF\n" + "9" * 5000 + " 1 0\n0 0 0\n", "numbers of vertices"),
        ("OFF\n3 1 0\n0 0 0\n1e39 0 0\n0 1 0\n3 0 1 2\n", "vertex 1 lies beyond 1e[+]09"),
        ("OFF\n3 1 0\n0 0 0\n1e999 0 0\n0 1 0\n3 0 1 2\n", "vertex 1 is not finite"),
        ("OFF\n3 1 0\n1 1 1\n1 1 1\n1 1 1\n3 0 1 2\n", "all vertices are one point"),
        ("OFF\n3 1 0\n0 0 0\n1e-38 0 0\n0 1e-38 0\n3 0 1 2\n", "longest side is 1e-38"),
        ("OFF\n3 1 0\n0 0 0\n5\n0 1 0\n3 0 1 2\n", "vertex 1 is not three numbers"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n1000000000000 0 1 2\n", "face 0"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n-5 0 1 2\n", "face 0"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 -1\n", "face 0"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken.off"
    path.write_text(text)
    with pytest.raises(CompNetError, match=words) as error:
        load_off(path)
    assert "broken.off" in str(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.off")
    (tmp_path / "zero.off").symlink_to("/dev/zero")
    for name in ("fifo.off", "zero.off"):
        with pytest.raises(CompNetError, match=f"{name}: is not a regular file"):
            load_off(tmp_path / name)


@given(st.lists(st.tuples(st.integers(0, 79), st.integers(0, 255)), max_size=4))
def test_changed_bytes_give_a_model_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("off") / "mesh.off"
    save_off(path, TETRAHEDRON)
    data = bytearray(path.read_bytes())
    for place, value in places:
        data[place % len(data)] = value
    path.write_bytes(data)
    try:
        assert bool(load_off(path).vertices.isfinite().all())
    except CompNetError as error:
        assert "mesh.off" in str(error)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompNetError, match=r"nothing\.off"):
        load_off(tmp_path / "nothing.off")


def test_bounds_leave_out_the_outliers() -> None:
    """99 of 100 points fill [0, 1]; the shortest interval that holds 99 % drops the far one."""
    x = torch.linspace(0, 1, 99)
    points = torch.cat([torch.stack([x, 2 * x, 3 * x], dim=1), torch.tensor([[50.0, -50.0, 50.0]])])
    bounds = cuboid_bounds([Mesh(points, torch.tensor([[0, 1, 2]]))])
    torch.testing.assert_close(bounds, torch.tensor([[0.0, 0, 0], [1.0, 2, 3]]))
    everything = cuboid_bounds([Mesh(points, torch.tensor([[0, 1, 2]]))], coverage=1.0)
    torch.testing.assert_close(everything, torch.tensor([[0.0, -50, 0], [50.0, 2, 50]]))


def test_bounds_of_several_models_and_flat_ones() -> None:
    other = Mesh(TETRAHEDRON.vertices + 1, TETRAHEDRON.faces)
    torch.testing.assert_close(cuboid_bounds([TETRAHEDRON, other], 1.0), torch.tensor([[0.0] * 3, [2.0] * 3]))
    flat = Mesh(TETRAHEDRON.vertices * torch.tensor([1.0, 1.0, 0.0]), TETRAHEDRON.faces)
    bounds = cuboid_bounds([flat], 1.0)
    assert (bounds[1] > bounds[0]).all() and float(bounds[1, 2] - bounds[0, 2]) == pytest.approx(1e-3)
    with pytest.raises(ValueError, match="at least one mesh"):
        cuboid_bounds([])
