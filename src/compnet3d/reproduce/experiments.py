"""The paper's experiments on one data set: which methods, which categories, and what is read out of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from compnet3d.data.annotations import plain_name
from compnet3d.errors import CompNetError
from compnet3d.evaluation.result import EvaluationResult
from compnet3d.reporting.tables import Cell, Spread
from compnet3d.reproduce.measures import Evaluated, Measure, median_cost, spread_of
from compnet3d.reproduce.paper_numbers import Paper
from compnet3d.reproduce.study import Condition, Method, Study
from compnet3d.training.builtin_recipes import baselines_of
from compnet3d.training.recipe import CompNetRecipe, Recipe

BASELINES = ("heads-regression", "heads", "novum")
LABELS = {
    "": "3D-CompNets",
    "novum": "NOVUM (full contrast)",
    "heads": "dual head (40 bins)",
    "heads-regression": "dual head (regression)",
}  # of the methods in tables and figures, by the suffix of their recipes


@dataclass(frozen=True)
class Experiments:
    """The paper's experiments on one data set.

    Attributes:
        study: where the models and their evaluations are.
        recipe: of the method; its baselines have the same name with a suffix.
        paper_scale: whether to train the paper's networks, and print its numbers beside ours where `comparable`.
        unseen: categories to leave out of the training for table 3; by default those of the paper that are there.
        synthetic: a second data set, for the shift between data sets of table 2.
        resnet: at the paper's scale, the method and its baselines with a ResNet-50 as well.
        epochs: of every method, where the recipes' own are not wanted.
        baselines: which of `BASELINES` the method is compared with.
        variants: which rows of `ablation.VARIANTS` are wanted; all if empty.
    """

    study: Study
    recipe: CompNetRecipe
    paper_scale: bool = False
    unseen: tuple[str, ...] = ()
    synthetic: Path | None = None
    resnet: CompNetRecipe | None = None
    epochs: int | None = None
    baselines: tuple[str, ...] = BASELINES
    variants: tuple[str, ...] = ()

    @property
    def comparable(self) -> bool:
        """Whether the paper's own numbers belong beside ours: at its scale, on data with its categories."""
        papers = plain_names((*Paper.PROTOCOL.unseen, *Paper.PROTOCOL.elongated))
        return self.paper_scale and papers <= plain_names(self.study.dataset().categories)

    def method(self, suffix: str = "", base: CompNetRecipe | None = None) -> Method:
        """A method of the study by its recipe's suffix: "", "novum", "heads" or "heads-regression"."""
        base = base or self.recipe
        recipe: Recipe = base
        if suffix:
            recipe = next(r for r in baselines_of(base) if r.name == f"{base.name}-{suffix}")
        if self.epochs is not None:
            recipe = recipe.with_settings({"schedule.epochs": self.epochs})
        label = LABELS[suffix] + (f", {_backbone(base)}" if self.resnet is not None else "")
        return Method(recipe.name, label, recipe)

    @property
    def families(self) -> tuple[tuple[Method, ...], ...]:
        """Of each backbone the baselines, then the method."""
        # the method last: tables end with it, and `_ahead` takes it from there
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

    def unseen_categories(self) -> list[str]:
        """The categories that are left out of the training for table 3.

        Raises:
            CompNetError: if one is not there, or none is given and none of the paper's is there.
        """
        dataset = self.study.dataset()
        there = dataset.categories
        papers = plain_names(Paper.PROTOCOL.unseen)
        names = list(dict.fromkeys(self.unseen)) or [name for name in there if plain_name(name) in papers]
        if not names:
            raise CompNetError(f"{self.study.data}: has none of the paper's unseen categories; give some with --unseen")
        for name in names:
            if name not in there:
                raise CompNetError(
                    f"{self.study.data}: has no category {name!r} to leave out; give --unseen some of "
                    f"{', '.join(there)}"
                )
            if not dataset.names(name, "val"):
                raise CompNetError(f"{self.study.data}: has no test image of {name!r}; leave it out of --unseen")
        if len(there) == len(names):
            raise CompNetError(f"{self.study.data}: --unseen leaves none of its {len(there)} categories to train on")
        return names

    def metrics(self, method: Method, condition: Condition) -> list[Evaluated[EvaluationResult]]:
        """The evaluations of a method under a condition, one for each seed."""
        return [self.study.metrics(method, seed, condition) for seed in self.study.seeds]

    def spread(self, method: Method, condition: Condition, measure: Measure) -> Spread:
        """A metric of a method under a condition, over all seeds."""
        spread = spread_of(self.metrics(method, condition), measure)
        assert spread is not None  # a `Measure` has a number for every evaluation
        return spread

    def cost(self, method: Method, condition: Condition) -> tuple[Cell, Cell]:
        """Median images per second and peak memory, as text."""
        return median_cost(evaluated.result for evaluated in self.metrics(method, condition))

    def notes(self, *more: str) -> tuple[str, ...]:
        """What stands below a table: how often it was trained, with what."""
        seeds = self.study.seeds
        several = f"Mean and standard deviation over {len(seeds)} trainings (medians of speed, memory and time)."
        spread = several if len(seeds) > 1 else "One training."
        return (*more, f"{spread} {self.source()}")

    def source(self) -> str:
        """With what the numbers were made."""
        return f"Recipe {self.recipe.name}, data {self.study.data}, oracle crop."


def plain_names(names: Iterable[str]) -> set[str]:
    """Categories as they are compared between data sets, see `plain_name`."""
    return {plain_name(name) for name in names}


def _backbone(recipe: Recipe) -> str:
    return {"imagenet3d-resnet50": "ResNet50", "imagenet3d-vitb14": "ViT-B/14"}.get(recipe.name, recipe.name)
