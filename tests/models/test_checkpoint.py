"""What a model's folder says of itself: its format, the version that wrote it, a checksum."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compnet3d import __version__, load_predictor
from compnet3d.errors import CompNetError
from compnet3d.models.compnet import CompNet
from tests.networks import TINY_CONFIG, random_compnet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random_compnet(TINY_CONFIG).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def changed(folder: Path, **entries: Any) -> None:
    """Entries of config.json set, or left out where they are None."""
    values = json.loads((folder / "config.json").read_text()) | entries
    (folder / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


def test_a_folder_says_what_wrote_it(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    assert list(values)[:3] == ["format", "version", "sha256"]
    assert values["format"] == 2 and values["version"] == __version__
    assert values["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_the_format_before_is_read_as_it_was(folder: Path) -> None:
    """It had neither a version nor a checksum, and a backbone that was neither frozen nor checkpointed."""
    expected = load_predictor(folder).state_dict()
    backbone = json.loads((folder / "config.json").read_text())["backbone"]
    del backbone["frozen"], backbone["checkpointing"]
    changed(folder, format=1, version=None, sha256=None, backbone=backbone)
    found = load_predictor(folder)
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in expected.items())
    assert not found.config.backbone.frozen


@pytest.mark.parametrize("number", [3, 10**6])
def test_a_newer_format_names_both_versions(folder: Path, number: int) -> None:
    changed(folder, format=number, version="9.8.7")
    with pytest.raises(
        CompNetError, match=rf"written by compnet3d '9.8.7' in format {number}, and this is {__version__}"
    ):
        load_predictor(folder)


@pytest.mark.parametrize("number", [None, 0, -1, "2", True, 2.5, [2], 1e300])
def test_a_format_that_is_none_is_one_sentence(folder: Path, number: Any) -> None:
    changed(folder, format=number)
    with pytest.raises(CompNetError, match=rf"^{folder}/config.json: format is [^\n]+ reads 1 to 2[^\n]+$"):
        load_predictor(folder)


@pytest.mark.parametrize("value", [None, "", "0" * 64, 3, [], True])
def test_a_checksum_that_is_another_is_one_sentence(folder: Path, value: Any) -> None:
    changed(folder, sha256=value)
    with pytest.raises(CompNetError, match=r"model.safetensors: is not what was written [^\n]*SHA-256[^\n]*$"):
        load_predictor(folder)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_flipped_bit_is_one_sentence(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("bit") / "model"
    CompNet(TINY_CONFIG).save_pretrained(folder)
    content = bytearray((folder / "model.safetensors").read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CompNetError) as error:
        load_predictor(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_a_model_that_is_saved_again_has_a_checksum_again(folder: Path) -> None:
    changed(folder, format=1, version=None, sha256=None)
    load_predictor(folder).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["format"] == 2
    load_predictor(folder)
