"""From a CAD model to a surface: K vertices spread evenly over what can be seen of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.geometry.camera import Pose
from compnet3d.geometry.mesh import Mesh
from compnet3d.rendering.raster import hidden_points
from compnet3d.rendering.surface import Surface


def representative(meshes: Sequence[Mesh]) -> Mesh:
    """The CAD model that stands for its category: the one whose sides are nearest to the models' median ones."""
    sides = torch.stack([m.vertices.amax(dim=0) - m.vertices.amin(dim=0) for m in meshes]).clamp_min(1e-6).log()
    return meshes[int((sides - sides.median(dim=0).values).square().sum(dim=1).argmin())]


def spread_vertices(mesh: Mesh, vertex_count: int) -> Surface:
    """Spread K vertices evenly over the outside of a mesh: the same ones each time.

    Many points are drawn uniformly by area, those that no view from around sees are dropped, and of the rest each
    vertex is the one farthest from those before it.

    Args:
        mesh: any triangle mesh; it need be neither closed nor oriented. One of many faces is simplified first.
        vertex_count: K, at least 4.

    Raises:
        ValueError: if K is too small or the mesh has no area.
    """
    mesh = simplify(mesh)
    if vertex_count < 4:
        raise ValueError(f"vertex_count must be at least 4, got {vertex_count}")
    points, face = _sample_surface(mesh, 8 * vertex_count)
    outside = _seen_from_around(mesh, points)
    # an object that hides nearly all of itself keeps its inner points rather than having fewer than K
    if int(outside.sum()) >= vertex_count:
        points, face = points[outside], face[outside]
    chosen = _farthest_points(points, vertex_count)
    vertices = points[chosen]
    unit = normalize(mesh.face_normals(), dim=1)
    normals = unit[face[chosen]]
    gaps = torch.cdist(vertices, vertices).fill_diagonal_(torch.inf).amin(dim=1)
    spacing = float(gaps.median())
    divisions, lookup = _divide_faces(mesh, unit, vertices, normals, spacing)
    return Surface(mesh, vertices, normals, spacing, divisions, lookup)


def simplify(mesh: Mesh, most: int = 1500) -> Mesh:
    """A mesh of at most `most` faces: vertices that share a cell of a grid become one, the coarsest grid needed.

    Drawing costs as much as a mesh has faces, and feature cells show none of the detail that is lost.
    """
    low, extent = mesh.vertices.amin(dim=0), float((mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)).max())
    cells = 128
    simple = mesh
    while len(simple.faces) > most:
        # from the original each time, so that the error is that of one grid and does not add up
        _, cell = torch.unique(((mesh.vertices - low) * (cells / extent)).round().long(), dim=0, return_inverse=True)
        count = int(cell.max()) + 1
        sums = torch.zeros(count, 3).index_add_(0, cell, mesh.vertices)
        corners = sums / torch.bincount(cell, minlength=count)[:, None]
        faces = cell[mesh.faces]
        # two corners in one cell leave a line; a face that is there twice, whichever way round, is drawn once. numpy's
        # unique tells the first place of each, which keeps the faces' order
        faces = faces[(faces != faces.roll(1, dims=1)).all(dim=1)]
        _, first = np.unique(faces.sort(dim=1).values.numpy(), axis=0, return_index=True)
        simple = Mesh(corners, faces[torch.from_numpy(np.sort(first))])
        cells = int(cells * 0.9)
    return simple


def _sample_surface(mesh: Mesh, count: int) -> tuple[Tensor, Tensor]:
    """Points drawn uniformly over the area [N, 3], and their faces [N]."""
    # in double: a running sum over many small faces loses them in single precision
    area = torch.linalg.vector_norm(mesh.face_normals().double(), dim=1)
    if not float(area.sum()) > 0:
        raise ValueError("mesh must have a surface: all its faces are degenerate")
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    total = area.cumsum(0)
    face = torch.searchsorted(total, draw[:, 0] * total[-1], right=True).clamp_max(len(area) - 1)
    # the square root makes it uniform over the triangle: without it points would crowd at corner 0
    root = draw[:, 1].sqrt()
    weight = torch.stack([1 - root, root * (1 - draw[:, 2]), root * draw[:, 2]], dim=1)
    points = (weight[..., None] * mesh.vertices.double()[mesh.faces[face]]).sum(dim=1)
    return points.to(mesh.vertices.dtype), face


