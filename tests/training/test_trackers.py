"""Where the numbers of a training go besides its log."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compnet3d.errors import CompNetError
from compnet3d.training.recipe_parts import ScheduleSettings
from compnet3d.training.train import train
from tests.networks import TINY_RECIPE

RECIPE = replace(TINY_RECIPE, schedule=ScheduleSettings(epochs=2, batch_size=4, calibration_fraction=0.25))


def entries(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_tensorboard_has_what_the_log_has(tiny_data: Path, tmp_path: Path) -> None:
    """Also of a training that was stopped and resumed: one curve over the steps of both."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for stop in (1, None):
        train(
            RECIPE,
            tiny_data,
            tmp_path,
            workers=0,
            progress=False,
            log=["tensorboard"],
            stop_after=stop,
            resume=not stop,
        )
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    log = entries(tmp_path)
    names = [name for name, value in log[0].items() if isinstance(value, int | float)]
    assert {"loss", "images_per_second", "learning_rate", "input_wait_seconds"} <= set(names)
    for name in names:
        found = board.Scalars(f"epoch/{name}")
        assert [event.value for event in found] == pytest.approx([entry[name] for entry in log], rel=1e-5)
        assert found[1].step == 2 * found[0].step > 0


def test_weights_and_biases_are_told_the_same(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the package, which would send them away."""
    told: list[Any] = []
    run = SimpleNamespace(
        log=lambda numbers, step: told.append((step, numbers)), finish=lambda: told.append("finished")
    )
    made: dict[str, Any] = {}
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **options: made.update(options) or run))
    train(RECIPE, tiny_data, tmp_path / "mine", workers=0, progress=False, log=["wandb"])
    assert made["id"] == made["name"] == "mine" and made["resume"] == "allow" and made["config"] == RECIPE.to_dict()
    assert told[-1] == "finished"
    losses = [numbers["epoch/loss"] for _, numbers in told[:-1] if "epoch/loss" in numbers]
    assert losses == [entry["loss"] for entry in entries(tmp_path / "mine")]


def test_what_cannot_be_written_to_is_refused_at_once(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CompNetError, match="--log mlflow: unknown; choose from tensorboard and wandb"):
        train(RECIPE, tiny_data, tmp_path / "run", log=["mlflow"])
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(CompNetError, match='needs the package wandb: pip install "compnet3d.wandb."'):
        train(RECIPE, tiny_data, tmp_path / "run", workers=0, progress=False, log=["wandb"])


def test_an_epochs_line_says_what_took_how_long(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(RECIPE, tiny_data, tmp_path, workers=0)
    first, second = (line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch"))
    entry = entries(tmp_path)[1]
    parts = f"in {entry['in_category_loss']:.3f}, cross {entry['cross_category_loss']:.3f}"
    speed = f"{entry['images_per_second']:.3g} images/s, "
    assert second.startswith(f"epoch 2/2: loss {entry['loss']:.3f} ({parts}), {speed}")
    assert first.endswith("left") and "calibration accuracy" in second
