"""COLLADA (.dae), which pycollada parses."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, cast

import numpy as np

from compnet3d.data.shapes.siblings import Siblings
from compnet3d.data.shapes.soup import Soup, join_soups
from compnet3d.errors import CompNetError
from compnet3d.geometry.frame import Axis, Frame
from compnet3d.geometry.polygons import Polygons


def read_collada(path: Path, data: bytes) -> Soup:
    """What the visual scene of a COLLADA file holds; without one, all of its geometries.

    Raises:
        CompNetError: naming the file, if pycollada is not installed, or the file is broken or holds no polygons.
    """
    try:
        import collada
    except ImportError:
        raise CompNetError(
            f'{path}: COLLADA files need pycollada: pip install "compnet3d[collada]"; or save the model as .glb'
        ) from None
    if re.search(rb"<!(DOCTYPE|ENTITY)", data, re.I) or b"\0" in data[:1000]:
        raise CompNetError(f"{path}: is no plain COLLADA (it has entities or zero bytes); export the model again")
    siblings = Siblings(path)
    try:
        # what is broken beside the geometry does no harm
        ignored = [collada.common.DaeUnsupportedError, collada.common.DaeBrokenRefError]
        document = collada.Collada(io.BytesIO(data), ignore=ignored)
        parts = _parts(path, document, siblings)
        frame = _frame(document.assetInfo)
    except CompNetError:
        raise
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # pycollada trusts its files: whatever it stumbles over
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise CompNetError(f"{path}: is damaged COLLADA ({reason}); export the model again") from None
    if not parts:
        raise CompNetError(f"{path}: its scene holds no polygons; export the model as a plain mesh")
    return join_soups(parts, frame, siblings)


def _frame(info: Any) -> Frame:
    up = {"X_UP": "x", "Y_UP": "y", "Z_UP": "z"}.get(str(info.upaxis), "y")
    metres = float(info.unitmeter) if info.unitmeter else 1.0
    # a unit that is none would stretch the model to nothing
    return Frame.with_up(cast(Axis, up), metres if 1e-6 <= metres <= 1e6 else 1.0)


def _parts(path: Path, document: Any, siblings: Siblings) -> list[Soup]:
    most_corners, most_instances = 12_000_000, 50_000
    bound = document.scene.objects("geometry") if document.scene is not None else ()
    parts, corners = [], 0
    for number, geometry in enumerate(bound):
        for primitive in geometry.primitives():
            part = _part(primitive, siblings)
            if part is not None:
                parts.append(part)
                corners += len(part.polygons.corners)
        if corners > most_corners or number > most_instances:
            raise CompNetError(f"{path}: its scene has more than {most_corners:,} corners of faces; simplify it")
    if document.scene is None:
        loose = (primitive for geometry in document.geometries for primitive in geometry.primitives)
        parts = [part for part in (_part(primitive, siblings) for primitive in loose) if part is not None]
    return parts


def _part(primitive: Any, siblings: Siblings) -> Soup | None:
    """The polygons of a primitive; None for lines and for nothing."""
    if getattr(primitive, "vertex", None) is None or primitive.vertex_index is None:
        return None
    index = np.asarray(primitive.vertex_index, dtype=np.int64)
    if hasattr(primitive, "polystarts"):
        counts = np.asarray(primitive.polyends, dtype=np.int64) - np.asarray(primitive.polystarts, dtype=np.int64)
    elif index.ndim == 2 and index.shape[1] == 3:
        counts = np.full(len(index), 3, dtype=np.int64)
    else:
        return None
    polygons = Polygons(np.asarray(primitive.vertex, dtype=np.float64), index.reshape(-1), counts)
    if not len(counts):
        return None
    effect = getattr(primitive.material, "effect", None)
    diffuse = getattr(effect, "diffuse", None)
    if diffuse is None:
        return Soup(polygons, pictures=siblings.pictures)
    corners = len(polygons.corners)
    sampler = getattr(diffuse, "sampler", None)
    if sampler is None:
        colour = np.clip(np.array(diffuse[:3], dtype=np.float32), 0, 1)
        return Soup(polygons, np.tile(colour, (corners, 1)), pictures=siblings.pictures)
    number = siblings.picture(str(sampler.surface.image.path))
    if number < 0 or not len(primitive.texcoordset):
        return Soup(polygons, pictures=siblings.pictures)
    places = np.asarray(primitive.texcoordset[0], dtype=np.float32)
    uv = places[np.asarray(primitive.texcoord_indexset[0], dtype=np.int64).reshape(-1)][:, :2]
    white, chosen = np.ones((corners, 3), dtype=np.float32), np.full(len(counts), number, dtype=np.int64)
    return Soup(polygons, white, uv, chosen, siblings.pictures)
