"""Models by name: kept on this machine, or published."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compnet3d.errors import CompNetError
from compnet3d.models import named
from compnet3d.models.checkpoint import find_model
from compnet3d.models.compnet import CompNet
from compnet3d.models.named import find_examples, keep_model, kept_models, models_folder
from tests.networks import TINY_CONFIG


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a model and one example."""
    folder = tmp_path / "run"
    CompNet(TINY_CONFIG).save_pretrained(folder / "model")
    (folder / "examples").mkdir()
    (folder / "examples" / "brick.png").write_bytes(b"an image")
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "large").write_bytes(b"what no one needs")
    return folder


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPNET3D_MODELS", str(tmp_path / "kept"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "kept"


def test_a_kept_model_is_found_by_name_and_is_the_same(run: Path, models: Path) -> None:
    assert kept_models() == []
    assert keep_model(run, "toys") == models / "toys"
    assert kept_models() == ["toys"] and find_model("toys") == models / "toys" / "model"
    assert [path.read_bytes() for path in find_examples(find_model("toys"))] == [b"an image"]
    assert not (models / "toys" / "checkpoint").exists()
    first, kept = CompNet.from_pretrained(run).state_dict(), CompNet.from_pretrained("toys").state_dict()
    assert first.keys() == kept.keys() and all(torch.equal(first[name], kept[name]) for name in first)


def test_keeping_again_replaces_all_of_it(run: Path) -> None:
    keep_model(run, "toys")
    (run / "examples" / "brick.png").rename(run / "examples" / "tower.jpg")
    keep_model(run, "toys")
    assert [path.name for path in find_examples(find_model("toys"))] == ["tower.jpg"]


def test_a_folder_goes_before_a_name(run: Path, tmp_path: Path) -> None:
    keep_model(run, "toys")
    CompNet(TINY_CONFIG).save_pretrained(tmp_path / "toys")
    assert find_model("toys") == Path("toys")


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "-x", "a b"])
def test_what_cannot_be_a_name(run: Path, models: Path, name: str) -> None:
    with pytest.raises(CompNetError, match="cannot be a model's name"):
        keep_model(run, name)
    assert not models.exists()


def test_a_name_of_nothing_is_one_sentence(run: Path) -> None:
    with pytest.raises(CompNetError, match="^nothing: does not exist; .* make a first model with compnet3d quickstart"):
        find_model("nothing")
    keep_model(run, "toys")
    with pytest.raises(CompNetError, match="^nothing: does not exist; .* or a name: toys$"):
        find_model("nothing")


def test_a_published_model_is_fetched_with_its_revision(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None, list[str]]] = []

    def snapshot_download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns))
        return str(run / "model")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert find_model("owner/toys") == find_model("owner/toys@v1.0") == run / "model"
    assert [entry[:2] for entry in asked] == [("owner/toys", None), ("owner/toys", "v1.0")]
    # no program and no pickle is ever asked for
    assert all(pattern.endswith((".json", ".safetensors", ".off", "/*")) for pattern in asked[0][2])


def test_what_cannot_be_fetched_is_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(*_: object, **__: object) -> str:
        raise OSError("no route\nto the host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    keep_model(run, "toys")
    with pytest.raises(CompNetError, match=r"^owner/toys: is no folder .* \(no route\); .* one of toys$"):
        find_model("owner/toys")


def test_a_mistyped_path_asks_no_hub(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "fetch", lambda *_: pytest.fail("the hub was asked"))
    for name in ("run/modle", "/run/model", "run/../x"):
        with pytest.raises(CompNetError, match="does not exist"):
            find_model(name)


def test_the_folder_of_the_user_where_no_other_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COMPNET3D_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert models_folder().name == "models" and models_folder().parent.name == "compnet3d"
