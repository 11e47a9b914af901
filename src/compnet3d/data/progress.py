"""The one progress bar of everything that goes through a data set item by item."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def tracked(items: Iterable[T], description: str, *, enabled: bool, total: int | None = None) -> Iterable[T]:
    """The items, `total` of them if they do not tell, with a progress bar on stderr if that is wanted."""
    if not enabled:
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, description=description, total=total, console=Console(stderr=True), transient=True)
