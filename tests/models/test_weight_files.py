"""Folders of pretrained weights: in several files, of two towers, of other programs, incomplete."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from compnet3d.errors import CompNetError
from compnet3d.models.pretrained import load_extractor

VIT: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
                       "image_size": 64, "patch_size": 16}  # fmt: skip
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50,
        "max_position_embeddings": 8}  # fmt: skip


@pytest.fixture(scope="module")
def original() -> Any:
    torch.manual_seed(0)
    return transformers.ViTModel(transformers.ViTConfig(**VIT), add_pooling_layer=False).eval()


@pytest.fixture
def sharded(original: Any, tmp_path: Path) -> Path:
    """One network in many files."""
    folder = tmp_path / "vit"
    original.save_pretrained(folder, max_shard_size="8KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2 and not (folder / "model.safetensors").exists()
    return folder


def test_several_files_are_one_network(sharded: Path, original: Any, tmp_path: Path) -> None:
    original.save_pretrained(tmp_path / "whole")
    parts, whole = (load_extractor(path, dimension=8).backbone for path in (sharded, tmp_path / "whole"))
    expected = original.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in parts.state_dict().items())
    assert all(torch.equal(tensor, parts.state_dict()[name]) for name, tensor in whole.state_dict().items())


def part(folder: Path) -> Path:
    return sorted(folder.glob("model-*.safetensors"))[1]


def index(folder: Path) -> Path:
    return folder / "model.safetensors.index.json"


def rename(folder: Path, name: Any) -> None:
    values = json.loads(index(folder).read_text())
    values["weight_map"][min(values["weight_map"])] = name
    index(folder).write_text(json.dumps(values))


def lose_a_tensor(folder: Path) -> None:
    tensors = load_file(part(folder))
    tensors.pop(next(iter(tensors)))
    save_file(tensors, part(folder))


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a part is missing": (lambda f: part(f).unlink(), r"model-00002-of-\d+.safetensors: is missing, one of \d+ files"),
    "a part is cut": (
        lambda f: part(f).write_bytes(part(f).read_bytes()[:200]),
        "model-00002-of-.*: is no safetensors file",
    ),
    "a part is a pointer": (
        lambda f: part(f).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 8\n"),
        "model-00002-of-.*: is a Git LFS pointer",
    ),
    "a part is empty": (lambda f: part(f).write_bytes(b""), "model-00002-of-.*: is no safetensors file"),
    "a part lacks a tensor": (lose_a_tensor, "model-00002-of-.*: lacks the tensor"),
    "the index is cut": (lambda f: index(f).write_text('{"weight_map": {"a'), "index.json: "),
    "the index is empty": (lambda f: index(f).write_text("{}"), "index.json: has no weight_map"),
    "the index is a list": (lambda f: index(f).write_text("[]"), "index.json: has no weight_map"),
    "no index": (lambda f: index(f).unlink(), "model-00001-of-.* is there, and no model.safetensors.index.json"),
    "a name above": (lambda f: rename(f, "../other.safetensors"), "index.json: names '../other.safetensors'"),
    "a pickle": (lambda f: rename(f, "pytorch_model.bin"), "index.json: names 'pytorch_model.bin'"),
    "a number": (lambda f: rename(f, 3), "index.json: names '3'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_several_files_that_are_not_whole_are_one_sentence(sharded: Path, kind: str) -> None:
    change, message = BROKEN[kind]
    change(sharded)
    with pytest.raises(CompNetError, match=f"^{re.escape(str(sharded))}[^\n]*{message}[^\n]*$"):
        load_extractor(sharded)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "weights.pth", "last.ckpt", "a.pkl",
             "tf_model.h5", "flax_model.msgpack"]
)  # fmt: skip
def test_weights_of_other_formats_are_never_opened(original: Any, tmp_path: Path, name: str) -> None:
    original.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / name)
    with pytest.raises(CompNetError, match=f"^{tmp_path}: .*{name} is not read; convert it to model.safetensors"):
        load_extractor(tmp_path)


def test_the_advice_on_a_pickle_works(original: Any, tmp_path: Path) -> None:
    original.save_pretrained(tmp_path / "old")
    torch.save(load_file(tmp_path / "old" / "model.safetensors"), tmp_path / "old" / "pytorch_model.bin")
    (tmp_path / "old" / "model.safetensors").unlink()
    with pytest.raises(CompNetError, match="writes one") as refusal:
        load_extractor(tmp_path / "old")
    found = re.search(r"transformers\.AutoModel\.from_pretrained\('([^']+)'\)\.save_pretrained", str(refusal.value))
    assert found is not None
    transformers.AutoModel.from_pretrained(found[1]).save_pretrained(tmp_path / "new")
    state = load_extractor(tmp_path / "new").backbone.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in original.state_dict().items())


# -- two towers ------------------------------------------------------------------------------------------------------


def two_towers(kind: str) -> Any:
    torch.manual_seed(1)
    name = {"clip": "CLIP", "siglip": "Siglip"}[kind]
    vision = VIT | {"hidden_act": "gelu"}
    configuration = getattr(transformers, f"{name}Config")(text_config=TEXT, vision_config=vision)
    return getattr(transformers, f"{name}Model")(configuration).eval()


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("size", ["10GB", "16KB"], ids=["one file", "several"])
def test_of_two_towers_the_one_that_sees_is_taken(kind: str, size: str, tmp_path: Path) -> None:
    both = two_towers(kind)
    both.save_pretrained(tmp_path, max_shard_size=size)
    extractor = load_extractor(tmp_path, dimension=8).eval()
    extractor.amp = False
    assert extractor.config.family == f"{kind}_vision_model"
    assert extractor.config.architecture["hidden_act"] == "gelu"
    image = torch.rand(1, 3, 64, 96)
    normalised = (image - extractor.mean) / extractor.std
    with torch.no_grad():
        tokens = both.vision_model(normalised, interpolate_pos_encoding=True).last_hidden_state
        patches = tokens[:, tokens.shape[1] - 24 :]
        expected = extractor.projection(patches)[0].T.reshape(8, 4, 6)
        assert torch.allclose(extractor.features(normalised)[0], expected, atol=1e-5)


def test_an_older_file_says_its_towers_twice(tmp_path: Path) -> None:
    two_towers("clip").save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values["vision_config_dict"] = values["vision_config"] | {"torchscript": None}
    values["vision_config"] = {"hidden_size": 768}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert load_extractor(tmp_path).config.architecture["hidden_size"] == 24


@pytest.mark.parametrize("entry", [{"auto_map": {"AutoModel": "x.Y"}}, {"trust_remote_code": True}])
def test_a_tower_that_asks_for_code_is_refused(entry: dict[str, Any], tmp_path: Path) -> None:
    two_towers("clip").save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values["vision_config"] |= entry
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(CompNetError, match=f"{next(iter(entry))}.*never run"):
        load_extractor(tmp_path)


# -- hub names -------------------------------------------------------------------------------------------------------


def test_a_hub_name_is_asked_for_tensors_alone(original: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's repository, in which lies what is not read, too, as patterns choose from it."""
    original.save_pretrained(tmp_path / "hub", max_shard_size="8KB")
    for name in ("modeling.py", "pytorch_model.bin", "README.md"):
        (tmp_path / "hub" / name).write_text("no")

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert name == "someone/vit"
        for path in (tmp_path / "hub").iterdir():
            if any(path.match(pattern) for pattern in allow_patterns):
                (tmp_path / "copy").mkdir(exist_ok=True)
                shutil.copy(path, tmp_path / "copy")
        return str(tmp_path / "copy")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    assert load_extractor("someone/vit").stride == 16
    names = {path.suffix for path in (tmp_path / "copy").iterdir()}
    assert names == {".json", ".safetensors"}


@pytest.mark.parametrize(
    ("name", "like"), [("facebook/dinov2-bse", "facebook/dinov2-base"), ("micosoft/resnet50", "microsoft/resnet-50"),
                       ("openai/clip-vit", "openai/clip-vit-base-patch32")]
)  # fmt: skip
def test_a_hub_name_that_is_not_there_gets_the_nearest(name: str, like: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(*_: Any, **__: Any) -> str:
        raise OSError("404")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(CompNetError, match=rf"^{name}: no backbone there \(404\).* such as {like},"):
        load_extractor(name)
