"""Draws one image of one object in the style "photo"."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from compnet3d.data.backdrops import flat_backdrop
from compnet3d.data.backgrounds import window_of
from compnet3d.geometry.mesh import Mesh
from compnet3d.procedural.backdrop import Ground, clutter_layer
from compnet3d.procedural.model import Model
from compnet3d.procedural.photo.environment import Environment, drawn_environment, photograph_environment
from compnet3d.procedural.photo.foreground import random_foreground
from compnet3d.procedural.photo.look import Look
from compnet3d.procedural.photo.openness import Openness
from compnet3d.procedural.photo.photographs import draw_photograph, to_linear
from compnet3d.procedural.photo.sensor import expose
from compnet3d.procedural.photo.shading import Lamp, random_lamps, shade
from compnet3d.procedural.scene import RenderedImage, mask_box, sample_angles
from compnet3d.procedural.shadow import ShadowMap, ground_shade
from compnet3d.procedural.variation import Variation
from compnet3d.procedural.view import Light, View
from compnet3d.rendering.materials import Floats


@dataclass(frozen=True)
class Body:
    """An instance.

    Attributes:
        model: as it is drawn.
        rest: before it was deformed; the look and the openness are those of places on it.
        openness: of the rest.
    """

    model: Model
    rest: Model
    openness: Openness


def sample_photo_view(rng: Generator, mesh: Mesh, size: int, variation: Variation) -> View:
    """A random view from near or far: the field of view over the length of a long object is 10 to 60 degrees.

    The object fills 60 to 100 % of the image in its longer direction; some are cut by a border.
    """
    # distances in diagonals of the object: over its length a field of view of 60 and of 10 degrees
    nearest, farthest = 0.87, 5.7
    azimuth, elevation, theta = sample_angles(rng, variation)
    distance = math.exp(rng.uniform(math.log(nearest), math.log(farthest)))
    fill = rng.uniform(0.6, 1.0)
    truncated = rng.random() < 0.12
    view = View(azimuth, elevation, theta, distance, float(size), (size / 2, size / 2), size)
    uv, _ = view.camera().project(mesh.vertices.double(), view.pose())
    # extents grow in proportion to the focal length about the origin's image
    offset = uv[0].numpy() - size / 2
    low, high = offset.min(axis=0), offset.max(axis=0)
    scale = fill * size / float((high - low).max())
    low, high = low * scale, high * scale
    place = []
    for k in (0, 1):
        middle, reach = (size - low[k] - high[k]) / 2, max(0.0, (size - high[k] + low[k]) / 2)
        beyond = rng.choice((-1, 1)) * rng.uniform(0.05, 0.25) * (high[k] - low[k]) if truncated else 0.0
        place.append(float(middle + (reach * rng.uniform(-1, 1) + beyond)))
    return View(azimuth, elevation, theta, distance, size * scale, (place[0], place[1]), size)


def draw_photo(body: Body, look: Look, view: View, rng: Generator, folder: Path | None) -> RenderedImage:
    """One image of a model.

    Args:
        body: what to draw.
        look: its surfaces.
        view: camera and image size.
        rng: decides light, background, what stands around, and the camera's faults.
        folder: photographs, or None.

    Returns:
        The image; the mask has the pixels in which the object is seen, and the box is the whole object's.
    """
    # share of images whose background is not a photograph though there are some
    drawn_share = 0.2
    photograph = None
    if folder is not None and rng.random() >= drawn_share:
        photograph = draw_photograph(rng, folder)
    environment = drawn_environment(rng) if photograph is None else photograph_environment(rng, photograph)
    lamps = [
        (lamp, ShadowMap(body.model.mesh, lamp.direction)) for lamp in random_lamps(rng, environment, view.azimuth)
    ]
    hits = body.model.seen(view)
    place = hits if body.rest is body.model else hits.on(body.rest)
    colour, alpha = hits.layer(shade(hits, place, look, environment, lamps, body.openness))
    behind = _backdrop(rng, view, photograph)
    behind = _floor(rng, behind, body.model, view, lamps[0][1])
    if rng.random() < 0.25:
        behind = to_light(clutter_layer(rng, from_light(behind), view, body.model.floor, _as_light(environment, lamps)))
    composed = behind * (1 - alpha[..., None]) + colour * np.float32(2 ** rng.normal(0, 0.3))
    whole = alpha >= 0.5
    box = mask_box(whole)
    seen = alpha
    front = random_foreground(rng, box, view.size, environment, folder)
    if front is not None:
        composed = composed * (1 - front[1][..., None]) + front[0]
        seen = alpha * (1 - front[1])
    return RenderedImage(expose(rng, composed), seen >= 0.5, box)


def to_light(image: Floats) -> Floats:
    """sRGB in [0, 1] to linear light."""
    return np.maximum(image, 0) ** np.float32(2.2)


def from_light(light: Floats) -> Floats:
    """The inverse of `to_light`."""
    return np.maximum(light, 0) ** np.float32(1 / 2.2)


def _backdrop(rng: Generator, view: View, photograph: Image.Image | None) -> Floats:
    """What is behind everything [S, S, 3], linear light."""
    if photograph is not None:
        pixels = window_of(photograph, (view.size, view.size), rng)
        if rng.random() < 0.3:
            radius = rng.uniform(0.5, 4.0) * view.size / 160
            pixels = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))
        return to_linear(pixels) * np.float32(2 ** rng.normal(0, 0.2))
    if rng.random() < 0.3:
        # cut out, or in a studio
        value = rng.uniform(0.75, 1.0) if rng.random() < 0.8 else rng.uniform(0.0, 0.2)
        return np.full((view.size, view.size, 3), value, dtype=np.float32)
    return to_light(flat_backdrop(rng, view.size))


def _floor(rng: Generator, behind: Floats, model: Model, view: View, shadow: ShadowMap) -> Floats:
    """A floor under the object: only its shadow on what is there, a floor of its own, or none."""
    kind = rng.random()
    if kind < 0.35:
        return behind
    ground = Ground.sample(rng, view, model.floor, share=1.0, least=-2.0)
    if ground is None:
        return behind

    def shade_ground(points: Floats) -> Floats:
        # as sRGB values are darkened in the style "plain"
        return ground_shade(model.footprint, points, shadow) ** np.float32(rng_power)

    rng_power = rng.uniform(1.0, 2.6)
    if kind < 0.75:
        result = behind.reshape(-1, 3).copy()
        result[ground.pixels] *= shade_ground(ground.points)[:, None]
        return result.reshape(behind.shape)
    return to_light(ground.paint(from_light(behind), lambda points: shade_ground(points) ** np.float32(1 / 2.2)))


def _as_light(environment: Environment, lamps: list[tuple[Lamp, ShadowMap]]) -> Light:
    up = np.array([[0, 0, 1], [0, 0, -1]], dtype=np.float32)
    sky, ground = from_light(environment.diffuse(up))
    lamp = lamps[0][0]
    return Light(
        lamp.direction, from_light(lamp.colour) * np.float32(0.5), sky * np.float32(0.7), ground * np.float32(0.7)
    )
