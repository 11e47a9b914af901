"""The initial poses of a category, and Eq. 8 for all of them at once.

A table notes which vertex each cell shows in each pose, so that the loss of a pose is gathered from similarities that
are computed once per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from compnet3d.data.transforms import CropMode, InputConfig
from compnet3d.geometry.camera import Pose, fit_to_box, pose_grid
from compnet3d.geometry.mesh import Mesh
from compnet3d.rendering.fragments import Fragments
from compnet3d.utils.checks import check_shape
from compnet3d.utils.settings import check_ranges, setting

# category numbers [N], poses [N], principal points [N, 2], softness -> fragments of N renderings
Renderer = Callable[[Tensor, Pose, Tensor, float], Fragments]


@dataclass(frozen=True)
class PoseGrid:
    """The initial poses, 10,000 at most: see `pose_grid`. Angles in radians.

    Raises:
        ValueError: if they are more, or a number is out of range.
    """

    azimuths: int = setting(12, least=1, most=360)
    elevations: int = setting(4, least=1, most=360)
    thetas: int = setting(3, least=1, most=360)
    elevation_range: tuple[float, float] = setting((-math.pi / 6, math.pi / 3), least=-7, most=7)
    theta_range: tuple[float, float] = setting((-math.pi / 6, math.pi / 6), least=-7, most=7)

    def __post_init__(self) -> None:
        check_ranges(self)
        if (count := self.azimuths * self.elevations * self.thetas) > 10_000:
            raise ValueError(f"azimuths x elevations x thetas must be at most 10,000, not {count:,}")


@dataclass(frozen=True)
class InitialPoses:
    """What the initial poses of a category are seen by; tables of equal ones are alike.

    Attributes:
        grid: their angles.
        input_config: the network's input, with its canonical camera.
        crop: after an oracle crop distance and principal point are known; after a box crop each pose gets those with
            which the object fills the box.
        drawn: how shapes are drawn, anything that compares.
        device: where the tables are.
    """

    grid: PoseGrid
    input_config: InputConfig
    crop: CropMode = "oracle"
    drawn: Hashable = ()
    device: torch.device = torch.device("cpu")

    def make(self, points: Tensor) -> tuple[Pose, Tensor]:
        """Poses [P] and principal points [P, 2] for an object whose surface has these points [V, 3]."""
        given = self.input_config
        pose = pose_grid(**asdict(self.grid), distance=given.distance).to(self.device)
        # an oracle crop is cut so that the object's origin is at its centre
        centre = torch.tensor([[given.width / 2, given.height / 2]], device=self.device)
        principal_point = centre.expand(len(pose.azimuth), 2)
        if self.crop == "box":
            side = given.box_fill * min(given.height, given.width)
            pose, principal_point = fit_to_box(points.to(self.device), pose, given.camera(principal_point), side)
        return pose, principal_point


@dataclass(frozen=True)
class PoseHypotheses:
    """The initial poses of one category, rendered once and shared by all images.

    Attributes:
        pose: [P]; principal_point: [P, 2].
        nearest_vertex: int16 [H W, P]: the vertex that weighs most in each cell, K where the cell is background. The
            cell comes first, so that looking up all poses of a cell stays within its K similarities.
        vertex_count: K of the category.
    """

    pose: Pose
    principal_point: Tensor
    nearest_vertex: Tensor
    vertex_count: int

    def at(self, cells: Tensor) -> PoseHypotheses:
        """The same starts seen in some of the cells, int64 [N]."""
        return replace(self, nearest_vertex=self.nearest_vertex[cells])


def build_pose_hypotheses(
    render: Renderer, category: int, vertex_count: int, pose: Pose, principal_point: Tensor
) -> PoseHypotheses:
    """Render the initial poses of a category.

    Args:
        render: the renderer; category: number of the category; vertex_count: its K.
        pose: [P]; principal_point: [P, 2].
    """
    numbers = torch.full(pose.shape, category, dtype=torch.int64, device=principal_point.device)
    fragments = render(numbers, pose, principal_point, 0.0)
    # one vertex in place of four makes the table and its look-ups a quarter as large; initial poses are far apart, and
    # the refinement takes all four
    heaviest = fragments.weight.argmax(dim=-1, keepdim=True)
    vertex = fragments.vertex_index.gather(-1, heaviest)[..., 0]
    vertex = torch.where(fragments.foreground > 0.5, vertex, vertex_count)
    # int16 keeps a table of 144 poses x 8000 cells at 2.3 MB
    # K itself, the number for background, must fit as well
    dtype = torch.int16 if vertex_count < torch.iinfo(torch.int16).max else torch.int32
    return PoseHypotheses(pose, principal_point, vertex.flatten(1).T.to(dtype).contiguous(), vertex_count)


def search_hypotheses(
    similarity: Tensor,
    background: Tensor,
    table: PoseHypotheses,
    *,
    truncation: float | None = None,
    margin: float = 0.0,
) -> Tensor:
    """Eq. 8 for every initial pose of the table, with each cell's nearest vertex standing for the weighted four.

    Args:
        similarity: f_i . C_k of the category, [B, H W, K], or wider where padded.
        background: max_n f_i . beta_n, [B, H W].
        table: the category's starts, P of them.
        truncation: see `PoseSettings`.
        margin: see `PoseSettings.foreground_bonus`.

    Returns:
        L(alpha) averaged over the cells, less the margin for every covered cell, [B, P].
    """
    if __debug__ and similarity.shape[-1] < table.vertex_count:
        raise ValueError(f"similarity must have at least K = {table.vertex_count} columns, got {similarity.shape[-1]}")
    check_shape("similarity", similarity, ("B", len(table.nearest_vertex), "K"))
    check_shape("background", background, similarity.shape[:2])
    # a gather takes int64 alone; widened once for all images
    count, index = table.vertex_count, table.nearest_vertex.long()
    # one more column holds the background, so that a gather serves covered and uncovered cells alike
    options = similarity.new_empty(similarity.shape[1], count + 1)
    losses = []
    # image by image, because one array of [H W, K + 1] is then used again and again and [B, H W, P] is never made
    for image, limit in zip(similarity[..., :count], background[..., None], strict=True):
        if truncation is None:
            options[:, :count] = image
        else:
            # a covered cell gains f . C - beta but loses `truncation` at most
            torch.maximum(image, limit - truncation, out=options[:, :count])
        # less the margin where nothing is drawn, and the margin for all cells below: what is left of it is a bonus for
        # each covered cell
        options[:, count:] = limit - margin
        losses.append(-(options.gather(1, index).mean(dim=0) + margin))
    return torch.stack(losses)


class PoseSearch:
    """The initial poses of a model's categories, rendered on first use and kept until what they show has changed."""

    def __init__(self) -> None:
        self._tables: dict[tuple[int, CropMode], tuple[InitialPoses, Mesh, PoseHypotheses]] = {}

    def hypotheses(
        self, category: int, vertex_count: int, initial: InitialPoses, mesh: Mesh, render: Renderer
    ) -> PoseHypotheses:
        """The table of a category.

        Args:
            category: its number; vertex_count: its K.
            initial: what the poses are seen by; mesh: what fills the box after a box crop; render: the renderer. A
                table made with another `initial` or, after a box crop, another mesh is out of date.
        """
        # one table for each kind of crop, so that using both in turn renders nothing again
        key = category, initial.crop
        kept = self._tables.get(key)
        # after an oracle crop the surface has no part in where the poses are
        if kept is not None and kept[0] == initial and (kept[1] is mesh or initial.crop == "oracle"):
            return kept[2]
        table = build_pose_hypotheses(render, category, vertex_count, *initial.make(mesh.vertices))
        self._tables[key] = initial, mesh, table
        return table
