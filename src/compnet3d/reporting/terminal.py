"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compnet3d.utils.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from compnet3d.evaluation.metrics import PoseMetrics
    from compnet3d.evaluation.result import EvaluationResult, Resources
    from compnet3d.evaluation.unseen_result import UnseenResult

POSE_ROWS = {
    "true_category": "true category given",
    "predicted_category": "predicted category",
    "joint": "joint: category and pose correct",
    "unseen": "category unseen",
}
POSE_COLUMNS = ("pi/6 [%]", "pi/18 [%]", "median error [deg]")


def percent(share: float | None) -> str:
    """A share of 1 as a percentage with one decimal."""
    return "-" if share is None else f"{100 * share:.1f}"


def shown_category(category: str, unknown: bool | None, confidence: str = "") -> str:
    """A predicted category as it is shown, with how sure it is; where nothing explains the image, as a guess."""
    return f"unknown ({category}?)" if unknown else f"{category}{confidence}"


def degrees(angle: float | None) -> str:
    """An angle in degrees with one decimal."""
    return "-" if angle is None else f"{angle:.1f}"


def print_evaluation(result: EvaluationResult, title: str = "") -> None:
    """Print an evaluation: classification, all forms of the pose metrics, every category, speed and memory."""
    console = terminal()
    if title:
        console.print(f"[bold]{title}[/bold]")
    console.print(f"top-1 accuracy: [bold]{percent(result.accuracy)} %[/bold] of {result.images} images")
    console.print(_pose_table(result))
    if result.confidence is not None:
        console.print(_confidence_table(result))
    if result.called_unknown is not None:
        console.print(_unknown(result))
    console.print(_category_table(result))
    if result.pose.flips is not None and result.pose.flips.images:
        console.print(_flip_table(result))
    if result.occlusion is not None:
        console.print(f"occluders hide {percent(result.occlusion.hidden_object)} % of the object and "
                      f"{percent(result.occlusion.hidden_background)} % of the background, on average")  # fmt: skip
    if result.occlusion_map is not None:
        told = result.occlusion_map
        console.print(f"occluded cells: IoU {percent(told.mean_iou)} % (calling all of the object occluded: "
                      f"{percent(told.mean_iou_of_all)} %)")  # fmt: skip
    console.print(_resources(result.resources))


def print_unseen(result: UnseenResult) -> None:
    """Print the poses of categories that the model does not know, and which of its own gave the features."""
    from rich.text import Text

    title = f"pose accuracy of unseen categories, {result.images} images"
    table = new_table(title, ["category"], ["images", *POSE_COLUMNS, "symmetry-aware\npi/6 [%]"])
    sources = new_table("", ["category", "source categories: those whose features gave the poses"])
    for name, entry in result.per_category.items():
        aware = percent(entry.pose.symmetry_aware.acc_pi6)
        table.add_row(Text(printable(name)), str(entry.images), *_cells(entry.pose.plain), aware)
        first = list(entry.source_categories.items())[:3]
        shares = ", ".join(f"{source} {percent(share)} %" for source, share in first)
        sources.add_row(Text(printable(name)), Text(printable(shares)))
    console = terminal()
    console.print(table)
    console.print(sources)
    console.print(
        f"average over the categories: pi/6 {percent(result.average)} %, "
        f"symmetry-aware {percent(result.average_symmetry_aware)} %"
    )
    console.print(_resources(result.resources))


def terminal() -> Console:
    """Where tables are printed: as wide as the terminal, and 100 columns where the output is none."""
    file_width = 100  # columns of a table in a file
    from rich.console import Console

    console = Console()
    # rich takes 80 columns for a file, in which tables fold
    return console if console.is_terminal else Console(width=file_width)


def _resources(used: Resources) -> str:
    memory = "-" if used.peak_memory_mb is None else f"{used.peak_memory_mb:.0f} MB"
    return (
        f"{used.seconds:.1f} s, {used.images_per_second:.1f} images/s "
        f"({used.model_images_per_second:.1f} without reading them), peak memory {memory}"
    )


