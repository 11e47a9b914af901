"""What an import has taken and what it has left out, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compnet3d.errors import CompNetError
from compnet3d.utils.files import Json, read_json, write_json
from compnet3d.utils.text import printable

REPORT_FILE = "import-report.json"
# a reason, and the file (and line) that it is of
LeftOut = tuple[str, str]


@dataclass
class ImportReport:
    """What an import has done.

    Attributes:
        settings: the format, the source and the options.
        notes: what was assumed where the source does not say it.
        images, objects: that were taken, by category and split.
        left_out: objects (or whole images, where no object could be read) that were not, counted by reason.
        examples: some files of each reason.
    """

    settings: Json = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    images: dict[str, dict[str, int]] = field(default_factory=dict)
    objects: dict[str, dict[str, int]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """The number of objects that were taken, each once, however many splits it is in."""
        return sum(counts.get("all", 0) for counts in self.objects.values())

    @property
    def total_left_out(self) -> int:
        """The number of objects and images that were left out, over all reasons."""
        return sum(self.left_out.values())

    def take(self, category: str, splits: Iterable[str], objects: int) -> None:
        """Count one image with its objects."""
        for split in ("all", *splits):
            for counts, number in ((self.images, 1), (self.objects, objects)):
                of_category = counts.setdefault(category, {})
                of_category[split] = of_category.get(split, 0) + number

    def leave_out(self, left_out: Iterable[LeftOut]) -> None:
        """Count what was left out."""
        most_examples = 5
        for reason, where in left_out:
            self.left_out[reason] = self.left_out.get(reason, 0) + 1
            examples = self.examples.setdefault(reason, [])
            if len(examples) < most_examples:
                examples.append(where)

    def write(self, folder: Path) -> None:
        """Write `import-report.json`."""
        reasons = sorted(self.left_out, key=lambda reason: (-self.left_out[reason], reason))
        left_out = {
            reason: {"count": self.left_out[reason], "examples": [printable(where) for where in self.examples[reason]]}
            for reason in reasons
        }
        values = {"settings": self.settings, "notes": self.notes, "kept": self.kept, "objects": self.objects}
        write_json(folder / REPORT_FILE, {**values, "images": self.images, "left_out": left_out})

    @classmethod
    def read(cls, folder: Path) -> ImportReport:
        """The report that an import has written.

        Raises:
            CompNetError: if there is none, or it is broken.
        """
        path = folder / REPORT_FILE
        values = read_json(path)
        try:
            left_out = {reason: int(entry["count"]) for reason, entry in values["left_out"].items()}
            examples = {reason: list(entry["examples"]) for reason, entry in values["left_out"].items()}
            images, objects = (_counts(values[key]) for key in ("images", "objects"))
            return cls(dict(values["settings"]), list(values["notes"]), images, objects, left_out, examples)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CompNetError(f"{path}: is not a report of an import; remove it and import again") from None

    def __str__(self) -> str:
        images = sum(counts.get("all", 0) for counts in self.images.values())
        lines = [f"{self.kept} objects on {images} images of {len(self.objects)} categories taken, "
                 f"{self.total_left_out} left out"]  # fmt: skip
        for reason, count in sorted(self.left_out.items(), key=lambda item: (-item[1], item[0])):
            lines.append(f"  {count} x {reason} (first: {self.examples[reason][0]})")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _counts(values: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    return {name: {split: int(count) for split, count in counts.items()} for name, counts in values.items()}
