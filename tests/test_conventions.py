"""The conventions of docs/concepts/conventions.md, pinned."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import logm

from compnet3d.geometry.camera import Camera, Pose, feature_grid, pose_grid
from compnet3d.geometry.rotations import angles_to_rotmat, rotmat_geodesic_distance, rotmat_to_angles

ANGLE = st.floats(-7.0, 7.0)
ELEVATION = st.floats(-math.pi / 2, math.pi / 2)


def plain_rotmat(azimuth: float, elevation: float, theta: float) -> np.ndarray:
    """Rz(theta) Rx(elevation - pi/2) Rz(-azimuth), written out."""

    def rz(t: float) -> np.ndarray:
        return np.array([[math.cos(t), -math.sin(t), 0], [math.sin(t), math.cos(t), 0], [0, 0, 1]])

    def rx(t: float) -> np.ndarray:
        return np.array([[1, 0, 0], [0, math.cos(t), -math.sin(t)], [0, math.sin(t), math.cos(t)]])

    return rz(theta) @ rx(elevation - math.pi / 2) @ rz(-azimuth)


def rotmat(azimuth: float, elevation: float, theta: float) -> torch.Tensor:
    return angles_to_rotmat(*(torch.tensor(x, dtype=torch.float64) for x in (azimuth, elevation, theta)))


@given(ANGLE, ELEVATION, ANGLE)
def test_rotation_is_the_product_of_three_turns(azimuth: float, elevation: float, theta: float) -> None:
    np.testing.assert_allclose(
        rotmat(azimuth, elevation, theta).numpy(), plain_rotmat(azimuth, elevation, theta), atol=1e-12
    )


@given(ANGLE, ELEVATION, ANGLE)
def test_angles_survive_the_round_trip(azimuth: float, elevation: float, theta: float) -> None:
    first = rotmat(azimuth, elevation, theta)
    a, e, t = rotmat_to_angles(first)
    assert 0 <= a < 2 * math.pi and 0 <= t < 2 * math.pi and abs(e) <= math.pi / 2 + 1e-12
    np.testing.assert_allclose(angles_to_rotmat(a, e, t).numpy(), first.numpy(), atol=1e-7)


@given(ANGLE, ELEVATION, ANGLE, st.floats(0.5, 50.0), st.tuples(*[st.floats(-0.4, 0.4)] * 3))
def test_projection_to_a_hundred_thousandth_of_a_pixel(
    azimuth: float, elevation: float, theta: float, distance: float, point: tuple[float, float, float]
) -> None:
    """Against the pinhole formula written out with numpy from the camera's position."""
    centre = distance * np.array(
        [math.cos(elevation) * math.sin(azimuth), -math.cos(elevation) * math.cos(azimuth), math.sin(elevation)]
    )
    x, y, z = plain_rotmat(azimuth, elevation, theta) @ (np.array(point) - centre)
    if -z < 0.05:
        return
    focal, px, py = 600.0, 130.0, 90.0
    pose = Pose.of(azimuth, elevation, theta, distance, dtype=torch.float64)
    camera = Camera(
        focal=torch.tensor(focal, dtype=torch.float64),
        principal_point=torch.tensor([px, py], dtype=torch.float64),
        height=200,
        width=300,
    )
    uv, depth = camera.project(torch.tensor([point], dtype=torch.float64), pose)
    assert uv[0].tolist() == pytest.approx([px + focal * x / -z, py - focal * y / -z], abs=1e-5)
    assert float(depth[0]) == pytest.approx(-z, abs=1e-9)
    np.testing.assert_allclose(pose.camera_centre().numpy(), centre, atol=1e-9)


def test_the_front_is_seen_from_azimuth_zero() -> None:
    """From azimuth 0 the camera stands before the object at -y: x is to the right, z up, the front (-y) is nearest."""
    pose = Pose.of(0.0, 0.0, 0.0, 5.0)
    camera = Camera.centred(100.0, 64, 64)
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, 1], [0, -1, 0]])
    uv, depth = camera.project(points, pose)
    assert uv[0].tolist() == pytest.approx([32, 32], abs=1e-4)
    assert uv[1, 0] > 32 and uv[1, 1] == pytest.approx(32, abs=1e-4)
    assert uv[2, 1] < 32 and uv[2, 0] == pytest.approx(32, abs=1e-4)
    assert depth.argmin() == 3
    # from azimuth 90 degrees the camera stands at +x
    assert Pose.of(math.pi / 2, 0.0).camera_centre().tolist() == pytest.approx([1, 0, 0], abs=1e-6)


def test_positive_theta_turns_the_image_counter_clockwise() -> None:
    camera = Camera.centred(100.0, 64, 64)
    uv, _ = camera.project(torch.tensor([[1.0, 0, 0]]), Pose.of(0.0, 0.0, 0.3, 5.0))
    assert uv[0, 1] < 32  # what was to the right has risen


