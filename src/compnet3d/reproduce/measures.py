"""One number out of an evaluation, and numbers over several of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

from compnet3d.errors import CompNetError
from compnet3d.evaluation.result import EvaluationResult
from compnet3d.evaluation.unseen_result import UnseenResult
from compnet3d.reporting.tables import Cell, Origin, Spread
from compnet3d.utils.files import Json

Result = TypeVar("Result", EvaluationResult, UnseenResult)
Measure = Callable[[EvaluationResult], float]
POSE_FORMS = ("true_category", "predicted_category", "joint")
COST = ("images/s", "peak memory [MB]")
SUMMARY = ("clean", "occluded, mean", "corrupted, mean")  # the columns that sum table 4 up


@dataclass(frozen=True)
class Evaluated(Generic[Result]):
    """What an evaluation found, and where it comes from."""

    result: Result
    origin: Origin = Origin()


def median_cost(results: Iterable[EvaluationResult | UnseenResult]) -> tuple[Cell, Cell]:
    """Images per second of the model and peak memory in MB, medians over the seeds, as text."""
    used = [result.resources for result in results]
    # on a GPU its own memory is what is scarce
    memory = [r.peak_gpu_memory_mb or r.peak_memory_mb or 0.0 for r in used]
    return f"{median(r.model_images_per_second for r in used):.1f}", f"{median(memory):.0f}"


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


def flips(metric: str) -> Callable[[EvaluationResult], float | None]:
    """Share of flipped poses with the true category given; None where none can be, or none were counted.

    Args:
        metric: "share", of all images, or "of_errors", of those whose error is beyond pi/6.
    """

    def measure(result: EvaluationResult) -> float | None:
        found = result.pose.flips
        return None if found is None else getattr(found.true_category, metric)

    return measure


def spread_of(evaluations: Sequence[Evaluated[Result]], measure: Callable[[Result], float | None]) -> Spread | None:
    """A metric of one evaluation for each seed; None if one of them has no such metric."""
    values = [measure(evaluated.result) for evaluated in evaluations]
    known = tuple(value for value in values if value is not None)
    origins = frozenset(evaluated.origin for evaluated in evaluations)
    return Spread(known, origins) if len(known) == len(values) else None


def mean_of(spreads: Sequence[Spread]) -> Spread:
    """The mean over conditions, seed by seed."""
    # seed by seed, so that the deviation is that of trainings and not of conditions
    values = tuple(sum(values) / len(values) for values in zip(*(s.values for s in spreads), strict=True))
    return Spread(values, frozenset().union(*(s.origins for s in spreads)))


def means(spreads: Sequence[Spread], occlusions: int) -> tuple[Spread, Spread, Spread]:
    """Clean, the mean of the occluded ones, that of the corrupted ones: the columns of `SUMMARY`.

    Args:
        spreads: of the clean images, then of each level of occlusion, then of each corruption.
        occlusions: how many levels there are.
    """
    return spreads[0], mean_of(spreads[1 : 1 + occlusions]), mean_of(spreads[1 + occlusions :])


def over_categories(names: Iterable[str], metric: str) -> Measure:
    """A metric over the images of some categories, from that of each: "classification" or a pose's form."""
    wanted = set(names)

    def measure(result: EvaluationResult) -> float:
        hits, images = 0.0, 0
        for name, entry in result.per_category.items():
            if name not in wanted:
                continue
            value = entry.accuracy if metric == "classification" else getattr(entry.pose.plain, metric).acc_pi6
            if value is not None:
                # weighted by images: the same as a metric over these images, since shares of a category are means over
                # its images
                hits += value * entry.images
                images += entry.images
        return hits / max(1, images)

    return measure


def unseen_pose(name: str) -> Callable[[UnseenResult], float | None]:
    """Pose accuracy at pi/6 on a category that was not trained on; None where its pose is not defined."""
    return lambda result: result.per_category[name].pose.plain.acc_pi6


def source_categories(results: Sequence[UnseenResult], name: str) -> list[tuple[str, float]]:
    """Whose features the poses of an unseen category were found with, and for which share: the largest first."""
    shares: dict[str, float] = {}
    for result in results:
        for source, share in result.per_category[name].source_categories.items():
            shares[source] = shares.get(source, 0.0) + share / len(results)
    return sorted(shares.items(), key=lambda item: -item[1])


def contrasted_pairs(log: Sequence[Json]) -> float:
    """The share of the pairs of categories that a training contrasted in the end, from its log; 1 if all, always."""
    logged = [float(entry["contrasted_pairs"]) for entry in log if "contrasted_pairs" in entry]
    return logged[-1] if logged else 1.0


def training_seconds(log: Sequence[Json]) -> float:
    """Seconds of all epochs of a training, from its log."""
    return sum(float(entry["seconds"]) for entry in log)
