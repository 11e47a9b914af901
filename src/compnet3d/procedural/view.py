"""How a procedural object is seen and lit."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from compnet3d.geometry.camera import Camera, Pose
from compnet3d.rendering.materials import Floats


@dataclass(frozen=True)
class Light:
    """A far light and the sky.

    Attributes:
        direction: unit vector [3] towards the light, object frame.
        colour, sky, ground: RGB [3] of the light, of the upper and of the lower half of the surroundings.
    """

    direction: Floats
    colour: Floats
    sky: Floats
    ground: Floats


@dataclass(frozen=True)
class View:
    """Where the camera is: angles in radians, distance, focal length and principal point in pixels."""

    azimuth: float
    elevation: float
    theta: float
    distance: float
    focal: float
    principal_point: tuple[float, float]
    size: int

    def pose(self) -> Pose:
        """As a batch of one."""
        values = [
            torch.tensor([x], dtype=torch.float64) for x in (self.azimuth, self.elevation, self.theta, self.distance)
        ]
        return Pose(azimuth=values[0], elevation=values[1], theta=values[2], distance=values[3])

    def camera(self) -> Camera:
        """As a batch of one."""
        focal = torch.tensor([self.focal], dtype=torch.float64)
        principal_point = torch.tensor([self.principal_point], dtype=torch.float64)
        return Camera(focal=focal, principal_point=principal_point, height=self.size, width=self.size)
