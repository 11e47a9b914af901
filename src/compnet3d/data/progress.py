"""The one progress bar of everything that goes through a data set item by item."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def tracked(items: Sequence[T], description: str, *, enabled: bool) -> Iterable[T]:
    """The items, with a progress bar on stderr if that is wanted."""
    if not enabled:
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, description=description, console=Console(stderr=True), transient=True)
