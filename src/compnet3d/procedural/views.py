"""A picture of a category's CAD models from the front, the side and above, which shows whether their axes are right."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from compnet3d.procedural.model import Model, prepare
from compnet3d.procedural.parts import Part
from compnet3d.procedural.view import View
from compnet3d.rendering.materials import Floats

_CELL, _CAPTION, _MOST_MODELS = 224, 22, 6


def views_picture(name: str, parts: Sequence[Part]) -> bytes:
    """A PNG with a row for each model, of at most six, as `data render` takes them.

    Args:
        name: of the category.
        parts: its models, normalised.
    """
    # what the columns show: azimuth and elevation in degrees
    columns = (
        ("front (azimuth 0)", 0.0, 0.0),
        ("side (90): its front is at the left", 90.0, 0.0),
        ("from above", 30.0, 35.0),
    )
    shown = parts[:_MOST_MODELS]
    more = f", {len(shown)} of {len(parts)} models" if len(shown) < len(parts) else ""
    image = Image.new("RGB", (_CELL * len(columns), 2 * _CAPTION + _CELL * len(shown)), (255, 255, 255))
    write, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    # the font has no more letters than these
    write.text((8, 4), name.encode("latin-1", "replace").decode("latin-1") + more, (0, 0, 0), font)
    for column, (caption, azimuth, elevation) in enumerate(columns):
        write.text((8 + column * _CELL, _CAPTION + 2), caption, (90, 90, 90), font)
        for row, part in enumerate(shown):
            cell = _draw(prepare(part), math.radians(azimuth), math.radians(elevation))
            image.paste(Image.fromarray(cell), (column * _CELL, 2 * _CAPTION + row * _CELL))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _draw(model: Model, azimuth: float, elevation: float) -> np.ndarray:
    """One view from afar, in the model's own colours or in grey: uint8 [_CELL, _CELL, 3]."""
    # a unit diagonal fills most of the cell
    distance = 8.0
    focal = 0.92 * distance * _CELL
    view = View(azimuth, elevation, 0.0, distance, focal, (_CELL / 2, _CELL / 2), _CELL)
    hits = model.seen(view)
    albedo: Floats = np.full(hits.points.shape, 0.7, dtype=np.float32)
    if model.skin is not None:
        albedo = model.skin.over(albedo, hits.face, hits.weight)
    # from the camera and from above, so that no side is black
    facing = np.einsum("nd,nd->n", hits.normals, hits.towards).clip(0, 1)
    shade = 0.25 + 0.55 * facing + 0.2 * (0.5 + 0.5 * hits.normals[:, 2])
    colour, alpha = hits.layer(albedo * shade[:, None].astype(np.float32))
    pixels = colour + (1 - alpha[..., None])
    return np.asarray((pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8))
