"""Draws one image of one object: pose, light and shadow, ground, background, clutter, sensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from compnet3d.data.backdrops import flat_backdrop
from compnet3d.geometry.mesh import Mesh
from compnet3d.procedural.backdrop import Ground, clutter_layer
from compnet3d.procedural.model import Hits, Model
from compnet3d.procedural.parts import Role
from compnet3d.procedural.shadow import ShadowMap, ground_shade
from compnet3d.procedural.variation import Variation
from compnet3d.procedural.view import Light, View
from compnet3d.rendering.materials import Floats, Material


@dataclass(frozen=True)
class RenderedImage:
    """A finished image.

    Attributes:
        image: uint8 [S, S, 3].
        mask: bool [S, S], pixels at least half covered by the object.
        bbox: (x1, y1, x2, y2) of the mask, x2 and y2 exclusive.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]
    bbox: tuple[float, float, float, float]


def sample_angles(rng: Generator, variation: Variation) -> tuple[float, float, float]:
    """Azimuth (any), elevation and theta in radians, in the variation's ranges."""
    azimuth = rng.uniform(0, 2 * math.pi)
    if variation.elevation is not None:
        elevation = rng.uniform(*variation.elevation)
    else:
        elevation = rng.uniform(0, 40) if rng.random() < 0.75 else rng.uniform(-10, 60)
    theta = float(np.clip(rng.normal(0, 0.4 * variation.tilt), -variation.tilt, variation.tilt))
    return azimuth, math.radians(elevation), math.radians(theta)


def sample_view(rng: Generator, mesh: Mesh, size: int, variation: Variation) -> View:
    """A random view from afar, in the variation's ranges.

    The object lies inside the image, but for a few that are cut a little by a border.
    """
    azimuth, elevation, theta = sample_angles(rng, variation)
    # a narrow field of view, about 14 degrees, as in images of single objects
    focal = 4.0 * size
    fill = rng.uniform(0.72, 1.08)
    truncated = rng.random() < 0.08
    distance = focal / (size * fill)
    view = View(azimuth, elevation, theta, distance, focal, (size / 2, size / 2), size)
    # once, with the origin in the middle; size and place in the image follow from this box without projecting again
    uv, _ = view.camera().project(mesh.vertices.double(), view.pose())
    low, high = uv[0].amin(dim=0).numpy(), uv[0].amax(dim=0).numpy()
    # fit into the image with a margin, and bring objects seen end-on nearer
    longest = float((high - low).max()) / size
    excess = max(1.0, longest / 0.94) if longest > 0.55 else (longest / 0.55) ** 0.7
    if excess != 1:
        distance *= excess
        # up to perspective, which changes little at this focal length; the mask, not this, gives the annotated box
        low, high = size / 2 + (low - size / 2) / excess, size / 2 + (high - size / 2) / excess
    margin = 0.03 * size
    shift = []
    for k in (0, 1):
        least, most = margin - low[k], size - margin - high[k]
        middle, reach = (least + most) / 2, max(0.0, (most - least) / 2)
        wanted = middle + reach * rng.uniform(-1, 1)
        if truncated:
            wanted += (
                rng.choice([-1, 1]) * rng.uniform(0.0, 0.12) * (high[k] - low[k])
                + np.sign(wanted - middle) * reach * 0.3
            )
        shift.append(float(wanted))
    principal_point = (size / 2 + shift[0], size / 2 + shift[1])
    return View(azimuth, elevation, theta, distance, focal, principal_point, size)


def sample_light(rng: Generator, azimuth: float) -> Light:
    """A light from above, more often from the camera's side than from behind the object."""
    # about the camera's own azimuth, up to 109 degrees to either side
    turn = azimuth + rng.uniform(-1.9, 1.9)
    height = math.radians(rng.uniform(25, 75))
    direction = [math.cos(height) * math.sin(turn), -math.cos(height) * math.cos(turn), math.sin(height)]
    tint = 1 + rng.uniform(-0.12, 0.12, 3)
    ambient = rng.uniform(0.3, 0.6)
    sky = ambient * (1 + rng.uniform(-0.1, 0.1, 3))
    return Light(
        direction=np.array(direction, dtype=np.float32),
        colour=(rng.uniform(0.55, 0.95) * tint).astype(np.float32),
        sky=sky.astype(np.float32),
        ground=(sky * rng.uniform(0.45, 0.8)).astype(np.float32),
    )


