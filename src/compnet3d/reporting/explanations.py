"""Pictures of an `Explanation`: each one alone, and one sheet that has all of them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from compnet3d.geometry.camera import Camera
from compnet3d.geometry.rotations import wrap_signed
from compnet3d.inference.explanation import CategoryExplanation, Explanation
from compnet3d.inference.prediction import shown_angles
from compnet3d.reporting import overlays
from compnet3d.reporting.plots import LIGHT, Plot, Theme, render_plot
from compnet3d.reporting.terminal import shown_category

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

SIDE = 480  # least side of a picture, in pixels
EXPLAINED, OCCLUDED = (46, 160, 90), (230, 95, 30)


def draw_pose(explanation: Explanation, shown: CategoryExplanation | None = None) -> Image.Image:
    """The category's CAD model, or its cuboid where there is none, with its axes over the crop.

    Args:
        explanation: of the image.
        shown: the category, `explanation.best` by default.

    Returns:
        RGB. The axes are those of `draw_overlay`.
    """
    shown = shown or explanation.best
    crop = _crop(explanation)
    zoom = crop.width / explanation.input_config.width
    camera = Camera(
        focal=torch.tensor(zoom * explanation.input_config.focal),
        principal_point=zoom * shown.principal_point,
        height=crop.height,
        width=crop.width,
    )
    return Image.fromarray(overlays.draw_overlay(crop, shown.mesh, shown.pose, camera, min_side=SIDE))


def draw_matches(explanation: Explanation, shown: CategoryExplanation | None = None) -> Image.Image:
    """The vertex that each cell matches (Eq. 7), in the colour of `vertex_colours`; grey where the background wins.

    Args:
        explanation: of the image.
        shown: the category, `explanation.best` by default.
    """
    shown = shown or explanation.best
    return _paint(explanation, _coloured(shown.matched_vertex, shown), shown.matched_vertex >= 0)


def draw_expected(explanation: Explanation, shown: CategoryExplanation | None = None) -> Image.Image:
    """The vertex that each cell should match if the pose is right, in the same colours as `draw_matches`.

    Args:
        explanation: of the image.
        shown: the category, `explanation.best` by default.
    """
    shown = shown or explanation.best
    return _paint(explanation, _coloured(shown.rendered_vertex, shown), shown.rendered_vertex >= 0)


def draw_regions(explanation: Explanation, shown: CategoryExplanation | None = None) -> Image.Image:
    """Green cells are explained by the object; orange ones are covered by it but explained by the background.

    Args:
        explanation: of the image.
        shown: the category, `explanation.best` by default.
    """
    shown = shown or explanation.best
    colours = torch.where(shown.explained[..., None], torch.tensor(EXPLAINED), torch.tensor(OCCLUDED))
    return _paint(explanation, colours, shown.explained | shown.occluded, strength=0.55)


def draw_hypotheses(shown: CategoryExplanation) -> Image.Image:
    """The score of every hypothesis by azimuth and elevation, the best over theta, with the pose that was found.

    A star is the pose after refinement, a ring the second-best pose where another fits nearly as well.

    Raises:
        CompNetError: if matplotlib is not installed.
    """

    def plot(theme: Theme) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 3.0))
        axes = figure.add_subplot()
        figure.colorbar(_plot_sphere(axes, shown, theme), ax=axes, label="score (- loss)")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        return figure

    return _rendered(plot)


def draw_sheet(explanation: Explanation) -> Image.Image:
    """All of it on one sheet: a row for the best category, and one for the runner-up.

    Raises:
        CompNetError: if matplotlib is not installed.
    """
    legend = (
        "Colours of vertices tell where on the object they are, the same in all images of a category: red grows to its "
        "right, green to its front, blue upwards.\n"
        "Green cells are explained by the object. Orange ones are covered by it, but the background explains them "
        "better: something hides the object there, or its box is larger than it is."
    )
    rows = [shown for shown in (explanation.best, explanation.runner_up) if shown is not None]

    def plot(theme: Theme) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(18, 0.7 + 3.4 * len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), 6, squeeze=False, width_ratios=(1, 1, 1, 1, 1, 1.7))
        for axes, shown in zip(grid, rows, strict=True):
            _plot_row(axes[1:], explanation, shown, theme)
        seen = overlays.enlarge(np.asarray(_crop(explanation)), min_side=SIDE)
        _show(grid[0, 0], Image.fromarray(seen), "what the network sees")
        if len(rows) > 1:
            _plot_scores(grid[1, 0], explanation, theme)
        figure.supxlabel(legend, fontsize=9)
        return figure

    return _rendered(plot)


def vertex_colours(vertices: Tensor) -> Tensor:
    """A colour for each vertex of a shape by its place in the shape's box, uint8 [K, 3].

    Red grows to the right (x), green to the front (-y) and blue upwards (z), as the axes are drawn: the same for all
    images.

    Args:
        vertices: [K, 3] in the object frame.
    """
    towards = vertices * vertices.new_tensor([1.0, -1.0, 1.0])
    low, high = towards.amin(dim=0), towards.amax(dim=0)
    place = (towards - low) / (high - low).clamp_min(1e-9)
    # from 40 on: black would not be seen on a dark image
    return (40 + 215 * place).round().to(torch.uint8)


def _coloured(vertex: Tensor, shown: CategoryExplanation) -> Tensor:
    return vertex_colours(shown.vertices)[vertex.clamp_min(0)]


def _crop(explanation: Explanation) -> Image.Image:
    return Image.fromarray(explanation.crop.permute(1, 2, 0).contiguous().numpy())


def _paint(explanation: Explanation, colours: Tensor, where: Tensor, strength: float = 0.8) -> Image.Image:
    """Cells [H, W] filled with colours [H, W, 3] over a grey version of the crop, of at least `SIDE` pixels."""
    grey = _crop(explanation).convert("L").convert("RGB")
    grey = Image.fromarray(overlays.enlarge(np.asarray(grey), min_side=SIDE))
    cells = torch.cat([colours, 255 * strength * where[..., None]], dim=-1).to(torch.uint8)
    # whole pixels a cell, as the input is a multiple of the stride
    layer = Image.fromarray(cells.numpy(), mode="RGBA").resize(grey.size, Image.Resampling.NEAREST)
    return Image.alpha_composite(grey.convert("RGBA"), layer).convert("RGB")


def _plot_row(axes: Sequence[Axes], explanation: Explanation, shown: CategoryExplanation, theme: Theme) -> None:
    """One category in five panels."""
    _show(axes[0], draw_pose(explanation, shown), _title(explanation, shown), _note(explanation, shown))
    matched, cells = int((shown.matched_vertex >= 0).sum()), shown.matched_vertex.numel()
    note = f"{matched} of {cells} cells match one better\nthan the background"
    _show(axes[1], draw_matches(explanation, shown), "matched vertices", note)
    _show(axes[2], draw_expected(explanation, shown), "vertices expected at the pose")
    explained, occluded = int(shown.explained.sum()), int(shown.occluded.sum())
    note = f"{explained} cells explained (green),\n{occluded} occluded (orange)"
    _show(axes[3], draw_regions(explanation, shown), "explained and occluded", note)
    image = _plot_sphere(axes[4], shown, theme)
    axes[4].set_title("score of the hypotheses")
    axes[4].figure.colorbar(image, ax=axes[4], label="score (- loss)")
    axes[4].legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _title(explanation: Explanation, shown: CategoryExplanation) -> str:
    answer, name = explanation.answer, shown.category
    if shown is not explanation.best:
        return name
    return shown_category(name, answer.unknown, f", {100 * answer.confidence:.0f} % sure")


def _note(explanation: Explanation, shown: CategoryExplanation) -> str:
    azimuth, elevation, theta = (f"{angle:.0f}\N{DEGREE SIGN}" for angle in shown_angles(shown.pose, degrees=True))
    scores = f"score {explanation.answer.scores[shown.category]:.3f}, reconstruction {shown.reconstruction_score:.3f}"
    return f"azimuth {azimuth}, elevation {elevation}\nin-plane rotation {theta}\n{scores}"


def _plot_sphere(axes: Axes, shown: CategoryExplanation, theme: Theme) -> QuadMesh:
    """The score over azimuth (from the back over the front to the back) and elevation, in degrees."""
    found = shown.hypotheses
    azimuth, order = wrap_signed(found.azimuth).rad2deg().sort()
    columns, rows = _edges(azimuth, 360 / len(azimuth)), _edges(found.elevation.rad2deg(), 30.0)
    image = axes.pcolormesh(columns, rows, -found.sphere[order].T, cmap="viridis")
    marks = [("pose found", shown.pose, "*", 170)]
    if shown.runner_up is not None:
        marks.append(("second-best pose", shown.runner_up, "o", 60))
    for label, pose, marker, size in marks:
        # into the range that the columns span, which need not be -180 to 180
        u = columns[0] + (math.degrees(float(pose.azimuth)) - columns[0]) % 360
        v = math.degrees(float(pose.elevation))
        axes.scatter(u, v, s=size, marker=marker, facecolor="white", edgecolor="black", label=label)
    ticks = [tick for tick in range(-180, 361, 60) if columns[0] <= tick <= columns[-1]]
    axes.set(xlabel="azimuth [deg], 0 is the front", ylabel="elevation [deg]", xticks=ticks)
    return image


def _edges(centres: Tensor, width: float) -> list[float]:
    """Borders of the cells around rising centres, [N + 1]; a single cell has this width."""
    between = ((centres[1:] + centres[:-1]) / 2).tolist()
    first, last = (float(centres[1] - centres[0]), float(centres[-1] - centres[-2])) if between else (width, width)
    return [float(centres[0]) - first / 2, *between, float(centres[-1]) + last / 2]


def _plot_scores(axes: Axes, explanation: Explanation, theme: Theme) -> None:
    """The scores of the best categories as dots: they differ by little, and bars from 0 would all look alike."""
    most = 6  # that the panel has room for
    ranked = sorted(explanation.answer.scores.items(), key=lambda item: -item[1])[:most]
    places = range(len(ranked))
    compared = {explanation.best.category, explanation.runner_up and explanation.runner_up.category}
    colours = [theme.accent if name in compared else theme.muted for name, _ in ranked]
    axes.scatter([score for _, score in ranked], places, s=45, c=colours)
    axes.locator_params(axis="x", nbins=4)
    axes.set_yticks(places, [name for name, _ in ranked])
    axes.set(ylim=(len(ranked) - 0.5, -0.5), title="best scores")
    axes.grid(axis="x")


def _show(axes: Axes, image: Image.Image, title: str, note: str = "") -> None:
    axes.imshow(np.asarray(image))
    axes.set(xticks=[], yticks=[], title=title, xlabel=note)
    axes.spines[:].set_visible(False)


def _rendered(plot: Plot) -> Image.Image:
    """A plot on white paper."""
    with Image.open(io.BytesIO(render_plot(plot, LIGHT))) as drawn:
        paper = Image.new("RGBA", drawn.size, "white")
        return Image.alpha_composite(paper, drawn.convert("RGBA")).convert("RGB")
