"""Poses and cameras in the project's one convention (docs/conventions.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from compnet3d.geometry.rotations import angles_to_rotmat, wrap_angle

_FIELDS = ("azimuth", "elevation", "theta", "distance")


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where the camera stands around an object: alpha in the paper.

    The camera is at distance * (cosE sinA, -cosE cosA, sinE) in the object frame (x right, y backward, z up), looks at
    the object's origin and is then turned by theta about its viewing axis.

    Attributes:
        azimuth, elevation, theta: radians, [...].
        distance: in the category's CAD units, positive, [...].
    """

    azimuth: Tensor
    elevation: Tensor
    theta: Tensor
    distance: Tensor

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
        folded = torch.remainder(self.elevation + math.pi, 2 * math.pi) - math.pi
        past = folded.abs() > math.pi / 2
        turn = past.to(folded.dtype) * math.pi
        return Pose(
            azimuth=wrap_angle(self.azimuth + turn),
            elevation=torch.where(past, folded.sign() * math.pi - folded, folded),
            theta=wrap_angle(self.theta + turn),
            distance=self.distance,
        )

    def mirrored(self) -> Pose:
        """The pose of the mirrored object in the mirrored image: A to 2 pi - A, T to -T."""
        return Pose(
            azimuth=wrap_angle(-self.azimuth),
            elevation=self.elevation,
            theta=wrap_angle(-self.theta),
            distance=self.distance,
        )

    def rotmat(self) -> Tensor:
        """Object-to-camera rotation [..., 3, 3]."""
        return angles_to_rotmat(self.azimuth, self.elevation, self.theta)

    def camera_centre(self) -> Tensor:
        """The camera's position in the object frame [..., 3]."""
        return self.rotmat()[..., 2, :] * self.distance[..., None]

    def object_to_camera(self, points: Tensor) -> Tensor:
        """Points [..., V, 3] of the object frame in camera axes (x right, y up, looking along -z), [..., V, 3]."""
        turned = points @ self.rotmat().transpose(-1, -2)
        return torch.cat([turned[..., :2], turned[..., 2:] - self.distance[..., None, None]], dim=-1)

    def _map(self, function: Any) -> Pose:
        return Pose(**{name: function(getattr(self, name)) for name in _FIELDS})


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera over an image.

    Attributes:
        focal: focal length in pixels (viewport * focal of the annotations), [...].
        principal: principal point (px, py) in pixels, [..., 2].
        height, width: image size in pixels.
    """

    focal: Tensor
    principal: Tensor
    height: int
    width: int

    @classmethod
    def centred(cls, focal: float, height: int, width: int, dtype: torch.dtype = torch.float32) -> Camera:
        """A camera with its principal point at the image's centre."""
        return cls(
            focal=torch.tensor(focal, dtype=dtype),
            principal=torch.tensor([width / 2, height / 2], dtype=dtype),
            height=height,
            width=width,
        )

    def project(self, points: Tensor, pose: Pose) -> tuple[Tensor, Tensor]:
        """Project object points: u = px + f Xc / -Zc, v = py - f Yc / -Zc.

        Args:
            points: [..., V, 3] in the object frame.
            pose: batch shape [...].

        Returns:
            Pixels (u, v) [..., V, 2] and depth -Zc [..., V], positive in front of the camera.
        """
        in_camera = pose.object_to_camera(points)
        depth = -in_camera[..., 2]
        offset = in_camera[..., :2] * in_camera.new_tensor([1.0, -1.0]) / depth[..., None]
        return self.principal[..., None, :] + self.focal[..., None, None] * offset, depth


def feature_grid(
    height: int, width: int, stride: float, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Pixel coordinates (u, v) of the centres of a feature map's cells, [height, width, 2].

    Cell (i, j) of stride s has its centre at (s (j + 0.5), s (i + 0.5)).
    """
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
    """The starting poses of section 3.4: by default 12 azimuths x 4 elevations x 3 in-plane angles = 144.

    Azimuths start at 0 and are evenly spaced over the circle; elevations (-30 to 60 degrees) and thetas (-30 to 30) are
    evenly spaced with both ends included (a single one sits in the middle).

    Returns:
        Poses of shape [azimuths * elevations * thetas], theta fastest.
    """
    if min(azimuths, elevations, thetas) < 1:
        raise ValueError(f"a pose grid needs at least one pose on each axis, got {azimuths} x {elevations} x {thetas}")
    axes = [
        torch.arange(azimuths, dtype=torch.float64) * (2 * math.pi / azimuths),
        _spread(elevation_range, elevations),
        _spread(theta_range, thetas),
    ]
    azimuth, elevation, theta = (x.reshape(-1).float() for x in torch.meshgrid(*axes, indexing="ij"))
    return Pose(azimuth=azimuth, elevation=elevation, theta=theta, distance=torch.full_like(azimuth, distance))


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
    """
    centre = torch.tensor([camera.width / 2, camera.height / 2], device=points.device)
    for _ in range(4):  # perspective makes it slightly nonlinear; each round divides the error by the distance
        pixels, _ = camera.project(points.expand(len(pose.azimuth), -1, -1), pose)
        low, high = pixels.amin(dim=1), pixels.amax(dim=1)
        pose = replace(pose, distance=pose.distance * (high - low).amax(dim=1) / side)
        camera = replace(camera, principal=camera.principal + centre - (low + high) / 2)
    return pose, camera.principal
