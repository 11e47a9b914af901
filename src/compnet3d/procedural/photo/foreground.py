"""Things in front of an object in the style "photo": drawn solids, and shapes cut out of photographs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image, ImageDraw

from compnet3d.data.backgrounds import window_of
from compnet3d.procedural.backdrop import clutter_solids
from compnet3d.procedural.parts import axis_rotation, cross
from compnet3d.procedural.photo.environment import Environment
from compnet3d.procedural.photo.photographs import draw_photograph, to_linear
from compnet3d.rendering.materials import Floats, random_colour
from compnet3d.rendering.raster import rasterize


def random_foreground(
    rng: Generator, box: tuple[float, float, float, float], size: int, environment: Environment, folder: Path | None
) -> tuple[Floats, Floats] | None:
    """Premultiplied colour [S, S, 3] (linear light) and coverage [S, S] of one to three things, or None.

    Args:
        rng: random numbers; three images of five have nothing in front.
        box: x1, y1, x2, y2 of the object; things lie about its border and are up to 0.6 of its length.
        size: S.
        environment: lights drawn solids.
        folder: photographs to cut shapes from, or None.
    """
    if rng.random() > 0.4:
        return None
    colour, cover = np.zeros((size, size, 3), dtype=np.float32), np.zeros((size, size), dtype=np.float32)
    longest = max(box[2] - box[0], box[3] - box[1])
    for _ in range(int(rng.integers(1, 4))):
        reach = rng.uniform(0.15, 0.6) * longest
        centre = _at_border(rng, box)
        if folder is not None and rng.random() < 0.6:
            alpha = _shape(rng, centre, reach, size)
            layer = to_linear(window_of(draw_photograph(rng, folder), (size, size), rng)) * np.float32(
                rng.uniform(0.4, 1.3)
            )
        else:
            layer, alpha = _solid(rng, centre, reach, size, environment)
        colour = colour * (1 - alpha[..., None]) + layer * alpha[..., None]
        cover = cover * (1 - alpha) + alpha
    return colour, cover


def _at_border(rng: Generator, box: tuple[float, float, float, float]) -> tuple[float, float]:
    """A place on the box's border or a little inside, below more often than above."""
    across, down, inside = rng.random(), rng.random(), rng.uniform(0, 0.25)
    side = int(rng.choice(4, p=(0.25, 0.25, 0.4, 0.1)))
    across = (inside, 1 - inside, across, across)[side]
    down = (down, down, 1 - inside, inside)[side]
    return box[0] + across * (box[2] - box[0]), box[1] + down * (box[3] - box[1])


def _shape(rng: Generator, centre: tuple[float, float], reach: float, size: int) -> Floats:
    """Coverage [S, S] of a star-shaped outline: smooth, wavy or cornered."""
    corners = int(rng.integers(3, 9)) if rng.random() < 0.4 else 40
    angle = (np.arange(corners) + rng.random()) * (2 * math.pi / corners)
    wave = sum(rng.uniform(0, 0.3) / k * np.sin(k * angle + rng.uniform(0, 2 * math.pi)) for k in (1, 2, 3, 5))
    stretch = rng.uniform(0.35, 1.0)
    turn = rng.uniform(0, math.pi)
    radius = reach / 2 * (1 + wave)
    x, y = radius * np.cos(angle), radius * stretch * np.sin(angle)
    u, v = centre[0] + x * math.cos(turn) - y * math.sin(turn), centre[1] + x * math.sin(turn) + y * math.cos(turn)
    # four times as fine, for soft borders
    canvas = Image.new("L", (4 * size, 4 * size))
    ImageDraw.Draw(canvas).polygon([(4 * a, 4 * b) for a, b in zip(u, v, strict=True)], fill=255)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / np.float32(255)


def _solid(
    rng: Generator, centre: tuple[float, float], reach: float, size: int, environment: Environment
) -> tuple[Floats, Floats]:
    """Colour [S, S, 3] and coverage [S, S] of a solid around a place in the image."""
    solids = clutter_solids()
    solid = solids[int(rng.integers(len(solids)))]
    stretch = np.exp(rng.uniform(-0.6, 0.6, 3))
    # seen from a little above, anywhere around, far away compared to its size
    turned = (solid.vertices - [0, 0, 0.5]) * stretch @ axis_rotation("z", rng.uniform(0, 360)).T
    turned = turned @ axis_rotation("x", rng.uniform(-80, 10)).T
    distance = 6.0
    a, b, c = (turned[solid.faces[:, i]] for i in range(3))
    normal = cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    # camera axes (x right, y up) to a frame with z up, for the light
    light = environment.diffuse(normal[:, [0, 2, 1]].astype(np.float32) * np.array([1, -1, 1], dtype=np.float32))
    shaded = random_colour(rng, (0.05, 1.0)) ** np.float32(2.2) * light
    raster = rasterize(
        torch.from_numpy(turned - [0, 0, distance])[None],
        torch.from_numpy(solid.faces),
        focal=torch.tensor([reach * distance / 1.4], dtype=torch.float64),
        principal_point=torch.tensor([centre], dtype=torch.float64),
        height=2 * size,
        width=2 * size,
        stride=0.5,
    )
    face = raster.face_index[0].numpy()
    layer = np.where((face >= 0)[..., None], shaded[face.clip(0)], 0).astype(np.float32)
    layer = layer.reshape(size, 2, size, 2, 3).mean(axis=(1, 3))
    alpha = (face >= 0).reshape(size, 2, size, 2).mean(axis=(1, 3), dtype=np.float32)
    return layer / np.maximum(alpha, 0.25)[..., None], alpha
