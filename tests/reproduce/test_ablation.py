from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from compnet3d.cli import main as cli
from compnet3d.data.augment import Augmentation
from compnet3d.errors import CompNetError
from compnet3d.models.compnet import CompNet
from compnet3d.reproduce.ablation import VARIANTS, variant_method
from compnet3d.reproduce.experiments import Experiments
from compnet3d.reproduce.runner import reproduce
from compnet3d.reproduce.study import Study
from compnet3d.training import builtin_recipes as recipes
from compnet3d.training.recipe import CompNetRecipe, Recipe
from compnet3d.training.recipe_parts import (
    CompNetSearchSettings,
    GroupingSettings,
    ScheduleSettings,
)
from compnet3d.training.train import train
from compnet3d.utils.settings import leaves
from tests.networks import TINY_RECIPE

TINY = replace(
    TINY_RECIPE,
    schedule=ScheduleSettings(
        epochs=2,
        batch_size=8,
        learning_rate=3e-3,
        head_learning_rate=3e-3,
        calibration_fraction=0.25,
        calibrate_every=5,
    ),
    grouping=GroupingSettings(least_accuracy=0.9, floor=0.1),
    search=CompNetSearchSettings(steps=2, starts=1),
    augmentation=Augmentation(rotation=10),
)
QUIET = {"workers": 0, "progress": False}
NAMES = tuple(variant.name for variant in VARIANTS)


