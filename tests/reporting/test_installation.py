"""`compnet3d doctor`: what it finds where all is well, where a package lacks, and where nothing works."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import pytest
import torch

from compnet3d.cli import main as cli
from compnet3d.reporting import installation
from compnet3d.reporting.installation import FEATURES, Check, examine, to_dict, works

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = [
    "numpy>=1.26",
    "torch>=2.4",
    "nowhere-to-be-found>=1; extra == 'viz'",
    "numpy>=1; extra == 'dev'",
    "neither-here>=1; sys_platform == 'plan9' and extra == 'dev'",
]


def found(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name.startswith(name))


@pytest.fixture
def requirements(monkeypatch) -> list[str]:
    listed = list(REQUIREMENTS)
    monkeypatch.setattr(metadata, "requires", lambda name: listed)
    return listed


def test_every_extra_of_the_package_is_explained():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    assert set(FEATURES) == set(re.findall(r"^(\w+) = \[", extras, re.MULTILINE))
    page = (ROOT / "docs" / "guide" / "install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \| ", page, re.MULTILINE)) >= set(FEATURES) - {"fuzz"}


def test_a_model_predicts_where_all_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPNET3D_WEIGHTS", str(tmp_path))
    (tmp_path / "vit-tiny").mkdir()
    (tmp_path / "vit-tiny" / "config.json").write_text("{}")
    checks = examine(tmp_path / "data")
    assert works(checks) and found(checks, "predict on cpu").status == "ok"
    assert found(checks, "torch").found == torch.__version__
    assert found(checks, "vit-tiny").found == str(tmp_path / "vit-tiny")
    assert str(tmp_path / "weights") in found(checks, "looked for in").found
    assert all(check.advice for check in checks if check.status != "ok")


def test_a_missing_extra_is_named_with_its_command_and_breaks_nothing(requirements, tmp_path, monkeypatch):
    monkeypatch.setattr(installation, "_predict", lambda device: None)
    checks = examine(tmp_path)
    viz, dev = found(checks, "viz"), found(checks, "dev")
    assert (viz.status, viz.found, viz.advice) == (
        "missing", "lacks nowhere-to-be-found", 'pip install "compnet3d[viz]"',
    )  # fmt: skip
    assert dev.status == "ok"  # what another system needs is not missing here
    assert works(checks)


def test_a_package_out_of_range_or_missing_is_broken(requirements, tmp_path, capsys):
    requirements[:] = ["numpy>=1000", "nowhere-to-be-found"]
    checks = examine(tmp_path)
    assert not works(checks) and not to_dict(checks)["works"]
    numpy = found(checks, "numpy")
    assert numpy.status == "broken" and numpy.advice == 'pip install "numpy>=1000"'
    assert metadata.version("numpy") in numpy.found
    assert found(checks, "nowhere").found.startswith("not installed")
    with pytest.raises(SystemExit) as end:
        cli.main(["doctor"])
    assert end.value.code == 1 and "does not work here" in capsys.readouterr().out


def test_a_model_that_fails_is_told_and_not_raised(tmp_path, monkeypatch):
    def fails(device: str) -> None:
        raise RuntimeError("no kernel image\nand much more")

    monkeypatch.setattr(installation, "_predict", fails)
    checks = examine(tmp_path)
    trial = found(checks, "predict on cpu")
    assert trial.status == "broken" and trial.found == "RuntimeError: no kernel image" and not works(checks)


def test_json_holds_what_the_tables_show(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(installation, "_predict", lambda device: None)
    cli.main(["doctor", "--json", "-"])
    printed = json.loads(capsys.readouterr().out)
    cli.main(["doctor", "--json", str(tmp_path / "doctor.json")])
    tables = capsys.readouterr().out
    written = json.loads((tmp_path / "doctor.json").read_text())
    assert printed["works"] and written.keys() == printed.keys()
    for check in written["checks"]:
        assert check["section"] in tables and check["status"] in tables


def test_a_folder_that_cannot_be_written_is_noted(tmp_path):
    missing = installation._disk("disk", "this folder", tmp_path / "none", least=0.0)
    assert missing.status == "note" and "cannot be written" in missing.found and missing.advice
    assert installation._disk("disk", "this folder", tmp_path, least=0.0).status == "ok"
    assert installation._disk("disk", "this folder", tmp_path, least=1e9).status == "note"
