"""Light on an object in the style "photo": an environment, lamps with shadows, reflections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from compnet3d.geometry.mesh import Mesh
from compnet3d.procedural.model import Hits
from compnet3d.procedural.parts import Role
from compnet3d.procedural.photo.environment import Environment
from compnet3d.procedural.photo.surfaces import Decal, Surface
from compnet3d.procedural.shadow import ShadowMap
from compnet3d.rendering.materials import Floats

# directions from which a surface may see the surroundings, and cells of the map for each
_DIRECTIONS, _CELLS = 14, 56


class Openness:
    """How much of the surroundings a point sees: little inside a car, behind its windows or between a chair's slats."""

    def __init__(self, mesh: Mesh) -> None:
        # even over the sphere: a spiral by the golden angle
        z = 1 - (2 * np.arange(_DIRECTIONS) + 1) / _DIRECTIONS
        turn = np.arange(_DIRECTIONS) * math.pi * (3 - math.sqrt(5))
        flat = np.sqrt(1 - z * z)
        self.directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1).astype(np.float32)
        self.maps = [ShadowMap(mesh, direction, _CELLS) for direction in self.directions]

    def at(self, points: Floats, normals: Floats) -> Floats:
        """Share in [0, 1] of the light from everywhere that reaches points [N, 3] with unit normals [N, 3]."""
        reached, whole = np.zeros(len(points), dtype=np.float32), np.full(len(points), 1e-6, dtype=np.float32)
        for direction, shadow in zip(self.directions, self.maps, strict=True):
            weight = np.maximum(normals @ direction, 0)
            facing = np.flatnonzero(weight > 0)
            reached[facing] += weight[facing] * shadow.reached(points[facing])
            whole += weight
        return reached / whole


@dataclass(frozen=True)
class Lamp:
    """A far light: unit direction [3] towards it, RGB [3], and how soft its shadows are in cells of its map."""

    direction: Floats
    colour: Floats
    softness: int


def random_lamps(rng: Generator, environment: Environment, azimuth: float) -> list[Lamp]:
    """A key light, mostly where the environment is brightest, and now and then a second; seldom hardly any."""
    direction, hue = environment.brightest()
    if rng.random() < 0.4:
        direction = _above(rng, azimuth)
    strength = rng.uniform(0.0, 0.2) if rng.random() < 0.3 else rng.uniform(0.3, 1.8)
    tint = (0.5 + 0.5 * hue) * (1 + rng.uniform(-0.12, 0.12, 3))
    lamps = [Lamp(direction, (strength * tint).astype(np.float32), int(rng.integers(1, 5)))]
    if rng.random() < 0.3:
        colour = rng.uniform(0.1, 0.7) * (1 + rng.uniform(-0.3, 0.3, 3))
        lamps.append(Lamp(_above(rng, azimuth), colour.astype(np.float32), int(rng.integers(1, 5))))
    return lamps


def _above(rng: Generator, azimuth: float) -> Floats:
    turn, height = azimuth + rng.uniform(-2.4, 2.4), math.radians(rng.uniform(10, 80))
    direction = [math.cos(height) * math.sin(turn), -math.cos(height) * math.cos(turn), math.sin(height)]
    return np.array(direction, dtype=np.float32)


@dataclass(frozen=True)
class Look:
    """What an instance looks like.

    Attributes:
        roles: int64 [F], which surface each face has.
        surfaces: by role.
        decals: pictures on it.
    """

    roles: npt.NDArray[np.int64]
    surfaces: dict[Role, Surface]
    decals: Sequence[Decal]


def shade(
    hits: Hits, look: Look, environment: Environment, lamps: Sequence[tuple[Lamp, ShadowMap]], openness: Openness
) -> Floats:
    """Colours [N, 3] in linear light: Lambert, Schlick's reflection of the environment, Blinn-Phong highlights."""
    points, normals, towards = hits.points, hits.normals, hits.towards
    roles = look.roles[hits.face]
    opened = openness.at(points, normals)[:, None]
    # light that reaches the inside has been reflected once or more
    diffuse = environment.diffuse(normals) * (opened * (0.15 + 0.85 * opened))
    facing = np.einsum("nd,nd->n", normals, towards)
    mirrored = 2 * facing[:, None] * normals - towards
    arriving = []
    for lamp, shadow in lamps:
        lit = np.maximum(normals @ lamp.direction, 0) * shadow.lit(points, lamp.softness)
        diffuse = diffuse + lit[:, None] * lamp.colour
        half = towards + lamp.direction
        half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-6)
        arriving.append((lamp, lit > 0.02, np.maximum(np.einsum("nd,nd->n", normals, half), 0)))
    result = np.empty_like(points)
    grazing = (1 - facing.clip(0, 1)) ** 5
    for role, surface in look.surfaces.items():
        chosen = np.flatnonzero(roles == role)
        if len(chosen) == 0:
            continue
        albedo = surface.albedo(points[chosen], normals[chosen])
        if role in (Role.MAIN, Role.SECOND):
            for decal in look.decals:
                albedo = decal.apply(albedo, points[chosen], normals[chosen])
        metallic = np.float32(surface.metallic)
        base = np.float32(surface.reflectance) * (1 - metallic) + metallic * albedo
        # matt surfaces lose the gain at grazing angles to their roughness
        strength = base + (1 - base) * (grazing[chosen] * np.float32((0.9, 0.6, 0.15)[surface.level]))[:, None]
        reflected = environment.reflected(mirrored[chosen], surface.level) * opened[chosen]
        for lamp, reached, highlight in arriving:
            shininess = surface.pattern.shininess * (12, 3, 0.5)[surface.level]
            glint = highlight[chosen] ** shininess * reached[chosen] * (8, 3, 1)[surface.level]
            reflected = reflected + glint[:, None] * lamp.colour
        result[chosen] = albedo * (1 - metallic) * (1 - base) * diffuse[chosen] + strength * reflected
    return result
