"""`compnet3d models`, and the name that the quickstart keeps its model by."""

from __future__ import annotations

from pathlib import Path

import pytest

from compnet3d.cli import main as cli
from compnet3d.models.compnet import CompNet
from compnet3d.models.named import find_examples, keep_model, kept_models
from tests.networks import TINY_CONFIG


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPNET3D_MODELS", str(tmp_path / "kept"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "kept"


def test_a_run_is_kept_and_listed(capsys: pytest.CaptureFixture[str], models: Path) -> None:
    cli.main(["models"])
    assert "no model is kept" in capsys.readouterr().out
    CompNet(TINY_CONFIG).save_pretrained("run/model")
    cli.main(["models", "--keep", "run", "--name", "toys"])
    assert str(models / "toys") in capsys.readouterr().out
    cli.main(["models"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["toys"])
    assert line.split() == ["toys", "compnet", "brick,", "tower"]


@pytest.mark.parametrize("line", ["models --keep run", "models --name toys", "models --keep nowhere --name toys"])
def test_half_an_answer_is_refused(line: str, capsys: pytest.CaptureFixture[str], models: Path) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(line.split())
    assert end.value.code == 2 and capsys.readouterr().err.startswith("error: ")
    assert not models.exists()


@pytest.mark.slow
def test_the_quickstart_keeps_its_model_and_an_image_of_each_category(models: Path) -> None:
    sizes = "--categories 2 --train 30 --val 2 --size 32 --epochs 1 --workers 1 --device cpu".split()
    cli.main(["quickstart", "--out", "first", "--name", "", *sizes])
    assert kept_models() == []
    cli.main(["quickstart", "--out", "first", *sizes])
    assert kept_models() == ["quickstart"]
    folder = models / "quickstart" / "model"
    tensors = "model.safetensors"
    assert (folder / tensors).read_bytes() == (Path("first/run/model") / tensors).read_bytes()
    examples = find_examples(folder)
    assert sorted(path.stem for path in examples) == sorted(CompNet.from_pretrained("quickstart").categories)
    cli.main(["predict", "quickstart", str(examples[0]), "--whole", "--json", "answer.json", "--device", "cpu"])
    assert Path("answer.json").is_file()


def test_an_unfinished_run_is_refused(models: Path) -> None:
    Path("run").mkdir()
    with pytest.raises(Exception, match="run: no model there"):
        keep_model(Path("run"), "toys")
    assert not models.exists()
