"""What `data check` finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One problem: how bad, in which category, of which kind, in which file, and what exactly."""

    severity: Severity
    category: str
    problem: str
    where: str
    detail: str = ""


@dataclass
class CategoryCounts:
    """What one category holds: usable objects and images with any, per split; CAD models, masks, known instances."""

    objects: dict[str, int] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    cad_models: int = 0
    masks: int = 0
    instances: int = 0


@dataclass
class CheckResult:
    """What the check found.

    `exit_code` is 1 if there is any error (files that are missing, broken, or would stop a training), else 0.
    """

    root: Path
    categories: dict[str, CategoryCounts] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, severity: Severity, category: str, problem: str, where: object, detail: str = "") -> None:
        """Record one finding."""
        self.findings.append(Finding(severity, category, problem, str(where), detail))

    def count(self, severity: Severity) -> int:
        """The number of findings of one severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """For the command line."""
        return 1 if self.count("error") else 0

    def summary(self) -> str:
        """One line."""
        objects = sum(sum(counts.objects.values()) for counts in self.categories.values())
        return (
            f"{objects} usable objects in {len(self.categories)} categories; {self.count('error')} errors, "
            f"{self.count('warning')} warnings, {self.count('note')} notes"
        )
