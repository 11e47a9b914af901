"""Table 6: the parts of the loss; and more variants of a recipe, with one change each (N, dynamic weights)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from compnet3d.errors import CompNetError
from compnet3d.reporting.tables import Cell, Row, Spread, Table
from compnet3d.reporting.terminal import POSE_ROWS
from compnet3d.reproduce.experiments import Experiments
from compnet3d.reproduce.measures import (
    COST,
    POSE_FORMS,
    SUMMARY,
    Measure,
    classification,
    contrasted_pairs,
    means,
    pose,
    training_seconds,
)
from compnet3d.reproduce.paper_numbers import Paper
from compnet3d.reproduce.study import CLEAN, Method
from compnet3d.training.recipe import NovumRecipe
from compnet3d.utils.files import Json


def table6(experiments: Experiments) -> list[Table]:
    """Each part of Eq. 5 alone, both, and both with the recipe's classification and pose contrastive loss."""
    parts = _loss_parts(experiments)
    columns = ("loss", "classification", *(f"pi/6, {POSE_ROWS[form]}" for form in POSE_FORMS), *COST)
    rows = []
    for label, method in parts.items():
        measures = (classification, *map(pose, POSE_FORMS))
        spreads = [experiments.spread(method, CLEAN, measure) for measure in measures]
        rows.append(Row(label, (*spreads, *experiments.cost(method, CLEAN))))
        if experiments.comparable and label in Paper.TABLE6:
            accuracy, posed = Paper.TABLE6[label]
            shares = tuple(posed / 100 if form == Paper.POSE_FORM else None for form in POSE_FORMS)
            rows.append(Row(f"{label} (paper)", (accuracy / 100, *shares, None, None)))
    return [Table("table6", "the parts of the loss", columns, tuple(rows), (), "clean"), *_robust(experiments, parts)]


def _loss_parts(experiments: Experiments) -> dict[str, Method]:
    """The rows of table 6, from one part of the loss to all of the recipe's."""
    ours = experiments.method()
    weights = {"classification": "classification_weight", "pose contrastive": "pose_contrastive_weight"}
    more = [part for part, weight in weights.items() if getattr(experiments.recipe.loss, weight) > 0]
    alone = {"loss.classification_weight": 0.0}
    parts = {
        "in-category only": _changed(experiments, "in-category-only", alone | {"loss.cross_weight": 0.0}),
        "cross-category only": _changed(experiments, "cross-category-only", alone | {"loss.in_weight": 0.0}),
        "both": _changed(experiments, "both", alone),
    }
    if len(more) == 2:
        parts["both and classification"] = _changed(experiments, "both-and-classification", {})
    parts[", ".join(["both", *more[:-1]]) + f" and {more[-1]}" if more else "both"] = ours
    return parts


def _changed(experiments: Experiments, name: str, changes: Mapping[str, Any]) -> Method:
    """The method without the pose contrastive loss, and with other settings changed."""
    if experiments.epochs is not None:
        changes = {"schedule.epochs": experiments.epochs, **changes}
    recipe = experiments.recipe.without_pose_contrastive().with_settings(changes)
    return Method(f"{experiments.recipe.name}-{name}", name, recipe)


def _robust(experiments: Experiments, parts: Mapping[str, Method]) -> list[Table]:
    """The parts of the loss under occlusion and corruption, and by how much Eq. 5 alone leads over NOVUM."""
    measures = {"classification": classification} | {f"pi/6, {POSE_ROWS[form]}": pose(form) for form in POSE_FORMS}
    novum = [method for method in experiments.families[-1] if isinstance(method.recipe, NovumRecipe)]
    methods = {**parts, **{other.label: other for other in novum}}
    found = {m.name: [_summary(experiments, m, measure) for measure in measures.values()] for m in methods.values()}
    rows = tuple(
        Row(label, tuple(mean for _, *shifted in found[method.name] for mean in shifted))
        for label, method in methods.items()
    )
    columns = ("loss", *(f"{name}, {group}" for name in measures for group in ("occluded", "corrupted")))
    notes = () if novum else experiments.notes()
    tables = [Table("table6", "the same under occlusion and corruption", columns, rows, notes, "robust")]
    for other in novum:
        pairs = zip(measures, found[parts["both"].name], found[other.name], strict=True)
        ahead = [Row(name, tuple(a.over(b) for a, b in zip(*both, strict=True))) for name, *both in pairs]
        title = f"by how many points both, without classification and pose contrastive loss, lead over {other.label}"
        tables.append(Table("table6", title, ("metric", *SUMMARY), tuple(ahead), experiments.notes(), "lead"))
    return tables


