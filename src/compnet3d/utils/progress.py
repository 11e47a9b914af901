"""The one progress bar of everything that goes through a data set item by item."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from torch import Tensor


def with_progress(
    batches: Iterable[Mapping[str, Tensor]], total: int, *, enabled: bool
) -> Iterable[Mapping[str, Tensor]]:
    """The batches, `total` images in all, with a progress bar on stderr if that is wanted."""
    if not enabled:
        yield from batches
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # stderr, so that what a command prints can be piped on
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluating", total=total)
        for batch in batches:
            yield batch
            bar.advance(task, len(batch["index"]))


T = TypeVar("T")


def tracked(items: Iterable[T], description: str, *, enabled: bool, total: int | None = None) -> Iterable[T]:
    """The items, `total` of them if they do not tell, with a progress bar on stderr if that is wanted."""
    if not enabled:
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, description=description, total=total, console=Console(stderr=True), transient=True)
