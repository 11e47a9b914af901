"""Poses in other libraries' conventions: OpenCV, OpenGL, Blender, PyTorch3D, quaternions.

A `Pose` has four numbers, because its camera looks at the object's origin. Any camera (R and t, with the origin off the
optical axis) has six. They are split without loss into

- the pose of that camera after the smallest turn about its centre that makes it look at the object's origin, and
- the pixel at which it sees the object's origin, the `principal_point`.

The images of the two cameras, which share a centre, are related by the homography K' Q K^-1, where Q is the turn
(`look_at_homography`).

Everything here is a function of tensors: batch shapes [...] are broadcast, the type is kept. Pixels and K are in the
package's own convention: the image's corner is (0, 0) and pixel centres are at +0.5. OpenCV has pixel centres at whole
numbers; `intrinsics_from_opencv` and `intrinsics_to_opencv` go between the two.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from compnet3d.utils.checks import check_broadcast, check_finite, check_positive, check_rotation, check_shape

# Signs that turn this package's camera axes (x right, y up, z backward) into others' and back.
_OPENCV = (1.0, -1.0, -1.0)  # x right, y down, z forward
_PYTORCH3D = (-1.0, 1.0, -1.0)  # x left, y up, z forward; F of docs/concepts/conventions.md
# S of docs/concepts/conventions.md: (x, y, z) of the object frame is (x, z, -y) of PyTorch3D's world, which has y up.
_PYTORCH3D_WORLD = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))


class LookAt(NamedTuple):
    """A camera that looks at the object's origin, and the pixel at which the camera in question sees that origin.

    Attributes:
        rotmat: object-to-camera rotation in this package's axes, [..., 3, 3].
        distance: of the camera from the origin, [...].
        principal_point: pixels (u, v), [..., 2].
    """

    rotmat: Tensor
    distance: Tensor
    principal_point: Tensor


def as_floats(*values: Any) -> list[Tensor]:
    """Tensors, numpy arrays, nested sequences or numbers as floating point tensors of one type and device.

    The widest type of the tensors and arrays is kept; bare and whole numbers take torch's default type.
    """
    # np.array copies: a tensor over the caller's own array would change when the caller writes to it
    tensors = [x if isinstance(x, Tensor) else torch.from_numpy(np.array(x, dtype=_numpy_type(x))) for x in values]
    kept = [x.dtype for x, value in zip(tensors, values, strict=True) if _has_float_type(value)]
    dtype = kept[0] if kept else torch.get_default_dtype()
    for other in kept[1:]:
        dtype = torch.promote_types(dtype, other)
    # numbers and arrays follow the first tensor to its device
    device = next((x.device for x in values if isinstance(x, Tensor)), None)
    return [x.to(device=device, dtype=dtype) for x in tensors]


def look_at_from_opencv(R: Any, t: Any, K: Any) -> LookAt:
    """Split a camera with OpenCV's axes (x right, y down, z forward).

    Args:
        R: object-to-camera rotation, [..., 3, 3].
        t: the object's origin in camera axes, anywhere in front of the camera, [..., 3].
        K: camera matrix in this package's pixels, [..., 3, 3].

    Raises:
        ValueError: if a shape is wrong, R no rotation, K no camera matrix, or the origin not in front of the camera.
    """
    R, t, K = as_floats(R, t, K)
    check_rotation("R", R)
    check_shape("t", t, (..., 3))
    check_finite(t=t)
    check_intrinsics(K)
    check_broadcast(R=R.shape[:-2], t=t.shape[:-1], K=K.shape[:-2])
    batch = torch.broadcast_shapes(R.shape[:-2], t.shape[:-1], K.shape[:-2])
    R, t, K = R.expand(*batch, 3, 3), t.expand(*batch, 3), K.expand(*batch, 3, 3)
    if not bool((t[..., 2] > 0).all()):
        raise ValueError("t puts the object's origin behind or beside the camera: its depth must be above zero")
    distance = torch.linalg.vector_norm(t, dim=-1)
    # D Q R: the turn Q brings the origin onto OpenCV's z axis, then D changes to our axes. D is diagonal, so its
    # product from the left is a sign for each row
    rotmat = _signs(_OPENCV, R)[..., None] * (_turn_to_axis(t / distance[..., None]) @ R)
    return LookAt(rotmat, distance, map_pixels(K, t[..., None, :2] / t[..., None, 2:])[..., 0, :])


def look_at_to_opencv(view: LookAt, K: Any) -> tuple[Tensor, Tensor]:
    """Inverse of `look_at_from_opencv`: R [..., 3, 3] and t [..., 3] of the camera with the matrix K [..., 3, 3]."""
    rotmat, distance, principal_point, K = as_floats(*view, K)
    check_rotation("rotmat", rotmat)
    check_shape("principal_point", principal_point, (..., 2))
    check_finite(principal_point=principal_point)
    check_positive(distance=distance)
    check_intrinsics(K)
    batches = {"pose": distance.shape, "principal_point": principal_point.shape[:-1], "K": K.shape[:-2]}
    check_broadcast(**batches)
    batch = torch.broadcast_shapes(*batches.values())
    ray = _ray(K, principal_point).expand(*batch, 3)
    # Q' D R undoes D Q R, because D is its own inverse
    R = _turn_to_axis(ray).transpose(-1, -2) @ (_signs(_OPENCV, rotmat)[..., None] * rotmat)
    return R, ray * distance[..., None]


def opengl_to_opencv(view_matrix: Any) -> tuple[Tensor, Tensor]:
    """R [..., 3, 3] and t [..., 3] of a 4 x 4 object-to-camera matrix in OpenGL's axes (x right, y up, z backward)."""
    (matrix,) = as_floats(view_matrix)
    _check_rigid("view_matrix", matrix)
    signs = _signs(_OPENCV, matrix)
    return signs[:, None] * matrix[..., :3, :3], signs * matrix[..., :3, 3]