def _summary(experiments: Experiments, method: Method, measure: Measure) -> tuple[Spread, Spread, Spread]:
    study = experiments.study
    return means([experiments.spread(method, c, measure) for c in study.conditions], len(study.occlusions))


@dataclass(frozen=True)
class Variant:
    """One row of `table6_variants`.

    Attributes:
        name: of its folder, and what `--variants` takes.
        label: what the table calls it.
        changes: to what all variants share.
    """

    name: str
    label: str
    changes: Json = field(default_factory=dict)


VARIANTS = (
    Variant("both", "both losses"),
    Variant("in-category-only", "in-category loss only", {"loss.cross_weight": 0.0}),
    Variant("cross-category-only", "cross-category loss only", {"loss.in_weight": 0.0}),
    Variant("samples-8", "N = 8 sampled vertices per category", {"loss.samples_per_category": 8}),
    Variant("samples-64", "N = 64 sampled vertices per category", {"loss.samples_per_category": 64}),
    Variant("weight-floor", "dynamic weights of at least 0.015", {"grouping.floor": 0.015}),
    Variant("static-weights", "static weights: every category is contrasted", {"grouping.dynamic": False}),
)


def variant_method(experiments: Experiments, variant: Variant) -> Method:
    """How a variant is trained.

    All but two have the paper's dynamic weights, from a calibration accuracy that short schedules reach too. None has
    the classification or the pose contrastive loss, which are no part of Eq. 5: table 6 has rows for them.
    """
    shared: Json = {
        "grouping.dynamic": True,
        "grouping.least_accuracy": 0.5,
        "schedule.calibrate_every": 2,
        "grouping.floor": 0.0,
        "loss.classification_weight": 0.0,
    }
    changed = _changed(experiments, f"variant-{variant.name}", shared | variant.changes)
    return Method(changed.name, variant.label, changed.recipe)


def table6_variants(experiments: Experiments) -> list[Table]:
    """The variants that are asked for, and those that were trained and evaluated before.

    Raises:
        CompNetError: if there is no such variant.
    """
    check_variants(experiments.variants)
    wanted = experiments.variants or tuple(variant.name for variant in VARIANTS)
    rows = []
    for variant in VARIANTS:
        method = variant_method(experiments, variant)
        # rows that an earlier call has paid for are shown with those that are asked for now
        if variant.name in wanted or all(experiments.study.is_evaluated(method, s) for s in experiments.study.seeds):
            rows.append(Row(variant.label, _variant_cells(experiments, method)))
    names = ("classification", "pose pi/6", "pose pi/18", "pi/6, symmetry-aware", "pi/18, symmetry-aware",
             "joint pi/6", "joint pi/18", "contrasted pairs", "training [s]")  # fmt: skip
    recipe, epochs = experiments.recipe, experiments.epochs or experiments.recipe.schedule.epochs
    notes = experiments.notes(
        f"{epochs} epochs, N = {recipe.loss.samples_per_category} and dynamic weights, with one change per row. Pose "
        "with the true category given, over the categories whose pose is defined, and symmetry-aware over all images."
    )
    title = "variants of the recipe"
    return [Table("table6-variants", title, ("variant", "images", *names), tuple(rows), notes, "variants")]


def check_variants(names: Sequence[str]) -> None:
    """Check that all are variants.

    Raises:
        CompNetError: if one is not.
    """
    known = [variant.name for variant in VARIANTS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CompNetError(f"variant {unknown[0]!r} is unknown; use one of {', '.join(known)}")


def _variant_cells(experiments: Experiments, method: Method) -> tuple[Cell, ...]:
    angles = ("acc_pi6", "acc_pi18")
    measures = [classification, *(pose("true_category", angle) for angle in angles)]
    measures += [pose("true_category", angle, aware=True) for angle in angles]
    measures += [pose("joint", angle) for angle in angles]
    spreads = [experiments.spread(method, CLEAN, measure) for measure in measures]
    logs = [experiments.study.log(method, seed) for seed in experiments.study.seeds]
    pairs = Spread(tuple(map(contrasted_pairs, logs)))
    seconds = median(map(training_seconds, logs))
    images = experiments.metrics(method, CLEAN)[0].result.images
    return (str(images), *spreads, pairs, f"{seconds:.0f}")
