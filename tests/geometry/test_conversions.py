"""Other libraries' cameras, against projections written out with numpy from each library's own definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.conversions import intrinsics_from_opencv, look_at_homography, map_pixels
from compnet3d.geometry.rotations import rotmat_geodesic_distance, rotmat_to_angles

FOCAL, HEIGHT, WIDTH = 600.0, 480, 640
# pixel centres at +0.5, so that the middle of the image is (320, 240), and the same for pixel centres at whole numbers
OWN_K = np.array([[FOCAL, 0, 320.0], [0, FOCAL, 240.0], [0, 0, 1]])
OPENCV_K = np.array([[FOCAL, 0, 319.5], [0, FOCAL, 239.5], [0, 0, 1]])
GENERAL_K = np.array([[700.0, 3.0, 301.5], [0, 540.0, 222.25], [0, 0, 1]])
POINTS = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
SEEDS = st.integers(0, 10**6)


def random_camera(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A rotation and a place far off the axis: up to 50 degrees."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(2, 20)
    return Rotation.random(random_state=rng).as_matrix(), depth * np.array([*rng.uniform(-1, 1, 2), 1.0])


def project_opencv(points: np.ndarray, R: np.ndarray, t: np.ndarray, K: np.ndarray) -> np.ndarray:
    """X right, y down, z forward: (u, v, 1) ~ K (R X + t)."""
    pixels = []
    for point in points:
        x = K @ (R @ point + t)
        pixels.append([x[0] / x[2], x[1] / x[2]])
    return np.array(pixels)


def project_ours(pose: Pose, principal_point: torch.Tensor, K_own: np.ndarray) -> np.ndarray:
    """The pixels that the package gives for a camera K: those of the turned camera, mapped back."""
    homography = look_at_homography(K_own, principal_point)
    focal = torch.tensor(math.sqrt(K_own[0, 0] * K_own[1, 1]), dtype=torch.float64)
    turned = Camera(focal=focal, principal_point=principal_point, height=HEIGHT, width=WIDTH)
    return map_pixels(homography.inverse(), turned.project(torch.from_numpy(POINTS), pose)[0]).numpy()


def own(K: np.ndarray) -> np.ndarray:
    return K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


@pytest.mark.parametrize("K", [OPENCV_K, GENERAL_K], ids=["one focal length", "two focal lengths and a skew"])
@given(seed=SEEDS)
def test_opencv_pixels_off_the_axis(K: np.ndarray, seed: int) -> None:
    R, t = random_camera(seed)
    pose, principal_point = Pose.from_opencv(R, t, K)
    np.testing.assert_allclose(principal_point.numpy(), project_opencv(np.zeros((1, 3)), R, t, K)[0] + 0.5, atol=1e-9)
    assert float(pose.distance) == pytest.approx(np.linalg.norm(t), abs=1e-12)
    expected = project_opencv(POINTS, R, t, K) + 0.5
    np.testing.assert_allclose(project_ours(pose, principal_point, own(K)), expected, rtol=1e-12, atol=1e-9)
    back_R, back_t = pose.to_opencv(principal_point, K)
    np.testing.assert_allclose(back_R.numpy(), R, atol=1e-13)
    np.testing.assert_allclose(back_t.numpy(), t, atol=1e-12)


@given(seed=SEEDS)
def test_the_camera_turned_to_the_object(seed: int) -> None:
    """The recipe of `Camera.turned_to`: exact pixels of a camera that does not look at the object."""
    R, t = random_camera(seed)
    camera = Camera.from_opencv(OPENCV_K, HEIGHT, WIDTH)
    pose, principal_point = Pose.from_opencv(R, t, camera.to_opencv())
    turned, homography = camera.turned_to(principal_point)
    assert turned.focal == camera.focal and (turned.height, turned.width) == (HEIGHT, WIDTH)
    pixels = map_pixels(homography.inverse(), turned.project(torch.from_numpy(POINTS), pose)[0])
    np.testing.assert_allclose(pixels.numpy(), project_opencv(POINTS, R, t, OPENCV_K) + 0.5, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(map_pixels(homography, principal_point[None])[0], principal_point, rtol=1e-12)


@given(seed=SEEDS)
def test_opengl_pixels(seed: int) -> None:
    """X right, y up, looking along -z: u = px + f x / -z, v = py - f y / -z."""
    rng = np.random.default_rng(seed)
    view = np.eye(4)
    view[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    view[:3, 3] = rng.uniform(2, 20) * np.array([*rng.uniform(-1, 1, 2), -1.0])
    expected = []
    for point in POINTS:
        x, y, z, _ = view @ [*point, 1.0]
        expected.append([320 + FOCAL * x / -z, 240 - FOCAL * y / -z])
    pose, principal_point = Pose.from_opengl(view, OWN_K)
    np.testing.assert_allclose(project_ours(pose, principal_point, OWN_K), expected, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(pose.to_opengl(principal_point, OWN_K).numpy(), view, atol=1e-12)


@given(seed=SEEDS)
def test_blender_pixels(seed: int) -> None:
    """A camera that stands somewhere: the columns of matrix_world are its right, its up, its back and its place."""
    rng = np.random.default_rng(seed)
    right, up, back = Rotation.random(random_state=rng).as_matrix().T
    place = rng.uniform(2, 20) * (back + rng.uniform(-0.7, 0.7) * right + rng.uniform(-0.7, 0.7) * up)
    expected = []
    for point in POINTS:
        depth = np.dot(point - place, -back)
        expected.append(
            [320 + FOCAL * np.dot(point - place, right) / depth, 240 - FOCAL * np.dot(point - place, up) / depth]
        )
    matrix_world = np.eye(4)
    matrix_world[:3] = np.stack([right, up, back, place], axis=1)
    pose, principal_point = Pose.from_blender(matrix_world, OWN_K)
    np.testing.assert_allclose(project_ours(pose, principal_point, OWN_K), expected, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(pose.to_blender(principal_point, OWN_K).numpy(), matrix_world, atol=1e-11)


@given(seed=SEEDS)
def test_pytorch3d_pixels(seed: int) -> None:
    """Row vectors X R + T in a world with y up; x left, y up, z forward; screen u = px - f x / z, v = py - f y / z."""
    R, t = random_camera(seed)
    expected = []
    for x, y, z in POINTS:
        left, up, forward = np.array([x, z, -y]) @ R + t
        expected.append([320 - FOCAL * left / forward, 240 - FOCAL * up / forward])
    pose, principal_point = Pose.from_pytorch3d(R, t, OWN_K)
    np.testing.assert_allclose(project_ours(pose, principal_point, OWN_K), expected, rtol=1e-12, atol=1e-9)
    back_R, back_T = pose.to_pytorch3d(principal_point, OWN_K)
    np.testing.assert_allclose(back_R.numpy(), R, atol=1e-13)
    np.testing.assert_allclose(back_T.numpy(), t, atol=1e-12)


def test_pytorch3d_look_at() -> None:
    """look_at_view_transform(dist, elev, azim) is our pose: the camera at (cosE sinA, sinE, cosE cosA), up = y."""
    azimuth, elevation, distance = 0.7, 0.3, 4.0
    centre = distance * np.array(
        [math.cos(elevation) * math.sin(azimuth), math.sin(elevation), math.cos(elevation) * math.cos(azimuth)]
    )
    forward = -centre / distance
    left = np.cross([0.0, 1.0, 0.0], forward)
    left /= np.linalg.norm(left)
    R = np.stack([left, np.cross(forward, left), forward], axis=1)
    pose, principal_point = Pose.from_pytorch3d(R, -centre @ R, OWN_K)
    values = [float(getattr(pose, name)) for name in ("azimuth", "elevation", "distance")]
    assert values == pytest.approx([azimuth, elevation, distance], abs=1e-12)
    assert math.sin(float(pose.theta)) == pytest.approx(0, abs=1e-12) and math.cos(float(pose.theta)) > 0
    np.testing.assert_allclose(principal_point.numpy(), [320, 240], atol=1e-9)


def test_the_front_in_blender() -> None:
    """Blender's front view (numpad 1) looks along +y with z up: our azimuth 0."""
    matrix_world = np.array([[1.0, 0, 0, 0], [0, 0, -1, -5], [0, 1, 0, 0], [0, 0, 0, 1]])
    pose, principal_point = Pose.from_blender(matrix_world, OWN_K)
    assert [float(x) for x in (pose.azimuth, pose.elevation, pose.theta, pose.distance)] == [0, 0, 0, 5]
    assert principal_point.tolist() == [320, 240]


