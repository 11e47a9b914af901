"""Public functions of geometry say what is wrong with an argument, and the package loads torch and little else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

import compnet3d.geometry as geometry
from compnet3d.geometry import Camera, Mesh, Pose

ONE, TWO, THREE = torch.zeros(1), torch.zeros(2), torch.zeros(3)
VERTICES = torch.zeros(3, 3)


def camera() -> Camera:
    return Camera.centred(100.0, 8, 8)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("four tensors of one shape, got azimuth", lambda: Pose(azimuth=ONE, elevation=TWO, theta=ONE, distance=ONE)),
        ("distance must hold floating", lambda: Pose(azimuth=ONE, elevation=ONE, theta=ONE, distance=ONE.long())),
        (r"points must have shape \[..., V, 3\]", lambda: Pose.of(0.0, 0.0).object_to_camera(THREE)),
        ("do not go together: points", lambda: camera().project(torch.zeros(2, 1, 3), Pose.of(THREE, 0.0))),
        ("at least one pixel", lambda: Camera.centred(100.0, 0, 8)),
        ("go together: azimuth", lambda: geometry.angles_to_rotmat(THREE, TWO, ONE)),
        ("theta must hold floating", lambda: geometry.angles_to_rotmat(ONE, ONE, ONE.long())),
        ("rotmat must have shape", lambda: geometry.rotmat_to_angles(THREE)),
        ("second must have shape", lambda: geometry.rotmat_geodesic_distance(VERTICES, THREE)),
        ("angle must hold floating", lambda: geometry.wrap_angle(torch.tensor(7))),
        ("b must have shape", lambda: geometry.axis_angle_between(THREE, TWO)),
        ("need at least one cell", lambda: geometry.feature_grid(0, 3, 8)),
        ("a positive stride", lambda: geometry.feature_grid(2, 3, 0)),
        ("faces must lie in 0 ... 2, got 1 ... 3", lambda: Mesh(VERTICES, torch.tensor([[1, 2, 3]]))),
        ("faces must hold whole numbers", lambda: Mesh(VERTICES, VERTICES)),
        ("vertices must hold floating", lambda: Mesh(VERTICES.long(), torch.tensor([[0, 1, 2]]))),
        ("three positive extents", lambda: geometry.cuboid.choose_segments((1.0, 0.0, 1.0), 20)),
        ("side must be positive", lambda: geometry.fit_to_box(VERTICES, Pose.of([0.0], 0.0), camera(), 0.0)),
        (r"pose must have shape \[P\]", lambda: geometry.fit_to_box(VERTICES, Pose.of(0.0, 0.0), camera(), 5.0)),
        ("pixels must have shape", lambda: geometry.map_pixels(VERTICES, TWO)),
    ],
)
def test_what_is_wrong_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_public_names() -> None:
    assert list(geometry.__all__) == sorted(geometry.__all__)
    for name in geometry.__all__:
        assert getattr(geometry, name) is not None


def test_geometry_needs_torch_alone() -> None:
    code = "import compnet3d.geometry, sys; print(*sorted(n for n in sys.modules if n.startswith('compnet3d.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.split(".")[1] for name in done.stdout.split()} == {"errors", "geometry", "utils"}