def opencv_to_opengl(R: Tensor, t: Tensor) -> Tensor:
    """Inverse of `opengl_to_opencv`, [..., 4, 4]."""
    signs = _signs(_OPENCV, R)
    return _rigid(signs[:, None] * R, signs * t)


def invert_rigid(name: str, matrix: Any) -> Tensor:
    """Inverse of 4 x 4 matrices of a rotation and a translation; `name` is that of the argument, for errors."""
    (matrix,) = as_floats(matrix)
    _check_rigid(name, matrix)
    # X = R x + t gives x = R' X - R' t
    back = matrix[..., :3, :3].transpose(-1, -2)
    return _rigid(back, -(back @ matrix[..., :3, 3:])[..., 0])


def pytorch3d_to_opencv(R: Any, T: Any) -> tuple[Tensor, Tensor]:
    """R and t in OpenCV's axes of a PyTorch3D camera: X_camera = X_world R + T for row vectors, world with y up."""
    R, T = as_floats(R, T)
    check_rotation("R", R)
    check_shape("T", T, (..., 3))
    check_finite(T=T)
    # PyTorch3D's camera to ours by F, ours to OpenCV's by D; both are diagonal, so D F is one vector of signs. For
    # column vectors the rotation is R', and S takes the object into PyTorch3D's world first
    signs = _signs(_OPENCV, R) * _signs(_PYTORCH3D, R)
    return signs[:, None] * (R.transpose(-1, -2) @ R.new_tensor(_PYTORCH3D_WORLD)), signs * T