@given(
    st.floats(-7, 7), st.floats(-1.5, 1.5), st.floats(-7, 7), st.floats(0.5, 50), st.tuples(*[st.floats(0, 640)] * 2)
)
def test_every_pose_survives_every_round_trip(
    azimuth: float, elevation: float, theta: float, distance: float, pixel: tuple[float, float]
) -> None:
    pose = Pose.of(azimuth, elevation, theta, distance, dtype=torch.float64)
    point = torch.tensor(pixel, dtype=torch.float64)
    for back, seen in (
        Pose.from_opencv(*pose.to_opencv(point, OPENCV_K), OPENCV_K),
        Pose.from_opengl(pose.to_opengl(point, OWN_K), OWN_K),
        Pose.from_blender(pose.to_blender(point, OWN_K), OWN_K),
        Pose.from_pytorch3d(*pose.to_pytorch3d(point, OWN_K), OWN_K),
        (Pose.from_matrix(pose.to_matrix(), pose.distance), point),
        (Pose.from_quaternion(pose.to_quaternion(), pose.distance), point),
    ):
        assert float(rotmat_geodesic_distance(back.to_matrix(), pose.to_matrix())) < 1e-13
        assert float(back.distance) == pytest.approx(distance, rel=1e-13)
        np.testing.assert_allclose(seen.numpy(), pixel, atol=1e-9)