def run_variants(data: Path, out: Path, recipe: CompNetRecipe = TINY, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """The table's rows by their labels."""
    study = Study(out, data, seeds=(0,), command="compnet3d reproduce table6-variants", **QUIET)  # type: ignore[arg-type]
    reproduce(Experiments(study, recipe, variants=only), ["table6-variants"])
    return rows_of(out)


def rows_of(out: Path) -> dict[str, Any]:
    (table,) = json.loads((out / "table6-variants.json").read_text())["tables"]
    return {row["label"]: row["cells"] for row in table["rows"]}


@pytest.fixture(scope="module")
def study(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("variants") / "study"
    run_variants(tiny_data, out)
    return out


def run_of(out: Path, name: str) -> Path:
    return out / "models" / f"tiny-variant-{name}" / "seed-0"


def metrics_file(out: Path, name: str) -> Path:
    return out / "metrics" / f"tiny-variant-{name}" / "seed-0" / "clean.json"


def recipe_of(out: Path, name: str) -> dict[str, Any]:
    noted = json.loads((run_of(out, name) / "config.json").read_text())["recipe"]
    return dict(leaves(Recipe.from_dict(noted)))


def test_each_variant_changes_what_it_says_and_nothing_else(study: Path) -> None:
    changed = {
        "both": {},
        "in-category-only": {"loss.cross_weight": 0.0},
        "cross-category-only": {"loss.in_weight": 0.0},
        "samples-8": {"loss.samples_per_category": 8},
        "samples-64": {"loss.samples_per_category": 64},
        "weight-floor": {"grouping.floor": 0.015},
        "static-weights": {"grouping.dynamic": False},
    }
    assert tuple(changed) == NAMES
    base = recipe_of(study, "both")
    assert base["loss.samples_per_category"] == 32 and base["grouping.dynamic"] and base["loss.in_weight"] == 1.0
    # the paper's dynamic weights, whatever the recipe has
    assert (base["grouping.least_accuracy"], base["grouping.floor"], base["schedule.calibrate_every"]) == (0.5, 0.0, 2)
    for name, wanted in changed.items():
        found = recipe_of(study, name)
        assert {key: value for key, value in found.items() if value != base[key]} == wanted


def test_the_rows_are_those_of_the_evaluation(study: Path) -> None:
    settings = json.loads((study / "table6-variants.json").read_text())["settings"]
    assert settings["command"] == "compnet3d reproduce table6-variants" and "cores" in settings["machine"]
    rows = rows_of(study)
    assert list(rows) == [variant.label for variant in VARIANTS]
    for variant in VARIANTS:
        row, metrics = rows[variant.label], json.loads(metrics_file(study, variant.name).read_text())
        shares = {name: cell["values"] for name, cell in row.items() if isinstance(cell, dict)}
        assert row["images"] == "16" and shares["classification"] == [metrics["classification"]["accuracy"]]
        aware = metrics["pose"]["symmetry_aware"]["true_category"]
        for angle, key in (("pi/6", "acc_pi6"), ("pi/18", "acc_pi18")):
            assert shares[f"pose {angle}"] == [metrics["pose"]["true_category"][key]]
            assert shares[f"{angle}, symmetry-aware"] == [aware[key]]
            assert shares[f"joint {angle}"] == [metrics["pose"]["joint"][key]]
        log = [json.loads(line) for line in (run_of(study, variant.name) / "log.jsonl").read_text().splitlines()]
        assert row["training [s]"] == f"{sum(entry['seconds'] for entry in log):.0f}"
        weights = CompNet.from_pretrained(run_of(study, variant.name)).bank.grouping_weights
        floor = recipe_of(study, variant.name)["grouping.floor"]
        assert shares["contrasted pairs"] == [sum(bool(weights[i, 1 - i] > floor) for i in range(2)) / 2]
    assert rows["static weights: every category is contrasted"]["contrasted pairs"]["values"] == [1.0]


def test_the_table_has_a_row_for_each_variant(study: Path) -> None:
    lines = [line for line in (study / "table6-variants.md").read_text().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(VARIANTS)
    assert len({line.count("|") for line in lines}) == 1
    assert f"| {100 * rows_of(study)['both losses']['classification']['mean']:.1f} |" in lines[2]


def test_finished_variants_are_taken_as_they_are(
    study: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("evaluate", "train_or_load"):
        monkeypatch.setattr(f"compnet3d.reproduce.study.{name}", lambda *_, **__: pytest.fail("nothing is left to do"))
    before = rows_of(study)
    again = run_variants(tiny_data, study, only=("both", "samples-8"))
    assert again == before  # rows that are not asked for stay in the table
    assert "evaluating" not in capsys.readouterr().out


def test_a_stopped_study_goes_on(tiny_data: Path, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    run_of(out, "both").mkdir(parents=True)
    begun = (run_of(study, "both") / "config.json").read_text()
    (run_of(out, "both") / "config.json").write_text(begun)  # stopped within its first epoch
    (out / "study.json").write_text((study / "study.json").read_text())
    half = run_of(out, "samples-8")
    variant = next(variant for variant in VARIANTS if variant.name == "samples-8")
    recipe = variant_method(Experiments(Study(out, tiny_data), TINY), variant).recipe
    train(recipe, tiny_data, half, stop_after=1, **QUIET)  # type: ignore[arg-type]
    rows = run_variants(tiny_data, out, only=("both", "samples-8"))
    assert list(rows) == ["both losses", "N = 8 sampled vertices per category"]
    for name in ("both", "samples-8"):
        state, whole = (CompNet.from_pretrained(run_of(root, name)).state_dict() for root in (out, study))
        assert all(torch.equal(state[key], whole[key]) for key in whole)
    trained = half / "model" / "model.safetensors"
    stamp = trained.stat().st_mtime_ns
    metrics_file(out, "samples-8").unlink()  # stopped between training and evaluation
    run_variants(tiny_data, out, only=("samples-8",))
    assert metrics_file(out, "samples-8").is_file() and trained.stat().st_mtime_ns == stamp


def test_other_folders_and_unknown_names_are_refused(
    study: Path, tiny_data: Path, tmp_path: Path, tiny_maker: Any
) -> None:
    other = tiny_maker(tmp_path / "other", ("brick", "tower"))
    with pytest.raises(CompNetError, match=r"a study with other settings \(data\)"):
        run_variants(other, study)
    with pytest.raises(CompNetError, match=r"study.json: .* other settings \(schedule.epochs\)"):
        run_variants(tiny_data, study, TINY.with_settings({"schedule.epochs": 3}))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").touch()
    with pytest.raises(CompNetError, match="something else"):
        run_variants(tiny_data, tmp_path / "taken")
    with pytest.raises(CompNetError, match="'loss' is unknown; use one of both,"):
        run_variants(tiny_data, tmp_path / "new", only=("loss",))
    assert not (tmp_path / "new").exists()


def test_the_command(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)
    out = tmp_path / "study"
    line = f"reproduce table6-variants --recipe tiny --data {tiny_data} --out {out} --epochs 1 --workers 0 --seeds 1"
    cli.main([*line.split(), "--device", "cpu", "--variants", "both"])
    printed = capsys.readouterr().out
    assert "[1/1] table6-variants" in printed and "| both losses |" in printed
    assert list(rows_of(out)) == ["both losses"]
    assert recipe_of(out, "both")["schedule.epochs"] == 1
