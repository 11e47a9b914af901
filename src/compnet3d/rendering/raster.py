"""A z-buffer rasteriser for any triangle mesh, in plain tensor operations.

Edge functions are homogeneous (Olano and Greer 1997): for a pixel's viewing ray r and a triangle (a, b, c) in camera
axes, r . (b x c), r . (c x a) and r . (a x b) have one sign inside the triangle and are its perspective-correct
barycentric coordinates up to scale. They need no division by depth, so triangles that cross the camera plane need no
clipping, and two triangles that share an edge see exactly opposite numbers there, so there is no hole between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from compnet3d.utils.checks import check_integer, check_shape

# (triangle, cell) pairs tried at a time: 16 MB for each vector of doubles, of which there are about ten
_PAIRS_PER_CHUNK = 1 << 21
# cells along each side of the grid in which `hidden_points` looks for the points near a face
_VISIBILITY_CELLS = 128


@dataclass(frozen=True)
class Raster:
    """What a z-buffer holds.

    Attributes:
        face_index: int64 [B, H, W], the nearest face, -1 where there is none.
        barycentric: [B, H, W, 3], perspective-correct, sums to 1; 0 where there is no face. Differentiable with respect
            to the vertices.
        depth: [B, H, W], distance along the viewing axis, infinite where there is no face.
    """

    face_index: Tensor
    barycentric: Tensor
    depth: Tensor


def rasterize(
    vertices_camera: Tensor,
    faces: Tensor,
    *,
    focal: Tensor,
    principal_point: Tensor,
    height: int,
    width: int,
    stride: float = 1.0,
    near: float = 1e-6,
) -> Raster:
    """Find the nearest triangle at every cell centre; both sides of a triangle are seen.

    Args:
        vertices_camera: [B, V, 3] in camera axes (x right, y up, looking along -z); any part may lie behind the camera.
        faces: int64 [F, 3].
        focal: [B] or scalar, in pixels.
        principal_point: [B, 2] or [2], in pixels.
        height, width: number of cells.
        stride: pixels per cell; cell (i, j) is sampled at (stride (j + 0.5), stride (i + 0.5)).
        near: triangles are invisible where their depth is not above this, >= 0.

    Returns:
        Raster over [B, height, width]. Faces at exactly equal depth: the one with the lowest index.
    """
    check_shape("vertices_camera", vertices_camera, ("B", "V", 3))
    check_shape("faces", faces, ("F", 3))
    check_integer(faces=faces)
    if __debug__ and (min(height, width) < 1 or not stride > 0):
        raise ValueError(f"height, width and stride must be positive, got {height}, {width} and {stride}")
    batch = vertices_camera.shape[0]
    focal = torch.as_tensor(focal, device=vertices_camera.device).expand(batch)
    principal_point = torch.as_tensor(principal_point, device=vertices_camera.device).expand(batch, 2)
    # which face is nearest does not change with a small change of pose; the gradient comes with the coordinates on it,
    # computed again for the faces that were found: a graph of cells and not of all pairs
    with torch.no_grad():
        face_index = _nearest_faces(vertices_camera, faces, focal, principal_point, (height, width), stride, near)
    return interpolate(vertices_camera, faces, focal, principal_point, face_index, stride)


@torch.no_grad()
def hidden_points(points: Tensor, corners: Tensor, faces: Tensor, tolerance: float = 2e-3) -> Tensor:
    """Which points a mesh hides from the camera.

    Exact: a point is hidden if some face contains its viewing ray and lies in front of it by more than the tolerance.
    Points are sorted into the cells of a grid over their projections, so that each face is tried only against those
    near it.

    Args:
        points: [B, P, 3] in camera axes; corners: of the mesh, [B, V, 3] in camera axes; faces: int64 [F, 3].
        tolerance: as a share of the diagonal of the box around the corners; a vertex is on faces itself and beside
            others of a thin wall or a fold, which must not hide it.

    Returns:
        bool [B, P]; points behind the camera are hidden.

    Raises:
        ValueError: if a shape does not fit.
    """
    check_shape("points", points, ("B", "P", 3))
    check_shape("corners", corners, (len(points), "V", 3))
    check_shape("faces", faces, ("F", 3))
    extent = corners.amax(dim=1) - corners.amin(dim=1)
    slack = tolerance * torch.linalg.vector_norm(_exact(extent), dim=-1)
    together = _exact(torch.cat([corners, points.to(corners)], dim=1))
    return _hidden_vertices(together, faces, slack)[:, corners.shape[1] :] | (points[..., 2] >= 0)


def _exact(tensor: Tensor) -> Tensor:
    """Double precision, where the device has it: cross products of far vertices cancel badly in single precision."""
    return tensor if tensor.device.type == "mps" else tensor.double()


def _project(vertices: Tensor, focal: Tensor, principal_point: Tensor) -> tuple[Tensor, Tensor]:
    inverse = focal[:, None] / -vertices[..., 2]
    return principal_point[:, :1] + inverse * vertices[..., 0], principal_point[:, 1:] - inverse * vertices[..., 1]


def _edge_functions(corners: Tensor, focal: Tensor, principal_point: Tensor) -> tuple[Tensor, Tensor]:
    """Edge functions as affine functions of the pixel.

    Args:
        corners: [N, 3, 3], triangle corners in camera axes.
        focal, principal_point: [N], [N, 2].

    Returns:
        Coefficients [N, 3, 3] with e_i(u, v) = c_i0 u + c_i1 v + c_i2, signed so that all three are >= 0 inside, and
        the determinant |a, b, c| [N] (>= 0) with depth = determinant / (e_0 + e_1 + e_2). The sign flip is exact.
    """
    a, b, c = corners.unbind(dim=1)
    normals = torch.stack([_cross(b, c), _cross(c, a), _cross(a, b)], dim=1)
    # a point p = t r of the plane has coordinates p . (b x c) / |a, b, c| and so on, which sum to 1, so t (e_0 + e_1 +
    # e_2) = |a, b, c|; r has z = -1, so t is the depth
    product = normals[:, 0] * a
    determinant = product[:, 0] + product[:, 1] + product[:, 2]
    # a triangle seen from behind has all signs turned over; CAD models are often not oriented, so both sides count
    sign = torch.where(determinant < 0, -1.0, 1.0).to(corners)
    # the ray through (u, v) is ((u - px) / f, (py - v) / f, -1)
    slope_u = normals[..., 0] / focal[:, None]
    slope_v = -normals[..., 1] / focal[:, None]
    constant = -normals[..., 2] - slope_u * principal_point[:, None, 0] - slope_v * principal_point[:, None, 1]
    coefficients = torch.stack([slope_u, slope_v, constant], dim=-1) * sign[:, None, None]
    return coefficients, determinant * sign


def _cross(a: Tensor, b: Tensor) -> Tensor:
    # written out so that swapping a and b negates the result exactly
    x, y = a.unbind(dim=-1), b.unbind(dim=-1)
    return torch.stack([x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]], dim=-1)


def _screen_boxes(
    corners: Tensor, focal: Tensor, principal_point: Tensor, size: tuple[int, int], stride: float
) -> Tensor:
    """First row, last row, first column, last column (inclusive) of cells that a triangle may cover, int64 [N, 4].

    Triangles that reach behind the camera may cover anything.
    """
    height, width = size
    u, v = _project(corners, focal, principal_point)
    # the projection of a corner that is not in front of the camera says nothing about where the triangle is seen
    crossing = (corners[..., 2] >= 0).any(dim=-1)
    limits = []
    for values, count in ((v, height), (u, width)):
        # cells whose centres lie between; a millionth of a cell is for rounding, cells too many are tested exactly
        # later. A corner at depth 0 has no projection (NaN), and its triangle is among the crossing ones
        low = torch.ceil(values.amin(dim=-1) / stride - 0.5 - 1e-6).nan_to_num(0)
        high = torch.floor(values.amax(dim=-1) / stride - 0.5 + 1e-6).nan_to_num(count - 1)
        # up to count and down to -1, so that a box beside the image is empty instead of a cell at its border
        limits.append(torch.where(crossing, 0, low.clamp(0, count)))
        limits.append(torch.where(crossing, count - 1, high.clamp(-1, count - 1)))
    return torch.stack(limits, dim=-1).long()


def _chunks(cost: Tensor, budget: int) -> Iterator[slice]:
    """Consecutive slices whose summed cost stays near the budget (one item may exceed it alone)."""
    if len(cost) == 0:
        return
    total = cost.cumsum(0)
    if int(total[-1]) <= budget:
        yield slice(0, len(cost))
        return
    start, spent = 0, 0
    while start < len(cost):
        stop = int(torch.searchsorted(total, spent + budget, right=True))
        stop = max(stop, start + 1)
        yield slice(start, stop)
        start, spent = stop, int(total[stop - 1])


def _ranges(first: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Expand (first, count) to all of first, first + 1, ...: the owner's number and the value, both [sum(count)]."""
    # ragged ranges laid end to end: an item's place less where its range begins is its place within the range
    owner = torch.repeat_interleave(count)
    start = count.cumsum(0) - count
    return owner, torch.arange(len(owner), device=count.device) - (start - first)[owner]


