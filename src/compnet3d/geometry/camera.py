"""Poses and cameras in the project's one convention (docs/concepts/conventions.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from compnet3d.geometry import conversions
from compnet3d.geometry.conversions import LookAt
from compnet3d.geometry.rotations import angles_to_rotmat, rotmat_to_angles, wrap_angle
from compnet3d.utils.checks import check_broadcast, check_floating, check_rotation, check_shape

_FIELDS = ("azimuth", "elevation", "theta", "distance")


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where the camera stands around an object: alpha in the paper.

    The camera is at distance * (cosE sinA, -cosE cosA, sinE) in the object frame (x right, y backward, z up), looks at
    the object's origin and is then turned by theta about its viewing axis.

    Other conventions: `from_opencv`, `from_opengl`, `from_blender` and `from_pytorch3d` take any camera, also one that
    does not look at the object's origin. They give the pose of that camera turned until it does, and the pixel at which
    the camera itself sees the origin; `to_opencv` and so on take both and give the camera back. `from_matrix` and
    `from_quaternion` are for rotations alone. All take tensors or numpy arrays, one or a batch, and keep their type.

    Attributes:
        azimuth, elevation, theta: radians, [...].
        distance: in the category's CAD units, positive, [...].

    Raises:
        ValueError: if the four differ in shape or are not floating point numbers.
    """

    azimuth: Tensor
    elevation: Tensor
    theta: Tensor
    distance: Tensor

    def __post_init__(self) -> None:
        if __debug__:
            shapes = {name: getattr(self, name).shape for name in _FIELDS}
            if any(shape != self.azimuth.shape for shape in shapes.values()):
                raise ValueError(f"a pose needs four tensors of one shape, got {_listed(shapes)}")
            check_floating(**{name: getattr(self, name) for name in _FIELDS})

    @classmethod
    def of(
        cls, azimuth: Any, elevation: Any, theta: Any = 0.0, distance: Any = 1.0, dtype: torch.dtype = torch.float32
    ) -> Pose:
        """Build a pose from numbers, sequences or tensors, broadcast to one shape."""
        parts = torch.broadcast_tensors(
            *(torch.as_tensor(x, dtype=dtype) for x in (azimuth, elevation, theta, distance))
        )
        return cls(**dict(zip(_FIELDS, parts, strict=True)))

    @classmethod
    def stack(cls, poses: Sequence[Pose]) -> Pose:
        """Stack poses of equal shape along a new first dimension."""
        return cls(**{name: torch.stack([getattr(p, name) for p in poses]) for name in _FIELDS})

    @classmethod
    def cat(cls, poses: Sequence[Pose]) -> Pose:
        """Concatenate poses along the first dimension."""
        return cls(**{name: torch.cat([getattr(p, name) for p in poses]) for name in _FIELDS})

    @classmethod
    def from_matrix(cls, rotmat: Any, distance: Any = 1.0) -> Pose:
        """The pose with an object-to-camera rotation in our own axes (x right, y up, z backward), [..., 3, 3].

        A 4 x 4 matrix, whose camera may look elsewhere, is for `from_opengl`.

        Raises:
            ValueError: if the matrix is no rotation; so do all converters, and they name the argument.
        """
        rotmat, distance = conversions.as_floats(rotmat, distance)
        check_rotation("rotmat", rotmat)
        angles = torch.broadcast_tensors(*rotmat_to_angles(rotmat), distance)
        return cls(**dict(zip(_FIELDS, angles, strict=True)))

    @classmethod
    def from_quaternion(cls, quaternion: Any, distance: Any = 1.0) -> Pose:
        """As `from_matrix`, from a unit quaternion (w, x, y, z), the scalar first as in PyTorch3D, [..., 4]."""
        return cls.from_matrix(conversions.quaternion_to_rotmat(quaternion), distance)

    @classmethod
    def from_opencv(cls, R: Any, t: Any, K: Any) -> tuple[Pose, Tensor]:
        """The pose of a camera with OpenCV's axes (x right, y down, z forward), and where it sees the origin.

        Args:
            R: object-to-camera rotation, [..., 3, 3].
            t: the object's origin in camera axes, in front of the camera, [..., 3].
            K: OpenCV's camera matrix (pixel centres at whole numbers), [..., 3, 3].

        Returns:
            The pose [...] and the pixel (u, v) at which the origin is seen, [..., 2], in our pixels (centres at +0.5).
            The pose is that of the camera turned until it looks at the origin (`Camera.turned_to`); no turn is needed
            where t = (0, 0, d).
        """
        return cls._from_look_at(conversions.look_at_from_opencv(R, t, conversions.intrinsics_from_opencv(K)))

    @classmethod
    def from_opengl(cls, view_matrix: Any, K: Any) -> tuple[Pose, Tensor]:
        """As `from_opencv`, for OpenGL's axes (x right, y up, looking along -z), which are ours too.

        Args:
            view_matrix: object-to-camera matrix (model-view), column vectors, [..., 4, 4].
            K: camera matrix in our pixels (`Camera.intrinsics`), v downwards, [..., 3, 3].
        """
        return cls._from_look_at(conversions.look_at_from_opencv(*conversions.opengl_to_opencv(view_matrix), K))

    @classmethod
    def from_blender(cls, matrix_world: Any, K: Any) -> tuple[Pose, Tensor]:
        """As `from_opengl`, from Blender's (and NeRF's) camera-to-world matrix; the world is the object's frame.

        Args:
            matrix_world: of the camera, without scale, [..., 4, 4]. Blender's front view is our azimuth 0.
            K: camera matrix in our pixels, [..., 3, 3].
        """
        return cls.from_opengl(conversions.invert_rigid("matrix_world", matrix_world), K)

    @classmethod
    def from_pytorch3d(cls, R: Any, T: Any, K: Any) -> tuple[Pose, Tensor]:
        """As `from_opencv`, for PyTorch3D: X_camera = X_world R + T for row vectors, camera x left, y up, z forward.

        Args:
            R: [..., 3, 3]. PyTorch3D's world has y up: the point (x, y, z) of the object is (x, z, -y) there.
            T: [..., 3].
            K: camera matrix in our pixels, which are PyTorch3D's screen coordinates, [..., 3, 3].
        """
        return cls._from_look_at(conversions.look_at_from_opencv(*conversions.pytorch3d_to_opencv(R, T), K))

    def to_matrix(self) -> Tensor:
        """Object-to-camera rotation [..., 3, 3], inverse of `from_matrix`."""
        return angles_to_rotmat(self.azimuth, self.elevation, self.theta)

    def to_quaternion(self) -> Tensor:
        """Object-to-camera rotation as a unit quaternion (w, x, y, z) with w >= 0, [..., 4]."""
        return conversions.rotmat_to_quaternion(self.to_matrix())

    def to_opencv(self, principal_point: Any, K: Any) -> tuple[Tensor, Tensor]:
        """R [..., 3, 3] and t [..., 3] of the camera K that sees the object's origin at a pixel.

        Args:
            principal_point: that pixel (u, v) in our pixels, as `from_opencv` or a `Prediction` gives it, [..., 2].
            K: OpenCV's camera matrix, [..., 3, 3]. With K = `camera.to_opencv()` of a camera that has this principal
                point, t is (0, 0, distance).
        """
        return conversions.look_at_to_opencv(self._look_at(principal_point), conversions.intrinsics_from_opencv(K))

    def to_opengl(self, principal_point: Any, K: Any) -> Tensor:
        """Inverse of `from_opengl`: the object-to-camera matrix [..., 4, 4]; K is in our pixels."""
        return conversions.opencv_to_opengl(*conversions.look_at_to_opencv(self._look_at(principal_point), K))

    def to_blender(self, principal_point: Any, K: Any) -> Tensor:
        """Inverse of `from_blender`: the camera's matrix_world [..., 4, 4]; K is in our pixels."""
        return conversions.invert_rigid("view_matrix", self.to_opengl(principal_point, K))

    def to_pytorch3d(self, principal_point: Any, K: Any) -> tuple[Tensor, Tensor]:
        """Inverse of `from_pytorch3d`: R [..., 3, 3] and T [..., 3] for row vectors; K is in our pixels."""
        return conversions.opencv_to_pytorch3d(*conversions.look_at_to_opencv(self._look_at(principal_point), K))

    @classmethod
    def _from_look_at(cls, view: LookAt) -> tuple[Pose, Tensor]:
        return cls.from_matrix(view.rotmat, view.distance), view.principal_point

    def _look_at(self, principal_point: Any) -> LookAt:
        return LookAt(self.to_matrix(), self.distance, principal_point)

    @property
    def shape(self) -> torch.Size:
        """The batch shape."""
        return self.azimuth.shape

    def __getitem__(self, index: Any) -> Pose:
        return self._map(lambda x: x[index])

    def to(self, *args: Any, **kwargs: Any) -> Pose:
        """Move or cast every field, as `Tensor.to`."""
        return self._map(lambda x: x.to(*args, **kwargs))

    def detach(self) -> Pose:
        """The same pose without gradient history."""
        return self._map(Tensor.detach)

    def wrapped(self) -> Pose:
        """The same pose with azimuth and theta in [0, 2 pi) and elevation in [-pi/2, pi/2].

        Past the zenith the camera looks from the other side, upside down: (A, E, T) is (A + pi, pi - E, T + pi).
        """
        # to [-pi, pi): what then lies beyond pi / 2 is past the zenith or the nadir
        folded = torch.remainder(self.elevation + math.pi, 2 * math.pi) - math.pi
        past = folded.abs() > math.pi / 2
        turn = past.to(folded.dtype) * math.pi
        # cos(pi - E) = -cosE undoes the sign of sin(A + pi), so the camera stays in its place; its up axis has turned
        # over, which theta + pi takes back. Below the nadir -pi - E is the same angle as pi - E
        return Pose(
            azimuth=wrap_angle(self.azimuth + turn),
            elevation=torch.where(past, folded.sign() * math.pi - folded, folded),
            theta=wrap_angle(self.theta + turn),
            distance=self.distance,
        )

    def mirrored(self) -> Pose:
        """The pose of the mirrored object in the mirrored image: A to 2 pi - A, T to -T."""
        # the mirror changes the sign of the object's x, in which the camera's place is odd in A, and the sense of turns
        # in the image plane; no other sign changes
        return Pose(
            azimuth=wrap_angle(-self.azimuth),
            elevation=self.elevation,
            theta=wrap_angle(-self.theta),
            distance=self.distance,
        )

    def camera_centre(self) -> Tensor:
        """The camera's position in the object frame [..., 3]."""
        # a point X is at R X - (0, 0, d) in the camera; this is 0 for X = R' (0, 0, d), d times R's third row
        return self.to_matrix()[..., 2, :] * self.distance[..., None]

    def object_to_camera(self, points: Tensor) -> Tensor:
        """Points [..., V, 3] of the object frame in camera axes (x right, y up, looking along -z), [..., V, 3]."""
        check_shape("points", points, (..., "V", 3))
        # points are rows, so R X becomes X R'. The camera looks at the origin: all there is to translate is d along z
        turned = points @ self.to_matrix().transpose(-1, -2)
        return torch.cat([turned[..., :2], turned[..., 2:] - self.distance[..., None, None]], dim=-1)

    def _map(self, function: Any) -> Pose:
        return Pose(**{name: function(getattr(self, name)) for name in _FIELDS})


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera over an image.

    Attributes:
        focal: focal length in pixels (viewport * focal of the annotations), [...].
        principal_point: principal point (px, py) in pixels, [..., 2].
        height, width: image size in pixels.

    Raises:
        ValueError: if the batch shapes do not go together or the image has no pixels.
    """

    focal: Tensor
    principal_point: Tensor
    height: int
    width: int

    def __post_init__(self) -> None:
        if __debug__:
            check_shape("principal_point", self.principal_point, (..., 2))
            check_floating(focal=self.focal, principal_point=self.principal_point)
            check_broadcast(focal=self.focal.shape, principal_point=self.principal_point.shape[:-1])
            if min(self.height, self.width) < 1:
                raise ValueError(f"an image has at least one pixel, got height {self.height} and width {self.width}")

    @classmethod
    def centred(cls, focal: float, height: int, width: int, dtype: torch.dtype = torch.float32) -> Camera:
        """A camera with its principal point at the image's centre."""
        return cls(
            focal=torch.tensor(focal, dtype=dtype),
            principal_point=torch.tensor([width / 2, height / 2], dtype=dtype),
            height=height,
            width=width,
        )

    @classmethod
    def from_opencv(cls, K: Any, height: int, width: int) -> Camera:
        """The camera of OpenCV's matrix K [..., 3, 3], whose pixel centres are at whole numbers.

        Raises:
            ValueError: if K has a skew or two focal lengths (to a millionth); resize or undistort the image first.
        """
        K = conversions.intrinsics_from_opencv(K)
        focal = K[..., 0, 0]
        # asked as not <=, so that NaN is refused even where the checks above are left out
        gap = torch.maximum((K[..., 1, 1] - focal).abs(), K[..., 0, 1].abs())
        if not bool((gap <= 1e-6 * focal).all()):
            raise ValueError("K must have one focal length and no skew; resize or undistort the image first")
        return cls(focal=focal, principal_point=K[..., :2, 2], height=height, width=width)

    def intrinsics(self) -> Tensor:
        """The camera matrix [[f, 0, px], [0, f, py], [0, 0, 1]] in our pixels (v downwards), [..., 3, 3]."""
        focal, principal_point = self.focal, self.principal_point
        zero, one = torch.zeros_like(focal), torch.ones_like(focal)
        # K is built from its columns, as rows of K': focal and principal point may have different batch shapes and are
        # expanded to the common one before they are joined
        left = torch.stack([focal, zero, zero, zero, focal, zero], dim=-1).unflatten(-1, (2, 3))
        right = torch.cat([principal_point, one[..., None].expand(*principal_point.shape[:-1], 1)], dim=-1)
        batch = torch.broadcast_shapes(left.shape[:-2], right.shape[:-1])
        columns = [left.expand(*batch, 2, 3), right[..., None, :].expand(*batch, 1, 3)]
        return torch.cat(columns, dim=-2).transpose(-1, -2)

    def to_opencv(self) -> Tensor:
        """Inverse of `from_opencv`: K [..., 3, 3]."""
        return conversions.intrinsics_to_opencv(self.intrinsics())

    def turned_to(self, pixel: Any) -> tuple[Camera, Tensor]:
        """This camera turned about its centre until it looks at a pixel, and the homography to its image.

        A pose from `Pose.from_opencv` and its like is exact in the turned camera. This gives the pixels of the points
        in the camera itself:

            turned, homography = camera.turned_to(principal_point)
            pixels = map_pixels(homography.inverse(), turned.project(points, pose)[0])

        Args:
            pixel: (u, v), [..., 2].

        Returns:
            The camera, of the same focal length and with its principal point at that pixel, and the homography
            [..., 3, 3] from this camera's pixels to the turned one's. The pixel itself stays in place.
        """
        (pixel,) = conversions.as_floats(pixel)
        homography = conversions.look_at_homography(self.intrinsics(), pixel.to(self.focal))
        return replace(self, principal_point=pixel.to(self.focal)), homography

    def project(self, points: Tensor, pose: Pose) -> tuple[Tensor, Tensor]:
        """Project object points: u = px + f Xc / -Zc, v = py - f Yc / -Zc.

        Args:
            points: [..., V, 3] in the object frame.
            pose: batch shape [...].

        Returns:
            Pixels (u, v) [..., V, 2] and depth -Zc [..., V], positive in front of the camera.
        """
        check_broadcast(points=points.shape[:-2], pose=pose.shape, camera=self.focal.shape)
        in_camera = pose.object_to_camera(points)
        depth = -in_camera[..., 2]
        # y is up in the camera and v runs down, hence the minus. The depth is not clamped: pixels of points that are
        # not in front of the camera mean nothing, and whoever needs them looks at the depth
        offset = in_camera[..., :2] * in_camera.new_tensor([1.0, -1.0]) / depth[..., None]
        return self.principal_point[..., None, :] + self.focal[..., None, None] * offset, depth