def new_table(title: str, words: Sequence[str], numbers: Sequence[str] = (), caption: str = "") -> Table:
    """A table with columns of words, folded where they do not fit but never cut, and then columns of numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    # as Text, since rich would read [deg] as a style
    table = Table(
        title=Text(title, style="bold") if title else None,
        caption=Text(caption) if caption else None,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for name in words:
        table.add_column(Text(name), overflow="fold")
    for name in numbers:
        table.add_column(Text(name), justify="right", no_wrap=True)
    return table


def _pose_table(result: EvaluationResult) -> Table:
    excluded = ", ".join(result.excluded_categories)
    caption = f"plain: without {excluded}, which can turn without changing" if excluded else ""
    table = new_table("pose accuracy", [""], POSE_COLUMNS, caption)
    plain, aware = result.pose.plain, result.pose.symmetry_aware
    for heading, form in (
        (f"plain, {plain.images} images", plain),
        (f"symmetry-aware, all {aware.images} images", aware),
    ):
        table.add_row(f"[bold]{heading}[/bold]")
        for key, metrics in form.items():
            table.add_row(f"  {POSE_ROWS[key]}", *_cells(metrics))
        table.add_section()
    return table


def _confidence_table(result: EvaluationResult) -> Table:
    """Mean confidence beside what is right."""
    columns = ("confidence [%]", "right [%]", "ECE [%]", "Brier", "NLL")
    caption = "ECE: mean gap between confidence and what is right; pose: of the predicted category, within pi/6"
    table = new_table("calibration of the confidences", [""], columns, caption)
    for name, found in (("category", result.confidence), ("pose", result.pose_confidence)):
        if found is not None:
            shares = (found.mean_confidence, found.accuracy, found.ece)
            table.add_row(name, *map(percent, shares), f"{found.brier:.3f}", f"{found.nll:.3f}")
    return table


def _unknown(result: EvaluationResult) -> str:
    parts = [f"called unknown: {percent(result.called_unknown)} % of the known objects"]
    if (rates := result.unknown) is not None:
        for what, count, missed in (
            ("objects of other categories", rates.objects, rates.missed),
            ("backgrounds", rates.backgrounds, rates.missed_backgrounds),
        ):
            found = None if missed is None else 1 - missed
            parts.append(f"{percent(found)} % of {count} {what}")
    return ", ".join(parts)


def _category_table(result: EvaluationResult) -> Table:
    """One row a category, narrow enough for names of 19 letters in 80 columns."""
    from rich.text import Text

    pose = ("pi/6\n[%]", "pi/18\n[%]", "median\n[deg]")
    columns = ("images", "top-1\n[%]", *pose, *(f"sym.\n{name}" for name in pose))
    title = "per category: top-1 accuracy; pose accuracy with the true category given,\nplain and symmetry-aware (sym.)"
    table = new_table(title, ["category"], columns)
    for name, entry in result.per_category.items():
        plain, aware = entry.pose.plain.true_category, entry.pose.symmetry_aware.true_category
        table.add_row(Text(printable(name)), str(entry.images), percent(entry.accuracy), *_cells(plain), *_cells(aware))
    return table


def _flip_table(result: EvaluationResult) -> Table:
    """How many poses are flipped: of all images, and of each category that has a flip."""
    from rich.text import Text

    rows = {"all of them": result.pose.flips} | {name: e.pose.flips for name, e in result.per_category.items()}
    columns = ("images", "of all\nimages [%]", "of errors\n> pi/6 [%]", "predicted\ncategory [%]")
    title = "flipped poses, true category given: within pi/6 of\nhalf a turn about the vertical axis"
    table = new_table(title, ["category"], columns, "categories without a flip are not listed")
    for number, (name, flips) in enumerate(rows.items()):
        if flips is not None and (number == 0 or flips.true_category.share or flips.predicted_category.share):
            shares = (flips.true_category.share, flips.true_category.of_errors, flips.predicted_category.share)
            table.add_row(Text(printable(name)), str(flips.images), *map(percent, shares))
    return table


def _cells(metrics: PoseMetrics) -> list[str]:
    return [percent(metrics.acc_pi6), percent(metrics.acc_pi18), degrees(metrics.median_deg)]
