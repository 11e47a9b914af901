"""The shapes of categories whose source has none: CAD models of the user's, stated sizes, or boxes that fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compnet3d.data.importers.columns import numbers_in, read_table
from compnet3d.data.importers.names import cad_files
from compnet3d.data.importers.posed_row import Box
from compnet3d.data.shapes.read import load_mesh
from compnet3d.errors import CompNetError
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.mesh import Mesh

# lengths along x (width), y (depth) and z (height)
Size = tuple[float, float, float]
# what a table says of an object: its rotation [3, 3], its box, and its distance over the focal length if that is stated
View = tuple[np.ndarray, Box, float | None]


@dataclass(frozen=True)
class Shapes:
    """Where the shapes of categories come from.

    Attributes:
        cad: a folder with one folder of model files (01.off, 02.glb, ...) for each category.
        sizes: a table with columns category, width, depth, height.
    """

    cad: Path | None = None
    sizes: Path | None = None

    def models(self, category: str) -> Mapping[str, Path]:
        """The category's CAD models by their names; maybe none."""
        return {} if self.cad is None else cad_files(self.cad / category)

    def stated_sizes(self) -> dict[str, Size]:
        """The sizes that the table states, by category.

        Raises:
            CompNetError: if it cannot be read, or a size is not three positive numbers.
        """
        if self.sizes is None:
            return {}
        found: dict[str, Size] = {}
        for where, values in read_table(self.sizes)[0]:
            try:
                lengths = [float(values[name]) for name in ("width", "depth", "height")]
            except (KeyError, ValueError):
                lengths = []
            if len(lengths) != 3 or not all(0 < length < 1e6 for length in lengths) or "category" not in values:
                raise CompNetError(f"{where}: needs category, width, depth and height, the last three above 0")
            found[str(values["category"])] = (lengths[0], lengths[1], lengths[2])
        return found


def box_of_size(size: Size) -> Mesh:
    """A box of a size, around the origin."""
    return cuboid_mesh(torch.tensor(size), 8).mesh


def outline(models: Mapping[str, Path | Mesh], cad_index: int) -> Tensor:
    """The points that fill the same box in the image as the model with this number, float64 [V, 3]."""
    numbered = {int(Path(name).stem): model for name, model in models.items() if Path(name).stem.isdecimal()}
    chosen = numbered.get(cad_index, next(iter(models.values())))
    mesh = chosen if isinstance(chosen, Mesh) else load_mesh(chosen)
    return mesh.vertices.double()


def fitted_size(views: Sequence[View]) -> Size:
    """The size of a box that projects to boxes of the annotated proportions.

    Seen from afar, a box with the sides e has in the image the width s sum_j |R_1j| e_j and the height
    s sum_j |R_2j| e_j, where s is unknown. Both together give one equation for each view, linear in e; they are solved
    by non-negative least squares. What no view tells (the depth, where all see the front) is that of a cube.

    Returns:
        Lengths of x, y and z: in the unit of the distances where they are stated, else with a diagonal of 1.
    """
    from scipy.optimize import nnls

    rows = []
    for rotmat, (x1, y1, x2, y2), _ in views:
        equation = (x2 - x1) * np.abs(rotmat[1]) - (y2 - y1) * np.abs(rotmat[0])
        rows.append(equation / (x2 - x1 + y2 - y1))
    count = math.sqrt(len(rows))
    cube = 0.01 * count * (np.eye(3) - 1 / 3)  # draws a side to the mean of all
    matrix = np.concatenate([np.stack(rows), cube, count * np.ones((1, 3))])
    sides, _ = nnls(matrix, np.array([0.0] * (len(rows) + 3) + [count]))
    sides = np.maximum(sides, 0.02 * sides.max())
    scales = [
        ratio * (x2 - x1 + y2 - y1) / float((np.abs(rotmat[0]) + np.abs(rotmat[1])) @ sides)
        for rotmat, (x1, y1, x2, y2), ratio in views
        if ratio is not None
    ]
    scale = float(np.median(scales)) if scales else 1 / float(np.linalg.norm(sides))
    width, depth, height = (scale * sides).tolist()
    return width, depth, height


def number_of(value: object, default: int) -> int:
    """A whole number of a table's cell."""
    try:
        (number,) = numbers_in(value)
        return int(number)
    except (ValueError, OverflowError):
        return default