def _nearest_faces(
    vertices: Tensor,
    faces: Tensor,
    focal: Tensor,
    principal_point: Tensor,
    size: tuple[int, int],
    stride: float,
    near: float,
) -> Tensor:
    """The z-buffer [B, H, W] of face numbers, -1 where empty."""
    height, width = size
    batch, count = len(vertices), len(faces)
    empty = torch.iinfo(torch.int64).max
    buffer = torch.full((batch * height * width,), empty, dtype=torch.int64, device=vertices.device)
    corners = _exact(vertices)[:, faces].reshape(-1, 3, 3)
    owner = torch.arange(batch, device=vertices.device).repeat_interleave(count)
    focal, principal_point = _exact(focal)[owner], _exact(principal_point)[owner]
    boxes = _screen_boxes(corners, focal, principal_point, size, stride)
    rows, columns = (boxes[:, 1] - boxes[:, 0] + 1).clamp_min(0), (boxes[:, 3] - boxes[:, 2] + 1).clamp_min(0)
    in_front = (corners[..., 2] < 0).any(dim=-1)
    keep = ((rows > 0) & (columns > 0) & in_front).nonzero().squeeze(1)
    coefficients, determinant = _edge_functions(corners[keep], focal[keep], principal_point[keep])
    # a triangle seen edge-on, or of no area, covers nothing, and its depth would be 0 / 0
    regular = (determinant > 0).nonzero().squeeze(1)
    keep, coefficients, determinant = keep[regular], coefficients[regular], determinant[regular]
    for chunk in _chunks(rows[keep] * columns[keep], _PAIRS_PER_CHUNK):
        triangle, cell, depth = _covered_cells(
            coefficients[chunk], determinant[chunk], boxes[keep[chunk]], size, stride, near
        )
        triangle = keep[chunk][triangle]
        # depth's bits order like the (positive) depths, so one minimum finds depth and face together
        key = (depth.float().view(torch.int32).long() << 32) | (triangle % count)
        # a minimum has the same result in any order, so the raster does not depend on how the scatter runs
        buffer.scatter_reduce_(0, (triangle // count) * (height * width) + cell, key, "amin")
    # the lower half of the key; at equal depth the minimum has taken the lowest face
    face = torch.where(buffer == empty, -1, buffer & 0xFFFFFFFF)
    return face.reshape(batch, height, width)


def _covered_cells(
    coefficients: Tensor, determinant: Tensor, boxes: Tensor, size: tuple[int, int], stride: float, near: float
) -> tuple[Tensor, Tensor, Tensor]:
    """All (triangle, cell) pairs where the triangle covers the cell's centre: triangle [P], cell [P], depth [P].

    First every row of a triangle's box is cut to a span by the edge functions, so that thin slanted triangles cost what
    they cover; then every cell in the spans is tested exactly.
    """
    # barycentric slack that closes the pinholes where a corner falls exactly on a cell centre
    rounding = 1e-10
    triangle, row = _ranges(boxes[:, 0], (boxes[:, 1] - boxes[:, 0] + 1).clamp_min(0))
    v = stride * (row.to(coefficients) + 0.5)
    # index_select copies whole rows and is several times faster than indexing
    across, down, constant = coefficients.index_select(0, triangle).unbind(dim=-1)
    slope, offset = across.contiguous(), constant + down * v[:, None]
    # slope u + offset >= 0 holds from the border on to the right where the slope is positive, to the left where it is
    # negative; the inner limits are a cell wider, for rounding
    border = -offset / slope / stride - 0.5
    low = torch.where(slope > 0, border, -math.inf).amax(dim=-1).ceil() - 1
    high = torch.where(slope < 0, border, math.inf).amin(dim=-1).floor() + 1
    first = torch.maximum(low, boxes[triangle, 2].to(low)).long()
    last = torch.minimum(high, boxes[triangle, 3].to(high)).long()
    span, column = _ranges(first, (last - first + 1).clamp_min(0))
    u = stride * (column.to(coefficients) + 0.5)
    # three separate vectors: reductions over a last dimension of 3 are slow
    edges = [slope[:, k].index_select(0, span) * u + offset[:, k].index_select(0, span) for k in range(3)]
    total = edges[0] + edges[1] + edges[2]
    depth = determinant.index_select(0, triangle.index_select(0, span)) / total
    least = torch.minimum(torch.minimum(edges[0], edges[1]), edges[2])
    # a negative total is the triangle's mirror image behind the camera. A cell centre on a shared edge belongs to both
    # triangles, and the z-buffer decides
    hit = ((least >= -rounding * total) & (total > 0) & (depth > near)).nonzero().squeeze(1)
    span = span[hit]
    return triangle[span], row[span] * size[1] + column[hit], depth[hit]


def interpolate(
    vertices: Tensor, faces: Tensor, focal: Tensor, principal_point: Tensor, face_index: Tensor, stride: float
) -> Raster:
    """Barycentric coordinates and depth of the faces found, differentiable with respect to the vertices."""
    image, row, column = (face_index >= 0).nonzero().unbind(dim=1)
    face = face_index[image, row, column]
    corners = _exact(vertices)[image[:, None], faces[face]]
    coefficients, determinant = _edge_functions(corners, _exact(focal)[image], _exact(principal_point)[image])
    u, v = stride * (column.to(corners) + 0.5), stride * (row.to(corners) + 0.5)
    edges = coefficients[..., 0] * u[:, None] + coefficients[..., 1] * v[:, None] + coefficients[..., 2]
    total = edges[:, 0] + edges[:, 1] + edges[:, 2]
    barycentric = vertices.new_zeros(*face_index.shape, 3)
    depth = vertices.new_full(face_index.shape, math.inf)
    place = (image, row, column)
    barycentric = barycentric.index_put(place, (edges / total[:, None]).to(vertices.dtype))
    depth = depth.index_put(place, (determinant / total).to(vertices.dtype))
    return Raster(face_index, barycentric, depth)


def _hidden_vertices(vertices: Tensor, faces: Tensor, slack: Tensor) -> Tensor:
    """Whether a face contains a vertex's viewing ray, nearer than the vertex by more than slack: bool [B, V]."""
    batch, count = vertices.shape[:2]
    ones, zeros = vertices.new_ones(batch), vertices.new_zeros(batch, 2)
    # any pinhole does: only rays matter, and whether they meet a face
    u, v = _project(vertices, ones, zeros)
    depth = -vertices[..., 2]
    columns, rows = _grid_cells(u, depth), _grid_cells(v, depth)
    image = torch.arange(batch, device=vertices.device)
    key = ((image[:, None] * _VISIBILITY_CELLS + rows) * _VISIBILITY_CELLS + columns).reshape(-1)
    # sorted by image, row and column of the grid, the vertices of neighbouring columns of a row are neighbours: one row
    # of a face's box is one range of the list
    key, order = key.sort()
    cells = torch.arange(batch * _VISIBILITY_CELLS**2 + 1, device=vertices.device)
    # where each cell's vertices begin; one cell more than there are, so that the last one has an end, too
    start = torch.searchsorted(key, cells)
    hidden = torch.zeros(batch * count, dtype=torch.bool, device=vertices.device)
    owner = image.repeat_interleave(len(faces))
    corner = faces.repeat(batch, 1)
    crossing = (depth[owner[:, None], corner] <= 0).any(dim=-1)
    last_cell = _VISIBILITY_CELLS - 1
    low_row, high_row = _cell_range(rows[owner[:, None], corner], crossing, last_cell)
    low_column, high_column = _cell_range(columns[owner[:, None], corner], crossing, last_cell)
    coefficients, determinant = _edge_functions(vertices[owner[:, None], corner], ones[owner], zeros[owner])
    for part in _chunks(high_row - low_row + 1, _PAIRS_PER_CHUNK):
        face, row = _ranges(low_row[part], (high_row - low_row + 1)[part])
        face = face + part.start
        base = (owner[face] * _VISIBILITY_CELLS + row) * _VISIBILITY_CELLS
        first, stop = start[base + low_column[face]], start[base + high_column[face] + 1]
        for piece in _chunks(stop - first, _PAIRS_PER_CHUNK):
            span, place = _ranges(first[piece], (stop - first)[piece])
            tried, vertex = face[piece][span], order[place]
            hit = _ray_depth(coefficients[tried], determinant[tried], u.reshape(-1)[vertex], v.reshape(-1)[vertex])
            limit = (depth - slack[:, None]).reshape(-1)
            hidden[vertex[hit < limit[vertex]]] = True
    return hidden.reshape(batch, count)


def _grid_cells(values: Tensor, depth: Tensor) -> Tensor:
    """Cell numbers of projections [B, V] in a grid that spans those of the vertices in front of the camera."""
    low = torch.where(depth > 0, values, math.inf).amin(dim=-1, keepdim=True)
    high = torch.where(depth > 0, values, -math.inf).amax(dim=-1, keepdim=True)
    # vertices that are not in front of the camera get some cell (their shares may be NaN or far out); they are hidden
    # by definition and reported so elsewhere
    share = (values - low) / (high - low).clamp_min(1e-12)
    return (share * _VISIBILITY_CELLS).nan_to_num(0, 0, 0).clamp(0, _VISIBILITY_CELLS - 1).long()


def _cell_range(cells: Tensor, crossing: Tensor, last: int) -> tuple[Tensor, Tensor]:
    """Lowest and highest cell [N] of triangles' corners [N, 3]; those that cross the camera plane reach everywhere."""
    return torch.where(crossing, 0, cells.amin(dim=-1)), torch.where(crossing, last, cells.amax(dim=-1))


def _ray_depth(coefficients: Tensor, determinant: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Depth [P] at which rays meet triangles, infinite where they miss; edges count to within single precision."""
    edges = [coefficients[:, k, 0] * u + coefficients[:, k, 1] * v + coefficients[:, k, 2] for k in range(3)]
    total = edges[0] + edges[1] + edges[2]
    least = torch.minimum(torch.minimum(edges[0], edges[1]), edges[2])
    # a vertex may lie just behind an edge or a corner, where rounding decides; wide enough for a device that has no
    # double precision
    hit = (least >= -1e-6 * total) & (total > 0) & (determinant > 0)
    return torch.where(hit, determinant / total, math.inf)