def _seen_from_around(mesh: Mesh, points: Tensor, azimuths: int = 8, elevations: int = 4) -> Tensor:
    """Which points are seen from any of the views around the object, bool [N]."""
    angles = torch.cartesian_prod(
        torch.arange(azimuths) * (2 * torch.pi / azimuths), torch.linspace(-1.4, 1.4, elevations)
    )
    # far enough that no part of the object comes near the camera
    far = 4 * float(torch.linalg.vector_norm(mesh.vertices, dim=1).max())
    seen = torch.zeros(len(points), dtype=torch.bool)
    for part in angles.split(12):
        pose = Pose.of(part[:, 0], part[:, 1], 0.0, far)
        corners = pose.object_to_camera(mesh.vertices)
        seen |= ~hidden_points(pose.object_to_camera(points), corners, mesh.faces).all(dim=0)
    return seen


def _farthest_points(points: Tensor, count: int) -> Tensor:
    """Numbers of points, each the farthest from those before it, int64 [count]."""
    exact = points.double()
    chosen = torch.zeros(count, dtype=torch.int64)
    chosen[0] = (exact - exact.mean(dim=0)).square().sum(dim=1).argmax()
    gap = (exact - exact[chosen[0]]).square().sum(dim=1)
    # each depends on all before it, so there is nothing to batch; the distance to the nearest chosen one is kept, and a
    # round costs one pass over the points
    for place in range(1, count):
        chosen[place] = gap.argmax()
        gap = torch.minimum(gap, (exact - exact[chosen[place]]).square().sum(dim=1))
    return chosen


def _divide_faces(
    mesh: Mesh, unit: Tensor, vertices: Tensor, normals: Tensor, spacing: float, most: int = 32
) -> tuple[Tensor, Tensor]:
    """`Surface.divisions` and `Surface.lookup` for vertices with normals; `unit` are the faces' normals.

    Of two vertices about as near, the one on the same side of a thin wall counts as a spacing nearer.
    """
    corners = mesh.vertices[mesh.faces]
    longest = torch.linalg.vector_norm(corners - corners.roll(1, dims=1), dim=-1).amax(dim=1)
    divisions = (longest / spacing).ceil().long().clamp(1, most)
    sizes = (divisions + 1).square()
    start = sizes.cumsum(0) - sizes
    lookup = torch.zeros(int(sizes.sum()), dtype=torch.int64)
    # opposite normals are 2 apart; halved, they count as one spacing, so a vertex on the far side of a thin wall loses
    # to one on the near side
    keys = torch.cat([vertices / spacing, normals / 2], dim=1)
    for n in divisions.unique().tolist():
        # i slowest, as the lookup is read. The points with i + j > n lie outside the face and are never read, but keep
        # the index as simple as i (n + 1) + j
        steps = torch.cartesian_prod(torch.arange(n + 1), torch.arange(n + 1)) / n
        for faces in (divisions == n).nonzero()[:, 0].split(64):
            a, b, c = corners[faces][:, :, None].unbind(1)
            points = a + steps[:, :1] * (b - a) + steps[:, 1:] * (c - a)
            query = torch.cat([points / spacing, (unit[faces] / 2)[:, None].expand_as(points)], dim=2)
            nearest = torch.cdist(query.flatten(0, 1), keys).argmin(dim=1)
            lookup[(start[faces][:, None] + torch.arange(len(steps))).flatten()] = nearest
    return divisions, lookup
