"""`add-category`, `remove-category` and `rename-category` as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compnet3d.cli import main as cli
from compnet3d.models.compnet import CompNet
from compnet3d.models.registry import load_predictor
from compnet3d.training.builtin_recipes import RECIPES
from compnet3d.training.recipe import DualHeadRecipe, recipe_like
from compnet3d.training.recipe_parts import HeadSettings, ScheduleSettings
from compnet3d.training.train import train
from tests.networks import TINY_RECIPE

RECIPE = replace(TINY_RECIPE, schedule=ScheduleSettings(epochs=1, batch_size=8, calibration_fraction=0.25))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_maker: Callable[..., Path]) -> Path:
    return tiny_maker(tmp_path_factory.mktemp("cli") / "data", ("board", "brick", "tower"))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    train(RECIPE, data, out, without=("board",), workers=0, progress=False)
    return out


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    return capsys.readouterr().err


def test_a_category_comes_answers_gets_another_name_and_goes(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    larger, other, smaller = tmp_path / "larger", tmp_path / "other", tmp_path / "smaller"
    cli.main(["add-category", str(run), "--data", str(data), "--out", str(larger), "--images", "5"])
    said = capsys.readouterr().out
    assert "adding board from 5 images to the 2 categories" in said and "from before" in said
    cli.main(["rename-category", str(larger), "board", "plank", "--out", str(other)])
    cli.main(["remove-category", str(other), "plank", "--out", str(smaller)])
    before, after = load_predictor(run), load_predictor(smaller)
    assert isinstance(before, CompNet) and before.config == after.config
    assert all(torch.equal(tensor, after.state_dict()[name]) for name, tensor in before.state_dict().items())
    image = next((data / "images" / "board").iterdir())
    capsys.readouterr()
    cli.main(["predict", str(other), str(image), "--whole", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert "plank" in json.dumps(found) and "board" not in json.dumps(found).replace(str(image), "")


def test_with_old_data_the_confidences_of_a_run_are_fitted_anew(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(data), "--old-data", str(data), "--images", "4"]
    cli.main(["add-category", str(run), *words, "--out", str(tmp_path / "larger")])
    assert "fitted anew on 4 images" in capsys.readouterr().out
    made = load_predictor(tmp_path / "larger")
    assert made.config.calibration.symmetry_orders == (1, 1, 1)
    assert made.config.calibration != replace(load_predictor(run).config.calibration, symmetry_orders=(1, 1, 1))
    # a model alone does not say what was held out
    cli.main(["add-category", str(run / "model"), *words, "--out", str(tmp_path / "other")])
    assert "from before" in capsys.readouterr().out


def test_tuning_moves_the_network(run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", str(data), "--images", "3", "--tune", "--epochs", "1"]
    cli.main(["add-category", str(run), *words, "--out", str(tmp_path / "tuned")])
    assert "tuning for 1 epochs" in capsys.readouterr().out
    before, after = (dict(load_predictor(path).named_parameters()) for path in (run, tmp_path / "tuned"))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    # a model alone does not say how it was trained
    out = ["--out", str(tmp_path / "other")]
    assert "give --tune a --recipe" in refused(["add-category", str(run / "model"), *words, *out], capsys)
    cli.main(["add-category", str(run / "model"), *words, "--recipe", "quickstart", *out])
    assert "quickstart-heads is of a dual head" in refused(
        ["add-category", str(run), *words, "--recipe", "quickstart-heads", "--out", str(tmp_path / "third")], capsys
    )
    assert not (tmp_path / "third").exists()


def test_nothing_is_written_over(run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    before = (run / "model" / "model.safetensors").read_bytes()
    for command in (
        ["add-category", str(run), "--data", str(data)],
        ["remove-category", str(run), "tower"],
        ["rename-category", str(run), "tower", "house"],
    ):
        for out in (taken, run / "model"):
            assert str(out) in refused([*command, "--out", str(out)], capsys)
    assert [path.name for path in taken.iterdir()] == ["mine.txt"]
    assert (run / "model" / "model.safetensors").read_bytes() == before


def test_what_cannot_be_is_one_sentence(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "new")]
    assert "'brick' already" in refused(
        ["add-category", str(run), "--data", str(data), "--categories", "brick", *out], capsys
    )
    assert "at least 1" in refused(["add-category", str(run), "--data", str(data), "--images", "0", *out], capsys)
    assert "does not exist" in refused(["add-category", str(run), "--data", str(tmp_path / "no"), *out], capsys)
    assert "no category 'mug'" in refused(["remove-category", str(run), "mug", *out], capsys)
    assert "not all of them" in refused(["remove-category", str(run), "brick", "tower", *out], capsys)
    assert "'tower' already" in refused(["rename-category", str(run), "brick", "tower", *out], capsys)
    assert not (tmp_path / "new").exists()


def test_a_dual_head_is_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = recipe_like(DualHeadRecipe, RECIPE, name="tiny-heads", model=HeadSettings(pose_bins=4))
    assert "quickstart-heads" in RECIPES
    train(recipe, data, tmp_path / "run", workers=0, progress=False)
    for command in (["remove-category", str(tmp_path / "run"), "brick"],):
        assert "dual head" in refused([*command, "--out", str(tmp_path / "out")], capsys)
