"""`compnet3d recipes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Recipes:
    """List the recipes, or print one as YAML: a file to change and to give to `compnet3d train --recipe`."""

    name: Positional[Annotated[str, arg(metavar="NAME", help_behavior_hint="")]] = ""
    """Of the recipe to print, or a YAML or JSON file; all are listed without it."""

    def run(self) -> None:
        """Print the list or the recipe."""
        from compnet3d.training.builtin_recipes import RECIPES, get_recipe

        if self.name:
            print(get_recipe(self.name).to_yaml(), end="")
            return
        width = max(len(name) for name in RECIPES)
        for name, recipe in RECIPES.items():
            print(f"{name:{width}}  {recipe.description}")
