"""Which categories look alike after a turn about the vertical axis or in a mirror (`symmetry.json`)."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh
from compnet3d.utils.files import Json, read_json, write_json


def symmetry_orders(categories: Sequence[str], symmetry: Mapping[str, Symmetry] | None) -> Tensor:
    """Symmetry order [Y] of each category about its z axis: 1 none, n n-fold, 0 continuous."""
    table = symmetry or {}
    return torch.tensor([table[name].order if name in table else 1 for name in categories])


FILE_NAME = "symmetry.json"
# Mean distance over the bounding box's diagonal. Clean models of symmetric objects measure below 0.01, visual hulls of
# animals about 0.02, and shapes with a handle or spout along x 0.02 to 0.1.
MIRROR_TOLERANCE = 0.025


@dataclass(frozen=True)
class Symmetry:
    """The symmetry of a category.

    `order` is that of the rotations about the vertical (z) axis that change nothing: 1 for none, n for n-fold, 0 for
    all of them. `mirror` is whether x -> -x changes nothing; None where nobody has said.
    """

    order: int = 1
    mirror: bool | None = None

    def __post_init__(self) -> None:
        if self.order < 0:
            raise ValueError(f"the order of a symmetry must be >= 0, not {self.order}")


def load_symmetry(root: Path | str) -> dict[str, Symmetry]:
    """Read `root/symmetry.json`; an absent file means that nothing is stated.

    Each category maps to an object with `"z"` ("continuous" or the order n) and/or `"mirror"` (true or false).

    Raises:
        CompNetError: naming the file and the category, if the file is malformed.
    """
    path = Path(root) / FILE_NAME
    # not whether it is a file: what is something else shall be named
    if not os.path.exists(path):
        return {}
    table = read_json(path)
    if not isinstance(table, dict):
        raise CompNetError(f'{path} must be an object such as {{"mug": {{"mirror": true}}}}.')
    return {category: _parse_entry(path, category, entry) for category, entry in table.items()}


def _parse_entry(path: Path, category: str, entry: Any) -> Symmetry:
    # more cannot be told from "continuous", and each turn is a pose to compare with
    highest_order = 360
    expected = f'"z": "continuous" or a whole number from 1 to {highest_order}, and "mirror": true or false'
    if not isinstance(entry, dict) or not set(entry) <= {"z", "mirror"}:
        raise CompNetError(f"{path}: the entry of {category!r} may hold only {expected}.")
    z, mirror = entry.get("z", 1), entry.get("mirror")
    if z == "continuous":
        z = 0
    elif not isinstance(z, int) or isinstance(z, bool) or not 1 <= z <= highest_order:
        raise CompNetError(f"{path}: {category!r} has z = {reprlib.repr(entry['z'])}; it must be {expected}.")
    if mirror is not None and not isinstance(mirror, bool):
        raise CompNetError(f"{path}: {category!r} has mirror = {reprlib.repr(mirror)}; it must be {expected}.")
    return Symmetry(order=z, mirror=mirror)


def save_symmetry(root: Path | str, table: Mapping[str, Symmetry]) -> None:
    """Write `root/symmetry.json`, categories in alphabetical order; categories without any symmetry are left out."""
    entries: dict[str, Json] = {}
    for category in sorted(table):
        symmetry, entry = table[category], {}
        # "continuous" in the file, 0 in code: 0-fold would mislead whoever edits the file
        if symmetry.order != 1:
            entry["z"] = "continuous" if symmetry.order == 0 else symmetry.order
        if symmetry.mirror is not None:
            entry["mirror"] = symmetry.mirror
        if entry:
            entries[category] = entry
    write_json(Path(root) / FILE_NAME, entries)


def mirror_distance(mesh: Mesh, samples: int = 1500) -> float:
    """Mean distance from the mirrored surface (x -> -x) to the surface, in bounding-box diagonals.

    0 for a mirror-symmetric shape (up to about 0.004 of sampling noise); inf for a mesh without area.
    """
    # here, as only measuring needs it: `import compnet3d` loads no scipy
    from scipy.spatial import cKDTree

    vertices = mesh.vertices.double().numpy()
    diagonal = float(np.linalg.norm(vertices.max(0) - vertices.min(0))) if len(vertices) else 0.0
    # A dense reference makes the distance to the nearest sample close to the distance to the surface.
    reference = sample_surface(mesh, 12 * samples, seed=0)
    if not len(reference) or diagonal == 0.0:
        return float("inf")
    mirrored = sample_surface(mesh, samples, seed=1) * np.array([-1.0, 1.0, 1.0])
    distance, _ = cKDTree(reference).query(mirrored)
    return float(np.mean(distance)) / diagonal


def measure_mirror(meshes: Sequence[Mesh], tolerance: float = MIRROR_TOLERANCE) -> bool:
    """Whether every one of a category's CAD models is its own mirror image under x -> -x.

    For categories whose `symmetry.json` entry says nothing. False for an empty list.
    """
    # every one: a single lopsided model means that mirrored training images would show objects that do not exist
    return bool(meshes) and all(mirror_distance(mesh) < tolerance for mesh in meshes)


def sample_surface(mesh: Mesh, count: int, seed: int = 0) -> np.ndarray:
    """`count` points spread evenly over the surface, [count, 3] float64; [0, 3] for a mesh without area."""
    vertices, faces = mesh.vertices.double().numpy(), mesh.faces.numpy()
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    total = area.sum() if len(faces) else 0.0
    if not np.isfinite(total) or total <= 0.0:
        return np.zeros((0, 3))
    rng = np.random.default_rng(seed)
    # Stratified draws along the cumulative area are more even than independent ones.
    position = (np.arange(count) + rng.random(count)) / count * total
    # rounding may leave the last position beyond the sum of all areas
    chosen = corners[np.minimum(np.searchsorted(np.cumsum(area), position), len(faces) - 1)]
    u, v = rng.random((2, count))
    # points of a parallelogram; those beyond the diagonal are folded back into the triangle, which keeps them uniform
    flip = u + v > 1.0
    u, v = np.where(flip, 1.0 - u, u), np.where(flip, 1.0 - v, v)
    edge_u, edge_v = chosen[:, 1] - chosen[:, 0], chosen[:, 2] - chosen[:, 0]
    return chosen[:, 0] + u[:, None] * edge_u + v[:, None] * edge_v
