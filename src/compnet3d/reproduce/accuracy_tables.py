"""Tables 2, 4, 5 and 7: classification and pose, robustness, confusions, elongated categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from compnet3d.data.annotations import plain_name
from compnet3d.errors import CompNetError
from compnet3d.evaluation.metrics import row_shares
from compnet3d.geometry.mesh import cuboid_bounds
from compnet3d.reporting.tables import Cell, Row, Spread, Table
from compnet3d.reporting.terminal import POSE_ROWS
from compnet3d.reproduce.experiments import Experiments, plain_names
from compnet3d.reproduce.measures import (
    COST,
    POSE_FORMS,
    SUMMARY,
    Measure,
    classification,
    flips,
    mean_of,
    means,
    over_categories,
    pose,
    spread_of,
)
from compnet3d.reproduce.paper_numbers import Paper
from compnet3d.reproduce.study import CLEAN, Condition, Method

FLIPS = {
    "share": f"flipped poses, {POSE_ROWS['true_category']}",
    "of_errors": "flipped, of the errors beyond pi/6",
}  # columns of table 2 and blocks of table 4, by what they are a share of


def table2(experiments: Experiments) -> list[Table]:
    """Classification and pose on the data set's own test images, and on another data set."""
    conditions = [CLEAN]
    if experiments.synthetic is not None:
        conditions.append(Condition("synthetic", data=experiments.synthetic))
    tables = []
    for place, condition in enumerate(conditions):
        rows: list[Row] = []
        if experiments.comparable:
            empty: tuple[Cell, ...] = (None,) * (len(_COLUMNS) - 2)
            rows += [Row(f"{name} (paper)", (v[place] / 100, *empty)) for name, v in Paper.TABLE2.items()]
        where = "test images of the same data set" if condition is CLEAN else f"another data set, {condition.data}"
        tables.append(_table_of_condition(experiments, condition, "table2", where, rows))
    return tables


_COLUMNS = (
    "method",
    "classification",
    *(f"pi/6, {POSE_ROWS[form]}" for form in POSE_FORMS),
    f"pi/18, {POSE_ROWS['true_category']}",
    *FLIPS.values(),
    *COST,
)


def _table_of_condition(
    experiments: Experiments, condition: Condition, name: str, title: str, published: Sequence[Row] = ()
) -> Table:
    """Classification and pose of all methods under one condition."""
    rows = [Row(method.label, _cells(experiments, method, condition)) for method in experiments.methods]
    return Table(name, title, _COLUMNS, (*rows, *published), experiments.notes(), condition.name)


def _cells(experiments: Experiments, method: Method, condition: Condition) -> tuple[Cell, ...]:
    measures = [classification, *map(pose, POSE_FORMS), pose("true_category", "acc_pi18")]
    spreads = [experiments.spread(method, condition, measure) for measure in measures]
    flipped = [spread_of(experiments.metrics(method, condition), flips(metric)) for metric in FLIPS]
    return (*spreads, *flipped, *experiments.cost(method, condition))


def table4(experiments: Experiments) -> list[Table]:
    """Robustness: occlusion and corruption."""
    tables: list[Table] = []
    ahead: list[Row] = []
    for key, title, measure, published in _robustness_measures():
        spreads = {method.name: _robustness(experiments, method, measure) for method in experiments.methods}
        tables.append(_robustness_table(experiments, key, title, spreads, published))
        ahead += _ahead(experiments, title, spreads)
    if ahead:
        heading = "by how many points 3D-CompNets lead with the same backbone (training by training)"
        tables.insert(0, Table("table4", heading, ("metric", *SUMMARY), tuple(ahead), (), "lead"))
    tables += [*_flip_tables(experiments), _robustness_cost(experiments)]
    other = experiments.study.other_backgrounds
    if other is not None:
        tables.append(_table_of_condition(experiments, other, "table4", "the objects before other backgrounds"))
    return tables


def _robustness_measures() -> list[tuple[str, str, Measure, Mapping[str, tuple[float, ...]]]]:
    """Of each metric of table 4: key and title of its table, the measure, what the paper prints."""
    found: list[tuple[str, str, Measure, Mapping[str, tuple[float, ...]]]] = [
        ("classification", "classification", classification, Paper.TABLE4_CLASSIFICATION)
    ]
    for form in POSE_FORMS:
        published = Paper.TABLE4_POSE if form == Paper.POSE_FORM else {}
        found.append((form, f"pose pi/6, {POSE_ROWS[form]}", pose(form), published))
    aware = pose("true_category", aware=True)
    return [*found, ("symmetry_aware", "pose pi/6, symmetry-aware, true category given", aware, {})]


def _robustness(experiments: Experiments, method: Method, measure: Measure) -> list[Spread]:
    """A metric on clean images, at each level of occlusion, under each corruption."""
    return [experiments.spread(method, condition, measure) for condition in experiments.study.conditions]


def _flip_tables(experiments: Experiments) -> list[Table]:
    """Flipped poses under all conditions; a share that some evaluation does not have gives no table."""
    tables, conditions = [], experiments.study.conditions
    for metric, title in FLIPS.items():
        spreads = {
            method.name: [spread_of(experiments.metrics(method, c), flips(metric)) for c in conditions]
            for method in experiments.methods
        }
        known = {name: [spread for spread in found if spread is not None] for name, found in spreads.items()}
        if known == spreads:
            tables.append(_robustness_table(experiments, f"flips_{metric}", title, known, {}))
    return tables


def _robustness_table(
    experiments: Experiments,
    key: str,
    title: str,
    spreads: Mapping[str, Sequence[Spread]],
    published: Mapping[str, tuple[float, ...]],
) -> Table:
    """One metric of table 4 for each method, whose `spreads` go by its name."""
    occlusions, corruptions = experiments.study.occlusions, experiments.study.corruptions
    columns = ("method", "clean", *(c.name for c in occlusions), "occluded, mean", *(c.name for c in corruptions),
               "corrupted, mean")  # fmt: skip
    rows = [Row(m.label, _with_means(spreads[m.name], len(occlusions))) for m in experiments.methods]
    if experiments.comparable:
        for label, values in published.items():
            shares = [Spread((value / 100,)) for value in values]
            rows.append(Row(f"{label} (paper)", _with_means(shares, len(occlusions))))
    return Table("table4", title, columns, tuple(rows), (), key)


def _with_means(spreads: Sequence[Spread], occlusions: int) -> tuple[Cell, ...]:
    """Clean, the occluded ones and their mean, the corrupted ones and theirs."""
    clean, occluded, corrupted = means(spreads, occlusions)
    return (clean, *spreads[1 : 1 + occlusions], occluded, *spreads[1 + occlusions :], corrupted)


def _ahead(experiments: Experiments, title: str, spreads: Mapping[str, Sequence[Spread]]) -> list[Row]:
    """By how much the method is ahead of each baseline with the same backbone, in one metric."""
    rows = []
    for *baselines, ours in experiments.families:
        for other in baselines:
            both = (means(spreads[method.name], len(experiments.study.occlusions)) for method in (ours, other))
            rows.append(Row(f"{title}, over {other.label}", tuple(a.over(b) for a, b in zip(*both, strict=True))))
    return rows


def _robustness_cost(experiments: Experiments) -> Table:
    conditions = (CLEAN, experiments.study.occlusions[0])
    rows = tuple(
        Row(method.label, tuple(cell for c in conditions for cell in experiments.cost(method, c)))
        for method in experiments.methods
    )
    columns = ("method", *COST, "images/s, L1", "peak memory, L1 [MB]")
    return Table("table4", "speed and memory of the evaluations", columns, rows, experiments.notes(), "cost")


