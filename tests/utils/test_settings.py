"""Recipes are read from text, JSON and YAML, and what cannot be is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compnet3d.cli.main import main
from compnet3d.data.augment import Augmentation
from compnet3d.errors import CompNetError
from compnet3d.training.builtin_recipes import RECIPES, get_compnet_recipe, get_recipe
from compnet3d.training.recipe import CompNetRecipe, DualHeadRecipe, NovumRecipe, Recipe, recipe_like
from compnet3d.utils.settings import leaves, nearest
from tests.networks import TINY_RECIPE, TINY_RESNET

QUICKSTART = RECIPES["quickstart"]
PAIRS = st.tuples(st.floats(0.01, 0.5), st.floats(0.5, 1.0))


def value_of(kind: Any, name: str, limits: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Some value that a field of this type and range takes."""
    if name in ("scale", "erasing_area", "dead_leaves_area"):
        return PAIRS
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        return st.lists(st.text(max_size=8)).map(tuple) if inner[-1] is Ellipsis else PAIRS.filter(lambda p: p[1] < 1)
    if name == "family":
        return st.just("resnet")
    if get_origin(kind) is dict:
        return st.sampled_from([{}, {"embedding_size": 8}, TINY_RESNET])
    if type(None) in get_args(kind):
        (other,) = (inner for inner in get_args(kind) if inner is not type(None))
        return st.none() | value_of(other, name, limits)
    least, most = limits.get("least") or 0, limits.get("most") or 0.99
    scalars: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(), int: st.integers(max(1, int(least)), min(20, int(most)) if most > 1 else 20),
        float: st.floats(max(0, least), min(0.99, most)), str: st.text(max_size=20),
    }  # fmt: skip
    return scalars[kind]


@st.composite
def recipes_of(draw: Any, kind: type) -> Any:
    """A recipe, or a part of one, with any values."""
    hints, values = get_type_hints(kind), {}
    for entry in fields(kind):
        inner = hints[entry.name]
        required = entry.default is MISSING and entry.default_factory is MISSING
        if required or draw(st.booleans()):
            values[entry.name] = draw(
                recipes_of(inner) if is_dataclass(inner) else value_of(inner, entry.name, entry.metadata)
            )
    return kind(**values)


@example(replace(TINY_RECIPE, description="\x85", name="\u2028 é"))  # line breaks to PyYAML
@settings(max_examples=60, deadline=None)
@given(st.one_of(*(recipes_of(kind) for kind in (CompNetRecipe, NovumRecipe, DualHeadRecipe))))
def test_any_recipe_is_what_its_yaml_and_its_json_say(recipe: Recipe) -> None:
    assert Recipe.from_dict(yaml.safe_load(recipe.to_yaml())) == recipe
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe and type(again) is type(recipe)


@pytest.mark.parametrize("name", RECIPES)
def test_a_printed_recipe_is_the_same_recipe_in_a_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["recipes", name])
    path = tmp_path / "own.yaml"
    path.write_text(capsys.readouterr().out)
    assert get_recipe(str(path)) == RECIPES[name]


