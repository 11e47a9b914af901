"""Plots of an evaluation and of a training, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compnet3d.errors import CompNetError
from compnet3d.utils.files import Json, write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from compnet3d.evaluation.reliability import Reliability


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
    # for this plot alone: the settings are the whole process's, and the user may plot too
    with matplotlib.rc_context(style):
        figure = plot(theme)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, transparent=True, bbox_inches="tight")
    return buffer.getvalue()


def check_figure(path: Path, option: str) -> None:
    """Check that `save_figure` will be able to draw into a file, before anything slow starts.

    Raises:
        CompNetError: if its ending is not .png or .svg, or matplotlib is not installed.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise CompNetError(f"{option} {path}: give it a name that ends in .png or .svg")
    require_matplotlib()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG or SVG file, see `check_figure`; on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=150)
    write_bytes(path, buffer.getvalue())


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

    # not through pyplot, which keeps figures alive and asks for a display
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
    """Classification accuracy per category as bars, lowest on top, with a dot for each pose metric (shares 0 ... 1).

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


def plot_reliability(series: Mapping[str, Reliability]) -> Plot:
    """What is right over how confident the answers are, and below it how many answers are so confident."""

    def plot(theme: Theme) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.6, 4.6))
        upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"hspace": 0.1, "height_ratios": (3, 1)})
        upper.plot((0, 100), (0, 100), color=theme.muted, linewidth=1.0, linestyle=(0, (4, 3)))
        for (name, found), colour in zip(series.items(), (theme.accent, theme.second, theme.third), strict=False):
            full = [entry for entry in found.bins if entry.images]
            x, y = ([100 * float(getattr(e, key) or 0.0) for e in full] for key in ("confidence", "accuracy"))
            sizes = [3 + 250 * entry.images / found.images for entry in full]
            label = f"{name}: ECE {100 * found.ece:.1f} %"
            # a dot's area says how many images it is of; no lines, which would lead the eye to those of one or two
            upper.scatter(x, y, s=sizes, color=colour, zorder=3, label=label)
            edges = np.linspace(0, 100, len(found.bins) + 1)
            share = [100 * entry.images / found.images for entry in found.bins]
            lower.stairs(share, edges, color=colour, linewidth=1.4)
        upper.set(ylabel="right [%]", xlim=(0, 101), ylim=(0, 101))
        lower.set(xlabel="confidence [%]", ylabel="images [%]")
        for axes in (upper, lower):
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        legend = upper.legend(loc="lower right")
        for handle in legend.legend_handles:
            handle.set_sizes([30])
        return figure

    return plot


def plot_training(history: Sequence[Json]) -> Plot:
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
            ("classification_loss", "classification", theme.text, 1.2),
            ("pose_contrastive_loss", "pose contrastive", theme.third, 1.2),
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
