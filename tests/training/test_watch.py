"""A training that goes wrong stops in one sentence and keeps what is good; odd batches are noted."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from compnet3d.errors import CompNetError
from compnet3d.models.bank import VertexFeatureBank
from compnet3d.training import objectives
from compnet3d.training import step as training_step
from compnet3d.training.builtin_recipes import get_recipe
from compnet3d.training.recipe import DualHeadRecipe
from compnet3d.training.recipe_parts import ScheduleSettings
from compnet3d.training.run_folder import read_log
from compnet3d.training.train import train
from compnet3d.training.watch import LossWatch, NotFiniteError, check_model
from tests.networks import TINY_RECIPE

RECIPE = replace(TINY_RECIPE, schedule=ScheduleSettings(epochs=2, batch_size=4, calibration_fraction=0.25))
OPTIONS: dict[str, Any] = {"workers": 0, "progress": False}


def states(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "checkpoint").iterdir()}


@pytest.fixture(scope="module")
def stopped(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped after its first epoch."""
    out = tmp_path_factory.mktemp("runs") / "stopped"
    train(RECIPE, tiny_data, out, stop_after=1, **OPTIONS)
    return out


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("what", ["loss", "gradient", "vertex feature", "background feature", "output", "parameter"])
def test_what_is_not_finite_ends_the_training(
    what: str, value: float, tiny_data: Path, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(stopped, tmp_path / "run"))
    before, steps = states(out), 0

    def spoilt(run: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 2:
            _spoil(what, value, run, monkeypatch)
        return training_step.train_step(run, *arguments, **options)

    monkeypatch.setattr("compnet3d.training.loop.train_step", spoilt)
    with pytest.raises(CompNetError) as error:
        train(RECIPE, tiny_data, out, resume=True, **OPTIONS)
    message = str(error.value)
    assert message.startswith(f"{out}: training stops in epoch 2, step 2, where ") and "\n" not in message
    assert message.count("brick/") + message.count("tower/") == 4 and "the checkpoint of epoch 1 is kept" in message
    assert what.split()[-1] in message or what in ("gradient", "parameter", "output")
    assert states(out) == before and not (out / "model").exists()


def _spoil(what: str, value: float, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bank: VertexFeatureBank = run.model.bank
    if what == "loss":
        contrast = objectives.grouped_contrastive_loss

        def spoilt(*arguments: Any, **settings: Any) -> Any:
            found = contrast(*arguments, **settings)
            return replace(found, total=found.total * value)

        monkeypatch.setattr(objectives, "grouped_contrastive_loss", spoilt)
    elif what == "gradient":
        next(run.model.parameters()).register_hook(lambda gradient: gradient * value)
    elif what == "vertex feature":
        monkeypatch.setattr(type(bank), "update_vertices", lambda self, *_: self.vertex_features[0].fill_(value))
    elif what == "background feature":
        monkeypatch.setattr(type(bank), "update_background", lambda self, *_: self.background_features[0].fill_(value))
    else:
        next(run.model.parameters()).data.fill_(value)


def test_a_huge_learning_rate_ends_the_training(tiny_data: Path, tmp_path: Path) -> None:
    for recipe in (RECIPE, replace(get_recipe("quickstart-heads"), schedule=RECIPE.schedule)):
        assert isinstance(recipe, type(RECIPE) | DualHeadRecipe)
        huge = recipe.with_settings({"schedule.learning_rate": 1e38, "schedule.head_learning_rate": 1e38})
        out = tmp_path / recipe.name
        with pytest.raises(CompNetError, match="is not finite .there is no checkpoint yet.*(brick|tower)/"):
            train(huge, tiny_data, out, **OPTIONS)
        assert [path.name for path in out.iterdir()] == ["config.json"]


def test_all_processes_end(tiny_data: Path, tmp_path: Path) -> None:
    recipe = RECIPE.with_settings(
        {"schedule.processes": 2, "schedule.learning_rate": 1e38, "schedule.head_learning_rate": 1e38}
    )
    with pytest.raises(CompNetError, match="training stops in epoch 1"):
        train(recipe, tiny_data, tmp_path / "run", **OPTIONS)


def test_a_model_is_checked_before_it_is_kept() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    model.register_buffer("log_share", torch.tensor([-torch.inf]))
    check_model(model)
    with torch.no_grad():
        model[1].running_var[0] = torch.nan
    with pytest.raises(NotFiniteError, match=r"^1\.running_var$"):
        check_model(model)
    with torch.no_grad():
        model[1].running_var[0], model[0].bias[1] = 1, torch.inf
    with pytest.raises(NotFiniteError, match=r"^0\.bias$"):
        check_model(model)


def test_only_losses_far_above_the_last_are_out_of_line() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(300, generator=generator)
    falling = 5 * torch.exp(-torch.arange(300) / 30) + 0.5
    watch = LossWatch()
    assert not any(watch.is_out_of_line(float(loss)) for loss in falling * (1 + 0.15 * noise))
    assert watch.is_out_of_line(20.0) and not watch.is_out_of_line(0.5) and watch.is_out_of_line(21.0)
    constant = LossWatch()
    assert [constant.is_out_of_line(loss) for loss in (1, 1, 1, 1, 1, 1.9, 2.1, 1)] == [False] * 6 + [True, False]
    below = LossWatch()
    assert not any(below.is_out_of_line(loss) for loss in (-2, -2, -2.1, -2, -2, -1, -0.5, -9))


def test_a_batch_out_of_line_is_logged_with_its_images(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = RECIPE.with_settings({"schedule.epochs": 3})
    seen: list[float] = []

    def odd(*arguments: Any, **options: Any) -> dict[str, torch.Tensor]:
        losses = training_step.train_step(*arguments, **options)
        seen.append(float(losses["loss"]))
        return losses | {"loss": losses["loss"] * (100 if len(seen) == 6 else 1)}

    monkeypatch.setattr("compnet3d.training.loop.train_step", odd)
    train(recipe, tiny_data, tmp_path, workers=0, stop_after=2)
    train(recipe, tiny_data, tmp_path, workers=0, resume=True)
    said = [line for line in capsys.readouterr().out.splitlines() if "far above" in line]
    assert len(said) == 1 and said[0].startswith("epoch 2, step 3: loss ")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    (entry,) = [line for line in lines if "step" in line]
    assert lines.index(entry) == 1 and len(lines) == 4
    assert (entry["epoch"], entry["step"], entry["loss"]) == (2, 3, pytest.approx(100 * seen[5]))
    assert len(entry["images"]) == 4 and all(image in said[0] for image in entry["images"])
    assert [epoch["epoch"] for epoch in read_log(tmp_path / "log.jsonl")] == [1, 2, 3]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4
