"""Table 3: the pose of categories that were not trained on."""

from __future__ import annotations

from collections.abc import Sequence

from compnet3d.data.annotations import plain_name
from compnet3d.evaluation.unseen_result import UnseenResult
from compnet3d.reporting.tables import Cell, Row, Table
from compnet3d.reproduce.experiments import Experiments, plain_names
from compnet3d.reproduce.measures import (
    COST,
    Evaluated,
    median_cost,
    source_categories,
    spread_of,
    unseen_pose,
)
from compnet3d.reproduce.paper_numbers import Paper


def table3(experiments: Experiments) -> list[Table]:
    """Pose of categories that were not trained on, and of which source category the features were."""
    study, names = experiments.study, experiments.unseen_categories()
    methods = [method for method in experiments.methods if "novum" not in method.name]
    found = {m.name: [study.unseen(m, seed, names) for seed in study.seeds] for m in methods}
    rows = [Row(method.label, _cells(found[method.name], names)) for method in methods]
    if experiments.comparable and plain_names(names) == plain_names(Paper.PROTOCOL.unseen):
        rows += _paper_rows(names)
    ours = methods[-1]
    columns = ("method", *names, "average", "average, symmetry-aware", *COST)
    notes = experiments.notes(
        f"{ours.label}: pose of the seen category with the lowest reconstruction loss. Dual heads: their only pose."
    )
    return [
        Table("table3", "categories left out of the training, pi/6", columns, tuple(rows), notes, "pose"),
        _sources(ours.label, [evaluated.result for evaluated in found[ours.name]], names),
    ]


def _cells(evaluations: Sequence[Evaluated[UnseenResult]], names: Sequence[str]) -> tuple[Cell, ...]:
    averages = (lambda result: result.average, lambda result: result.average_symmetry_aware)
    spreads = [spread_of(evaluations, measure) for measure in (*map(unseen_pose, names), *averages)]
    return (*spreads, *median_cost(evaluated.result for evaluated in evaluations))


def _paper_rows(names: Sequence[str]) -> list[Row]:
    rows = []
    for label, values in Paper.TABLE3.items():
        of_name = dict(zip(map(plain_name, Paper.PROTOCOL.unseen), values, strict=True))
        printed = tuple(of_name[plain_name(name)] / 100 for name in names)
        rows.append(Row(f"{label} (paper)", (*printed, sum(printed) / len(printed), None, None, None)))
    return rows


def _sources(label: str, results: Sequence[UnseenResult], names: Sequence[str]) -> Table:
    """With which seen categories' features the poses were found, the three most frequent ones."""
    rows = []
    for name in names:
        best = source_categories(results, name)[:3]
        rows.append(Row(name, (", ".join(f"{source} ({100 * share:.0f} %)" for source, share in best),)))
    title = f"the source categories, whose features {label} found the poses with"
    return Table("table3", title, ("category", "source categories"), tuple(rows), (), "source_categories")
