"""Which of a model file's axes point up and to the front, and how to turn them into the object frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from compnet3d.errors import CompNetError
from compnet3d.geometry.polygons import Doubles

Axis = Literal["x", "y", "z", "-x", "-y", "-z"]


@dataclass(frozen=True)
class Frame:
    """The axes of a file.

    Attributes:
        up: the axis that points up.
        front: the one that points to where the object's front faces.
        metres: the length of a unit, where the file states it.

    Raises:
        CompNetError: if one is no axis, or both lie along one line.
    """

    up: Axis = "z"
    front: Axis = "-y"
    metres: float | None = None

    def __post_init__(self) -> None:
        for name, axis in (("up", self.up), ("front", self.front)):
            if axis not in get_args(Axis):
                raise CompNetError(f"{name} must be one of {', '.join(get_args(Axis))}, not {axis!r}")
        if self.up[-1] == self.front[-1]:
            raise CompNetError(f"up ({self.up}) and front ({self.front}) lie along one axis; give two different ones")

    @classmethod
    def with_up(cls, up: Axis, metres: float | None = None) -> Frame:
        """The front that COLLADA, glTF and most programs mean: -y where z is up, else z."""
        return cls(up, "-y" if up[-1] == "z" else "z", metres)

    def rotation(self) -> Doubles:
        """The rotation [3, 3] that turns points of the file into the object frame (z up, the front faces -y)."""
        up, front = _unit(self.up), _unit(self.front)
        return np.stack([np.cross(up, front), -front, up])

    def turned(self, points: Doubles) -> Doubles:
        """Points [N, 3] of the file in the object frame; units stay."""
        # exact: each row of the rotation has a single 1 or -1
        return points @ self.rotation().T

    def __str__(self) -> str:
        return f"{self.up} up, the front faces {self.front}"


def _unit(axis: str) -> Doubles:
    vector = np.zeros(3)
    vector["xyz".index(axis[-1])] = -1.0 if axis.startswith("-") else 1.0
    return vector
