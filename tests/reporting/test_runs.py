"""`compnet3d runs`: finished, stopped, running and broken runs, and the evaluations beside them."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from compnet3d.cli import main as cli
from compnet3d.errors import CompNetError
from compnet3d.reporting.runs import find_runs, labels, summarise
from compnet3d.training.recipe_parts import ScheduleSettings
from compnet3d.training.train import train
from compnet3d.utils import exclusive
from compnet3d.utils.files import write_json
from tests.networks import TINY_RECIPE

POSE = {"acc_pi6": 0.75, "acc_pi18": 0.5, "median_deg": 12.0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_data) -> Path:
    """A run of two epochs with one calibration."""
    out = tmp_path_factory.mktemp("runs") / "two"
    schedule = ScheduleSettings(epochs=2, batch_size=4, calibrate_every=1)
    train(replace(TINY_RECIPE, schedule=schedule), tiny_data, out, device="cpu", workers=0, progress=False)
    return out


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs" / "two"))


def metrics(model: str, **settings: object) -> dict[str, object]:
    """A file of metrics, with what other versions wrote and this one does not know."""
    pose = {"symmetry_aware": {"true_category": POSE}}
    return {"images": 8, "classification": {"accuracy": 0.875}, "pose": pose, "of_another_version": 1,
            "settings": {"model": model, "data": "data/tiny", "split": "val", **settings}}  # fmt: skip


def test_a_finished_run_says_what_its_files_say(run, tiny_data):
    found = summarise(run)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert (found.state, found.recipe, found.epochs, len(found.history)) == ("done", "tiny", 2, 2)
    assert found.loss == log[-1]["loss"] and Path(found.data) == tiny_data.resolve()
    assert found.calibration_accuracy == [e["calibration_accuracy"] for e in log if "calibration_accuracy" in e][-1]
    assert found.minutes == pytest.approx(sum(entry["seconds"] for entry in log) / 60)


def test_a_stopped_and_a_running_one(run):
    shutil.rmtree(run / "model")
    assert summarise(run).state == "stopped"
    lock = exclusive.lock_in(run)
    with exclusive.exclusive(run):
        assert lock.is_file() and summarise(run).state == "running"
    assert summarise(run).state == "stopped"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda run: (run / "config.json").unlink(), "config.json: cannot be read"),
        (lambda run: (run / "config.json").write_text("[]"), "is not that of a run"),
        (lambda run: (run / "config.json").write_text("{"), "is not valid JSON"),
        (lambda run: (run / "log.jsonl").write_text('{"epoch": 1, "seconds": 1}\n{'), "log.jsonl: cannot be read"),
        (lambda run: (run / "log.jsonl").write_text('{"epoch": 1, "seconds": 1}\n'), "ends after epoch 1 of 2"),
        (lambda run: (run / "model" / "model.safetensors").unlink(), "model.safetensors is missing"),
    ],
)
def test_a_broken_run_is_said_to_be(damage, reason, run, capsys):
    damage(run)
    found = summarise(run)
    assert found.state == "broken" and reason in found.reason
    cli.main(["runs", str(run)])
    assert "is broken" in " ".join(capsys.readouterr().out.split())


def test_evaluations_are_those_of_the_model(run):
    write_json(run / "own.json", metrics("anything", occlusion="L2", occlusion_protocol="generator", occluders="blobs"))
    write_json(run.parent / "beside.json", {**metrics("elsewhere/two/model"), "occluded": metrics("two")})
    write_json(run.parent / "other.json", metrics("three"))
    write_json(run.parent / "no-metrics.json", [1])
    (run.parent / "broken.json").write_text("{")
    found = summarise(run).evaluations
    assert [entry.file for entry in found] == ["own.json", "beside.json", "beside.json"]
    assert found[0].images == "8 occluded L2" and (found[1].data, found[1].split) == ("tiny", "val")
    assert (found[0].accuracy, found[0].acc_pi6, found[0].acc_pi18) == (0.875, 0.75, 0.5)


def test_runs_are_found_below_a_folder_once(run, tmp_path):
    deeper = Path(shutil.copytree(run, tmp_path / "runs" / "study" / "seed1"))
    found = find_runs([tmp_path / "runs", run, run / "model"])
    assert [entry.folder.resolve() for entry in found] == [deeper.resolve(), run.resolve()] or [
        entry.folder.resolve() for entry in found
    ] == [run.resolve(), deeper.resolve()]
    assert sorted(labels(found)) == [os.path.join("study", "seed1"), "two"]
    assert labels(found[:1]) == [found[0].folder.name]
    (tmp_path / "empty").mkdir()
    with pytest.raises(CompNetError, match="no training run in there"):
        find_runs([tmp_path / "empty"])


def test_the_command_prints_draws_and_writes(run, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "runs.png"
    cli.main(["runs", str(run.parent), "--plot", str(plot), "--json", "-"])
    (written,) = json.loads(capsys.readouterr().out)["runs"]
    assert written["state"] == "done" and len(written["history"]) == 2
    with Image.open(plot) as picture:
        assert picture.width > 600
    with pytest.raises(SystemExit) as end:
        cli.main(["runs", str(run.parent), "--plot", str(tmp_path / "runs.gif")])
    assert end.value.code == 2