def draw(model: Model, palette: dict[Role, Material], view: View, rng: Generator) -> RenderedImage:
    """One image of a model.

    Args:
        model: what to draw.
        palette: a material for each role.
        view: camera and image size.
        rng: decides light, background, clutter and the sensor's faults.
    """
    # the order of the draws below is part of what a seed stands for: exchanging two steps changes every data set's
    # bytes
    light = sample_light(rng, view.azimuth)
    shadow = ShadowMap(model.mesh, light.direction)
    hits = model.seen(view)
    colour, alpha = hits.layer(_shade(hits, model, palette, light, shadow))
    rendered = flat_backdrop(rng, view.size)
    ground = Ground.sample(rng, view, model.floor)
    if ground is not None:
        rendered = ground.paint(rendered, shade=lambda points: ground_shade(model.footprint, points, shadow))
    rendered = clutter_layer(rng, rendered, view, model.floor, light)
    rendered = rendered * (1 - alpha[..., None]) + colour
    mask = alpha >= 0.5
    return RenderedImage(_sensor(rng, rendered), mask, mask_box(mask))


def _shade(hits: Hits, model: Model, palette: dict[Role, Material], light: Light, shadow: ShadowMap) -> Floats:
    """Lambert and Blinn-Phong with a two-coloured sky; both sides of a surface are lit alike."""
    points, normals, roles = hits.points, hits.normals, model.roles[hits.face]
    facing = np.maximum(normals @ light.direction, 0) * shadow.lit(points)
    up = (0.5 + 0.5 * normals[:, 2])[:, None]
    radiance = light.ground + up * (light.sky - light.ground) + facing[:, None] * light.colour
    half = hits.towards + light.direction
    half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-6)
    highlight = np.maximum(np.einsum("nd,nd->n", normals, half), 0)
    result = np.empty_like(points)
    for role, material in palette.items():
        chosen = np.flatnonzero(roles == role)
        if len(chosen) == 0:
            continue
        # no highlight where the light does not reach
        glint = material.gloss * highlight[chosen] ** material.shininess * (facing[chosen] > 0.05)
        albedo = material.albedo(points[chosen])
        if model.skin is not None:
            albedo = model.skin.over(albedo, hits.face[chosen], hits.weight[chosen])
        result[chosen] = albedo * radiance[chosen] + glint[:, None] * light.colour
    return result.clip(0, 1.3)


def _sensor(rng: Generator, rendered: Floats) -> npt.NDArray[np.uint8]:
    """Exposure, white balance, blur, noise, 8 bits."""
    from PIL import Image, ImageFilter

    gain = rng.uniform(0.88, 1.15) * (1 + rng.uniform(-0.05, 0.05, 3))
    rendered = np.clip(rendered * gain.astype(np.float32), 0, 1) ** np.float32(rng.uniform(0.8, 1.1))
    image = Image.fromarray((rendered * 255 + 0.5).astype(np.uint8))
    blur = rng.uniform(-0.4, 0.7)
    if blur > 0.15:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    noise = rng.standard_normal(rendered.shape, dtype=np.float32) * np.float32(rng.uniform(0.5, 6.0))
    return np.clip(np.asarray(image) + noise + 0.5, 0, 255).astype(np.uint8)


def mask_box(mask: npt.NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The box (x1, y1, x2, y2) around a mask [S, S], x2 and y2 exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        # readers skip an object with an empty box; this one is seen nowhere, which is rare
        return 0.0, 0.0, 1.0, 1.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
