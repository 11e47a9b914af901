"""A plot of several runs, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compnet3d.reporting.runs import RunSummary, labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_runs(runs: Sequence[RunSummary]) -> Figure:
    """Loss of each epoch, one line a run, and below it the accuracy on the calibration split where logs have it."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = [(label, run) for label, run in zip(labels(runs), runs, strict=True) if run.history]
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for number, (label, run) in enumerate(shown):
        # the eleventh run has the first one's colour, and another line
        style = {"color": colormaps["tab10"](number % 10), "linestyle": ("-", "--", ":", "-.")[number // 10 % 4]}
        label += "" if run.state == "done" else f" ({run.state})"
        losses = [(entry["epoch"], entry["loss"]) for entry in run.history if "loss" in entry]
        measured = [(e["epoch"], 100 * e["calibration_accuracy"]) for e in run.history if "calibration_accuracy" in e]
        for axes, points, marker in ((upper, losses, ""), (lower, measured, "o")):
            if points:
                axes.plot(*zip(*points, strict=True), label=label, marker=marker, markersize=3.5, **style)
    upper.set(ylabel="loss")
    lower.set(ylabel="calibration accuracy [%]", xlabel="epoch")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    if shown:
        figure.legend(*upper.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure
