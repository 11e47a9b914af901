"""Every table of the paper as a function of a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compnet3d.data.annotations import plain_name
from compnet3d.errors import CompNetError
from compnet3d.evaluation.metrics import row_shares
from compnet3d.geometry.mesh import cuboid_bounds
from compnet3d.reporting.tables import Cell, Row, Spread, Table
from compnet3d.reporting.terminal import POSE_ROWS
from compnet3d.reproduce import paper_numbers as paper
from compnet3d.reproduce.measures import (
    COST,
    POSE_FORMS,
    SUMMARY,
    EntryMeasure,
    Measure,
    _entry_pose,
    _median_cost,
    _over,
    _unseen_pose,
    classification,
    mean_of,
    over_categories,
    pose,
)
from compnet3d.reproduce.study import CLEAN, Condition, Method, Study
from compnet3d.training.builtin_recipes import baselines_of
from compnet3d.training.recipe import Recipe

BASELINES = ("heads-regression", "heads", "novum")
LABELS = {
    "": "3D-CompNets",
    "novum": "NOVUM (full contrast)",
    "heads": "dual head (40 bins)",
    "heads-regression": "dual head (regression)",
}  # of the methods in tables and figures, by the suffix of their recipes
ELONGATION = 3.0  # longest side of the box over the next


@dataclass(frozen=True)
class Experiments:
    """The paper's experiments on one data set.

    Attributes:
        study: where the models and their evaluations are.
        recipe: of the method; its baselines have the same name with a suffix.
        paper_scale: whether to train the paper's networks, and print its figures beside ours where `comparable`.
        unseen: categories to leave out of the training for table 3; by default those of the paper that are there.
        synthetic: a second data set, for the shift between data sets of table 2.
        resnet: at the paper's scale, the method and its baselines with a ResNet-50 as well.
        epochs: of every method, where the recipes' own are not wanted.
        baselines: which of `BASELINES` the method is compared with.
    """

    study: Study
    recipe: Recipe
    paper_scale: bool = False
    unseen: tuple[str, ...] = ()
    synthetic: Path | None = None
    resnet: Recipe | None = None
    epochs: int | None = None
    baselines: tuple[str, ...] = BASELINES

    @property
    def comparable(self) -> bool:
        """Whether the paper's own figures belong beside ours: at its scale, on data with the categories it names."""
        named = _plain((*paper.UNSEEN, *paper.ELONGATED))
        return self.paper_scale and named <= _plain(self.study.dataset().categories)

    def method(self, suffix: str = "", base: Recipe | None = None) -> Method:
        """A method of the study by its recipe's suffix: "", "novum", "heads" or "heads-regression"."""
        base = base or self.recipe
        recipe = next(r for r in baselines_of(base) if r.name == f"{base.name}-{suffix}") if suffix else base
        if self.epochs is not None:
            recipe = recipe.with_options(epochs=self.epochs)
        label = LABELS[suffix] + (f", {_backbone(base)}" if self.resnet is not None else "")
        return Method(recipe.name, label, recipe)

    @property
    def families(self) -> tuple[tuple[Method, ...], ...]:
        """Of each backbone the baselines, then the method."""
        suffixes = [*(name for name in BASELINES if name in self.baselines), ""]
        if self.resnet is None:
            return (tuple(self.method(s) for s in suffixes),)
        # NOVUM has a ResNet-50 only
        others = tuple(self.method(s) for s in suffixes if s != "novum")
        return (tuple(self.method(s, self.resnet) for s in suffixes), others)

    @property
    def methods(self) -> tuple[Method, ...]:
        """All of them, backbone by backbone."""
        return tuple(method for family in self.families for method in family)

    # -- tables ----------------------------------------------------------------------------------------------------

    def table2(self) -> list[Table]:
        """Classification and pose on the data set's own test images, and on another data set."""
        columns = ["method", "classification", *(f"pi/6, {POSE_ROWS[form]}" for form in POSE_FORMS)]
        columns += [f"pi/18, {POSE_ROWS['true_category']}", *COST]
        conditions = [CLEAN]
        if self.synthetic is not None:
            conditions.append(Condition("synthetic", data=self.synthetic))
        tables = []
        for condition in conditions:
            rows = []
            for method in self.methods:
                cells: list[Cell] = [self.spread(method, condition, classification)]
                cells += [self.spread(method, condition, pose(form)) for form in POSE_FORMS]
                cells.append(self.spread(method, condition, pose("true_category", "acc_pi18")))
                rows.append(Row(method.label, (*cells, *self.cost(method, condition))))
            if self.comparable:
                place = 0 if condition is CLEAN else 1
                empty: tuple[Cell, ...] = (None,) * (len(columns) - 2)
                rows += [Row(f"{name} (paper)", (v[place] / 100, *empty)) for name, v in paper.TABLE2.items()]
            where = "test images of the same data set" if condition is CLEAN else f"another data set, {condition.data}"
            tables.append(Table("table2", f"{where}", tuple(columns), tuple(rows), self.notes(), condition.name))
        return tables

    def table3(self) -> list[Table]:
        """Pose of categories that were not trained on, and which category lent its features."""
        names = self.unseen_categories()
        methods = [m for m in self.methods if "novum" not in m.name]
        ours = methods[-1]
        rows = []
        for method in methods:
            found = {seed: self.study.unseen(method, seed, names) for seed in self.study.seeds}
            cells: list[Cell] = [_over(found, _unseen_pose(name)) for name in names]
            cells.append(_over(found, lambda result: result.average))
            cells.append(_over(found, lambda result: result.average_symmetry_aware))
            rows.append(Row(method.label, (*cells, *_median_cost(list(found.values())))))
        if self.comparable and _plain(names) == _plain(paper.UNSEEN):
            for label, values in paper.TABLE3.items():
                of_name = dict(zip(map(plain_name, paper.UNSEEN), values, strict=True))
                printed = tuple(of_name[plain_name(name)] / 100 for name in names)
                rows.append(Row(f"{label} (paper)", (*printed, sum(printed) / len(printed), None, None, None)))
        columns = ("method", *names, "average", "average, symmetry-aware", *COST)
        lent = {seed: self.study.unseen(ours, seed, names).per_category for seed in self.study.seeds}
        source_categories = []
        for name in names:
            shares: dict[str, float] = {}
            for categories in lent.values():
                for source_category, share in categories[name].source_categories.items():
                    shares[source_category] = shares.get(source_category, 0.0) + share / len(lent)
            best = sorted(shares.items(), key=lambda item: -item[1])[:3]
            source_categories.append(
                Row(name, (", ".join(f"{source_category} ({100 * share:.0f} %)" for source_category, share in best),))
            )
        notes = self.notes(
            f"{ours.label}: pose of the seen category with the lowest reconstruction loss. Dual heads: their only pose."
        )
        return [
            Table("table3", "categories left out of the training, pi/6", columns, tuple(rows), notes, "pose"),
            Table("table3", f"which category lends {ours.label} its features",
                  ("category", "source_categories"), tuple(source_categories), (), "source_categories"),
        ]  # fmt: skip

    def table4(self) -> list[Table]:
        """Robustness: occlusion and corruption."""
        occlusions, corruptions = self.study.occlusions, self.study.corruptions
        conditions = (CLEAN, *occlusions, *corruptions)
        columns = ("method", "clean", *(c.name for c in occlusions), "occluded, mean", *(c.name for c in corruptions),
                   "corrupted, mean")  # fmt: skip
        shown: list[tuple[str, str, Measure, Mapping[str, tuple[float, ...]]]] = [
            ("classification", "classification", classification, paper.TABLE4_CLASSIFICATION)
        ]
        for form in POSE_FORMS:
            numbers: Mapping[str, tuple[float, ...]] = paper.TABLE4_POSE if form == paper.POSE_FORM else {}
            shown.append((form, f"pose pi/6, {POSE_ROWS[form]}", pose(form), numbers))
        shown.append(
            ("symmetry_aware", "pose pi/6, symmetry-aware, true category given", pose("true_category", aware=True), {})
        )
        tables, leads = [], []
        for key, title, measure, published in shown:
            rows, means = [], {}
            for method in self.methods:
                spreads = [self.spread(method, condition, measure) for condition in conditions]
                rows.append(Row(method.label, self._with_means(spreads, len(occlusions))))
                means[method.name] = self._means(spreads, len(occlusions))
            for *baselines, ours in self.families:
                for other in baselines:
                    pairs = zip(means[ours.name], means[other.name], strict=True)
                    leads.append(Row(f"{title}, over {other.label}", tuple(a.over(b) for a, b in pairs)))
            if self.comparable:
                for label, values in published.items():
                    shares = [Spread((value / 100,)) for value in values]
                    rows.append(Row(f"{label} (paper)", self._with_means(shares, len(occlusions))))
            tables.append(Table("table4", title, columns, tuple(rows), (), key))
        if leads:
            heading = "by how many points 3D-CompNets lead with the same backbone (training by training)"
            tables.insert(0, Table("table4", heading, ("figure", *SUMMARY), tuple(leads), (), "lead"))
        cost = [
            Row(method.label, tuple(c for condition in (CLEAN, occlusions[0]) for c in self.cost(method, condition)))
            for method in self.methods
        ]
        heads = ("method", *COST, "images/s, L1", "peak memory, L1 [MB]")
        tables.append(Table("table4", "speed and memory of the evaluations", heads, tuple(cost), self.notes(), "cost"))
        return tables

    def table5(self) -> list[Table]:
        """The most confused pairs on the calibration split, as each training saw them last, in the mean."""
        history = [self.confusions(seed) for seed in self.study.seeds]
        epoch = history[0][-1][0]
        shares = torch.stack([confusions[-1][1] for confusions in history])
        names = self.study.dataset().categories
        mean = shares.mean(dim=0)
        pairs = [(float(mean[i, j]), i, j) for i in range(len(names)) for j in range(len(names)) if i != j]
        pairs = [pair for pair in sorted(pairs, key=lambda p: (-p[0], p[1], p[2])) if pair[0] > 0][:10]
        rows = tuple(Row(names[i], (names[j], Spread(tuple(shares[:, i, j].tolist())))) for _, i, j in pairs)
        title = f"most confused categories of the calibration split (plain and augmented views) after epoch {epoch}"
        columns = ("true category", "predicted", "share [%]")
        tables = [Table("table5", title, columns, rows, self.notes())]
        if self.comparable:
            printed = tuple(Row(true, (predicted, share)) for true, predicted, share in paper.TABLE5)
            tables.append(Table("table5", "the paper's most confused categories", columns, printed, (), "paper"))
        return tables

    def confusions(self, seed: int) -> list[tuple[int, Tensor]]:
        """How the method's training confused the calibration split: after which epochs, shares of a row [Y, Y].

        Raises:
            CompNetError: if it had no calibration split.
        """
        ours = self.method()
        found = []
        for entry in self.study.log(ours, seed):
            if "confusion" in entry:
                found.append((int(entry["epoch"]), row_shares(entry["confusion"])))
        if not found:
            raise CompNetError(f"{self.study.run(ours, seed)}: had no calibration split, whose confusions are shown")
        return found

    def table6(self) -> list[Table]:
        """Each part of Eq. 5 alone, both, and both with the recipe's classification and pose contrastive loss."""
        ours = self.method()
        parts = {"classification": "classification_weight", "pose contrastive": "pose_contrastive_weight"}
        more = [part for part, weight in parts.items() if getattr(ours.recipe, weight) > 0]
        variants = {
            "in-category only": self._variant("in-category-only", cross_weight=0.0, classification_weight=0.0),
            "cross-category only": self._variant("cross-category-only", in_weight=0.0, classification_weight=0.0),
            "both": self._variant("both", classification_weight=0.0),
        }
        if len(more) == 2:
            variants["both and classification"] = self._variant("both-and-classification")
        variants[", ".join(["both", *more[:-1]]) + f" and {more[-1]}" if more else "both"] = ours
        rows = []
        for label, method in variants.items():
            cells = [self.spread(method, CLEAN, classification)]
            cells += [self.spread(method, CLEAN, pose(form)) for form in POSE_FORMS]
            rows.append(Row(label, (*cells, *self.cost(method, CLEAN))))
            if self.comparable and label in paper.TABLE6:
                named, posed = paper.TABLE6[label]
                shares = tuple(posed / 100 if form == paper.POSE_FORM else None for form in POSE_FORMS)
                rows.append(Row(f"{label} (paper)", (named / 100, *shares, None, None)))
        columns = ("loss", "classification", *(f"pi/6, {POSE_ROWS[form]}" for form in POSE_FORMS), *COST)
        return [
            Table("table6", "the parts of the loss", columns, tuple(rows), (), "clean"),
            *self._robustness_of(variants, alone=variants["both"]),
        ]

    def _robustness_of(self, variants: Mapping[str, Method], alone: Method) -> list[Table]:
        """The parts of the loss under occlusion and corruption, and by how much Eq. 5 alone leads over NOVUM."""
        occlusions, corruptions = self.study.occlusions, self.study.corruptions
        measures = {"classification": classification} | {f"pi/6, {POSE_ROWS[f]}": pose(f) for f in POSE_FORMS}
        novum = [method for method in self.families[-1] if method.recipe.method == "novum"]
        methods = {**variants, **{other.label: other for other in novum}}
        found = {
            method.name: [
                self._means(
                    [self.spread(method, condition, measure) for condition in (CLEAN, *occlusions, *corruptions)],
                    len(occlusions),
                )
                for measure in measures.values()
            ]
            for method in methods.values()
        }
        rows = [
            Row(label, tuple(mean for _, *means in found[method.name] for mean in means))
            for label, method in methods.items()
        ]
        columns = ("loss", *(f"{name}, {group}" for name in measures for group in ("occluded", "corrupted")))
        notes = () if novum else self.notes()
        tables = [Table("table6", "the same under occlusion and corruption", columns, tuple(rows), notes, "robust")]
        for other in novum:
            leads = [
                Row(name, tuple(a.over(b) for a, b in zip(ours, theirs, strict=True)))
                for name, ours, theirs in zip(measures, found[alone.name], found[other.name], strict=True)
            ]
            title = (
                f"by how many points both, without classification and pose contrastive loss, lead over {other.label}"
            )
            tables.append(Table("table6", title, ("figure", *SUMMARY), tuple(leads), self.notes(), "lead"))
        return tables

    def table7(self) -> list[Table]:
        """All categories, and those that are not elongated."""
        names = self.elongated()
        ours, study = self.method(), self.study
        groups = {"clean": (CLEAN,), "occluded": study.occlusions, "corrupted": study.corruptions}
        kept = [name for name in study.dataset().categories if name not in names]
        tables = []
        shown: list[tuple[str, str, EntryMeasure, Mapping[str, tuple[float, ...]]]] = [
            ("classification", "classification", lambda entry: entry.accuracy, paper.TABLE7_CLASSIFICATION)
        ]
        for form in POSE_FORMS:
            numbers = paper.TABLE7_POSE if form == paper.POSE_FORM else {}
            shown.append((form, f"pose pi/6, {POSE_ROWS[form]}", _entry_pose(form), numbers))
        for key, title, entry_of, published in shown:
            rows = []
            for label, categories in (("all", study.dataset().categories), ("without elongated", kept)):
                measure = over_categories(categories, entry_of)
                spreads = [[self.spread(ours, c, measure) for c in group] for group in groups.values()]
                cells = [mean_of(some) for some in spreads]
                rows.append(Row(label, tuple(cells)))
                if self.comparable and published:
                    rows.append(Row(f"{label} (paper)", tuple(value / 100 for value in published[label])))
            left_out = f"Elongated: {', '.join(names) or 'none'}."
            tables.append(Table("table7", title, ("categories", *groups), tuple(rows), self.notes(left_out), key))
        return tables

    def elongated(self) -> list[str]:
        """The paper's elongated categories that are there, at small scale also those with a long box."""
        dataset = self.study.dataset()
        known = _plain(paper.ELONGATED)
        named = [name for name in dataset.categories if plain_name(name) in known]
        if self.paper_scale:
            return named
        found = []
        for name in dataset.categories:
            low, high = cuboid_bounds(dataset.meshes(name))
            sides = sorted((high - low).tolist())
            if name in named or sides[2] >= ELONGATION * sides[1]:
                found.append(name)
        return found

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _variant(self, name: str, **changes: Any) -> Method:
        """The method without the pose contrastive loss, and with other settings changed."""
        recipe = self.method().recipe.without_pose_contrastive().with_options(**changes)
        return Method(f"{self.recipe.name}-{name}", name, recipe)

    def unseen_categories(self) -> list[str]:
        """The categories that are left out of the training for table 3.

        Raises:
            CompNetError: if one is not there, or none is named and none of the paper's is there.
        """
        dataset = self.study.dataset()
        there = dataset.categories
        papers = _plain(paper.UNSEEN)
        names = list(dict.fromkeys(self.unseen)) or [name for name in there if plain_name(name) in papers]
        if not names:
            raise CompNetError(f"{self.study.data}: has none of the paper's unseen categories; name some with --unseen")
        for name in names:
            if name not in there:
                raise CompNetError(
                    f"{self.study.data}: has no category {name!r} to leave out; give --unseen some of "
                    f"{', '.join(there)}"
                )
            if not dataset.names(name, "val"):
                raise CompNetError(f"{self.study.data}: has no test image of {name!r}; leave it out of --unseen")
        if len(there) - len(names) < 2:
            raise CompNetError(f"{self.study.data}: --unseen leaves fewer than two of its {len(there)} categories")
        return names

    def spread(self, method: Method, condition: Condition, measure: Measure) -> Spread:
        """A figure of a method under a condition, over all seeds."""
        return self.study.spread(lambda seed: measure(self.study.metrics(method, seed, condition)))

    def cost(self, method: Method, condition: Condition) -> tuple[Cell, Cell]:
        """Median images per second and peak memory, as text."""
        return _median_cost([self.study.metrics(method, seed, condition) for seed in self.study.seeds])

    @staticmethod
    def _means(spreads: Sequence[Spread], occlusions: int) -> tuple[Spread, Spread, Spread]:
        """Clean, the mean of the occluded ones, that of the corrupted ones: the columns of `SUMMARY`."""
        return spreads[0], mean_of(spreads[1 : 1 + occlusions]), mean_of(spreads[1 + occlusions :])

    @classmethod
    def _with_means(cls, spreads: Sequence[Spread], occlusions: int) -> tuple[Cell, ...]:
        """Clean, the occluded ones and their mean, the corrupted ones and theirs."""
        clean, occluded, corrupted = cls._means(spreads, occlusions)
        return (clean, *spreads[1 : 1 + occlusions], occluded, *spreads[1 + occlusions :], corrupted)

    def notes(self, *more: str) -> tuple[str, ...]:
        """What stands below a table: how often it was trained, with what."""
        seeds = self.study.seeds
        several = f"Mean and standard deviation over {len(seeds)} trainings (medians of speed, memory and time)."
        spread = several if len(seeds) > 1 else "One training."
        return (*more, f"{spread} {self.source()}")

    def source(self) -> str:
        """With what the figures were made."""
        return f"Recipe {self.recipe.name}, data {self.study.data}, oracle crop."


def _plain(names: Iterable[str]) -> set[str]:
    return {plain_name(name) for name in names}


def _backbone(recipe: Recipe) -> str:
    return {"imagenet3d-resnet50": "ResNet50", "imagenet3d-vitb14": "ViT-B/14"}.get(recipe.name, recipe.name)
