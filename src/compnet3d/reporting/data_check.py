"""The findings of `data check` on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compnet3d.data.findings import CheckResult, Finding, Severity
from compnet3d.utils.text import printable

if TYPE_CHECKING:
    from rich.console import Console


def print_check(result: CheckResult, console: Console | None = None) -> None:
    """Print the counts per category, the findings by kind with an example each, and the summary."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console or Console()
    splits = sorted({split for counts in result.categories.values() for split in counts.objects})
    table = Table(title=f"{escape(printable(str(result.root)))}: usable objects", title_justify="left")
    table.add_column("category")
    for name in (*splits, "instances", "CAD", "masks", "errors", "warnings"):
        table.add_column(name, justify="right")
    for category, counts in result.categories.items():
        own = [finding.severity for finding in result.findings if finding.category == category]
        metrics = [counts.objects.get(split, 0) for split in splits]
        metrics += [counts.instances, counts.cad_models, counts.masks, own.count("error"), own.count("warning")]
        table.add_row(escape(printable(category)), *map(str, metrics))
    console.print(table)
    if result.findings:
        console.print(_findings_table(result))
    colour = "red" if result.count("error") else "yellow" if result.count("warning") else "green"
    console.print(f"[{colour}]{result.summary()}[/{colour}]")


def _findings_table(result: CheckResult):  # type: ignore[no-untyped-def]  # the type would import rich
    order: tuple[Severity, ...] = ("error", "warning", "note")
    from rich.markup import escape
    from rich.table import Table

    groups: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in result.findings:
        groups.setdefault((finding.severity, finding.problem), []).append(finding)
    table = Table(title="findings", title_justify="left")
    for name in ("", "problem", "count", "for example"):
        table.add_column(name, justify="right" if name == "count" else "left", overflow="fold")
    for (severity, problem), members in sorted(groups.items(), key=lambda g: (order.index(g[0][0]), -len(g[1]))):
        first = members[0]
        # most messages of ours name the file already
        example = first.detail if first.where in first.detail else f"{first.where}  {first.detail}".strip()
        table.add_row(severity, problem, str(len(members)), escape(printable(example)))
    return table