@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions_are_scipys_with_the_scalar_first(q: tuple[float, ...]) -> None:
    unit = np.array(q) / np.linalg.norm(q)
    rotation = Rotation.from_quat([*unit[1:], unit[0]])  # scipy has the scalar last
    pose = Pose.from_quaternion(unit, 3.0)
    np.testing.assert_allclose(pose.to_matrix().numpy(), rotation.as_matrix(), atol=1e-14)
    back = pose.to_quaternion().numpy()
    assert back[0] >= 0 and np.linalg.norm(back) == pytest.approx(1, abs=1e-14)
    assert abs(np.dot(back, unit)) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize(
    ("quaternion", "expected"),
    [
        ([1.0, 0, 0, 0], np.eye(3)),
        ([0.0, 1, 0, 0], np.diag([1.0, -1, -1])),
        ([0.0, 0, 1, 0], np.diag([-1.0, 1, -1])),
        ([0.0, 0, 0, 1], np.diag([-1.0, -1, 1])),
        ([math.sqrt(0.5), 0, 0, math.sqrt(0.5)], np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])),
    ],
)
def test_known_quaternions(quaternion: list[float], expected: np.ndarray) -> None:
    pose = Pose.from_quaternion(np.array(quaternion))
    np.testing.assert_allclose(pose.to_matrix().numpy(), expected, atol=1e-15)
    np.testing.assert_allclose(np.abs(pose.to_quaternion().numpy()), quaternion, atol=1e-15)


@pytest.mark.parametrize("elevation", [math.pi / 2, -math.pi / 2, math.pi / 2 - 1e-8, 1e-15 - math.pi / 2, 1.5707963])
@pytest.mark.parametrize("theta", [0.0, math.pi, -math.pi, 1.1])
@pytest.mark.parametrize("azimuth", [0.0, math.pi, 2.3])
def test_at_and_near_the_poles(azimuth: float, elevation: float, theta: float) -> None:
    """Azimuth and theta turn about one axis there: they may come back otherwise, but the rotation does not."""
    first = Pose.of(azimuth, elevation, theta, 3.0, dtype=torch.float64)
    rotmat = first.to_matrix()
    noise = torch.from_numpy(Rotation.from_rotvec([3e-16, -2e-16, 1e-16]).as_matrix())
    for given_matrix in (rotmat, rotmat @ noise):
        back = Pose.from_matrix(given_matrix)
        assert float(rotmat_geodesic_distance(back.to_matrix(), rotmat)) < 1e-14
    R, t = first.to_opencv([100.0, 50.0], OPENCV_K)
    pose, point = Pose.from_opencv(R, t, OPENCV_K)
    assert float(rotmat_geodesic_distance(pose.to_matrix(), rotmat)) < 1e-14
    np.testing.assert_allclose(point.numpy(), [100, 50], atol=1e-10)


def test_theta_of_half_a_turn() -> None:
    angles = rotmat_to_angles(Pose.of(0.4, 0.2, math.pi, dtype=torch.float64).to_matrix())
    assert [float(x) for x in angles] == pytest.approx([0.4, 0.2, math.pi], abs=1e-15)


