"""One number out of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

from compnet3d.errors import CompNetError
from compnet3d.reporting.tables import Cell, Spread

POSE_FORMS = ("true_category", "predicted_category", "joint")
COST = ("images/s", "peak memory [MB]")
SUMMARY = ("clean", "occluded, mean", "corrupted, mean")  # the columns that sum table 4 up


def _median_cost(metrics: Sequence[dict[str, Any]]) -> tuple[Cell, Cell]:
    rates = [f["model_images_per_second"] for f in metrics if "model_images_per_second" in f]
    if len(rates) < len(metrics):  # evaluations of unseen categories by an earlier version
        return None, None
    memory = [f["peak_gpu_memory_mb"] or f["peak_memory_mb"] or 0.0 for f in metrics]
    return f"{median(rates):.1f}", f"{median(memory):.0f}"


Measure = Callable[[dict[str, Any]], float]
EntryMeasure = Callable[[dict[str, Any]], float | None]


def classification(metrics: dict[str, Any]) -> float:
    """Share of images named rightly."""
    return float(metrics["classification"]["accuracy"])


def pose(form: str, accuracy: str = "acc_pi6", *, aware: bool = False) -> Measure:
    """Share of images whose pose is within an angle, in one of the evaluator's forms."""

    def measure(metrics: dict[str, Any]) -> float:
        block = metrics["pose"]["symmetry_aware"] if aware else metrics["pose"]
        share = block[form][accuracy]
        if share is None:
            raise CompNetError("no image has a defined pose: all categories turn without changing")
        return float(share)

    return measure


def mean_of(spreads: Sequence[Spread]) -> Spread:
    """The mean over conditions, seed by seed."""
    return Spread(tuple(sum(values) / len(values) for values in zip(*(s.values for s in spreads), strict=True)))


def _over(found: dict[int, dict[str, Any]], measure: Callable[[dict[str, Any]], float | None]) -> Spread | None:
    values = [measure(metrics) for metrics in found.values()]
    return None if any(value is None for value in values) else Spread(tuple(v for v in values if v is not None))


def _unseen_pose(name: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda metrics: metrics["per_category"][name]["pose"]["acc_pi6"]


def _entry_pose(form: str) -> EntryMeasure:
    def measure(entry: dict[str, Any]) -> float | None:
        share: float | None = entry["pose"][form]["acc_pi6"]
        return share

    return measure


def over_categories(names: Iterable[str], entry_of: EntryMeasure) -> Measure:
    """A figure over the images of some categories, from those of each."""
    wanted = set(names)

    def measure(metrics: dict[str, Any]) -> float:
        hits, images = 0.0, 0
        for name, entry in metrics["per_category"].items():
            value = entry_of(entry)
            if name in wanted and value is not None:
                hits += value * entry["images"]
                images += entry["images"]
        return hits / max(1, images)

    return measure
