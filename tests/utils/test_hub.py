"""The hub where it cannot be reached; where it can, see tests/reporting/test_publishing.py."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from huggingface_hub import constants

from compnet3d.errors import CompNetError
from compnet3d.utils.hub import fetch, publish


def test_no_network_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # nobody listens there
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(CompNetError, match=".") as error:
        publish("someone/bricks", tmp_path / "model", private=True, message="a test")
    assert "\n" not in str(error.value)
    with pytest.raises(CompNetError, match=".") as error:
        fetch("someone/bricks", ["config.json"])
    assert "\n" not in str(error.value)