def test_the_list_of_recipes_has_each_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    main(["recipes"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(RECIPES)
    assert all(line.endswith(recipe.description) for line, recipe in zip(lines, RECIPES.values(), strict=True))


def test_settings_are_changed_by_name() -> None:
    changes = ["loss.kappa=20", "schedule.epochs=3", "schedule.learning_rate=1e-4", "model.mirrored_scores=false",
               "loss.queries_per_image=7", "schedule.held_out_epochs=null", "search.truncation=none",
               "augmentation.scale=0.5,2", "search.betas=[0.1, 0.2]", "backbone.pretrained=[folder, hub/name]",
               "backbone.architecture={embedding_size: 12}", "name=mine", "search.grid.azimuths=5"]  # fmt: skip
    found = dict(leaves(get_recipe("quickstart", changes)))
    expected = dict(leaves(QUICKSTART)) | {
        "loss.kappa": 20.0, "schedule.epochs": 3, "schedule.learning_rate": 1e-4, "model.mirrored_scores": False,
        "loss.queries_per_image": 7, "schedule.held_out_epochs": None, "search.truncation": None,
        "augmentation.scale": (0.5, 2.0), "search.betas": (0.1, 0.2), "backbone.pretrained": ("folder", "hub/name"),
        "backbone.architecture": {"embedding_size": 12}, "name": "mine", "search.grid.azimuths": 5,
    }  # fmt: skip
    assert found == expected and isinstance(found["loss.kappa"], float)
    assert get_recipe("quickstart") is QUICKSTART or get_recipe("quickstart") == QUICKSTART


@pytest.mark.parametrize(
    ("name", "known"),
    [("loss.kapa", "loss.kappa"), ("kappa", "loss.kappa"), ("epochs", "schedule.epochs"), ("epoch", "schedule.epochs"),
     ("loss.epochs", "schedule.epochs"), ("schedule.lerning_rate", "schedule.learning_rate"),
     ("los.kappa", "loss.kappa"), ("augmentation.mirored", "augmentation.mirror"),
     ("search.grid.azimuth", "search.grid.azimuths"), ("schedule.epochs.more", "schedule.epochs")],
)  # fmt: skip
def test_an_unknown_setting_gets_the_nearest_known_one(name: str, known: str) -> None:
    with pytest.raises(CompNetError, match=f"--set {name} is unknown; the nearest setting is {known}; "):
        get_recipe("quickstart", [f"{name}=1"])
    assert nearest(name, [known, "bank.background_size"]) == known


@pytest.mark.parametrize(
    ("change", "message"),
    [("loss.kappa=many", r"loss.kappa must be at least 0 \(a number\), not 'many'"),
     ("loss.kappa=true", r"loss.kappa must be at least 0 \(a number\), not True"),
     ("loss.kappa=-1", r"loss.kappa must be at least 0 \(a number\), not -1.0"),
     ("loss.kappa=.nan", r"loss.kappa must be at least 0 \(a number\), not nan"),
     ("schedule.epochs=2.5", r"schedule.epochs must be at least 1 \(a whole number\), not 2.5"),
     ("schedule.epochs=0", r"schedule.epochs must be at least 1 \(a whole number\), not 0"),
     ("schedule.epochs=null", r"schedule.epochs must be at least 1 \(a whole number\), not None"),
     ("loss.queries_per_image=0", r"loss.queries_per_image must be at least 1 \(a whole number or null\), not 0"),
     ("bank.momentum=1", r"bank.momentum must be at least 0 and below 1 \(a number\), not 1.0"),
     ("search.pose_score_weight=2", r"search.pose_score_weight must be at least 0 and below 1 \(a number\), not 2.0"),
     ("model.mirrored_scores=1", "model.mirrored_scores must be true or false, not 1"),
     ("model.shape=sphere", "model.shape must be one of cuboid, mesh, not 'sphere'"),
     ("augmentation.scale=3", "augmentation.scale must be a list of 2 numbers, not 3"),
     ("augmentation.scale=1,2,3", "augmentation.scale must be a list of 2 numbers, not '1,2,3'"),
     ("augmentation.mirror=2", "Augmentation.mirror is a probability, not 2.0"),
     ("backbone.architecture=3", "backbone.architecture must be a mapping, not 3"),
     ("backbone.family=[]", r"backbone.family must be text, not \[\]"),
     ("loss=3", "loss must be a group of settings, not 3"),
     ("loss={kapa: 3}", "loss.kapa is unknown; the nearest setting is loss.kappa"),
     ("loss.kappa", "loss.kappa gives no value; write it as loss.kappa=20")],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused(change: str, message: str) -> None:
    with pytest.raises(CompNetError, match=f"--set {message}"):
        get_recipe("quickstart", [change])


def test_a_file_gives_some_settings_and_the_others_have_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("name: mine\ninput: {height: 64, width: 48}\nloss:\n  kappa: 20\n")
    recipe = get_recipe(str(path), ["schedule.epochs=2"])
    expected = {"name": "mine", "input.height": 64, "input.width": 48, "loss.kappa": 20.0, "schedule.epochs": 2}
    plain = CompNetRecipe(name="", input=QUICKSTART.input)
    assert dict(leaves(recipe)) == dict(leaves(plain)) | expected | {"input.fill": 0.7}


BROKEN: dict[str, Callable[[Path], Any]] = {
    "input is missing": lambda path: path.write_text("name: mine\n"),
    "input.width is missing": lambda path: path.write_text("name: mine\ninput: {height: 3}\n"),
    "cannot be read": lambda path: path.write_text("name: [\n"),
    "holds no recipe": lambda path: path.write_text("- 1\n"),
    "own.yaml: cannot be read": lambda path: None,
    "the recipe's method must be one of compnet, novum, dual-head, not 'magic'": lambda path: path.write_text(
        "method: magic\n"
    ),
    "the recipe's loss.kapa is unknown; the nearest setting is loss.kappa": lambda path: path.write_text(
        "name: mine\ninput: {height: 3, width: 3}\nloss: {kapa: 2}\n"
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_file_is_one_sentence(message: str, tmp_path: Path) -> None:
    BROKEN[message](tmp_path / "own.yaml")
    with pytest.raises(CompNetError, match=message) as error:
        get_recipe(str(tmp_path / "own.yaml"))
    assert "\n" not in str(error.value)


def test_a_method_has_its_own_settings_alone() -> None:
    novum, heads = (recipe_like(kind, QUICKSTART) for kind in (NovumRecipe, DualHeadRecipe))
    assert {"cross_weight", "samples_per_category"} & set(novum.to_dict()["loss"]) == set()
    assert {"grouping", "bank", "loss", "search"} & set(heads.to_dict()) == set()
    assert heads.model.mirrored_scores and novum.model == QUICKSTART.model
    assert heads.schedule == novum.schedule == QUICKSTART.schedule
    with pytest.raises(CompNetError, match="is a baseline"):
        get_compnet_recipe("eth80-novum")


def test_parts_are_given_whole_too() -> None:
    changed = QUICKSTART.with_settings({"augmentation": Augmentation(noise=3.0), "input.fill": 0.5})
    assert changed.augmentation == Augmentation(noise=3.0) and changed.input.fill == 0.5
    assert changed.input.height == QUICKSTART.input.height