def opencv_to_pytorch3d(R: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse of `pytorch3d_to_opencv`."""
    # D F is its own inverse, and S' is that of S
    signs = _signs(_OPENCV, R) * _signs(_PYTORCH3D, R)
    column = (signs[:, None] * R) @ R.new_tensor(_PYTORCH3D_WORLD).T
    return column.transpose(-1, -2), signs * t


def quaternion_to_rotmat(quaternion: Any) -> Tensor:
    """Rotations [..., 3, 3] of unit quaternions (w, x, y, z), the scalar first as in PyTorch3D, [..., 4].

    Raises:
        ValueError: if the shape is wrong or a length is not 1 (to 1e-3; what is left is divided out).
    """
    (q,) = as_floats(quaternion)
    check_shape("quaternion", q, (..., 4))
    check_finite(quaternion=q)
    length = torch.linalg.vector_norm(q, dim=-1, keepdim=True)
    if not bool(((length - 1).abs() <= 1e-3).all()):
        raise ValueError("quaternion must have length 1; divide it by its length")
    w, x, y, z = (q / length).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def rotmat_to_quaternion(rotmat: Tensor) -> Tensor:
    """Inverse of `quaternion_to_rotmat`: unit quaternions (w, x, y, z) with w >= 0, [..., 4]."""
    check_rotation("rotmat", rotmat)
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in rotmat.unbind(-2))
    # The quaternion times itself, times 4: the row with the largest diagonal gives it without cancellation.
    product = [
        [1 + a + e + i, h - f, c - g, d - b],
        [h - f, 1 + a - e - i, b + d, c + g],
        [c - g, b + d, 1 - a + e - i, f + h],
        [d - b, c + g, f + h, 1 - a - e + i],
    ]
    outer = torch.stack([torch.stack(row, dim=-1) for row in product], dim=-2)
    # the diagonal is 4 (w^2, x^2, y^2, z^2), which sums to 4, so its largest entry is at least 1 and the row that it
    # stands in can be divided by its length
    longest = outer.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)[..., None, None].expand(*outer.shape[:-2], 1, 4)
    q = torch.nn.functional.normalize(outer.gather(-2, longest)[..., 0, :], dim=-1)
    # q and -q are one rotation
    return torch.where(q[..., :1] < 0, -q, q)


def intrinsics_from_opencv(K: Any) -> Tensor:
    """A camera matrix for pixel centres at whole numbers as one for pixel centres at +0.5, [..., 3, 3]."""
    return _shift_principal_point(K, 0.5)


def intrinsics_to_opencv(K: Any) -> Tensor:
    """Inverse of `intrinsics_from_opencv`."""
    return _shift_principal_point(K, -0.5)


def look_at_homography(K: Any, principal_point: Any) -> Tensor:
    """K' Q K^-1: from pixels of a camera to those of the same camera turned until it looks at a pixel.

    K' has that pixel as its principal point and the focal length sqrt(fx fy) on both axes, so the pixel stays in place.
    The inverse matrix goes back: it maps what `Camera.project` gives to exact pixels of the camera.

    Args:
        K: camera matrix in this package's pixels, [..., 3, 3].
        principal_point: the pixel (u, v), [..., 2].

    Returns:
        Homographies [..., 3, 3] for `map_pixels` (or, less half a pixel, for cv2.warpPerspective).
    """
    K, principal_point = as_floats(K, principal_point)
    check_intrinsics(K)
    check_shape("principal_point", principal_point, (..., 2))
    check_broadcast(K=K.shape[:-2], principal_point=principal_point.shape[:-1])
    # entries of an expanded tensor share memory, so it is cloned before they are written
    turned = torch.zeros_like(K).expand(*torch.broadcast_shapes(K.shape[:-2], principal_point.shape[:-1]), 3, 3).clone()
    turned[..., 0, 0] = turned[..., 1, 1] = (K[..., 0, 0] * K[..., 1, 1]).sqrt()
    turned[..., :2, 2] = principal_point
    turned[..., 2, 2] = 1
    return turned @ _turn_to_axis(_ray(K, principal_point)) @ torch.linalg.inv(K)


def map_pixels(homography: Tensor, pixels: Tensor) -> Tensor:
    """Pixels [..., V, 2] through homographies [..., 3, 3], [..., V, 2]."""
    check_shape("homography", homography, (..., 3, 3))
    check_shape("pixels", pixels, (..., "V", 2))
    mapped = pixels @ homography[..., :2].transpose(-1, -2) + homography[..., None, :, 2]
    return mapped[..., :2] / mapped[..., 2:]


def check_intrinsics(K: Tensor) -> None:
    """Raise a ValueError unless K [..., 3, 3] are camera matrices: upper triangular, fx and fy > 0, last row 0 0 1."""
    if __debug__:
        check_shape("K", K, (..., 3, 3))
        check_finite(K=K)
        last_row = K[..., 2, :] == K.new_tensor([0.0, 0.0, 1.0])
        if not bool(last_row.all() and (K[..., 1, 0] == 0).all()):
            raise ValueError("K must be a camera matrix [[fx, skew, px], [0, fy, py], [0, 0, 1]]")
        if not bool((K[..., 0, 0] > 0).all() and (K[..., 1, 1] > 0).all()):
            raise ValueError("K must have positive focal lengths fx and fy")


def _turn_to_axis(ray: Tensor) -> Tensor:
    """Q [..., 3, 3]: the smallest rotation that turns a unit vector with z > 0, [..., 3], to (0, 0, 1)."""
    # Rodrigues' formula I + [n] + [n]^2 / (1 + cos) with n = ray x (0, 0, 1) = (y, -x, 0) and cos = z. No angle and no
    # axis of length 1 are needed, so it is smooth where the ray is the axis already; z > 0 keeps 1 + z away from 0
    x, y, z = ray.unbind(-1)
    k = 1 / (1 + z)
    rows = [[1 - k * x * x, -k * x * y, -x], [-k * x * y, 1 - k * y * y, -y], [x, y, z]]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _ray(K: Tensor, pixel: Tensor) -> Tensor:
    """Unit vector [..., 3] in OpenCV's axes towards a pixel [..., 2] of the camera K [..., 3, 3]."""
    # K is upper triangular: solved from below, y first, because the skew mixes y into u
    y = (pixel[..., 1] - K[..., 1, 2]) / K[..., 1, 1]
    x = (pixel[..., 0] - K[..., 0, 2] - K[..., 0, 1] * y) / K[..., 0, 0]
    return torch.nn.functional.normalize(torch.stack([x, y, torch.ones_like(x)], dim=-1), dim=-1)


def _shift_principal_point(K: Any, by: float) -> Tensor:
    (K,) = as_floats(K)
    check_intrinsics(K)
    return torch.cat([K[..., :2], K[..., 2:] + by * K.new_tensor([[1.0], [1.0], [0.0]])], dim=-1)


def _rigid(rotation: Tensor, translation: Tensor) -> Tensor:
    """A 4 x 4 matrix of a rotation [..., 3, 3] and a translation [..., 3]."""
    upper = torch.cat([rotation, translation[..., None]], dim=-1)
    last = upper.new_tensor([[0.0, 0.0, 0.0, 1.0]]).expand(*upper.shape[:-2], 1, 4)
    return torch.cat([upper, last], dim=-2)


def _check_rigid(name: str, matrix: Tensor) -> None:
    if __debug__:
        check_shape(name, matrix, (..., 4, 4))
        check_finite(**{name: matrix})
        check_rotation(f"the upper left of {name}", matrix[..., :3, :3])
        if not bool((matrix[..., 3, :] == matrix.new_tensor([0.0, 0.0, 0.0, 1.0])).all()):
            raise ValueError(f"{name} must have the last row 0 0 0 1 (column vectors)")


def _signs(signs: tuple[float, float, float], like: Tensor) -> Tensor:
    return like.new_tensor(signs)


def _has_float_type(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.is_floating_point()
    return isinstance(value, np.ndarray | np.floating) and np.issubdtype(value.dtype, np.floating)


def _numpy_type(value: Any) -> Any:
    return value.dtype if _has_float_type(value) else np.float64
