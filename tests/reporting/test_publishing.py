"""Publishing a model: what is sent to a hub that is none, and what its card says."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from compnet3d import load_predictor, push_to_hub
from compnet3d.cli import main as cli
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.errors import CompNetError
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.evaluation.result import EvaluationResult
from compnet3d.models.named import keep_model
from compnet3d.robustness.shift import Shift
from compnet3d.training.train import train
from compnet3d.utils.files import write_json
from tests.networks import TINY_RECIPE

TOKEN = "hf_" + "x" * 34


class FakeHub:
    """A hub that keeps what is uploaded in a folder, or answers with an error."""

    def __init__(self, place: Path) -> None:
        self.place, self.private, self.error = place, None, None
        self.created: list[str] = []

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        self.created.append(name)
        if self.error is not None:
            raise self.error
        self.private = private
        return f"https://hub/{name}"

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, commit_message: str, delete_patterns: list[str]
    ) -> None:
        target = self.place / repo_id
        for pattern in delete_patterns:
            for path in target.glob(pattern):
                path.unlink()
        shutil.copytree(folder_path, target, dirs_exist_ok=True)
        assert commit_message

    def snapshot_download(self, name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        return str(self.place / name)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    found = FakeHub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: found)
    monkeypatch.setattr("huggingface_hub.snapshot_download", found.snapshot_download)
    monkeypatch.setenv("COMPNET3D_MODELS", str(tmp_path / "kept"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an example, and two evaluations beside it."""
    out = tmp_path_factory.mktemp("published") / "run"
    recipe = replace(TINY_RECIPE, schedule=replace(TINY_RECIPE.schedule, epochs=1, batch_size=8))
    model = train(recipe, tiny_data, out, workers=0, progress=False)
    (out / "examples").mkdir()
    shutil.copy(next((tiny_data / "images").rglob("*.*")), out / "examples")
    dataset = ImageNet3D(tiny_data)
    for name, shift in (("plain", Shift()), ("occluded", Shift(occlusion="L2"))):
        result = evaluate(model, dataset.samples("val"), shift=shift)
        write_json(out.parent / f"{name}.json", result.with_origin(data=str(tiny_data), split="val").to_dict())
    return out


def front_matter(card: str) -> Any:
    found = re.match(r"---\n(.*?)---\n", card, re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1])


def test_what_is_published_is_loaded_by_its_name(run: Path, hub: FakeHub) -> None:
    assert push_to_hub(run, "someone/bricks", licence="mit") == "https://hub/someone/bricks"
    sent = {str(path.relative_to(hub.place / "someone/bricks")) for path in hub.place.rglob("*") if path.is_file()}
    example = next((run / "examples").iterdir()).name
    assert sent == {
        "README.md", "config.json", "model.safetensors", "meshes/brick.off", "meshes/tower.off", f"examples/{example}",
    }  # fmt: skip
    again, first = load_predictor("someone/bricks").state_dict(), load_predictor(run).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())
    assert hub.private is False


def test_a_second_upload_replaces_meshes_and_examples(run: Path, hub: FakeHub) -> None:
    push_to_hub(run, "someone/bricks", licence="mit", private=True)
    assert hub.private is True
    (hub.place / "someone/bricks/meshes/gone.off").write_text("OFF")
    (hub.place / "someone/bricks/examples/gone.png").write_bytes(b"")
    push_to_hub(run, "someone/bricks", licence="mit")
    assert not list(hub.place.rglob("gone.*"))


def test_the_card_says_what_was_measured(run: Path, hub: FakeHub, tiny_data: Path) -> None:
    metrics = [run.parent / "plain.json", run.parent / "occluded.json"]
    push_to_hub(run, "someone/bricks", licence="cc-by-4.0", metrics=metrics, about="For | tests.", dry_run="card")
    assert hub.created == []  # nothing was sent
    card = Path("card/README.md").read_text()
    matter = front_matter(card)
    assert matter["license"] == "cc-by-4.0" and matter["library_name"] == "compnet3d" and "compnet3d" in matter["tags"]
    results = [EvaluationResult.read(path) for path in metrics]
    entries = matter["model-index"][0]["results"]
    assert [entry["metrics"][0]["value"] for entry in entries] == [round(100 * r.accuracy, 2) for r in results]
    assert entries[1]["dataset"]["name"] == f"{tiny_data.name} (val), occluded, L2"
    for result in results:
        shares = [result.accuracy, result.pose.plain.true_category.acc_pi6, result.pose.plain.true_category.acc_pi18]
        assert " | ".join(f"{100 * share:.1f}" for share in shares if share is not None) in card
    for text in ("2 categories: brick, tower", "For | tests.", 'load_predictor("someone/bricks")', "azimuth A",
                 f"| data | {tiny_data.name} |", "| recipe | tiny: for tests |"):  # fmt: skip
        assert text in card, text
    assert "under occlusion was not measured" not in card
    # where things lie on this machine is nobody's business
    assert str(tiny_data.parent) not in card and str(run.parent) not in card


def test_a_card_without_measures_and_without_a_run_says_so(run: Path, hub: FakeHub) -> None:
    shutil.copytree(run / "model", "alone")
    push_to_hub("alone", "someone/bricks", licence="other", dry_run="card")
    card = Path("card/README.md").read_text()
    assert "It was not measured." in card and "was not kept with the model" in card
    assert "under occlusion was not measured" in card and "model-index" not in front_matter(card)