@given(ANGLE, ELEVATION, ANGLE, st.tuples(*[st.floats(-0.5, 0.5)] * 3))
def test_mirroring(azimuth: float, elevation: float, theta: float, point: tuple[float, float, float]) -> None:
    """The mirrored object at the mirrored pose projects to the mirrored pixel."""
    pose = Pose.of(azimuth, elevation, theta, 4.0, dtype=torch.float64)
    camera = Camera.centred(100.0, 60, 80, dtype=torch.float64)
    here, _ = camera.project(torch.tensor([point], dtype=torch.float64), pose)
    there, _ = camera.project(torch.tensor([[-point[0], *point[1:]]], dtype=torch.float64), pose.mirrored())
    assert there[0].tolist() == pytest.approx([80 - float(here[0, 0]), float(here[0, 1])], abs=1e-8)


@pytest.mark.parametrize(("azimuth", "elevation"), [(0.7, 0.3), (4.0, -0.8), (0.0, 0.0)])
def test_the_relation_to_pytorch3d(azimuth: float, elevation: float) -> None:
    """F R = R_p3d S: PyTorch3D's look-at camera has x left, y up, z forward, and its world has y up."""
    flip = np.diag([-1.0, 1.0, -1.0])
    swap = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    # look_at_view_transform: camera at (cosE sinA, sinE, cosE cosA), axes in rows: left, up, forward
    centre = np.array(
        [math.cos(elevation) * math.sin(azimuth), math.sin(elevation), math.cos(elevation) * math.cos(azimuth)]
    )
    forward = -centre
    left = np.cross([0.0, 1.0, 0.0], forward)
    left /= np.linalg.norm(left)
    look_at = np.stack([left, np.cross(forward, left), forward])
    pose = Pose.of(azimuth, elevation, dtype=torch.float64)
    np.testing.assert_allclose(flip @ pose.to_matrix().numpy(), look_at @ swap, atol=1e-12)
    np.testing.assert_allclose(swap @ pose.camera_centre().numpy(), centre, atol=1e-12)


@given(st.tuples(ANGLE, ELEVATION, ANGLE), st.tuples(ANGLE, ELEVATION, ANGLE))
def test_rotation_error_is_the_matrix_logarithm(first: tuple[float, ...], second: tuple[float, ...]) -> None:
    a, b = rotmat(*first), rotmat(*second)
    ours = float(rotmat_geodesic_distance(a, b))
    if ours > math.pi - 1e-3:
        return  # scipy's logarithm is ill-conditioned there; see the test at pi
    logarithm = np.real(logm(a.numpy().T @ b.numpy()))
    assert ours == pytest.approx(np.linalg.norm(logarithm) / math.sqrt(2), abs=1e-6)


@given(ANGLE, st.floats(-7.0, 7.0), ANGLE)
def test_wrapping_keeps_the_rotation(azimuth: float, elevation: float, theta: float) -> None:
    pose = Pose.of(azimuth, elevation, theta, dtype=torch.float64)
    wrapped = pose.wrapped()
    assert 0 <= wrapped.azimuth < 2 * math.pi and 0 <= wrapped.theta < 2 * math.pi
    assert abs(wrapped.elevation) <= math.pi / 2 + 1e-12
    np.testing.assert_allclose(wrapped.to_matrix().numpy(), pose.to_matrix().numpy(), atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-6, 1e-3, 1.0, math.pi - 1e-6, math.pi])
def test_rotation_error_at_singular_points(angle: float) -> None:
    a, b = rotmat(0.3, 0.2, 0.1), rotmat(0.3, 0.2, 0.1 + angle)
    assert float(rotmat_geodesic_distance(a, b)) == pytest.approx(angle, abs=1e-7 if angle > 3 else 1e-15)
    assert float(rotmat_geodesic_distance(b, a)) == float(rotmat_geodesic_distance(a, b))


def test_pose_at_the_zenith() -> None:
    a, e, t = rotmat_to_angles(rotmat(0.4, math.pi / 2, 0.2))
    assert float(e) == pytest.approx(math.pi / 2)
    assert float(t) == 0 and float(a) == pytest.approx(2 * math.pi + 0.4 - 0.2 if 0.4 < 0.2 else 0.4 - 0.2, abs=1e-9)


def test_pose_grid_is_the_papers() -> None:
    grid = pose_grid(distance=5.0)
    assert grid.shape == (144,)
    degrees = {
        name: sorted({round(math.degrees(x)) for x in getattr(grid, name).tolist()})
        for name in ("azimuth", "elevation", "theta")
    }
    assert degrees["azimuth"] == list(range(0, 360, 30))
    assert degrees["elevation"] == [-30, 0, 30, 60]
    assert degrees["theta"] == [-30, 0, 30]
    assert (grid.distance == 5).all()
    assert pose_grid(1, 1, 1).shape == (1,)
    with pytest.raises(ValueError, match="at least one pose"):
        pose_grid(0, 1, 1)


def test_feature_grid_has_centres_at_half_cells() -> None:
    grid = feature_grid(2, 3, 8)
    assert grid[1, 2].tolist() == [8 * 2.5, 8 * 1.5]
    assert grid.shape == (2, 3, 2)