def test_the_data_sets_reading_needs_no_turn() -> None:
    """Annotations: the principal point is where the origin is seen and t = (0, 0, d); the same functions serve."""
    pose = Pose.of(0.7, 0.3, 0.1, 5.0, dtype=torch.float64)
    camera = Camera(
        focal=torch.tensor(FOCAL, dtype=torch.float64),
        principal_point=torch.tensor([420.0, 180.0], dtype=torch.float64),
        height=HEIGHT,
        width=WIDTH,
    )
    R, t = pose.to_opencv(camera.principal_point, camera.to_opencv())
    assert t.tolist() == [0, 0, 5]
    np.testing.assert_array_equal(R.numpy(), np.diag([1.0, -1, -1]) @ pose.to_matrix().numpy())
    pixels = camera.project(torch.from_numpy(POINTS), pose)[0]
    np.testing.assert_allclose(project_opencv(POINTS, R.numpy(), t.numpy(), camera.to_opencv().numpy()) + 0.5, pixels)
    back, point = Pose.from_opencv(R, t, camera.to_opencv())
    assert point.tolist() == [420, 180] and float(back.distance) == 5
    np.testing.assert_allclose(back.to_matrix().numpy(), pose.to_matrix().numpy(), atol=1e-15)
    turned, homography = camera.turned_to(camera.principal_point)
    np.testing.assert_allclose(homography.numpy(), np.eye(3), atol=1e-12)
    assert torch.equal(turned.principal_point, camera.principal_point)


@pytest.mark.parametrize(
    ("degrees", "unturned", "shifted"), [(5, 7.1, 1.2), (10, 14.4, 3.4), (20, 31.1, 11.8), (30, 53.9, 27.7)]
)
def test_the_pixels_that_a_naive_use_is_off(degrees: float, unturned: float, shifted: float) -> None:
    """The table of docs/concepts/conventions.md: a cube of diagonal 1, 4 units away, 600 pixels of focal length."""
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]) / math.sqrt(3)
    pose = Pose.of(0.7, 0.3, 0.0, 4.0, dtype=torch.float64)
    point = np.array([320 + FOCAL * math.tan(math.radians(degrees)), 240.0])
    R, t = (x.numpy() for x in pose.to_opencv(point, OPENCV_K))
    exact = project_opencv(corners, R, t, OPENCV_K)
    plain_R = np.diag([1.0, -1, -1]) @ pose.to_matrix().numpy()
    shifted_K = OPENCV_K.copy()
    shifted_K[:2, 2] = point - 0.5
    for wrong, expected in (
        (project_opencv(corners, plain_R, t, OPENCV_K), unturned),
        (project_opencv(corners, plain_R, np.array([0, 0, 4.0]), shifted_K), shifted),
    ):
        assert np.linalg.norm(wrong - exact, axis=1).max() == pytest.approx(expected, abs=0.05)


def test_batches_broadcast_and_keep_their_type() -> None:
    R, t = (np.stack(x) for x in zip(*map(random_camera, range(4)), strict=True))
    many, points = Pose.from_opencv(R, t, OPENCV_K)
    assert many.shape == (4,) and points.shape == (4, 2) and many.azimuth.dtype == torch.float64
    for i in range(4):
        one, point = Pose.from_opencv(R[i], t[i], OPENCV_K)
        assert one.shape == () and torch.equal(one.azimuth, many.azimuth[i]) and torch.equal(point, points[i])
    spread, spread_points = Pose.from_opencv(R[:, None], t[None], OPENCV_K)
    assert spread.shape == (4, 4) and spread_points.shape == (4, 4, 2)
    assert torch.equal(spread[2, 2].theta, many.theta[2])
    back_R, back_t = spread.to_opencv(spread_points, OPENCV_K)
    np.testing.assert_allclose(back_R.numpy(), np.broadcast_to(R[:, None], (4, 4, 3, 3)), atol=1e-13)
    np.testing.assert_allclose(back_t.numpy(), np.broadcast_to(t[None], (4, 4, 3)), atol=1e-12)
    small, small_point = Pose.from_opencv(*(x.astype(np.float32) for x in (R, t, OPENCV_K)))
    assert small.azimuth.dtype == small_point.dtype == torch.float32
    np.testing.assert_allclose(small.to_matrix().numpy(), many.to_matrix().numpy(), atol=1e-5)
    lists, _ = Pose.from_opencv(np.eye(3).tolist(), [0, 0, 5], OPENCV_K.tolist())
    assert lists.azimuth.dtype == torch.float32 and float(lists.distance) == 5


def test_an_empty_batch() -> None:
    pose, point = Pose.from_opencv(torch.zeros(0, 3, 3), torch.zeros(0, 3), OPENCV_K.astype(np.float32))
    assert pose.shape == (0,) and point.shape == (0, 2)
    assert pose.to_quaternion().shape == (0, 4) and Pose.from_quaternion(torch.zeros(0, 4)).shape == (0,)
    assert pose.to_blender(point, OWN_K).shape == (0, 4, 4)


