"""The pose, the box and the camera that a line of a table states, in our convention."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from compnet3d.data.annotations import DEGREES, SkipObject, beyond_a_turn
from compnet3d.data.importers.columns import numbers_in
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.conversions import opencv_to_opengl, quaternion_to_rotmat
from compnet3d.geometry.rotations import TWO_PI, angles_to_rotmat

Convention = Literal["compnet3d", "opencv", "opengl", "blender", "pytorch3d"]
CONVENTIONS = ("compnet3d", "opencv", "opengl", "blender", "pytorch3d")
FOCAL_SHARE = 1.2
Box = tuple[float, float, float, float]
_ROTATIONS = ("rotation", "quaternion", "quaternion_wxyz", "quaternion_xyzw", "qw", "r11")


@dataclass(frozen=True)
class RowForm:
    """How the numbers of a table are to be understood, where its columns do not say it.

    Attributes:
        angles: their unit.
        convention: of rotations: this project's, or another one's (docs/concepts/conventions.md). A rotation goes from
            the object to the camera; Blender's from the camera to the world, which is the object's frame.
        quaternion: the order of its numbers.
        box: what the four numbers of a box are: two corners, or a corner and sides.
        relative: boxes are in shares of the image's sides.
        focal: length in pixels, of all images.
    """

    angles: Literal["degrees", "radians"] | None = None
    convention: Convention | None = None
    quaternion: Literal["wxyz", "xyzw"] | None = None
    box: Literal["xyxy", "xywh"] = "xyxy"
    relative: bool = False
    focal: float | None = None

    def check(self, meanings: Set[str], where: str) -> None:
        """Check that a table's columns, with this, say what they mean.

        Raises:
            CompNetError: if they have no pose, or leave a unit, a convention or an order open.
        """
        angles = [name for name in ("azimuth", "elevation", "theta") if name in meanings]
        stated = {f"azimuth_{unit}" for unit in ("deg", "rad")} & meanings
        rotations = [name for name in _ROTATIONS if name in meanings]
        if not rotations and not stated and "azimuth" not in meanings:
            raise CompNetError(
                f"{where}: has no pose; it needs columns azimuth_deg and elevation_deg (or _rad), rotation or "
                "quaternion (other names with --columns)"
            )
        if angles and self.angles is None:
            raise CompNetError(
                f"{where}: {angles[0]} has no unit; name it {angles[0]}_deg or {angles[0]}_rad, or give --angles "
                "degrees or radians"
            )
        if rotations and self.convention is None and "convention" not in meanings:
            raise CompNetError(f"{where}: {rotations[0]} has no convention; give --convention {'|'.join(CONVENTIONS)}")
        if "quaternion" in rotations and self.quaternion is None:
            raise CompNetError(
                f"{where}: quaternion has no order; name it quaternion_wxyz or quaternion_xyzw, or give --quaternion"
            )


@dataclass(frozen=True)
class Placed:
    """What a line states.

    Attributes:
        rotmat: object-to-camera rotation in our axes, float64 [3, 3], of the camera that looks at the object's origin.
        focal: length in pixels.
        distance, principal_point: None where they are not stated.
        box: x1, y1, x2, y2 in pixels, None where it is not stated.
        camera: K in our pixels, where the line states a translation: with it nothing of that is lost.
    """

    rotmat: np.ndarray
    focal: float
    distance: float | None
    principal_point: tuple[float, float] | None
    box: Box | None
    camera: np.ndarray | None = None


def place_row(values: Mapping[str, Any], form: RowForm, size: tuple[int, int]) -> Placed:
    """What a line says of an image of this size (width, height).

    Raises:
        SkipObject: if it does not say enough, or no sense.
    """
    box = row_box(values, form, size)
    camera = _camera(values, form, size)
    distance = _number(values, "distance") if "distance" in values else None
    if distance is not None and distance <= 0:
        raise SkipObject("distance <= 0")
    point = (_number(values, "px"), _number(values, "py")) if {"px", "py"} <= values.keys() else None
    focal = math.sqrt(camera[0, 0] * camera[1, 1])
    translation = _numbers(values, ("tx", "ty", "tz"), "translation")
    if translation is None:
        return Placed(row_rotation(values, form), focal, distance, point, box)
    if not any(name in values for name in _ROTATIONS):
        raise SkipObject("translation without rotation")
    convention = _convention(values, form)
    try:
        pose, seen = _from_camera(convention, _rotation(values, form), np.array(translation), camera)
    except ValueError as error:
        raise SkipObject(str(error).partition(";")[0]) from None
    u, v = seen.tolist()
    return Placed(pose.to_matrix().numpy(), focal, float(pose.distance), (u, v), box, camera)


def row_rotation(values: Mapping[str, Any], form: RowForm) -> np.ndarray:
    """The object-to-camera rotation in our axes, float64 [3, 3], of a camera that looks at the object.

    Raises:
        SkipObject: if the line states none, or more than one.
    """
    rotations = [name for name in _ROTATIONS if name in values]
    angles = any(name in values for name in ("azimuth", "azimuth_deg", "azimuth_rad"))
    if len(rotations) + angles != 1:
        raise SkipObject("more than one pose" if rotations else "no pose")
    if angles:
        a, e, t = (torch.tensor(_angle(values, name, form), dtype=torch.float64) for name in _ANGLES)
        return angles_to_rotmat(a, e, t).numpy()
    rotation, convention = _rotation(values, form), _convention(values, form)
    try:
        # looking along its axis at the object, whose distance does not matter here
        if convention == "blender":  # the camera stands behind the origin along its own z axis
            pose, _ = _from_camera(convention, rotation, rotation[:, 2], np.eye(3))
        else:
            forward = {"opencv": 1.0, "pytorch3d": 1.0}.get(convention, -1.0)
            pose, _ = _from_camera(convention, rotation, np.array([0.0, 0.0, forward]), np.eye(3))
    except ValueError as error:
        raise SkipObject(str(error).partition(";")[0].partition(":")[0]) from None
    return pose.to_matrix().numpy()


_ANGLES = ("azimuth", "elevation", "theta")


def row_box(values: Mapping[str, Any], form: RowForm, size: tuple[int, int] | None = None) -> Box | None:
    """The box x1, y1, x2, y2 that a line states, in pixels if the image's size is known; None if it states none.

    Raises:
        SkipObject: if it makes no sense.
    """
    corners = _numbers(values, ("x1", "y1", "x2", "y2"), "box_xyxy" if "box_xyxy" in values else "")
    sides = _numbers(values, ("x", "y", "w", "h"), "box_xywh" if "box_xywh" in values else "")
    if corners is None and sides is None and "box" in values:
        numbers = _numbers(values, (), "box", count=4)
        corners, sides = (numbers, None) if form.box == "xyxy" else (None, numbers)
    if corners is None and sides is not None:
        x, y, w, h = sides
        corners = [x, y, x + w, y + h]
    if corners is None:
        return None
    x1, y1, x2, y2 = corners
    if not (x1 < x2 and y1 < y2):
        sides_given = "box" in values and form.box == "xyxy"
        raise SkipObject("empty box: is it x, y, width, height (--box xywh)?" if sides_given else "empty box")
    if form.relative:
        most = 3.0  # of a side: objects that the border cuts may reach beyond it
        if max(map(abs, corners)) > most:
            raise SkipObject("box is not in shares of the image: is it in pixels (without --relative)?")
        width, height = size or (1, 1)
        return x1 * width, y1 * height, x2 * width, y2 * height
    if max(x2, y2) <= 1:
        raise SkipObject("box of less than a pixel: is it in shares of the image (--relative)?")
    return x1, y1, x2, y2


def _from_camera(
    convention: str, rotation: np.ndarray, translation: np.ndarray, camera: np.ndarray
) -> tuple[Pose, torch.Tensor]:
    """The pose and where the origin is seen; the camera matrix is in our pixels."""
    if convention == "pytorch3d":
        return Pose.from_pytorch3d(rotation, translation, camera)
    if convention == "opencv":
        matrix = opencv_to_opengl(torch.from_numpy(rotation), torch.from_numpy(translation))
        return Pose.from_opengl(matrix, camera)
    rigid = np.eye(4)
    rigid[:3, :3], rigid[:3, 3] = rotation, translation
    return Pose.from_blender(rigid, camera) if convention == "blender" else Pose.from_opengl(rigid, camera)


def _rotation(values: Mapping[str, Any], form: RowForm) -> np.ndarray:
    """The rotation matrix as it is stated, float64 [3, 3]."""
    cells = tuple(f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3))
    matrix = _numbers(values, cells, "rotation", count=9)
    if matrix is not None:
        rotation = np.array(matrix).reshape(3, 3)
    else:
        order, numbers = "wxyz", _numbers(values, ("qw", "qx", "qy", "qz"), "")
        for name in ("quaternion_wxyz", "quaternion_xyzw", "quaternion"):
            if name in values:
                numbers = _numbers(values, (), name, count=4)
                order = form.quaternion or "wxyz" if name == "quaternion" else name[-4:]
        if numbers is None:
            raise SkipObject("no pose")
        if order == "xyzw":
            numbers = [numbers[3], *numbers[:3]]
        try:
            rotation = quaternion_to_rotmat(np.array(numbers)).numpy()
        except ValueError as error:
            raise SkipObject(str(error).partition(";")[0]) from None
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3:
        raise SkipObject("rotation is not a rotation")
    if np.linalg.det(rotation) < 0:
        raise SkipObject("rotation mirrors: its determinant is -1")
    # written with few digits, it is one but for rounding: the nearest one
    left, _, right = np.linalg.svd(rotation)
    return np.asarray(left @ right)


def _convention(values: Mapping[str, Any], form: RowForm) -> str:
    stated = str(values.get("convention", form.convention)).lower()
    if stated not in CONVENTIONS:
        raise SkipObject("unknown convention")
    return stated


def _camera(values: Mapping[str, Any], form: RowForm, size: tuple[int, int]) -> np.ndarray:
    """The camera matrix in our pixels, float64 [3, 3]; what is not stated is `FOCAL_SHARE` and the image's centre."""
    width, height = size
    # pixel centres of OpenCV are at whole numbers, ours half a pixel further
    half = 0.5 if any(name in values for name in _ROTATIONS) and _convention(values, form) == "opencv" else 0.0
    K = _numbers(values, (), "camera", count=9)
    if K is not None:
        matrix = np.array(K).reshape(3, 3)
        matrix[:2, 2] += half
        if not (matrix[0, 0] > 0 and matrix[1, 1] > 0) or matrix[1, 0] or list(matrix[2]) != [0.0, 0.0, 1.0]:
            raise SkipObject("camera is not a camera matrix")
        return matrix
    focal = _number(values, "focal") if "focal" in values else form.focal or FOCAL_SHARE * max(size)
    fx, fy = (_number(values, name) if name in values else focal for name in ("fx", "fy"))
    if min(fx, fy) <= 0:
        raise SkipObject("focal length <= 0")
    cx = _number(values, "cx") + half if "cx" in values else width / 2
    cy = _number(values, "cy") + half if "cy" in values else height / 2
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def _angle(values: Mapping[str, Any], name: str, form: RowForm) -> float:
    stated = next((key for key in (f"{name}_deg", f"{name}_rad", name) if key in values), None)
    if stated is None:
        if name == "theta":  # upright, as most tables without it mean
            return 0.0
        raise SkipObject(f"no {name}")
    angle = _number(values, stated)
    if stated.endswith("_deg") or (stated == name and form.angles == "degrees"):
        angle = math.radians(angle)
    elif beyond_a_turn(angle):
        raise SkipObject(DEGREES)
    # the same pose could be had upside down, which nobody means: more likely it is a polar angle, or of another column
    if name == "elevation" and abs(math.remainder(angle, TWO_PI)) > math.pi / 2 + 1e-6:
        raise SkipObject("elevation is beyond +-90 degrees: a polar angle?")
    return angle


