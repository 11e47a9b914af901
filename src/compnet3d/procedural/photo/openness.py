"""How much of its surroundings a place on a surface sees."""

from __future__ import annotations

import math

import numpy as np

from compnet3d.geometry.mesh import Mesh
from compnet3d.procedural.shadow import ShadowMap
from compnet3d.rendering.materials import Floats


class Openness:
    """How much of the surroundings a point sees: little inside a car, behind its windows or between a chair's slats."""

    def __init__(self, mesh: Mesh) -> None:
        # directions from which a surface may see the surroundings, and cells of the map for each
        directions, cells = 14, 56
        # even over the sphere: a spiral by the golden angle
        z = 1 - (2 * np.arange(directions) + 1) / directions
        turn = np.arange(directions) * math.pi * (3 - math.sqrt(5))
        flat = np.sqrt(1 - z * z)
        self.directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1).astype(np.float32)
        self.maps = [ShadowMap(mesh, direction, cells) for direction in self.directions]

    def at(self, points: Floats, normals: Floats) -> Floats:
        """Share in [0, 1] of the light from everywhere that reaches points [N, 3] with unit normals [N, 3]."""
        reached, whole = np.zeros(len(points), dtype=np.float32), np.full(len(points), 1e-6, dtype=np.float32)
        for direction, shadow in zip(self.directions, self.maps, strict=True):
            weight = np.maximum(normals @ direction, 0)
            facing = np.flatnonzero(weight > 0)
            reached[facing] += weight[facing] * shadow.reached(points[facing])
            whole += weight
        return reached / whole
