"""Confidences fitted by a training, and anew by `compnet3d calibrate`."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compnet3d import load_predictor
from compnet3d.cli.calibrate import Calibrate
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.errors import CompNetError
from compnet3d.inference.confidence import category_confidence
from compnet3d.training.held_out import Answers, fit_calibration, held_out_samples
from compnet3d.training.recipe_parts import ScheduleSettings
from compnet3d.training.train import train
from tests.networks import TINY_RECIPE


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training whose calibration images join for the second epoch."""
    schedule = ScheduleSettings(epochs=2, batch_size=4, calibration_fraction=0.5, held_out_epochs=1)
    out = tmp_path_factory.mktemp("confidence") / "run"
    train(replace(TINY_RECIPE, schedule=schedule), tiny_data, out, workers=0, progress=False)
    return out


def test_a_training_tells_how_sure_its_answers_are(run: Path, tiny_data: Path) -> None:
    model = load_predictor(run)
    sample = ImageNet3D(tiny_data).samples("val")[0]
    answer = model.predict(sample.image)[0]
    assert model.config.calibration is not None and model.config.calibration.symmetry_orders == (1, 1)
    assert answer.pose_confidence is not None and 0 < answer.pose_confidence < 1 and 0 < answer.confidence < 1
    told = json.loads(json.dumps(answer.to_dict(degrees=True)))
    assert told["unknown"] is answer.unknown and isinstance(answer.unknown, bool)
    assert told["runner_up"] is None or set(told["runner_up"]) == {"azimuth_deg", "elevation_deg", "theta_deg"}


def test_the_held_out_images_are_those_that_the_run_did_not_train_on(
    run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    samples = ImageNet3D(tiny_data).samples("train")
    held_out, epochs = held_out_samples(run, samples)
    assert epochs == 1 and len(held_out) == json.loads((run / "config.json").read_text())["counts"]["calibration"]
    with pytest.raises(CompNetError, match="--split"):
        held_out_samples(tmp_path, samples)
    # another list would be split elsewhere: some of what is held out of it the run has trained on
    with pytest.raises(CompNetError, match=r"trained on 16 images, but the train list has 15, .*--split"):
        held_out_samples(run, samples[:-1])


def test_calibrating_again_changes_the_confidences_alone(run: Path, tiny_data: Path, capsys) -> None:
    before = load_predictor(run)
    Calibrate(run, tiny_data, split="val", device="cpu").run()
    after = load_predictor(run)
    assert "16 images" in capsys.readouterr().out
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, after.state_dict()[name])
    assert before.config.calibration != after.config.calibration
    assert replace(before.config, calibration=None, temperature=1.0) == replace(
        after.config, calibration=None, temperature=1.0
    )


def test_plain_and_covered_images_count_half_each() -> None:
    """Whatever their numbers: of scores that do not tell the two apart, the mean of both shares is right."""

    def alike(count: int, share: float) -> Answers:
        true = (torch.arange(count) >= share * count).long()
        nan = torch.full((count,), torch.nan)
        return Answers(torch.tensor([[0.1, 0.0]]).expand(count, 2), true, nan, nan, true == 1, nan)

    temperature, calibration = fit_calibration(alike(2000, 0.9), alike(4000, 0.3), torch.ones(2).long())
    assert temperature * 0.1 == pytest.approx(math.log(9), rel=0.05)  # of the plain images alone
    sure = category_confidence(torch.tensor([[0.1, 0.0]]), temperature, calibration.category)
    assert float(sure) == pytest.approx(0.6, abs=0.01)
    assert calibration.pose is None and calibration.least_evidence is None
