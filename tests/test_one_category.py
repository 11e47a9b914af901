"""One category alone, from its training to the tables: there is nothing to tell apart, and all else works."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from compnet3d.cli import main as cli
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.evaluation.unseen import evaluate_unseen
from compnet3d.inference.confidence import fit_temperature
from compnet3d.inference.pruned_matching import Pruning
from compnet3d.models.compnet import CompNet
from compnet3d.reproduce.experiments import Experiments
from compnet3d.reproduce.runner import reproduce
from compnet3d.reproduce.study import Study
from compnet3d.training.data import TrainingData
from compnet3d.training.recipe_parts import CompNetLossSettings, CompNetSearchSettings, ScheduleSettings
from compnet3d.training.train import train
from tests.networks import TINY_RECIPE

RECIPE = replace(
    TINY_RECIPE,
    model=replace(TINY_RECIPE.model, mirrored_scores=True),
    loss=CompNetLossSettings(classification_weight=0.1, pose_contrastive_weight=0.1, negative_poses=3),
    schedule=ScheduleSettings(
        epochs=2, batch_size=4, learning_rate=3e-3, head_learning_rate=3e-3, calibration_fraction=0.25
    ),
    search=CompNetSearchSettings(steps=1, starts=1, pose_score_weight=0.5),
)
OPTIONS: dict[str, Any] = {"workers": 0, "progress": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_maker: Callable[..., Path]) -> Path:
    return tiny_maker(tmp_path_factory.mktemp("one") / "data", ("brick",))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "run"
    train(RECIPE, data, out, **OPTIONS)
    return out


def test_its_log_is_finite_and_says_that_there_is_nothing_to_contrast(run: Path) -> None:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    numbers = [value for entry in entries for value in entry.values() if isinstance(value, float)]
    assert all(math.isfinite(value) for value in numbers)
    last = entries[-1]
    assert last["cross_category_loss"] == last["classification_loss"] == last["contrasted_pairs"] == 0
    assert last["in_category_loss"] > 0 and last["pose_contrastive_loss"] > 0
    assert last["calibration_accuracy"] == 1 and last["confusion"] == [[4]]  # two images, plain and augmented


def test_no_temperature_is_better_than_another(run: Path) -> None:
    assert fit_temperature(torch.tensor([[0.2], [0.7]]), torch.tensor([0, 0])) == 1
    assert CompNet.from_pretrained(run).config.temperature == 1


def test_a_stopped_training_goes_on_to_the_same_bits(data: Path, run: Path, tmp_path: Path) -> None:
    train(RECIPE, data, tmp_path / "halves", stop_after=1, **OPTIONS)
    found = train(RECIPE, data, tmp_path / "halves", resume=True, **OPTIONS).state_dict()
    assert all(torch.equal(found[name], value) for name, value in CompNet.from_pretrained(run).state_dict().items())


def test_it_is_what_leaving_out_the_others_gives(tiny_data: Path, run: Path, tmp_path: Path) -> None:
    """The folder of the brick alone has the brick's images of the folder of both, drawn first."""
    found = train(RECIPE, tiny_data, tmp_path / "run", without=("tower",), **OPTIONS)
    assert found.categories == ("brick",)
    samples = TrainingData.read(tiny_data).leaving_out(("tower",)).samples
    assert [sample.name for sample in samples] == [f"brick_i0{i // 2:02d}_v{i % 2:02d}" for i in range(8)]
    expected = CompNet.from_pretrained(run).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())


def test_every_image_is_of_it_and_the_score_tells_how_well_it_fits(data: Path, run: Path) -> None:
    model, samples = CompNet.from_pretrained(run), ImageNet3D(data).samples("val")
    result = evaluate(model, samples, unseen=True)
    assert result.accuracy == 1 and result.confusion.matrix == ((8,),)
    plain, aware = result.pose.plain, result.pose.symmetry_aware
    assert plain.true_category == plain.predicted_category == plain.joint and aware.joint.acc_pi6 is not None
    assert {record.confidence for record in result.records} == {1.0}
    model.pruning = Pruning()
    assert evaluate(model, samples, unseen=True).pose == result.pose
    images = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    scores = model.predict_crops(images).scores
    assert scores.shape == (2, 1) and bool((scores.abs() <= 1).all())
    assert scores[0] != scores[1]  # unlike the confidence


def test_objects_of_other_categories_have_it_as_their_source(tiny_data: Path, run: Path) -> None:
    towers = [sample for sample in ImageNet3D(tiny_data).samples("val") if sample.category == "tower"]
    result = evaluate_unseen(CompNet.from_pretrained(run), towers)
    assert result.per_category["tower"].source_categories == {"brick": 1.0}


def test_the_commands_work_as_with_more(data: Path, run: Path, tmp_path: Path, capsys: Any) -> None:
    line = ["evaluate", str(run), "--data", str(data), "--workers", "0", "--crop", "box"]
    cli.main([*line, "--report", str(tmp_path / "report.html"), "--matching", "pruned"])
    assert "brick" in (tmp_path / "report.html").read_text()
    image = next((data / "images" / "brick").glob("*v00.JPEG"))
    cli.main(["predict", str(run), str(image), "--box", "8", "8", "40", "40"])
    assert "brick" in capsys.readouterr().out
    cli.main(["data", "check", str(data)])


def test_tables_and_figures_of_one_category(data: Path, tmp_path: Path) -> None:
    study = Study(tmp_path / "out", data, seeds=(0,), workers=0, progress=False, occluders="blobs")
    names = ["table2", "table4", "table5", "table6", "table7", "figure1", "figure4", "figure8", "figure10"]
    reproduce(Experiments(study, RECIPE.with_settings({"schedule.epochs": 1})), names)
    for name in names:
        assert (study.out / f"{name}.{'png' if name.startswith('figure') else 'md'}").stat().st_size > 0
    assert json.loads((study.out / "table5.json").read_text())["tables"][0]["rows"] == []  # no pair to confuse
    for row in json.loads((study.out / "table2.json").read_text())["tables"][0]["rows"]:
        assert row["cells"]["classification"]["mean"] == 1
    assert "nan" not in "".join(path.read_text() for path in study.out.glob("*.md")).lower()
