"""Recipes: every number of a training run in one place, one type for each method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, TypeVar

import yaml
from typing_extensions import Self

from compnet3d.data.augment import Augmentation
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.training.recipe_parts import (
    BackboneSettings,
    BankSettings,
    CompNetLossSettings,
    CompNetSearchSettings,
    GroupingSettings,
    HeadSettings,
    InputSettings,
    LossSettings,
    ModelSettings,
    ScheduleSettings,
    SearchSettings,
)
from compnet3d.utils.settings import changed, check_ranges, plain, read

R = TypeVar("R", bound="Recipe")
Part = TypeVar("Part")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every method's recipe has; what is fixed by the paper is said so in its parts.

    Attributes:
        method: its name in files.
        name, description: what it is for.
        augmentation: random changes of the crops.

    Raises:
        ValueError: naming the setting that is out of range.
    """

    method: ClassVar[str]

    name: str
    description: str = ""
    input: InputSettings
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        check_ranges(self)

    def with_settings(self, changes: Mapping[str, Any]) -> Self:
        """A copy with some settings changed, by dotted name: `recipe.with_settings({"loss.kappa": 20})`.

        Raises:
            ValueError: naming the setting that is unknown (and the nearest one), of another type or out of range.
        """
        return changed(self, changes)

    def to_dict(self) -> dict[str, Any]:
        """For JSON and YAML."""
        return {"method": self.method, **plain(self)}

    def to_yaml(self) -> str:
        """As a file that `get_recipe` reads."""
        # with characters beyond ASCII escaped: PyYAML would write U+0085 as a line break
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=100)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Recipe:
        """From what JSON or YAML gives; settings that it does not give have their defaults.

        Raises:
            ValueError: naming the setting that is unknown (and the nearest one), of another type or out of range.
            TypeError: naming a setting that is missing and has no default.
        """
        # here and not at the top: the classes follow below
        kinds: dict[str, type[Recipe]] = {k.method: k for k in (CompNetRecipe, NovumRecipe, DualHeadRecipe)}
        method = values.get("method", CompNetRecipe.method)
        if method not in kinds:
            raise ValueError(f"method must be one of {', '.join(kinds)}, not {method!r}")
        return read(kinds[method], {name: value for name, value in values.items() if name != "method"})


@dataclass(frozen=True, kw_only=True)
class ContrastiveRecipe(Recipe):
    """What the methods with a bank of vertex features share."""

    model: ModelSettings = field(default_factory=ModelSettings)
    bank: BankSettings = field(default_factory=BankSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    search: SearchSettings = field(default_factory=SearchSettings)


@dataclass(frozen=True, kw_only=True)
class CompNetRecipe(ContrastiveRecipe):
    """Of the paper's method."""

    method: ClassVar[str] = "compnet"

    loss: CompNetLossSettings = field(default_factory=CompNetLossSettings)
    grouping: GroupingSettings = field(default_factory=GroupingSettings)
    search: CompNetSearchSettings = field(default_factory=CompNetSearchSettings)

    def without_pose_contrastive(self) -> CompNetRecipe:
        """Without the pose contrastive loss and with pose settings and scores that serve without it; else itself."""
        if self.loss.pose_contrastive_weight == 0:
            return self
        # recipes with this loss set these for features that have learned to tell poses apart; others get the usual
        # values
        usual = PoseSettings()
        search = {name: getattr(usual, name) for name in ("truncation", "foreground_bonus", "prior_weight")}
        return replace(
            self,
            loss=replace(self.loss, pose_contrastive_weight=0.0),
            search=replace(self.search, pose_score_weight=0.0, **search),
        )


@dataclass(frozen=True, kw_only=True)
class NovumRecipe(ContrastiveRecipe):
    """Of the baseline NOVUM: full contrast of all vertices and the background in one softmax."""

    method: ClassVar[str] = "novum"


@dataclass(frozen=True, kw_only=True)
class DualHeadRecipe(Recipe):
    """Of the baseline with a classification head and a pose head; it needs no bank, loss settings or search."""

    method: ClassVar[str] = "dual-head"

    model: HeadSettings = field(default_factory=HeadSettings)


def recipe_like(kind: type[R], other: Recipe, **changes: Any) -> R:
    """Another method's recipe with all the settings that both methods have.

    Args:
        kind: of the other method; changes: parts and names to have instead.
    """
    parts: dict[str, Any] = {}
    for entry in fields(kind):
        if hasattr(other, entry.name):
            value = getattr(other, entry.name)
            # a part's class; the input and the plain settings have no factory and are taken as they are
            factory: Any = entry.default_factory
            parts[entry.name] = _part_like(factory, value) if isinstance(factory, type) else value
    return kind(**{**parts, **changes})


def _part_like(kind: type[Part], other: Any) -> Part:
    """A recipe's part with the settings that another has as well."""
    # the very same class: a subclass has settings that this method's part lacks, and they are left out below
    if isinstance(other, kind) and type(other) is kind:
        return other
    names = [entry.name for entry in fields(kind) if hasattr(other, entry.name)]  # type: ignore[arg-type]
    return kind(**{name: getattr(other, name) for name in names})
