"""Rotations: the three pose angles, rotation matrices and the distance between them (docs/conventions.md)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TWO_PI = 2 * math.pi


def angles_to_rotmat(azimuth: Tensor, elevation: Tensor, theta: Tensor) -> Tensor:
    """Object-to-camera rotation R = Rz(theta) Rx(elevation - pi/2) Rz(-azimuth).

    Args:
        azimuth, elevation, theta: radians, any shape [...] (broadcast against each other).

    Returns:
        Rotation matrices [..., 3, 3].
    """
    azimuth, elevation, theta = torch.broadcast_tensors(azimuth, elevation, theta)
    sin_a, cos_a = azimuth.sin(), azimuth.cos()
    sin_e, cos_e = elevation.sin(), elevation.cos()
    sin_t, cos_t = theta.sin(), theta.cos()
    # Rows of Rx(E - pi/2) Rz(-A): the camera's right, up and backward axes before the in-plane rotation.
    zero = torch.zeros_like(sin_a)
    right = torch.stack([cos_a, sin_a, zero], dim=-1)
    up = torch.stack([-sin_e * sin_a, sin_e * cos_a, cos_e], dim=-1)
    backward = torch.stack([cos_e * sin_a, -cos_e * cos_a, sin_e], dim=-1)
    return torch.stack(
        [cos_t[..., None] * right - sin_t[..., None] * up, sin_t[..., None] * right + cos_t[..., None] * up, backward],
        dim=-2,
    )


def rotmat_to_angles(rotmat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Inverse of `angles_to_rotmat`.

    At elevation +-pi/2 azimuth and theta turn about the same axis; theta is then set to 0.

    Args:
        rotmat: rotation matrices [..., 3, 3].

    Returns:
        azimuth and theta in [0, 2 pi), elevation in [-pi/2, pi/2], each [...].
    """
    backward = rotmat[..., 2, :]
    horizontal = torch.linalg.vector_norm(backward[..., :2], dim=-1)
    elevation = torch.atan2(backward[..., 2], horizontal)
    gimbal = horizontal < 8 * torch.finfo(rotmat.dtype).eps
    azimuth = torch.atan2(backward[..., 0], -backward[..., 1])
    theta = torch.atan2(-rotmat[..., 0, 2], rotmat[..., 1, 2])
    azimuth = torch.where(gimbal, torch.atan2(rotmat[..., 0, 1], rotmat[..., 0, 0]), azimuth)
    theta = torch.where(gimbal, torch.zeros_like(theta), theta)
    return wrap_angle(azimuth), elevation, wrap_angle(theta)


def wrap_angle(angle: Tensor) -> Tensor:
    """Map angles in radians to [0, 2 pi)."""
    wrapped = torch.remainder(angle, TWO_PI)
    # remainder of a tiny negative number rounds up to 2 pi itself
    return torch.where(wrapped >= TWO_PI, torch.zeros_like(wrapped), wrapped)


def rotmat_geodesic_distance(first: Tensor, second: Tensor) -> Tensor:
    """Angle of the rotation between two rotation matrices, |log(first' second)|_F / sqrt 2 (paper, section 4.4).

    Computed from the chord |first - second|_F = 2 sqrt 2 sin(angle / 2) and cos(angle / 2) with atan2, so that it is
    exact near 0 and real at pi.

    Args:
        first, second: rotation matrices [..., 3, 3], broadcast against each other.

    Returns:
        Angles in radians, in [0, pi], [...].
    """
    half_sine = torch.linalg.matrix_norm(first - second) / math.sqrt(8)
    # trace(first' second) = 1 + 2 cos(angle) = 4 cos(angle / 2)^2 - 1
    trace = (first * second).sum(dim=(-2, -1))
    half_cosine = ((trace + 1).clamp_min(0) / 4).sqrt()
    return 2 * torch.atan2(half_sine, half_cosine)