def test_a_kept_model_keeps_what_its_card_needs(run: Path, hub: FakeHub) -> None:
    keep_model(run, "toys")
    push_to_hub("toys", "someone/bricks", licence="mit", dry_run="card")
    assert "| recipe | tiny: for tests |" in Path("card/README.md").read_text()


def answer(code: int, text: str) -> HfHubHTTPError:
    request = httpx.Request("POST", "https://hub", headers={"authorization": f"Bearer {TOKEN}"})
    return HfHubHTTPError(text, response=httpx.Response(code, request=request))


@pytest.mark.parametrize(
    "error",
    [
        answer(401, f"401 Unauthorized for token {TOKEN}"),
        answer(403, f"403 Forbidden: Bearer {TOKEN}\nmore of it"),
        LocalTokenNotFoundError("no token"),
        OSError(f"cannot connect with {TOKEN}"),
    ],
    ids=["401", "403", "no token", "no network"],
)
def test_a_refusal_is_one_sentence_without_the_token(
    run: Path, hub: FakeHub, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.error = error  # type: ignore[assignment]
    with pytest.raises(SystemExit) as end:
        cli.main(["models", "push", str(run), "someone/bricks", "--licence", "mit"])
    output = capsys.readouterr()
    assert end.value.code == 2
    assert output.err.startswith("error: someone/bricks: could not be published (") and output.err.count("\n") == 1
    assert "hf auth login" in output.err
    assert TOKEN not in output.err + output.out and TOKEN[5:] not in output.err + output.out


@pytest.mark.parametrize(
    "name", ["bricks", "a/b/c", "../x", "/x", "a/", "-a/b", "a b/c", "a/b@v1", "ä/b", "a/" + "b" * 99]
)
def test_a_name_that_is_none_is_refused_before_anything_is_sent(run: Path, hub: FakeHub, name: str) -> None:
    with pytest.raises(CompNetError, match="is no name on the hub; give OWNER/NAME"):
        push_to_hub(run, name, licence="mit")
    assert hub.created == []


@pytest.mark.parametrize("licence", ["", "MIT License", "mit\nevil: 1", "a: b"])
def test_a_licence_that_is_none_is_refused(run: Path, hub: FakeHub, licence: str) -> None:
    with pytest.raises(CompNetError, match="is no licence as the hub calls them"):
        push_to_hub(run, "someone/bricks", licence=licence)
    assert hub.created == []


def test_what_has_changed_or_is_no_evaluation_is_not_published(run: Path, hub: FakeHub) -> None:
    shutil.copytree(run, "copy")
    with pytest.raises(CompNetError, match="config.json: .*no evaluation"):
        push_to_hub("copy", "someone/bricks", licence="mit", metrics=[run / "config.json"])
    data = bytearray(Path("copy/model/model.safetensors").read_bytes())
    data[-1] ^= 1
    Path("copy/model/model.safetensors").write_bytes(data)
    with pytest.raises(CompNetError, match="is not what was written"):
        push_to_hub("copy", "someone/bricks", licence="mit")
    Path("there").mkdir()
    with pytest.raises(CompNetError, match="there: is there already"):
        push_to_hub(run, "someone/bricks", licence="mit", dry_run="there")
    assert hub.created == []


def test_the_command_writes_or_publishes(run: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["models", "push", str(run), "someone/bricks", "--licence", "mit"]
    cli.main([*line, "--dry-run", "card"])
    assert capsys.readouterr().out == "wrote card; nothing was sent\n" and Path("card/README.md").is_file()
    cli.main(line)
    assert capsys.readouterr().out == "published: https://hub/someone/bricks\n"
    with pytest.raises(SystemExit):
        cli.main(["models", "--keep", str(run), "--name", "toys", *line[1:]])
    assert "keep a model, or publish one" in capsys.readouterr().err


def test_a_name_in_a_card_cannot_break_it(run: Path, hub: FakeHub) -> None:
    """What a run's config.json says comes from files of others, too."""
    shutil.copytree(run, "copy")
    values = json.loads(Path("copy/config.json").read_text())
    values["recipe"]["description"] = "a | b\n# heading\x1b[31m"
    Path("copy/config.json").write_text(json.dumps(values))
    push_to_hub("copy", "someone/bricks", licence="mit", dry_run="card")
    (line,) = (line for line in Path("card/README.md").read_text().splitlines() if line.startswith("| recipe"))
    assert "\x1b" not in line and r"a \| b" in line and "# heading" in line


@pytest.mark.parametrize("entry", [{"recipe": {"schedule": []}}, {"more_data": 3}, {"counts": "many"}, {"without": 1}])
def test_a_run_that_is_none_is_one_sentence(run: Path, hub: FakeHub, entry: dict[str, Any]) -> None:
    shutil.copytree(run, "copy")
    values = json.loads(Path("copy/config.json").read_text()) | entry
    Path("copy/config.json").write_text(json.dumps(values))
    with pytest.raises(CompNetError, match="^copy/config.json: is no configuration of a run"):
        push_to_hub("copy", "someone/bricks", licence="mit", dry_run="card")
    assert not Path("card").exists()