def table5(experiments: Experiments) -> list[Table]:
    """The most confused pairs on the calibration split, as each training saw them last, in the mean."""
    history = [confusions(experiments, seed) for seed in experiments.study.seeds]
    epoch = history[0][-1][0]
    shares = torch.stack([found[-1][1] for found in history])
    names = experiments.study.dataset().categories
    mean = shares.mean(dim=0)
    pairs = [(float(mean[i, j]), i, j) for i in range(len(names)) for j in range(len(names)) if i != j]
    # ties by the categories' order, so that the table is the same in every run
    pairs = [pair for pair in sorted(pairs, key=lambda p: (-p[0], p[1], p[2])) if pair[0] > 0][:10]
    rows = tuple(Row(names[i], (names[j], Spread(tuple(shares[:, i, j].tolist())))) for _, i, j in pairs)
    title = f"most confused categories of the calibration split (plain and augmented crops) after epoch {epoch}"
    columns = ("true category", "predicted", "share [%]")
    tables = [Table("table5", title, columns, rows, experiments.notes())]
    if experiments.comparable:
        published = zip(Paper.PROTOCOL.confused, Paper.TABLE5, strict=True)
        printed = tuple(Row(pair[0], (pair[1], share)) for pair, share in published)
        tables.append(Table("table5", "the paper's most confused categories", columns, printed, (), "paper"))
    return tables


def confusions(experiments: Experiments, seed: int) -> list[tuple[int, Tensor]]:
    """How the method's training confused the calibration split: after which epochs, shares of a row [Y, Y].

    Raises:
        CompNetError: if it had no calibration split.
    """
    ours, study = experiments.method(), experiments.study
    found = [(int(e["epoch"]), row_shares(e["confusion"])) for e in study.log(ours, seed) if "confusion" in e]
    if not found:
        raise CompNetError(f"{study.run(ours, seed)}: had no calibration split, whose confusions are shown")
    return found


def table7(experiments: Experiments) -> list[Table]:
    """All categories, and those that are not elongated."""
    ours, study, names = experiments.method(), experiments.study, elongated(experiments)
    groups = {"clean": (CLEAN,), "occluded": study.occlusions, "corrupted": study.corruptions}
    everything = study.dataset().categories
    kept = [name for name in everything if name not in names]
    notes = experiments.notes(f"Elongated: {', '.join(names) or 'none'}.")
    shown: list[tuple[str, str, Mapping[str, tuple[float, ...]]]] = [
        ("classification", "classification", Paper.TABLE7_CLASSIFICATION)
    ]
    for form in POSE_FORMS:
        shown.append((form, f"pose pi/6, {POSE_ROWS[form]}", Paper.TABLE7_POSE if form == Paper.POSE_FORM else {}))
    tables = []
    for key, title, published in shown:
        rows = []
        for label, categories in (("all", everything), ("without elongated", kept)):
            measure = over_categories(categories, key)
            spreads = [[experiments.spread(ours, c, measure) for c in group] for group in groups.values()]
            rows.append(Row(label, tuple(mean_of(some) for some in spreads)))
            if experiments.comparable and published:
                rows.append(Row(f"{label} (paper)", tuple(value / 100 for value in published[label])))
        tables.append(Table("table7", title, ("categories", *groups), tuple(rows), notes, key))
    return tables


def elongated(experiments: Experiments, ratio: float = 3.0) -> list[str]:
    """The paper's elongated categories that are there, at small scale also those with a long box.

    Args:
        experiments: on which data; ratio: at least this is the longest side of a long box over the next one.
    """
    dataset = experiments.study.dataset()
    known = plain_names(Paper.PROTOCOL.elongated)
    papers = [name for name in dataset.categories if plain_name(name) in known]
    if experiments.paper_scale:
        return papers
    found = []
    for name in dataset.categories:
        low, high = cuboid_bounds(dataset.meshes(name))
        # longest over middle side: a flat thing is not elongated
        sides = sorted((high - low).tolist())
        if name in papers or sides[2] >= ratio * sides[1]:
            found.append(name)
    return found
