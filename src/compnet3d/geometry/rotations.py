"""Rotations: the three pose angles, rotation matrices and the distance between them (docs/concepts/conventions.md)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compnet3d.utils.checks import check_broadcast, check_floating, check_shape

TWO_PI = 2 * math.pi
CONTINUOUS = 0
"""The symmetry order of an object that turns about its vertical axis without changing."""
FLIP_ANGLE = math.pi / 6  # poses nearer than that to half a turn from the true one are flipped


def angles_to_rotmat(azimuth: Tensor, elevation: Tensor, theta: Tensor) -> Tensor:
    """Object-to-camera rotation R = Rz(theta) Rx(elevation - pi/2) Rz(-azimuth).

    Args:
        azimuth, elevation, theta: radians, any shape [...] (broadcast against each other).

    Returns:
        Rotation matrices [..., 3, 3].
    """
    check_floating(azimuth=azimuth, elevation=elevation, theta=theta)
    check_broadcast(azimuth=azimuth.shape, elevation=elevation.shape, theta=theta.shape)
    azimuth, elevation, theta = torch.broadcast_tensors(azimuth, elevation, theta)
    sin_a, cos_a = azimuth.sin(), azimuth.cos()
    sin_e, cos_e = elevation.sin(), elevation.cos()
    sin_t, cos_t = theta.sin(), theta.cos()
    # Rows of Rx(E - pi/2) Rz(-A): the camera's right, up and backward axes before the in-plane rotation.
    zero = torch.zeros_like(sin_a)
    right = torch.stack([cos_a, sin_a, zero], dim=-1)
    up = torch.stack([-sin_e * sin_a, sin_e * cos_a, cos_e], dim=-1)
    backward = torch.stack([cos_e * sin_a, -cos_e * cos_a, sin_e], dim=-1)
    # Rz(theta) mixes right and up alone: the viewing axis does not turn in its own plane
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
    check_shape("rotmat", rotmat, (..., 3, 3))
    # the third row is (cosE sinA, -cosE cosA, sinE) with cosE >= 0. atan2 keeps the digits that asin of sinE loses near
    # the poles, and takes a sine that rounding has made larger than 1
    backward = rotmat[..., 2, :]
    horizontal = torch.linalg.vector_norm(backward[..., :2], dim=-1)
    elevation = torch.atan2(backward[..., 2], horizontal)
    # there the horizontal part is rounding alone. With theta = 0 the first row at the pole is (cosA, sinA, 0)
    gimbal = horizontal < 8 * torch.finfo(rotmat.dtype).eps
    azimuth = torch.atan2(backward[..., 0], -backward[..., 1])
    azimuth = torch.where(gimbal, torch.atan2(rotmat[..., 0, 1], rotmat[..., 0, 0]), azimuth)
    # Rotations near the pole leave the azimuth uncertain. Theta is read after undoing that very azimuth, R Rz(azimuth),
    # whose first column is (cos theta, sin theta, 0): together they give the rotation back to rounding.
    column = rotmat[..., :2, 0] * azimuth.cos()[..., None] + rotmat[..., :2, 1] * azimuth.sin()[..., None]
    theta = torch.atan2(column[..., 1], column[..., 0])
    theta = torch.where(gimbal, torch.zeros_like(theta), theta)
    return wrap_angle(azimuth), elevation, wrap_angle(theta)


def wrap_angle(angle: Tensor) -> Tensor:
    """Map angles in radians to [0, 2 pi)."""
    check_floating(angle=angle)
    wrapped = torch.remainder(angle, TWO_PI)
    # remainder of a tiny negative number rounds up to 2 pi itself
    return torch.where(wrapped >= TWO_PI, torch.zeros_like(wrapped), wrapped)


def wrap_signed(angle: Tensor) -> Tensor:
    """Map angles in radians to (-pi, pi], the range in which angles are shown."""
    wrapped = wrap_angle(angle)
    return torch.where(wrapped > math.pi, wrapped - TWO_PI, wrapped)


def rotmat_geodesic_distance(first: Tensor, second: Tensor) -> Tensor:
    """Angle of the rotation between two rotation matrices, |log(first' second)|_F / sqrt 2 (paper, section 4.4).

    Computed from the chord |first - second|_F = 2 sqrt 2 sin(angle / 2) and cos(angle / 2) with atan2, so that it is
    exact near 0 and real at pi.

    Args:
        first, second: rotation matrices [..., 3, 3], broadcast against each other.

    Returns:
        Angles in radians, in [0, pi], [...].
    """
    check_shape("first", first, (..., 3, 3))
    check_shape("second", second, (..., 3, 3))
    check_broadcast(first=first.shape[:-2], second=second.shape[:-2])
    # |first - second|^2 = 6 - 2 trace = 4 (1 - cos(angle)) = 8 sin(angle / 2)^2
    half_sine = torch.linalg.matrix_norm(first - second) / math.sqrt(8)
    # trace(first' second) = 1 + 2 cos(angle) = 4 cos(angle / 2)^2 - 1
    trace = (first * second).sum(dim=(-2, -1))
    # near pi rounding may take the trace below -1
    half_cosine = ((trace + 1).clamp_min(0) / 4).sqrt()
    return 2 * torch.atan2(half_sine, half_cosine)


def symmetric_rotation_error(predicted: Tensor, true: Tensor, order: Tensor) -> Tensor:
    """Smallest geodesic angle [N] over the turns about the object's z axis that leave the object as it is.

    Args:
        predicted: object-to-camera rotations [N, 3, 3].
        true: object-to-camera rotations [N, 3, 3].
        order: int [N]; 1 = no symmetry, n = a turn by 2 pi / n changes nothing, 0 = any turn changes nothing.

    For a continuous symmetry the minimum over all turns has a closed form: it is the angle between the two z axes
    as the camera sees them, because a turn about z can undo everything but the tilt of that axis.
    """
    if predicted.shape != true.shape or predicted.shape[1:] != (3, 3) or order.shape != predicted.shape[:1]:
        raise ValueError(
            f"need [N, 3, 3], [N, 3, 3] and [N], not {[*predicted.shape]}, {[*true.shape]} and {[*order.shape]}"
        )
    error = rotmat_geodesic_distance(predicted, true)
    # data sets know a handful of orders; all objects of one order are one batch
    for n in order.unique().tolist():
        chosen = order == n
        if n == CONTINUOUS:
            # the third column is where the object's z axis points in the camera
            error[chosen] = axis_angle_between(predicted[chosen][..., 2], true[chosen][..., 2])
        elif n > 1:
            # from the right: the turn comes first, in the object's own frame
            turned = predicted[chosen, None] @ _turns_about_z(n, predicted)
            error[chosen] = rotmat_geodesic_distance(turned, true[chosen, None].expand_as(turned)).amin(dim=1)
        elif n < 0:
            raise ValueError(f"a symmetry order is 0 (continuous), 1 (none) or n, not {n}")
    return error


def half_turned(rotmat: Tensor) -> Tensor:
    """R Rz(pi): rotations [..., 3, 3] after half a turn of the object about its own z axis."""
    check_shape("rotmat", rotmat, (..., 3, 3))
    # exact, where a product with sin(pi) would not be
    return rotmat * rotmat.new_tensor([-1.0, -1.0, 1.0])


def half_turn_shows(order: Tensor) -> Tensor:
    """Whether half a turn about z changes how objects of these symmetry orders look: bool, like `order`."""
    # half a turn is one of the n turns by 2 pi / n if n is even; CONTINUOUS, 0, is even too
    return order % 2 == 1


def axis_angle_between(a: Tensor, b: Tensor) -> Tensor:
    """Angle [...] in [0, pi] between unit vectors [..., 3], from the chords: exact near 0 and near pi."""
    check_shape("a", a, (..., 3))
    check_shape("b", b, (..., 3))
    # |a - b| = 2 sin(angle / 2) and |a + b| = 2 cos(angle / 2)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


def _turns_about_z(n: int, like: Tensor) -> Tensor:
    """Rotations [n, 3, 3] by 0, 2 pi / n, ... about the z axis, with the type and device of `like`."""
    angle = torch.arange(n, dtype=like.dtype, device=like.device) * (2 * math.pi / n)
    turn = torch.eye(3, dtype=like.dtype, device=like.device).repeat(n, 1, 1)
    turn[:, 0, 0] = turn[:, 1, 1] = angle.cos()
    turn[:, 1, 0] = angle.sin()
    turn[:, 0, 1] = -angle.sin()
    return turn