def feature_grid(
    height: int, width: int, stride: float, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Pixel coordinates (u, v) of the centres of a feature map's cells, [height, width, 2].

    Cell (i, j) of stride s has its centre at (s (j + 0.5), s (i + 0.5)).

    Raises:
        ValueError: if there is no cell or the stride is not positive.
    """
    if __debug__ and (min(height, width) < 1 or not stride > 0):
        raise ValueError(f"need at least one cell and a positive stride, got {height} x {width} cells of {stride}")
    v = (torch.arange(height, device=device, dtype=dtype) + 0.5) * stride
    u = (torch.arange(width, device=device, dtype=dtype) + 0.5) * stride
    return torch.stack(torch.broadcast_tensors(u[None, :], v[:, None]), dim=-1)


def pose_grid(
    azimuths: int = 12,
    elevations: int = 4,
    thetas: int = 3,
    *,
    elevation_range: tuple[float, float] = (-math.pi / 6, math.pi / 3),
    theta_range: tuple[float, float] = (-math.pi / 6, math.pi / 6),
    distance: float = 1.0,
) -> Pose:
    """The initial poses of section 3.4: by default 12 azimuths x 4 elevations x 3 in-plane angles = 144.

    Azimuths start at 0 and are evenly spaced over the circle; elevations (-30 to 60 degrees) and thetas (-30 to 30) are
    evenly spaced with both ends included (a single one sits in the middle).

    Returns:
        Poses of shape [azimuths * elevations * thetas], theta fastest.
    """
    if min(azimuths, elevations, thetas) < 1:
        raise ValueError(f"a pose grid needs at least one pose on each axis, got {azimuths} x {elevations} x {thetas}")
    # in double, so that the float32 angles are the nearest to the exact ones. A circle's two ends are one azimuth, so
    # its end is left out; elevations and thetas are intervals and keep both
    axes = [
        torch.arange(azimuths, dtype=torch.float64) * (2 * math.pi / azimuths),
        _spread(elevation_range, elevations),
        _spread(theta_range, thetas),
    ]
    azimuth, elevation, theta = (x.reshape(-1).float() for x in torch.meshgrid(*axes, indexing="ij"))
    return Pose(azimuth=azimuth, elevation=elevation, theta=theta, distance=torch.full_like(azimuth, distance))


def _listed(shapes: dict[str, torch.Size]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def _spread(limits: tuple[float, float], count: int) -> Tensor:
    if count == 1:
        return torch.tensor([sum(limits) / 2], dtype=torch.float64)
    return torch.linspace(limits[0], limits[1], count, dtype=torch.float64)


def fit_to_box(points: Tensor, pose: Pose, camera: Camera, side: float) -> tuple[Pose, Tensor]:
    """Distance and principal point with which an object fills a box centred in the view.

    Args:
        points: the object's surface, CAD units, [V, 3], or [P, V, 3] where each view has another object.
        pose: [P], whose distances are replaced; camera: of the views, batch shape [P].
        side: longest side of the box in pixels.

    Returns:
        Poses [P] and principal points [P, 2] whose projections have their longest side so long, centred in the image.

    Raises:
        ValueError: if a shape is wrong or the side is not positive.
    """
    check_shape("points", points, ("V", 3) if points.ndim == 2 else ("P", "V", 3))
    check_shape("pose", pose.azimuth, ("P",))
    if __debug__ and not 0 < side < math.inf:
        raise ValueError(f"side must be positive, got {side}")
    centre = torch.tensor([camera.width / 2, camera.height / 2], device=points.device)
    for _ in range(4):  # perspective makes it slightly nonlinear; each round divides the error by the distance
        pixels, _ = camera.project(points.expand(*pose.azimuth.shape, -1, -1), pose)
        low, high = pixels.amin(dim=1), pixels.amax(dim=1)
        # the size in the image goes nearly as 1 / distance; moving the principal point moves all pixels alike, but both
        # were measured at the old distance, so the next round corrects the rest
        pose = replace(pose, distance=pose.distance * (high - low).amax(dim=1) / side)
        camera = replace(camera, principal_point=camera.principal_point + centre - (low + high) / 2)
    return pose, camera.principal_point
