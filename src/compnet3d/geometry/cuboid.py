"""The cuboid a category is represented by: a box whose surface carries a regular lattice of vertices (section 3.1)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from compnet3d.geometry.mesh import Mesh


@dataclass(frozen=True)
class CuboidMesh:
    """A box with a lattice of segments[0] x segments[1] x segments[2] cells on its surface.

    Attributes:
        mesh: unique vertices and outward triangles.
        bounds: lower and upper corner [2, 3].
        segments: cells along x, y and z.
        lattice_index: lattice coordinates of each vertex, int64 [V, 3], in 0 .. segments.
        vertex_lookup: vertex number of each lattice point, int64 [nx + 1, ny + 1, nz + 1], -1 inside the box.
    """

    mesh: Mesh
    bounds: Tensor
    segments: tuple[int, int, int]
    lattice_index: Tensor
    vertex_lookup: Tensor

    @property
    def vertices(self) -> Tensor:
        """Vertices [V, 3]."""
        return self.mesh.vertices

    def vertex_normals(self) -> Tensor:
        """Outward unit normals [V, 3]; on edges and corners the mean of the faces that meet there."""
        counts = torch.tensor(self.segments)
        # 1 on an upper face, -1 on a lower one, 0 between: the sum of the normals of the faces that a vertex is on. An
        # axis has at least one cell, so that a vertex is never on both
        outward = (self.lattice_index == counts).float() - (self.lattice_index == 0).float()
        return torch.nn.functional.normalize(outward, dim=-1)


def cuboid_mesh(bounds: Tensor, vertex_count: int) -> CuboidMesh:
    """Cover a box with about `vertex_count` vertices, as evenly spaced as the box allows.

    Args:
        bounds: lower and upper corner [2, 3], or the extents [3] of a box centred at the origin.
        vertex_count: K, at least 8 (the corners).

    Returns:
        A cuboid whose vertex count is within 5 % of `vertex_count`, or the nearest that a lattice can have.

    Raises:
        ValueError: if the box is empty or fewer than 8 vertices are asked for.
    """
    if bounds.shape == (3,):
        bounds = torch.stack([-bounds / 2, bounds / 2])
    if bounds.shape != (2, 3) or not bool((bounds[1] > bounds[0]).all()):
        raise ValueError(f"bounds must be [2, 3] with upper > lower, or positive extents [3]; got {bounds.tolist()}")
    if vertex_count < 8:
        raise ValueError(f"a cuboid has at least 8 vertices, asked for {vertex_count}")
    segments = choose_segments(tuple((bounds[1] - bounds[0]).tolist()), vertex_count)
    return _build(bounds.float(), segments)


def cuboid_vertex_count(bounds: Tensor, vertex_count: int) -> int:
    """How many vertices `cuboid_mesh` gives a box [2, 3]; see there."""
    return int(_surface_vertices(np.array(choose_segments(tuple((bounds[1] - bounds[0]).tolist()), vertex_count))))


def choose_segments(extents: tuple[float, ...], vertex_count: int) -> tuple[int, int, int]:
    """Cells along each axis whose surface lattice has about `vertex_count` vertices and is most nearly isotropic.

    A lattice of a x b x c cells has 2 (ab + bc + ca) + 2 vertices on its surface.

    Raises:
        ValueError: if the extents are not three positive numbers or fewer than 8 vertices are asked for.
    """
    if __debug__ and (len(extents) != 3 or not all(0 < x < math.inf for x in extents) or vertex_count < 8):
        raise ValueError(f"need three positive extents and at least 8 vertices, got {extents} and {vertex_count}")
    size = np.asarray(extents, dtype=np.float64)
    # spacing h with 2 (xy + yz + zx) / h^2 = K, refined because thin axes cannot have less than one cell
    # scanned, since the maximum with 1 leaves no closed form; the finest spacing that any box needs is about that of a
    # rod, 4 size / K
    spacing = np.geomspace(size.max() / (4 * vertex_count), size.max(), 4000)
    cells = np.maximum(1.0, size / spacing[:, None])
    ideal = cells[np.argmin(np.abs(_surface_vertices(cells) - vertex_count))]
    # whole numbers around the ideal ones; rounding each alone can miss K by far where an axis has few cells
    ranges = [range(max(1, int(n * 0.7)), int(np.ceil(n * 1.4)) + 2) for n in ideal]
    triples = np.array(list(itertools.product(*ranges)))
    miss = np.abs(_surface_vertices(triples) - vertex_count) / vertex_count
    # in logarithms, so that cells twice too long and twice too short count alike
    stretch = np.abs(np.log(triples / ideal)).sum(axis=1)
    near = miss <= max(0.05, float(miss.min()))
    # of those near enough to K the most isotropic one; lexsort's last key is its first, and the miss breaks ties
    best = np.lexsort((miss, np.where(near, stretch, np.inf)))[0]
    a, b, c = (int(n) for n in triples[best])
    return a, b, c


def _surface_vertices(cells: np.ndarray) -> np.ndarray:
    a, b, c = cells[..., 0], cells[..., 1], cells[..., 2]
    # all lattice points less the inner ones: (a + 1)(b + 1)(c + 1) - (a - 1)(b - 1)(c - 1)
    return 2 * (a * b + b * c + c * a) + 2


def _build(bounds: Tensor, segments: tuple[int, int, int]) -> CuboidMesh:
    counts = torch.tensor(segments)
    # x slowest, z fastest: the order in which the lookup is reshaped here and flattened in `Cuboids`, and whose strides
    # the ray-caster relies on
    lattice = torch.cartesian_prod(*(torch.arange(n + 1) for n in segments))
    on_surface = ((lattice == 0) | (lattice == counts)).any(dim=1)
    lookup = torch.full((len(lattice),), -1, dtype=torch.int64)
    lookup[on_surface] = torch.arange(int(on_surface.sum()))
    lookup = lookup.reshape(*(n + 1 for n in segments))
    lattice = lattice[on_surface]
    vertices = bounds[0] + (bounds[1] - bounds[0]) * (lattice / counts)
    return CuboidMesh(Mesh(vertices, _outward_faces(lookup)), bounds, segments, lattice, lookup)


def _outward_faces(lookup: Tensor) -> Tensor:
    faces = []
    for axis, upper in itertools.product(range(3), (False, True)):
        # the other two axes in cyclic order, so that (second x third) points along +axis
        sheet = lookup.movedim((axis, (axis + 1) % 3, (axis + 2) % 3), (0, 1, 2))[-1 if upper else 0]
        a, b, c, d = sheet[:-1, :-1], sheet[1:, :-1], sheet[1:, 1:], sheet[:-1, 1:]
        # a to b runs along the second axis and b to c along the third, counter-clockwise seen from +axis; a lower face
        # is seen from -axis, so it is wound the other way round
        quads = torch.stack([a, b, c, d] if upper else [a, d, c, b], dim=-1).reshape(-1, 4)
        faces += [quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]
    return torch.cat(faces)


class Cuboids(nn.Module):
    """The cuboids of all categories in one set of buffers, so that a batch may mix categories.

    The buffers move with the module and are not saved: bounds and K say all. Rows of categories with fewer than K_max
    vertices are padded.

    Attributes:
        bounds: [Y, 2, 3].
        segments: int64 [Y, 3].
        vertex_lookup: all lookups, flattened one after the other, int64.
        lookup_offset: where each category's lookup starts, int64 [Y].
        vertices: [Y, K_max, 3]; lattice_index: int64 [Y, K_max, 3]; normals: [Y, K_max, 3].
        real: False where padded, bool [Y, K_max].
        spacing: the longest edge of a lattice cell, [Y].
    """

    bounds: Tensor
    segments: Tensor
    vertex_lookup: Tensor
    lookup_offset: Tensor
    vertices: Tensor
    lattice_index: Tensor
    normals: Tensor
    real: Tensor
    spacing: Tensor

    def __init__(self, cuboids: Sequence[CuboidMesh]) -> None:
        """In the order of the categories, at least one."""
        super().__init__()
        if not cuboids:
            raise ValueError("there must be at least one cuboid")
        self._cuboids = tuple(cuboids)
        counts = torch.tensor([len(c.vertices) for c in cuboids])
        # the boxes have different lattices, so their lookups lie end to end instead of padded
        sizes = torch.tensor([0, *(c.vertex_lookup.numel() for c in cuboids)])
        buffers = {
            "bounds": torch.stack([c.bounds for c in cuboids]),
            "segments": torch.tensor([c.segments for c in cuboids], dtype=torch.int64),
            "vertex_lookup": torch.cat([c.vertex_lookup.reshape(-1) for c in cuboids]),
            "lookup_offset": sizes.cumsum(0)[:-1],
            "vertices": pad_sequence([c.vertices for c in cuboids], batch_first=True),
            # padded with 0, which would be on three lower faces: whoever asks what is visible must ask `real`, too
            "lattice_index": pad_sequence([c.lattice_index for c in cuboids], batch_first=True),
            "normals": pad_sequence([c.vertex_normals() for c in cuboids], batch_first=True),
            "real": torch.arange(int(counts.max())) < counts[:, None],
            "spacing": torch.stack([((c.bounds[1] - c.bounds[0]) / torch.tensor(c.segments)).max() for c in cuboids]),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def __len__(self) -> int:
        return len(self.bounds)

    def __getitem__(self, category: int) -> CuboidMesh:
        """One category's cuboid, in main memory."""
        return self._cuboids[category]

    def diagonals(self) -> Tensor:
        """Length of each box's diagonal, [Y]."""
        return torch.linalg.vector_norm(self.bounds[:, 1] - self.bounds[:, 0], dim=-1)
