"""Light on an object in the style "photo": an environment, lamps with shadows, reflections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from compnet3d.procedural.model import Hits
from compnet3d.procedural.parts import Role
from compnet3d.procedural.photo.environment import Environment
from compnet3d.procedural.photo.look import Look
from compnet3d.procedural.photo.openness import Openness
from compnet3d.procedural.shadow import ShadowMap
from compnet3d.rendering.materials import Floats


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


def shade(
    hits: Hits,
    place: Hits,
    look: Look,
    environment: Environment,
    lamps: Sequence[tuple[Lamp, ShadowMap]],
    openness: Openness,
) -> Floats:
    """Colours [N, 3] in linear light: Lambert, Schlick's reflection of the environment, Blinn-Phong highlights.

    Args:
        hits: where light falls.
        place: the same places on the shape at rest, for look and openness.
        look: surfaces.
        environment, lamps: the light; each lamp with the shadows it throws.
        openness: of the shape at rest.
    """
    points, normals, towards = hits.points, hits.normals, hits.towards
    roles = look.roles_at(place)
    opened = openness.at(place.points, place.normals)[:, None]
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
        albedo = surface.albedo(place.points[chosen], place.normals[chosen])
        if role in (Role.MAIN, Role.SECOND):
            for decal in look.decals:
                albedo = decal.apply(albedo, place.points[chosen], place.normals[chosen])
        albedo = look.over(albedo, place, chosen)
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
