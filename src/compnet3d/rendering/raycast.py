"""Analytic rendering of cuboids: where each feature cell's ray meets the box, in closed form.

The ray-box intersection gives the face and the point on it; the lattice of the cuboid then gives the four vertices
around that point and their bilinear weights. Everything is differentiable in the pose and in the principal point, and
one batch may mix poses, cameras and categories.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compnet3d.geometry.camera import Camera, Pose, feature_grid
from compnet3d.geometry.cuboid import CuboidMesh, Cuboids
from compnet3d.rendering.fragments import Fragments
from compnet3d.rendering.shape import StackedShape

# The 12 edges of a box as pairs of corners (bit k of a corner's number: upper end of axis k) and the faces they join,
# faces numbered 2 * axis + (1 for the upper one).
_CORNERS = torch.tensor([[c & 1, (c >> 1) & 1, (c >> 2) & 1] for c in range(8)])
_EDGES = torch.tensor([(c, c | (1 << a)) for a in range(3) for c in range(8) if not c & (1 << a)])
_EDGE_FACES = torch.tensor(
    [[2 * b + ((c >> b) & 1) for b in range(3) if b != a] for a in range(3) for c in range(8) if not c & (1 << a)]
)


@dataclass(frozen=True)
class CuboidShape(StackedShape[Cuboids]):
    """The exact cuboid: which of the cuboids each rendering shows. The spacing is a lattice cell's longest edge."""

    @classmethod
    def of(cls, cuboid: CuboidMesh) -> CuboidShape:
        """A single cuboid (see `cuboid_mesh`)."""
        return cls(Cuboids([cuboid]), torch.zeros((), dtype=torch.int64))

    def visible(self, pose: Pose) -> Tensor:
        """Vertices on a face that looks towards the camera, bool [..., K]."""
        at = self.category
        # padded vertices have lattice index 0, as if they were on the lower faces, hence `real`
        seen = visible_lattice_vertices(
            self.stack.lattice_index[at], self.stack.segments[at], self.stack.bounds[at], pose.camera_centre()
        )
        return seen & self.real

    def draw(self, pose: Pose, camera: Camera, stride: float, softness: float) -> Fragments:
        """Cast one ray through the centre of each feature cell; see `render`.

        Returns:
            Fragments with J = 4. With a soft edge, cells just outside the box carry the vertices of the nearest face,
            so that the silhouette can be moved by gradients.
        """
        category = self.category.expand(pose.shape)
        height, width = int(camera.height // stride), int(camera.width // stride)
        grid = feature_grid(height, width, stride, device=pose.azimuth.device, dtype=pose.azimuth.dtype).reshape(-1, 2)
        bounds = self.stack.bounds.to(pose.azimuth.dtype)[category]
        origin, direction = _rays(pose, camera.focal, camera.principal_point, grid)
        point, axis, lower_side, hit = _first_hit(origin, direction, bounds)
        index, weight = _lattice_corners(self.stack, category, point, axis, lower_side, bounds)
        if softness > 0:
            distance = _silhouette_distance(bounds, pose, camera.focal, camera.principal_point, grid)
            # in cells, not pixels, so that an edge is as soft at every stride; the rays above give no gradient to
            # whether a cell is covered, this does
            foreground = torch.sigmoid(distance / (softness * stride))
        else:
            foreground = hit.to(weight.dtype)
        batch = category.shape[0]
        return Fragments(
            index.reshape(batch, height, width, 4),
            weight.reshape(batch, height, width, 4),
            foreground.reshape(batch, height, width),
        )


def visible_lattice_vertices(lattice_index: Tensor, segments: Tensor, bounds: Tensor, camera_centre: Tensor) -> Tensor:
    """Which vertices of a box the camera sees, in closed form: those on a face that looks towards the camera.

    Args:
        lattice_index: int64 [..., K, 3]; segments: int64 [..., 3]; bounds: [..., 2, 3]; camera_centre: [..., 3], all
            with the same leading shape.

    Returns:
        bool [..., K].
    """
    # a box is convex, so it hides nothing but its own faces that look away: the camera sees a face if it is beyond that
    # face's plane. Strictly, so that a face seen edge-on does not count
    sees_lower = camera_centre < bounds[..., 0, :]
    sees_upper = camera_centre > bounds[..., 1, :]
    on_lower = lattice_index == 0
    on_upper = lattice_index == segments[..., None, :]
    return ((on_lower & sees_lower[..., None, :]) | (on_upper & sees_upper[..., None, :])).any(dim=-1)


def _rays(pose: Pose, focal: Tensor, principal_point: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Ray origins [B, 1, 3] and directions [B, HW, 3] in the object frame."""
    # the pinhole's u and v solved for the direction, with depth 1. It is not made a unit vector: the ray's parameter
    # then is the depth, and the slab test asks for an order only
    offset = (grid - principal_point.reshape(-1, 1, 2)) / focal.reshape(-1, 1, 1)
    in_camera = torch.stack([offset[..., 0], -offset[..., 1], -torch.ones_like(offset[..., 0])], dim=-1)
    rotmat = pose.to_matrix()
    # r R for row vectors is R' r: from the camera back to the object
    return pose.camera_centre()[:, None, :], in_camera @ rotmat


def _first_hit(origin: Tensor, direction: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slab test: the entry point [B, HW, 3], its face's axis and side, and whether the ray meets the box at all."""
    # a ray parallel to a slab has a zero component: a tiny one gives the same verdict without dividing by zero
    # its square is far below any direction that matters and still leaves the quotients finite in float32
    tiny = torch.finfo(direction.dtype).eps ** 2
    direction = torch.where(direction.abs() < tiny, torch.full_like(direction, tiny), direction)
    first = (bounds[:, None, 0] - origin) / direction
    second = (bounds[:, None, 1] - origin) / direction
    # the ray is in the box once it has entered all three slabs and until it leaves the first; the slab that it enters
    # last is the face it meets
    enter, axis = torch.minimum(first, second).max(dim=-1)
    leave = torch.maximum(first, second).amin(dim=-1)
    # a box behind the camera, or around it, is not hit
    hit = (enter < leave) & (enter > 0)
    # a ray that runs upwards along an axis comes in through the lower face. Where nothing is hit, point, axis and side
    # are finite numbers that mean nothing
    lower_side = direction.gather(-1, axis[..., None])[..., 0] > 0
    return origin + enter[..., None] * direction, axis, lower_side, hit


def _lattice_corners(
    cuboids: Cuboids, category: Tensor, point: Tensor, axis: Tensor, lower_side: Tensor, bounds: Tensor
) -> tuple[Tensor, Tensor]:
    """The four lattice vertices around each point of a face and their bilinear weights, [B, HW, 4] each."""
    segments = cuboids.segments[category][:, None, :]
    scaled = (point - bounds[:, None, 0]) / (bounds[:, None, 1] - bounds[:, None, 0]) * segments
    # rounding may put a point a little beside its face, a ray that misses puts it anywhere; clamped, its indices are
    # valid all the same
    scaled = torch.minimum(scaled.clamp_min(0), segments.to(scaled.dtype))
    # a point on the upper edge is at the end of the last cell, not at the start of one that is not there. The cell is
    # constant from point to point; the gradient flows through the fraction
    cell = torch.minimum(scaled.detach().floor().long(), segments - 1)
    fraction = scaled - cell
    # strides of the category's lookup table, x slowest
    sizes = segments + 1
    steps = torch.stack([sizes[..., 1] * sizes[..., 2], sizes[..., 2], torch.ones_like(sizes[..., 2])], dim=-1)
    steps = steps.expand_as(cell)
    axis = axis[..., None]
    # the two axes along which the face extends; which two differs from ray to ray, so they are gathered and not
    # branched on
    second, third = (axis + 1) % 3, (axis + 2) % 3
    # along the axis that the face is at right angles to, all four corners are at its start or its end: points of the
    # surface, so the lookup never answers with the -1 that it has inside the box
    on_axis = (
        torch.where(lower_side, 0, segments.expand_as(cell).gather(-1, axis)[..., 0]) * steps.gather(-1, axis)[..., 0]
    )
    cell_b, cell_c = cell.gather(-1, second)[..., 0], cell.gather(-1, third)[..., 0]
    step_b, step_c = steps.gather(-1, second)[..., 0], steps.gather(-1, third)[..., 0]
    frac_b, frac_c = fraction.gather(-1, second)[..., 0], fraction.gather(-1, third)[..., 0]
    base = cuboids.lookup_offset[category][:, None] + on_axis + cell_b * step_b + cell_c * step_c
    entries = torch.stack([base, base + step_b, base + step_c, base + step_b + step_c], dim=-1)
    weight = torch.stack(
        [(1 - frac_b) * (1 - frac_c), frac_b * (1 - frac_c), (1 - frac_b) * frac_c, frac_b * frac_c], dim=-1
    )
    return cuboids.vertex_lookup[entries], weight


def _silhouette_distance(bounds: Tensor, pose: Pose, focal: Tensor, principal_point: Tensor, grid: Tensor) -> Tensor:
    """Signed distance in pixels of each cell centre [B, HW] to the projected box, positive inside.

    The silhouette of a box is the convex polygon of the edges between a face that looks towards the camera and one that
    does not; outside a corner the distance to the nearest line is a lower bound, which is all a soft edge needs.
    """
    device = bounds.device
    corners = torch.where(_CORNERS.to(device).bool(), bounds[:, 1:2], bounds[:, 0:1])
    in_camera = pose.object_to_camera(corners)
    # a corner beside or behind the camera would be mirrored through it; relative to the distance, because units differ
    # from category to category
    depth = (-in_camera[..., 2:]).clamp_min(1e-6 * pose.distance.detach().abs().reshape(-1, 1, 1))
    flip = in_camera.new_tensor([1.0, -1.0])
    corners_px = principal_point.reshape(-1, 1, 2) + focal.reshape(-1, 1, 1) * in_camera[..., :2] * flip / depth
    # which faces are seen does not change for a small change of pose, so it needs no gradient. Numbered 2 * axis +
    # side, as `_EDGE_FACES` has them
    centre = pose.camera_centre().detach()
    seen = torch.stack([centre < bounds[:, 0], centre > bounds[:, 1]], dim=-1).reshape(-1, 6)
    edge_faces = _EDGE_FACES.to(device)
    on_silhouette = seen[:, edge_faces[:, 0]] != seen[:, edge_faces[:, 1]]
    start, end = corners_px[:, _EDGES[:, 0]], corners_px[:, _EDGES[:, 1]]
    along = end - start
    normal = torch.stack([-along[..., 1], along[..., 0]], dim=-1)
    # an edge that is seen end-on has no length; it is never on the silhouette, but without the clamp its NaN would
    # reach the gradient
    normal = normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True).clamp_min(1e-9)
    # the mean of the corners is inside every edge of the silhouette, which tells the side; detached, because a sign has
    # no gradient
    inward = ((corners_px.mean(dim=1, keepdim=True) - start) * normal).sum(-1, keepdim=True).detach().sign()
    normal = normal * inward
    distance = grid @ normal.transpose(1, 2) - (start * normal).sum(-1)[:, None, :]
    # the inside of a convex polygon is where all its edges' half planes meet, so the least of their distances is
    # positive there alone
    return distance.masked_fill(~on_silhouette[:, None, :], torch.inf).amin(dim=-1)
