"""One number out of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

from compnet3d.errors import CompNetError
from compnet3d.evaluation.result import CategoryMetrics, EvaluationResult, UnseenResult
from compnet3d.reporting.tables import Cell, Spread

POSE_FORMS = ("true_category", "predicted_category", "joint")
COST = ("images/s", "peak memory [MB]")
SUMMARY = ("clean", "occluded, mean", "corrupted, mean")  # the columns that sum table 4 up


def _median_cost(results: Sequence[EvaluationResult | UnseenResult]) -> tuple[Cell, Cell]:
    used = [result.resources for result in results]
    memory = [r.peak_gpu_memory_mb or r.peak_memory_mb or 0.0 for r in used]
    return f"{median(r.model_images_per_second for r in used):.1f}", f"{median(memory):.0f}"


Measure = Callable[[EvaluationResult], float]
EntryMeasure = Callable[[CategoryMetrics], float | None]


def classification(result: EvaluationResult) -> float:
    """Top-1 accuracy."""
    return result.accuracy


def pose(form: str, accuracy: str = "acc_pi6", *, aware: bool = False) -> Measure:
    """Share of images whose pose is within an angle, in one of the evaluator's forms."""

    def measure(result: EvaluationResult) -> float:
        summary = result.pose.symmetry_aware if aware else result.pose.plain
        share = getattr(getattr(summary, form), accuracy)
        if share is None:
            raise CompNetError("no image has a defined pose: all categories turn without changing")
        return float(share)

    return measure


def mean_of(spreads: Sequence[Spread]) -> Spread:
    """The mean over conditions, seed by seed."""
    return Spread(tuple(sum(values) / len(values) for values in zip(*(s.values for s in spreads), strict=True)))


def _over(found: Mapping[int, UnseenResult], measure: Callable[[UnseenResult], float | None]) -> Spread | None:
    values = [measure(result) for result in found.values()]
    return None if any(value is None for value in values) else Spread(tuple(v for v in values if v is not None))


def _unseen_pose(name: str) -> Callable[[UnseenResult], float | None]:
    return lambda result: result.per_category[name].pose.plain.acc_pi6


def _entry_pose(form: str) -> EntryMeasure:
    def measure(entry: CategoryMetrics) -> float | None:
        share: float | None = getattr(entry.pose.plain, form).acc_pi6
        return share

    return measure


def over_categories(names: Iterable[str], entry_of: EntryMeasure) -> Measure:
    """A metric over the images of some categories, from those of each."""
    wanted = set(names)

    def measure(result: EvaluationResult) -> float:
        hits, images = 0.0, 0
        for name, entry in result.per_category.items():
            value = entry_of(entry)
            if name in wanted and value is not None:
                hits += value * entry.images
                images += entry.images
        return hits / max(1, images)

    return measure
