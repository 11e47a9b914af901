"""What a benchmark has found: a value with a type, as rows of text for the terminal and the docs, and as JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from compnet3d.errors import CompNetError
from compnet3d.utils.files import Json

Result = TypeVar("Result", bound="BenchResult")


@dataclass(frozen=True)
class BenchResult(ABC):
    """Of one benchmark; times in seconds (`..._s`), memory in MB of 10^6 bytes (`..._mb`, None where unknown)."""

    @abstractmethod
    def rows(self) -> list[tuple[str, str]]:
        """What was found: (what, how much), no two called alike."""

    def to_dict(self) -> Json:
        """For JSON: what was measured, and the ratios that follow from it."""
        derived = [name for name, member in vars(type(self)).items() if isinstance(member, property)]
        return asdict(self) | {name: getattr(self, name) for name in derived}

    @classmethod
    def from_dict(cls: type[Result], values: Mapping[str, Any]) -> Result:
        """From `to_dict`; other entries are left alone.

        Raises:
            CompNetError: if an entry is missing.
        """
        missing = [field.name for field in fields(cls) if field.name not in values]
        if missing:
            raise CompNetError(f"no result of this benchmark: has no {missing[0]!r}")
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def milliseconds(seconds: float) -> str:
    """A time as text."""
    return f"{1000 * seconds:,.1f} ms"


def megabytes(amount: float | None) -> str:
    """An amount of memory as text."""
    return "memory unknown" if amount is None else f"{amount:,.1f} MB"


def times(ratio: float) -> str:
    """A ratio as text."""
    return f"{ratio:.2f} x"
