"""Tables for the terminal."""

from __future__ import annotations

from typing import Any

POSE_ROWS = {
    "true_category": "true category given",
    "predicted_category": "predicted category",
    "joint": "joint: category and pose right",
    "unknown": "category unknown",
}


def percent(share: float | None) -> str:
    """A share of 1 as a percentage with one decimal."""
    return "-" if share is None else f"{100 * share:.1f}"


def degrees(angle: float | None) -> str:
    """An angle in degrees with one decimal."""
    return "-" if angle is None else f"{angle:.1f}"


def print_evaluation(metrics: dict[str, Any], title: str = "") -> None:
    """Print an evaluation: classification, all forms of the pose figures, every category, speed and memory."""
    from rich.console import Console

    console = Console()
    if title:
        console.print(f"[bold]{title}[/bold]")
    console.print(f"classification: [bold]{percent(metrics['classification']['accuracy'])} %[/bold] "
                  f"of {metrics['images']} images")  # fmt: skip
    console.print(_pose_table(metrics["pose"]))
    console.print(_category_table(metrics))
    hidden = metrics["occlusion"]
    if hidden is not None:
        console.print(f"occluders hide {percent(hidden['hidden_object'])} % of the object and "
                      f"{percent(hidden['hidden_background'])} % of the background, on average")  # fmt: skip
    console.print(
        f"{metrics['seconds']:.1f} s, {metrics['images_per_second']:.1f} images/s "
        f"({metrics['model_images_per_second']:.1f} without reading them), "
        f"{_peak_memory(metrics)}"
    )


def print_unseen(metrics: dict[str, Any]) -> None:
    """Print the poses of categories that the model does not know, and which of its own lent their features."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"unseen categories, {metrics['images']} images", title_justify="left")
    table.add_column("category")
    for name in ("images", "pi/6 [%]", "pi/18 [%]", "median [deg]", "sym. pi/6"):
        table.add_column(name, justify="right")
    table.add_column("source_categories of the features")
    for name, entry in metrics["per_category"].items():
        source_categories = ", ".join(
            f"{source_category} {percent(share)} %"
            for source_category, share in list(entry["source_categories"].items())[:3]
        )
        aware = percent(entry["pose"]["symmetry_aware"]["acc_pi6"])
        table.add_row(name, str(entry["images"]), *_cells(entry["pose"]), aware, source_categories)
    console = Console()
    console.print(table)
    console.print(
        f"average over the categories: pi/6 {percent(metrics['average'])} %, "
        f"symmetry-aware {percent(metrics['average_symmetry_aware'])} %"
    )
    console.print(
        f"{metrics['seconds']:.1f} s, {metrics['model_images_per_second']:.1f} images/s without reading them, "
        f"{_peak_memory(metrics)}"
    )


def _peak_memory(metrics: dict[str, Any]) -> str:
    memory = metrics["peak_memory_mb"]
    return f"peak memory {'-' if memory is None else f'{memory:.0f} MB'}"


def _pose_table(pose: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title="pose", title_justify="left", caption_justify="left")
    table.add_column("")
    for name in ("pi/6 [%]", "pi/18 [%]", "median [deg]"):
        table.add_column(name, justify="right")
    excluded = pose["excluded_categories"]
    without = f", without {', '.join(excluded)} (turning them changes nothing)" if excluded else ""
    blocks = [(f"plain, {pose['images']} images{without}", pose)]
    symmetric = pose["symmetry_aware"]
    blocks.append((f"symmetry-aware, all {symmetric['images']} images", symmetric))
    for heading, block in blocks:
        table.add_row(f"[bold]{heading}[/bold]")
        for key, label in POSE_ROWS.items():
            if key in block:
                table.add_row(f"  {label}", *_cells(block[key]))
        table.add_section()
    return table


def _category_table(metrics: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title="per category (pose with the true category)", title_justify="left")
    table.add_column("category")
    for name in ("images", "right [%]", "pi/6 [%]", "pi/18 [%]", "median", "sym. pi/6", "sym. pi/18", "sym. median"):
        table.add_column(name, justify="right")
    for name, entry in metrics["per_category"].items():
        plain, symmetric = entry["pose"]["true_category"], entry["pose"]["symmetry_aware"]["true_category"]
        table.add_row(name, str(entry["images"]), percent(entry["accuracy"]), *_cells(plain), *_cells(symmetric))
    return table


def _cells(block: dict[str, Any]) -> list[str]:
    return [percent(block["acc_pi6"]), percent(block["acc_pi18"]), degrees(block["median_deg"])]
