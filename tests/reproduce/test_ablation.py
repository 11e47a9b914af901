from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compnet3d.cli import main as cli
from compnet3d.data.augment import Augmentation
from compnet3d.errors import CompNetError
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.models.compnet import CompNet
from compnet3d.reproduce import ablation
from compnet3d.reproduce.ablation import BASE, NAMES, VARIANTS, run_ablation
from compnet3d.training import builtin_recipes as recipes
from compnet3d.training.recipe import Recipe
from compnet3d.training.train import train
from tests.networks import TINY_RESNET

TINY = Recipe(
    name="tiny",
    description="for tests",
    height=48,
    width=48,
    architecture=TINY_RESNET,
    dimension=16,
    vertex_count=40,
    background_size=32,
    epochs=2,
    batch_size=8,
    learning_rate=3e-3,
    head_learning_rate=3e-3,
    calibration_fraction=0.25,
    grouping_accuracy=0.9,
    grouping_floor=0.1,
    regroup_every=5,
    augmentation=Augmentation(rotation=10),
    pose=PoseSettings(steps=2, starts=1),
)
QUIET = {"workers": 0, "progress": False}


@pytest.fixture(scope="module")
def study(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ablation") / "study"
    run_ablation(TINY, tiny_data, out, command="compnet3d ablation", **QUIET)  # type: ignore[arg-type]
    return out


def recipe_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / "run" / "config.json").read_text())["recipe"]


def test_each_variant_changes_what_it_says_and_nothing_else(study: Path) -> None:
    changed = {
        "both": {},
        "in-category-only": {"cross_weight": 0.0},
        "cross-category-only": {"in_weight": 0.0},
        "samples-8": {"samples_per_category": 8},
        "samples-64": {"samples_per_category": 64},
        "weight-floor": {"grouping_floor": 0.015},
        "static-weights": {"dynamic_weights": False},
    }
    assert tuple(changed) == NAMES
    base = recipe_of(study / "both")
    assert base["samples_per_category"] == 32 and base["dynamic_weights"] and base["in_weight"] == 1.0
    # the paper's dynamic weights, whatever the recipe has
    assert (base["grouping_accuracy"], base["grouping_floor"], base["regroup_every"]) == (0.5, 0.0, 2)
    for name, wanted in changed.items():
        found = recipe_of(study / name)
        assert {key: value for key, value in found.items() if value != base[key]} == wanted


def test_the_rows_are_those_of_the_evaluation(study: Path) -> None:
    table = json.loads((study / "ablation.json").read_text())
    assert list(table["variants"]) == list(NAMES)
    assert table["settings"]["command"] == "compnet3d ablation" and "cores" in table["settings"]["machine"]
    for name, row in table["variants"].items():
        metrics = json.loads((study / name / "metrics.json").read_text())
        assert row["images"] == 16 and row["classification"] == metrics["classification"]["accuracy"]
        assert row["pose"]["true_category"]["acc_pi6"] == metrics["pose"]["true_category"]["acc_pi6"]
        aware = metrics["pose"]["symmetry_aware"]["true_category"]
        assert row["pose"]["symmetry_aware"] == {key: aware[key] for key in ("acc_pi6", "acc_pi18")}
        log = [json.loads(line) for line in (study / name / "run" / "log.jsonl").read_text().splitlines()]
        assert row["seconds"] == pytest.approx(sum(entry["seconds"] for entry in log))
        weights = CompNet.from_pretrained(study / name / "run").bank.grouping_weights
        floor = recipe_of(study / name)["grouping_floor"]
        assert row["contrasted_pairs"] == sum(bool(weights[i, 1 - i] > floor) for i in range(2)) / 2
    assert table["variants"]["static-weights"]["contrasted_pairs"] == 1.0


def test_the_table_has_a_row_for_each_variant(study: Path) -> None:
    rows = [line for line in (study / "ablation.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(VARIANTS)
    assert len({row.count("|") for row in rows}) == 1
    table = json.loads((study / "ablation.json").read_text())
    assert f"| {100 * table['variants']['both']['classification']:.1f} |" in rows[2]


def test_finished_variants_are_taken_as_they_are(
    study: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ablation, "_run_variant", lambda *_: pytest.fail("nothing is left to do"))
    before = json.loads((study / "ablation.json").read_text())["variants"]
    again = run_ablation(TINY, tiny_data, study, only=["both", "samples-8"], **QUIET)  # type: ignore[arg-type]
    assert again["variants"] == before  # rows outside `only` stay in the table
    assert capsys.readouterr().out.count("already there") == 2


def test_a_stopped_study_goes_on(tiny_data: Path, study: Path, tmp_path: Path) -> None:
    out, changes = tmp_path / "study", {"samples_per_category": 8}
    (out / "both" / "run").mkdir(parents=True)
    (out / "both" / "run" / "config.json").write_text("{}")  # stopped within its first epoch
    (out / "settings.json").write_text((study / "settings.json").read_text())
    half = out / "samples-8" / "run"
    train(replace(TINY, **BASE, **changes), tiny_data, half, stop_after=1, **QUIET)  # type: ignore[arg-type]
    run_ablation(TINY, tiny_data, out, only=["both", "samples-8"], **QUIET)  # type: ignore[arg-type]
    for name in ("both", "samples-8"):
        state, whole = (CompNet.from_pretrained(root / name / "run").state_dict() for root in (out, study))
        assert all(torch.equal(state[key], whole[key]) for key in whole)
    trained = half / "model" / "model.safetensors"
    stamp = trained.stat().st_mtime_ns
    (out / "samples-8" / "result.json").unlink()  # stopped between training and evaluation
    run_ablation(TINY, tiny_data, out, only=["samples-8"], **QUIET)  # type: ignore[arg-type]
    assert (out / "samples-8" / "result.json").is_file() and trained.stat().st_mtime_ns == stamp


def test_foreign_folders_and_unknown_names_are_refused(study: Path, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(CompNetError, match="an ablation with other settings"):
        run_ablation(TINY, tiny_data, study, seed=1, **QUIET)  # type: ignore[arg-type]
    with pytest.raises(CompNetError, match=r"settings.json: .* other settings \(epochs\)"):
        run_ablation(replace(TINY, epochs=3), tiny_data, study, **QUIET)  # type: ignore[arg-type]
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CompNetError, match="something else"):
        run_ablation(TINY, tiny_data, tmp_path, **QUIET)  # type: ignore[arg-type]
    with pytest.raises(CompNetError, match="'loss' is unknown; use one of both,"):
        run_ablation(TINY, tiny_data, tmp_path / "new", only=["loss"], **QUIET)  # type: ignore[arg-type]


def test_the_command(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)
    out = tmp_path / "study"
    line = f"ablation --recipe tiny --data {tiny_data} --out {out} --epochs 1 --workers 0 --device cpu --only both"
    cli.main([*line.split(), "--json", str(tmp_path / "rows.json")])
    printed = capsys.readouterr().out
    assert "[1/1] both" in printed and "| both losses |" in printed
    assert json.loads((tmp_path / "rows.json").read_text()) == json.loads((out / "ablation.json").read_text())
    assert recipe_of(out / "both")["epochs"] == 1
