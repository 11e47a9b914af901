"""Pictures: the projected model over an image, feature activations, and the plots of a report.

Pictures are uint8 [H, W, 3]. Plots are matplotlib figures (the extra `viz`), in one style for light and dark pages.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import max_pool2d

from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.mesh import Mesh
from compnet3d.rendering.raster import rasterize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODEL_COLOUR = (64, 190, 220)
AXIS_COLOURS = {"x": (235, 64, 52), "y": (40, 190, 80), "z": (60, 110, 250)}
_SUPERSAMPLING = 2
_CREASE_COSINE = math.cos(math.radians(35))
_MOST_CREASES = 0.03


def draw_overlay(
    image: np.ndarray | Image.Image, mesh: Mesh, pose: Pose, camera: Camera, *, min_side: int = 320, axes: bool = True
) -> np.ndarray:
    """Draw a model at a pose over an image: translucent shaded surface, outline, and the object's axes.

    The axes start at the object's origin: x (right, for someone who sees the front) is red, z (up) blue, and the green
    arrow points to where the front faces (-y).

    Args:
        image: uint8 [H, W, 3] or a PIL image in RGB, of the camera's size.
        mesh: in the object frame, CAD units.
        pose: a single pose, shape [].
        camera: a single camera of the image.
        min_side: small images are enlarged by a whole factor until their longer side has this many pixels.
        axes: whether to draw the axes.

    Returns:
        uint8 [s H, s W, 3] for the enlargement s.
    """
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if picture.size != (camera.width, camera.height):
        raise ValueError(f"the image is {picture.size} pixels, the camera {(camera.width, camera.height)}")
    factor = max(1, math.ceil(min_side / max(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    canvas = picture.convert("RGBA").resize(size, Image.Resampling.BICUBIC)
    zoom = factor * _SUPERSAMPLING
    close_up = Camera(
        focal=camera.focal * zoom,
        principal=camera.principal * zoom,
        height=camera.height * zoom,
        width=camera.width * zoom,
    )
    layer = Image.fromarray(_model_layer(mesh, pose, close_up))
    if axes:
        _draw_axes(ImageDraw.Draw(layer), mesh, pose, close_up)
    # Colours are premultiplied while shrinking, or the transparent black outside would darken the outline.
    canvas.alpha_composite(layer.convert("RGBa").resize(size, Image.Resampling.BOX).convert("RGBA"))
    return np.asarray(canvas.convert("RGB"))


def _model_layer(mesh: Mesh, pose: Pose, camera: Camera) -> np.ndarray:
    """The shaded model with its outline as RGBA, uint8 [H, W, 4]."""
    vertices = pose.object_to_camera(mesh.vertices.to(pose.azimuth))[None]
    faces = mesh.faces.to(vertices.device)
    raster = rasterize(
        vertices,
        faces,
        focal=camera.focal.reshape(1),
        principal=camera.principal.reshape(1, 2),
        height=camera.height,
        width=camera.width,
    )
    face = raster.face_index[0]
    hit = face >= 0
    if not bool(hit.any()):
        return np.zeros((camera.height, camera.width, 4), dtype=np.uint8)
    normal = _facing_normals(vertices[0], faces)[face.clamp_min(0)]
    light = torch.nn.functional.normalize(normal.new_tensor([-0.4, 0.8, 0.6]), dim=0)
    shade = 0.45 + 0.4 * (normal @ light).clamp_min(0) + 0.25 * normal[..., 2].clamp_min(0)
    colour = (shade[..., None] * normal.new_tensor(MODEL_COLOUR)).clamp(0, 255)
    alpha = torch.where(hit, 0.5, 0.0)
    width = max(2, round(min(camera.height, camera.width) / 220))
    crease = _creases(normal, hit)
    # A rough scan bends everywhere: lines all over it would hide the object.
    crease = _grow(crease, width // 2) if crease.sum() < _MOST_CREASES * hit.sum() else crease & False
    outline = _grow(hit, width) & ~_grow_inside(hit, width // 2)
    colour = torch.where(crease[..., None], colour.new_tensor([255.0, 255.0, 255.0]), colour)
    alpha = torch.where(crease & hit, 0.55, alpha)
    colour = torch.where(outline[..., None], colour.new_tensor([250.0, 250.0, 250.0]), colour)
    alpha = torch.where(outline, 0.95, alpha)
    return torch.cat([colour, 255 * alpha[..., None]], dim=-1).round().to(torch.uint8).cpu().numpy()


def _facing_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit face normals [F, 3] in camera axes, turned towards the viewer where a face is wound the other way."""
    a, b, c = vertices[faces].unbind(dim=1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
    away = (normal * (a + b + c)).sum(dim=-1, keepdim=True) > 0
    return torch.where(away, -normal, normal)


def _creases(normal: Tensor, hit: Tensor) -> Tensor:
    """Pixels of the model where the surface bends sharply towards the next pixel, bool [H, W]."""
    crease = torch.zeros_like(hit)
    for dim in (0, 1):
        first, second = normal.narrow(dim, 0, normal.shape[dim] - 1), normal.narrow(dim, 1, normal.shape[dim] - 1)
        both = hit.narrow(dim, 0, hit.shape[dim] - 1) & hit.narrow(dim, 1, hit.shape[dim] - 1)
        bends = both & ((first * second).sum(dim=-1) < _CREASE_COSINE)
        crease.narrow(dim, 0, hit.shape[dim] - 1).logical_or_(bends)
    return crease


def _grow(mask: Tensor, radius: int) -> Tensor:
    """A mask [H, W] and all pixels within `radius` (a square) of it."""
    if radius < 1:
        return mask
    return max_pool2d(mask[None, None].float(), 2 * radius + 1, stride=1, padding=radius)[0, 0] > 0


def _grow_inside(mask: Tensor, radius: int) -> Tensor:
    """The mask without the pixels within `radius` of its border."""
    return ~_grow(~mask, radius)


def _draw_axes(draw: ImageDraw.ImageDraw, mesh: Mesh, pose: Pose, camera: Camera) -> None:
    low, high = mesh.vertices.amin(dim=0), mesh.vertices.amax(dim=0)
    reach = 0.35 * float((high - low).max())
    # Each arrow ends outside the model, so that it shows where the surface would hide it.
    tips = torch.tensor(
        [
            [float(high[0].clamp_min(0)) + reach / 2, 0, 0],
            [0, float(low[1].clamp_max(0)) - reach / 2, 0],
            [0, 0, float(high[2].clamp_min(0)) + reach / 2],
        ]
    )
    points = torch.cat([torch.zeros(1, 3), tips]).to(pose.azimuth)
    pixels, depth = camera.project(points, pose)
    if float(depth[0]) <= 0:
        return
    width = max(2, round(min(camera.height, camera.width) / 90))
    start = (float(pixels[0, 0]), float(pixels[0, 1]))
    for i in sorted((1, 2, 3), key=lambda i: -float(depth[i])):
        if float(depth[i]) > 0:
            name = "xyz"[i - 1]
            end = (float(pixels[i, 0]), float(pixels[i, 1]))
            _draw_arrow(draw, start, end, AXIS_COLOURS[name], width + (width // 3 if name == "y" else 0))


def _draw_arrow(
    draw: ImageDraw.ImageDraw,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: tuple[int, int, int],
    width: int,
) -> None:
    """An arrow with a dark rim, so that it can be seen on any picture."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    if length < 1e-3:
        return
    dx, dy = dx / length, dy / length
    head = min(4.0 * width, 0.6 * length)
    for rim, fill in ((max(1, width // 2), (20, 20, 20, 200)), (0, (*colour, 255))):
        half, tip = 0.45 * head + rim, head + rim
        neck = (end[0] - dx * head, end[1] - dy * head)
        point = (neck[0] + dx * tip, neck[1] + dy * tip)
        sides = [(neck[0] - s * dy * half - dx * rim, neck[1] + s * dx * half - dy * rim) for s in (1, -1)]
        draw.line([start, neck], fill=fill, width=width + 2 * rim)
        draw.polygon([point, *sides], fill=fill)


def draw_activation(image: np.ndarray, activation: Tensor | np.ndarray, *, min_side: int = 320) -> np.ndarray:
    """A heat-map over a grey version of the image, enlarged like `draw_overlay`.

    Args:
        image: uint8 [H, W, 3].
        activation: [h, w], any range: the lowest value is shown dark, the highest bright.
        min_side: as in `draw_overlay`.
    """
    picture = Image.fromarray(image)
    factor = max(1, math.ceil(min_side / max(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    values = np.asarray(activation, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    scaled = Image.fromarray((values - low) / max(high - low, 1e-9))
    strength = np.asarray(scaled.resize(size, Image.Resampling.BICUBIC)).clip(0, 1)[..., None]
    grey = np.asarray(picture.convert("L").convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    heat = _heat(strength[..., 0])
    return (grey * (0.55 - 0.4 * strength) + heat * (0.3 + 0.6 * strength)).clip(0, 255).astype(np.uint8)


def _heat(strength: np.ndarray) -> np.ndarray:
    """Dark violet over red to light yellow, float32 [..., 3] in 0 ... 255, for values in 0 ... 1."""
    stops = np.array([[20, 8, 60], [110, 25, 120], [205, 60, 90], [250, 145, 40], [252, 250, 170]], dtype=np.float32)
    position = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(strength, position, stops[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def enlarge(image: np.ndarray, *, min_side: int = 320) -> np.ndarray:
    """An image enlarged like `draw_overlay` does it."""
    picture = Image.fromarray(image)
    factor = max(1, math.ceil(min_side / max(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


def side_by_side(pictures: Sequence[np.ndarray], *, gap: int = 4) -> np.ndarray:
    """Pictures of one height in a row with a white gap between them."""
    height = max(p.shape[0] for p in pictures)
    space = np.full((height, gap, 3), 255, dtype=np.uint8)
    row: list[np.ndarray] = []
    for picture in pictures:
        row += [picture, space]
    return np.concatenate(row[:-1], axis=1)


def encode_png(picture: np.ndarray) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


@dataclass(frozen=True)
class Theme:
    """Colours of a plot on a light or a dark page."""

    text: str
    grid: str
    accent: str
    second: str
    third: str
    muted: str
    ramp: tuple[str, str]


LIGHT = Theme("#1f2933", "#d9dee4", "#1f6fb4", "#d9682b", "#2e8b57", "#aab4be", ("#ffffff", "#12497c"))
DARK = Theme("#e4e8ec", "#3a424b", "#5aa9e6", "#f0955b", "#6fcf97", "#66717c", ("#171c22", "#8cc8f5"))
Plot = Callable[[Theme], "Figure"]


def render_plot(plot: Plot, theme: Theme) -> bytes:
    """Draw a plot with a theme, on a transparent background, as a PNG file.

    Raises:
        CompNetError: if matplotlib is not installed.
    """
    matplotlib = require_matplotlib()
    style = {
        "text.color": theme.text,
        "axes.labelcolor": theme.text,
        "axes.edgecolor": theme.grid,
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": theme.text,
        "ytick.color": theme.text,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "grid.color": theme.grid,
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "font.family": "sans-serif",
    }
    with matplotlib.rc_context(style):
        figure = plot(theme)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, transparent=True, bbox_inches="tight")
    return buffer.getvalue()


def require_matplotlib() -> Any:
    """The package matplotlib, imported only where a plot is drawn.

    Raises:
        CompNetError: if it is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise CompNetError("plots need matplotlib: pip install 'compnet3d[viz]'") from None
    return matplotlib


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def plot_error_histogram(errors_deg: Mapping[str, Sequence[float]]) -> Plot:
    """Histogram of rotation errors in degrees: the first series filled, the second as a line over it."""

    def plot(theme: Theme) -> Figure:
        figure, axes = _figure(6.4, 2.8)
        edges = np.arange(0, 181, 5)
        for i, (name, values) in enumerate(errors_deg.items()):
            share = 100 * np.histogram(values, edges)[0] / max(1, len(values))
            if i == 0:
                axes.stairs(share, edges, fill=True, color=theme.accent, alpha=0.75, label=name)
            else:
                axes.stairs(share, edges, color=theme.second, linewidth=1.6, label=name)
        top = axes.get_ylim()[1]
        for limit, label in ((10, "pi/18"), (30, "pi/6")):
            axes.axvline(limit, color=theme.text, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.text(limit + 1, top * 0.97, label, fontsize=8, va="top")
        axes.set(xlabel="rotation error [degrees]", ylabel="images [%]", xlim=(0, 180), xticks=range(0, 181, 30))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.legend(loc="upper right")
        return figure

    return plot


def plot_confusion(matrix: np.ndarray, categories: Sequence[str]) -> Plot:
    """Confusion matrix, rows = true category, each row as shares; numbers in the cells where there is room."""

    def plot(theme: Theme) -> Figure:
        from matplotlib.colors import LinearSegmentedColormap

        count = len(categories)
        side = min(8.5, 1.8 + 0.24 * count)
        figure, axes = _figure(side, side)
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap=LinearSegmentedColormap.from_list("ramp", theme.ramp), vmin=0, vmax=1)
        axes.spines[:].set_visible(True)
        if count <= 60:
            axes.set_xticks(range(count), categories, rotation=90)
            axes.set_yticks(range(count), categories)
        if count <= 30:
            for i, j in zip(*np.nonzero(matrix), strict=True):
                strong = share[i, j] > 0.5
                colour = theme.ramp[0] if strong else theme.text
                axes.text(j, i, f"{int(matrix[i, j])}", ha="center", va="center", fontsize=6.5, color=colour)
        axes.set(xlabel="predicted", ylabel="true")
        axes.tick_params(length=0)
        return figure

    return plot


def plot_category_bars(
    names: Sequence[str], accuracy: Sequence[float], pose: Mapping[str, Sequence[float | None]]
) -> Plot:
    """Classification accuracy per category as bars, lowest on top, with a dot for each pose figure (shares 0 ... 1).

    With more than 40 categories only the 40 lowest are shown.
    """

    def plot(theme: Theme) -> Figure:
        order = sorted(range(len(names)), key=lambda i: (accuracy[i], names[i]))[:40]
        figure, axes = _figure(6.4, 0.9 + 0.22 * len(order))
        rows = np.arange(len(order))
        axes.barh(rows, [100 * accuracy[i] for i in order], height=0.62, color=theme.accent, label="classification")
        marks = ((theme.second, "o"), (theme.text, "D"))
        for (label, values), (colour, marker) in zip(pose.items(), marks, strict=False):
            shown = [(row, 100 * v) for row, i in zip(rows, order, strict=True) if (v := values[i]) is not None]
            axes.scatter(
                [v for _, v in shown], [r for r, _ in shown], s=22, color=colour, marker=marker, label=label,
                edgecolors=theme.ramp[0], linewidths=0.7, zorder=3,
            )  # fmt: skip
        axes.set_yticks(rows, [names[i] for i in order])
        axes.set(xlabel="accuracy [%]", xlim=(0, 102), ylim=(len(order) - 0.4, -0.6))
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
        return figure

    return plot


def plot_training(history: Sequence[dict[str, Any]]) -> Plot:
    """Loss per epoch, and below it the accuracy on the calibration split where the log has it."""

    def plot(theme: Theme) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 3.6))
        upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"hspace": 0.15})
        epochs = [entry["epoch"] for entry in history]
        parts = (
            ("loss", "loss", theme.accent, 2.0),
            ("in_category_loss", "in category", theme.muted, 1.2),
            ("cross_category_loss", "cross category", theme.second, 1.2),
            ("matching_loss", "matching", theme.text, 1.2),
            ("posing_loss", "posing", theme.third, 1.2),
        )
        for key, label, colour, width in parts:
            # a part that the recipe does without is zero
            if all(key in entry for entry in history) and any(entry[key] for entry in history):
                upper.plot(epochs, [entry[key] for entry in history], color=colour, label=label, linewidth=width)
        measured = [(e["epoch"], 100 * e["calibration_accuracy"]) for e in history if "calibration_accuracy" in e]
        if measured:
            lower.plot(*zip(*measured, strict=True), color=theme.accent, marker="o", markersize=3.5)
        upper.set(ylabel="loss")
        upper.legend()
        lower.set(ylabel="calibration\naccuracy [%]", xlabel="epoch")
        for axes in (upper, lower):
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        return figure

    return plot
