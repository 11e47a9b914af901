"""From a folder of posed images to a model of category and pose, on data drawn in a second."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from compnet3d.cli import main as cli
from compnet3d.data.augment import Augmentation
from compnet3d.models.compnet import CompNet
from compnet3d.training import builtin_recipes as recipes
from compnet3d.training.recipe import CompNetRecipe
from compnet3d.training.recipe_parts import (
    BackboneSettings,
    BankSettings,
    CompNetSearchSettings,
    InputSettings,
    ModelSettings,
    ScheduleSettings,
)

RECIPE = CompNetRecipe(
    name="end-to-end",
    description="for this test",
    input=InputSettings(height=48, width=48),
    backbone=BackboneSettings(
        architecture={
            "embedding_size": 16,
            "hidden_sizes": [16, 32, 48, 64],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
        },
        dimension=32,
    ),
    model=ModelSettings(vertex_count=80),
    bank=BankSettings(background_size=64),
    schedule=ScheduleSettings(
        epochs=25, batch_size=8, learning_rate=3e-3, head_learning_rate=3e-3, calibration_fraction=0.1
    ),
    search=CompNetSearchSettings(steps=10, starts=2),
    augmentation=Augmentation(rotation=5, scale=(0.95, 1.05), shift=0.02, brightness=0.1),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from importlib.util import module_from_spec, spec_from_file_location

    input_config = spec_from_file_location("tiny_data_maker", Path(__file__).with_name("conftest.py"))
    assert input_config is not None and input_config.loader is not None
    module = module_from_spec(input_config)
    input_config.loader.exec_module(module)
    root: Path = module.make_tiny_data(tmp_path_factory.mktemp("end") / "data", images=32)
    return root


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("end") / "run"
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(recipes.RECIPES, "end-to-end", RECIPE)
        line = f"train --recipe end-to-end --data {data} --out {out} --device cpu --workers 0"
        cli.main(line.split())
    return out


def test_the_model_is_clearly_better_than_chance(run: Path, data: Path, tmp_path: Path) -> None:
    """Chance is 50 % for two categories, and no fixed guess is within pi/6 of more than a sixth of the azimuths."""
    figures = tmp_path / "metrics.json"
    cli.main(f"evaluate {run} --data {data} --device cpu --json {figures}".split())
    metrics = json.loads(figures.read_text())
    assert metrics["images"] == 64
    assert metrics["classification"]["accuracy"] >= 0.9
    assert metrics["pose"]["true_category"]["acc_pi6"] >= 0.6
    assert metrics["pose"]["true_category"]["median_deg"] <= 25
    assert metrics["pose"]["joint"]["acc_pi6"] <= metrics["classification"]["accuracy"]


def test_the_report_shows_its_plots_and_every_category(run: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = tmp_path / "report.html"
    cli.main(f"evaluate {run} --data {data} --device cpu --report {report}".split())
    page = report.read_text()
    for plot in ("Pose errors", "Confusion", "Training"):
        assert f"<h2>{plot}</h2>" in page
    assert page.count("data:image/png;base64,") >= 6  # three plots, each for light pages and for dark ones
    assert "brick" in page and "tower" in page and page.rstrip().endswith("</html>")


def test_an_image_file_is_named_and_its_pose_estimated(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sorted((data / "images").glob("*/*_i10[0-3]*.JPEG"))  # of the val list
    assert len(images) == 16
    line = ["predict", str(run), *map(str, images), "--device", "cpu", "--json", "-"]
    capsys.readouterr()
    cli.main(line)
    answers = json.loads(capsys.readouterr().out)
    assert [answer["image"] for answer in answers] == [str(path) for path in images]
    right = [Path(answer["image"]).parent.name == answer["category"] for answer in answers]
    assert sum(right) / len(right) >= 0.8
    for answer in answers:
        assert -math.pi < answer["azimuth"] <= math.pi and answer["distance"] > 0
    # the objects stand at the centre; a network that has learned for seconds may take a part of one for the whole
    central = [sum(abs(x - 24) for x in answer["principal_point"]) < 24 for answer in answers]
    assert sum(central) / len(central) >= 0.9
    cli.main(["predict", str(run), str(images[0]), "--device", "cpu", "--overlay", str(tmp_path)])
    with Image.open(tmp_path / f"{images[0].stem}.png") as drawn:
        assert drawn.width == drawn.height >= 48  # small images are enlarged


def test_the_learned_model_is_the_saved_one(run: Path, data: Path) -> None:
    path = sorted((data / "images" / "brick").iterdir())[0]
    first, second = (CompNet.from_pretrained(folder).predict(path) for folder in (run, run / "model"))
    assert torch.equal(first.scores, second.scores) and torch.equal(first.pose.azimuth, second.pose.azimuth)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert len(log) == RECIPE.schedule.epochs and log[-1]["loss"] < log[0]["loss"]
