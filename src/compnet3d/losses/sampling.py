"""What a training step draws at random, vertices, queries and cells, and which vertices it leaves out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from compnet3d.geometry.camera import Pose
from compnet3d.geometry.rotations import FLIP_ANGLE, half_turn_shows, half_turned, symmetric_rotation_error
from compnet3d.utils.checks import check_integer, check_shape


def uniform(shape: Sequence[int], generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Uniform random numbers in [0, 1), drawn where the generator is, on the device."""
    # where the generator is and not where the result goes, so that a CPU generator gives the same draws on every device
    return torch.rand(tuple(shape), generator=generator, device=_place(generator)).to(device)


def _check_count(name: str, count: int | None) -> None:
    if __debug__ and count is not None and count < 1:
        raise ValueError(f"{name} must be at least 1 or None, got {count}")


def _place(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


def sample_vertices(
    offsets: Tensor,
    samples_per_category: int | None,
    generator: torch.Generator | None = None,
    categories: Tensor | None = None,
) -> Tensor:
    """S(C_y) of Eq. 3: draw vertices uniformly and without replacement from every category.

    Args:
        offsets: where each category's vertices start in the flat bank, int64 [Y + 1].
        samples_per_category: N; None or a number of at least K takes all vertices of a category.
        generator: source of randomness, on any device.
        categories: draw from these alone, int64 [C] in rising order; from all by default.

    Returns:
        Flat vertex numbers, int64 [M], ordered by category.
    """
    check_shape("offsets", offsets, ("Y + 1",))
    check_integer(offsets=offsets)
    _check_count("samples_per_category", samples_per_category)
    starts, counts = offsets[:-1], offsets.diff()
    if categories is not None:
        starts, counts = starts[categories], counts[categories]
    if not len(counts):
        return offsets.new_zeros(0)
    widest = int(counts.max())
    within = torch.arange(widest, device=offsets.device).expand(len(counts), -1)
    if samples_per_category is not None and samples_per_category < widest:
        # the N largest of random numbers are N random vertices; those past the end of a category come last
        draw = uniform(within.shape, generator, offsets.device).masked_fill_(within >= counts[:, None], -1.0)
        within = draw.topk(samples_per_category, dim=1).indices
    return (starts[:, None] + within)[within < counts[:, None]]


def draw_queries(valid: Tensor, count: int | None, generator: torch.Generator | None = None) -> Tensor:
    """Draw queries uniformly from each image's visible vertices; the mean over them estimates that over all.

    Args:
        valid: bool [B, Q]; count: at most this many of each image, None keeps all; generator: on any device.

    Returns:
        Positions along Q, int64 [B, min(count, Q)]; where an image has fewer valid ones, invalid ones fill up.
    """
    check_shape("valid", valid, ("B", "Q"))
    _check_count("count", count)
    if count is None or count >= valid.shape[1]:
        return torch.arange(valid.shape[1], device=valid.device).expand(len(valid), -1)
    draw = uniform(valid.shape, generator, valid.device)
    # valid ones have 1 to 2, others 0 to 1: random among the valid, which all come before the rest
    return (draw + valid.float()).topk(count, dim=1).indices


def draw_cells(feature_map: Tensor, count: int | None, generator: torch.Generator | None = None) -> Tensor:
    """Some cells of feature maps, drawn uniformly and the same for all images: S_y over them estimates that over all.

    Args:
        feature_map: [B, D, H, W]; count: how many, None or at least H W keeps all; generator: on any device.

    Returns:
        [B, D, count, 1], or the map as it is.
    """
    check_shape("feature_map", feature_map, ("B", "D", "H", "W"))
    _check_count("count", count)
    cells = feature_map.flatten(2)
    if count is None or count >= cells.shape[2]:
        return feature_map
    drawn = torch.randperm(cells.shape[2], generator=generator, device=_place(generator))[:count].to(cells.device)
    return cells.index_select(2, drawn)[..., None]


def near_vertices(vertices: Tensor, vertex: Tensor, radius: float, *, half_turn: bool = False) -> Tensor:
    """Near-vertex exclusion: which vertices of the category lie within `radius` of each query's vertex.

    The paper contrasts with "distanced" vertices of the same object; neighbours look alike and would only add noise.

    Args:
        vertices: vertex positions [B, K, 3]; vertex: int64 [B, Q]; radius: in the units of the vertices.
        half_turn: of where half a turn about z takes the query's vertex, instead of the vertex itself.

    Returns:
        bool [B, Q, K], True within the radius (the vertex itself included).
    """
    check_shape("vertices", vertices, ("B", "K", 3))
    check_shape("vertex", vertex, (len(vertices), "Q"))
    check_integer(vertex=vertex)
    positions = vertices.gather(1, vertex[..., None].expand(-1, -1, 3))
    if half_turn:
        positions = positions * positions.new_tensor([-1.0, -1.0, 1.0])
    return torch.cdist(positions, vertices) < radius


def draw_negative_poses(
    pose: Pose, order: Tensor, count: int, generator: torch.Generator, flips: int = 0
) -> tuple[Pose, Tensor]:
    """Poses for an image to be told from its own: turned by any angle, elevation and theta those of other images.

    Args:
        pose: of a batch, [B]; order: of its objects' symmetry (see `symmetric_rotation_error`), int [B]; count: P;
        generator: on any device.
        flips: how many of the P, the last ones, are the image's own pose after half a turn about the object's vertical
            axis, but for up to 10 degrees in azimuth and elevation. Objects that half a turn leaves as they are have
            none of them.

    Returns:
        Poses [B, 1 + P], the image's own first and its distance for all; which of the P others are at least
        25 degrees away from its own and from those that look the same, bool [B, P].
    """
    # by which a flipped pose is off at most; within which poses are not told from the true one
    most_jitter, least_angle = math.radians(10), math.radians(25)
    check_shape("order", order, (len(pose.azimuth),))
    images, device = len(pose.azimuth), pose.azimuth.device
    turn = 2 * math.pi * uniform((images, 1 + count), generator, device)
    # elevation and theta as other images of the batch have them, so that no negative pose is told by being unusual; the
    # product may round to `images` itself, hence the limit
    donor = (images * uniform((images, 1 + count), generator, device)).long().clamp_max(images - 1)
    turn[:, 0], donor[:, 0] = 0.0, torch.arange(images, device=device)
    elevation, theta = pose.elevation[donor], pose.theta[donor]
    if flips:
        # drawn after the rest, and not at all where there are none: the other poses are the same with and without
        jitter = most_jitter * (2 * uniform((2, images, flips), generator, device) - 1)
        shows, last = half_turn_shows(order)[:, None], slice(1 + count - flips, None)
        turn[:, last] = torch.where(shows, math.pi + jitter[0], turn[:, last])
        elevation[:, last] = torch.where(shows, pose.elevation[:, None] + jitter[1], elevation[:, last])
        theta[:, last] = torch.where(shows, pose.theta[:, None], theta[:, last])
    poses = Pose(
        azimuth=pose.azimuth[:, None] + turn,
        elevation=elevation,
        theta=theta,
        distance=pose.distance[:, None].expand(-1, 1 + count),
    )
    # a donor's pose may look like the own one, by chance or by symmetry; to push the two apart would teach a difference
    # that no image shows
    own, others = poses.to_matrix().split([1, count], dim=1)
    return poses, _angles_apart(others, own, order) >= least_angle


def flipped_poses(poses: Pose, order: Tensor) -> Tensor:
    """Which of each image's other poses are its own one turned round, bool [B, P].

    Args:
        poses: [B, 1 + P], the image's own first; order: of the objects' symmetry, int [B]. Those that half a turn about
            z leaves as they are have no flipped pose.
    """
    own, others = poses.to_matrix().split([1, poses.azimuth.shape[1] - 1], dim=1)
    return half_turn_shows(order)[:, None] & (_angles_apart(others, half_turned(own), order) < FLIP_ANGLE)


def _angles_apart(others: Tensor, own: Tensor, order: Tensor) -> Tensor:
    """`symmetric_rotation_error` of rotations [B, P, 3, 3] against one of each image, [B, 1, 3, 3]: [B, P]."""
    count = others.shape[1]
    angle = symmetric_rotation_error(
        others.flatten(0, 1), own.expand_as(others).flatten(0, 1), order.repeat_interleave(count)
    )
    return angle.view(len(order), count)
