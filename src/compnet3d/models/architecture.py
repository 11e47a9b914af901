"""What a backbone may be: the arguments of its transformers configuration, with types and ranges.

Nothing else reaches transformers: its classes take any further argument, some of which fetch and run code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from compnet3d.utils.settings import check_ranges, plain

Activation = Literal["relu", "gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "silu", "swish"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What all families have: see the transformers configuration of each for what its entries mean.

    Raises:
        ValueError: naming an entry that is out of range or does not go with another.
    """

    num_channels: Literal[3] = 3

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def size(self) -> int:
        """About how many numbers the tensors of such a backbone hold."""
        raise TypeError(f"{type(self).__name__} does not say how large it is")

    def arguments(self, stages: int) -> dict[str, Any]:
        """Of the transformers configuration, of a pyramid for its stages up to the last of `stages` that are joined."""
        return {name: value for name, value in plain(self).items() if value is not None}


def check_heads(name: str, heads: Sequence[int], channels: Sequence[int], of: str = "channels of the stages") -> None:
    """Check that each layer's channels are shared out evenly among its heads.

    Raises:
        ValueError: naming the entries.
    """
    if any(size % count for size, count in zip(channels, heads, strict=True)):
        raise ValueError(
            f"{name} {', '.join(map(str, heads))} does not divide the {of} {', '.join(map(str, channels))}"
        )


def nearest_sizes(size: int, unit: int, least: int) -> list[int]:
    """The multiples of `unit`, from `least` on, just below and above a number of pixels."""
    first = math.ceil(least / unit)
    below = max(first, size // unit)
    return sorted({below * unit, max(first, math.ceil(size / unit)) * unit})
