"""What stands behind an object: a ground plane and clutter."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.random import Generator

from compnet3d.data.backdrops import blurred
from compnet3d.procedural.parts import Part, axis_rotation, box, cross, cylinder, ellipsoid, join, tube
from compnet3d.rendering.materials import Floats, Material, random_colour, random_material
from compnet3d.rendering.raster import rasterize

if TYPE_CHECKING:
    from compnet3d.procedural.view import Light, View


@dataclass(frozen=True)
class Ground:
    """A floor under the object, fading into the backdrop with distance.

    Attributes:
        points: float32 [N, 3] where the camera's rays meet the floor, for the pixels `pixels` [N] of the image.
        fade: float32 [N], 1 near, 0 far away.
        material: of the floor.
    """

    points: Floats
    pixels: np.ndarray
    fade: Floats
    material: Material

    @classmethod
    def sample(cls, rng: Generator, view: View, floor: float, share: float = 0.75, least: float = 3.0) -> Ground | None:
        """A floor at height `floor`, or None: by chance, or because the camera does not look down on it.

        Args:
            rng: random numbers.
            view: the camera.
            floor: height.
            share: probability of a floor.
            least: elevation of the camera below which there is none, degrees.
        """
        # all is drawn before the decision, so that what follows has the same random numbers with a floor and without
        wanted = rng.random() < share
        reach = rng.uniform(1.2, 6.0)
        material = random_material(
            rng, random_colour(rng, (0.25, 0.95), grey=0.5), patterned=0.25, scale=rng.uniform(2, 6)
        )
        # seen edge-on, a floor is a line with a pattern too fine to show
        if not wanted or view.elevation < math.radians(least):
            return None
        eye, rays = pixel_rays(view)
        rays = rays.reshape(-1, 3)
        # rays at or above the horizon never meet the floor; they only must not divide by zero here, and are left out
        # below
        drop = np.minimum(rays[:, 2], -1e-6)
        along = (floor - eye[2]) / drop
        points = eye + along[:, None] * rays
        away = np.hypot(points[:, 0], points[:, 1])
        pixels = np.flatnonzero((rays[:, 2] < -1e-4) & (away < 3 * reach))
        if len(pixels) == 0:
            return None
        fade = np.clip((3 * reach - away[pixels]) / (2 * reach), 0, 1)
        return cls(points[pixels].astype(np.float32), pixels, fade.astype(np.float32), material)

    def paint(self, canvas: Floats, shade: Callable[[Floats], Floats]) -> Floats:
        """The floor over a backdrop [S, S, 3]; `shade` darkens points [N, 3] by a factor [N]."""
        result = canvas.reshape(-1, 3).copy()
        colour = self.material.albedo(self.points)
        behind = result[self.pixels]
        mixed = behind + self.fade[:, None] * (colour - behind)
        result[self.pixels] = mixed * shade(self.points)[:, None]
        return result.reshape(canvas.shape)


def pixel_rays(view: View) -> tuple[Floats, Floats]:
    """Camera centre [3] and the direction of every pixel's ray [S, S, 3] (not normalised) in the object frame."""
    pose = view.pose()
    rotation = pose.to_matrix()[0].numpy()
    centre = pose.camera_centre()[0].numpy()
    axis = np.arange(view.size) + 0.5
    x, y = (axis - view.principal_point[0]) / view.focal, (view.principal_point[1] - axis) / view.focal
    in_camera = np.stack(np.broadcast_arrays(x[None, :], y[:, None], -1.0), axis=-1)
    # multiplied from the left, the transpose: from camera to object axes
    return centre.astype(np.float32), (in_camera @ rotation).astype(np.float32)


# a seed of its own: the solids are the same in all data sets, only their choice and place are drawn
@lru_cache(maxsize=1)
def clutter_solids() -> tuple[Part, ...]:
    """Simple solids and a few compounds, each in a unit box standing on z = 0."""
    rng = np.random.default_rng(7)
    solids = [
        box((1, 1, 1)),
        box((1, 0.7, 1), taper=(0.5, 0.5)),
        cylinder(0.5, 1.0, segments=12),
        cylinder(0.5, 1.0, top=0.05, segments=12),
        ellipsoid((0.5, 0.5, 0.5), at=(0, 0, 0.5), segments=12, rings=7),
        tube([(-0.4, 0, 0), (-0.3, 0, 0.9), (0.3, 0, 0.9), (0.4, 0, 0)], 0.1, segments=6),
    ]
    pool = list(solids)
    for _ in range(14):
        first, second = (solids[int(i)] for i in rng.integers(len(solids), size=2))
        size = rng.uniform(0.3, 0.9, 3)
        x, y, z = rng.uniform([-0.4, -0.4, 0.2], [0.4, 0.4, 0.6])
        pool.append(join([first.scaled(z=0.6), second.scaled(*size).moved(x, y, z)]))
    return tuple(pool)


def clutter_layer(rng: Generator, canvas: Floats, view: View, floor: float, light: Light) -> Floats:
    """Up to five solids behind and beside the object, flatly shaded and more or less out of focus."""
    count = int(rng.integers(1, 6)) if rng.random() < 0.5 else 0
    if count == 0:
        return canvas
    parts, colours = [], []
    # in the object frame, as seen from the camera
    right = np.array([math.cos(view.azimuth), math.sin(view.azimuth)])
    behind = np.array([-math.sin(view.azimuth), math.cos(view.azimuth)])
    pool = clutter_solids()
    for _ in range(count):
        part = pool[int(rng.integers(len(pool)))]
        size = rng.uniform(0.12, 0.6) * rng.uniform(0.6, 1.4, 3)
        place = right * rng.uniform(-1.6, 1.6) + behind * rng.uniform(0.2, 2.2)
        turned = part.vertices * size @ axis_rotation("z", rng.uniform(0, 360)).T
        parts.append(Part(turned + [*place, floor + rng.uniform(0.0, 0.1)], part.faces, part.roles))
        colours.append(np.broadcast_to(random_colour(rng, grey=0.35), (len(part.faces), 3)))
    whole, colour = join(parts), np.concatenate(colours)
    a, b, c = (whole.vertices[whole.faces[:, i]] for i in range(3))
    normal = cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    lit = light.ground + (0.5 + 0.5 * normal[:, 2:]) * (light.sky - light.ground)
    shaded = colour * (lit + np.maximum(normal @ light.direction, 0)[:, None] * light.colour)
    camera, pose = view.camera(), view.pose()
    vertices = pose.object_to_camera(torch.from_numpy(whole.vertices))
    raster = rasterize(
        vertices,
        torch.from_numpy(whole.faces),
        focal=camera.focal,
        principal_point=camera.principal_point,
        height=view.size,
        width=view.size,
        # solids between camera and object would fill the image
        near=0.5,
    )
    face = raster.face_index[0].numpy()
    layer = np.where((face >= 0)[..., None], shaded[face.clip(0)], canvas).astype(np.float32)
    # radii are in pixels of a 128-pixel image, here and above
    return blurred(layer, rng.uniform(0.0, 2.0) * view.size / 128)