def test_gradients_pass() -> None:
    pose, point = Pose.of(0.7, 0.3, 0.1, 5.0, dtype=torch.float64), torch.tensor([400.0, 100.0], dtype=torch.float64)
    R, t = pose.to_opencv(point, OPENCV_K)

    def convert(t: torch.Tensor) -> torch.Tensor:
        found, seen = Pose.from_opencv(R, t, OPENCV_K)
        return torch.stack([found.azimuth, found.elevation, found.theta, found.distance, *seen])

    assert torch.autograd.gradcheck(convert, t.requires_grad_())


R_GOOD, T_GOOD = np.eye(3), np.array([0.1, 0.2, 5.0])


@pytest.mark.parametrize(
    ("R", "t", "K", "message"),
    [
        (np.eye(4), T_GOOD, OPENCV_K, r"R must have shape \[..., 3, 3\], got \[4, 4\]"),
        (R_GOOD * 2, T_GOOD, OPENCV_K, "R is not a rotation"),
        (np.diag([1.0, 1, -1]), T_GOOD, OPENCV_K, "R is not a rotation: it mirrors"),
        (R_GOOD * np.nan, T_GOOD, OPENCV_K, "R holds a number that is not finite"),
        (R_GOOD, T_GOOD[:2], OPENCV_K, r"t must have shape \[..., 3\]"),
        (R_GOOD, T_GOOD * np.inf, OPENCV_K, "t holds a number that is not finite"),
        (R_GOOD, -T_GOOD, OPENCV_K, "behind"),
        (R_GOOD, [1.0, 0.0, 0.0], OPENCV_K, "beside"),
        (R_GOOD, T_GOOD, OPENCV_K.T, "K must be a camera matrix"),
        (R_GOOD, T_GOOD, OPENCV_K * [[-1], [1], [1]], "K must have positive focal lengths"),
        (np.stack([R_GOOD] * 2), np.stack([T_GOOD] * 3), OPENCV_K, r"do not go together: R \[2\], t \[3\]"),
    ],
)
def test_what_is_wrong_is_named(R: object, t: object, K: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pose.from_opencv(R, t, K)


def test_what_is_wrong_elsewhere_is_named() -> None:
    pose = Pose.of(0.1, 0.2)
    with pytest.raises(ValueError, match="the upper left of matrix_world is not a rotation"):
        Pose.from_blender(np.diag([2.0, 2, 2, 1]), OWN_K)
    with pytest.raises(ValueError, match="view_matrix must have the last row"):
        Pose.from_opengl(np.eye(4) + np.eye(4)[::-1] * [[0], [0], [0], [1]], OWN_K)
    with pytest.raises(ValueError, match="quaternion must have length 1"):
        Pose.from_quaternion([1.0, 1, 0, 0])
    with pytest.raises(ValueError, match=r"quaternion must have shape \[..., 4\]"):
        Pose.from_quaternion([1.0, 0, 0])
    with pytest.raises(ValueError, match="T must have shape"):
        Pose.from_pytorch3d(R_GOOD, 5.0, OWN_K)
    with pytest.raises(ValueError, match="principal_point must have shape"):
        pose.to_opencv([1.0], OPENCV_K)
    with pytest.raises(ValueError, match="distance must be positive"):
        Pose.of(0.1, 0.2, distance=-1.0).to_opencv([1.0, 2.0], OPENCV_K)
    with pytest.raises(ValueError, match="K must have one focal length"):
        Camera.from_opencv(GENERAL_K, HEIGHT, WIDTH)


def test_cameras_of_a_batch() -> None:
    camera = Camera(
        focal=torch.tensor([500.0, 600.0]), principal_point=torch.tensor([[1.0, 2.0], [3.0, 4.0]]), height=8, width=9
    )
    assert camera.intrinsics().tolist() == [
        [[500, 0, 1], [0, 500, 2], [0, 0, 1]],
        [[600, 0, 3], [0, 600, 4], [0, 0, 1]],
    ]
    assert camera.to_opencv()[1].tolist() == [[600, 0, 2.5], [0, 600, 3.5], [0, 0, 1]]
    back = Camera.from_opencv(camera.to_opencv(), 8, 9)
    assert torch.equal(back.focal, camera.focal) and torch.equal(back.principal_point, camera.principal_point)
    assert torch.equal(intrinsics_from_opencv(camera.to_opencv()), camera.intrinsics())