def _number(values: Mapping[str, Any], name: str) -> float:
    text = values[name]
    if isinstance(text, str) and re.fullmatch(r"[+-]?[0-9]+,[0-9]+", text.strip()):
        raise SkipObject(f"{name} has a comma: write numbers with a decimal point")
    try:
        (number,) = numbers_in(values[name])
    except (ValueError, RecursionError, OverflowError):
        raise SkipObject(f"{name} is not a number") from None
    if not math.isfinite(number):
        raise SkipObject(f"{name} is not finite")
    if abs(number) > 1e6:
        raise SkipObject(f"{name} is out of range")
    return number


def _numbers(values: Mapping[str, Any], names: tuple[str, ...], together: str, count: int = 0) -> list[float] | None:
    """Numbers in columns of their own, or together in one; None if neither is there."""
    if together in values:
        try:
            numbers = list(numbers_in(values[together]))
        except (ValueError, RecursionError, OverflowError):
            raise SkipObject(f"{together} is not a list of numbers") from None
        if len(numbers) != (count or len(names)):
            raise SkipObject(f"{together} has not {count or len(names)} numbers")
        if not all(math.isfinite(x) and abs(x) <= 1e6 for x in numbers):
            raise SkipObject(f"{together} is not finite or out of range")
        return numbers
    if not names or not any(name in values for name in names):
        return None
    if missing := [name for name in names if name not in values]:
        raise SkipObject(f"no {missing[0]}")
    return [_number(values, name) for name in names]


def mask_path(values: Mapping[str, Any], folder: Path) -> Path | None:
    """The mask's file that a line names, relative to a folder."""
    return folder / str(values["mask"]).replace("\\", "/") if isinstance(values.get("mask"), str) else None
