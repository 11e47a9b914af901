"""Files of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from compnet3d.errors import CompNetError


def fetch(name: str, files: Sequence[str], revision: str | None = None) -> Path:
    """A folder with these files of a hub's model (patterns), fetched unless they are on this machine already.

    Raises:
        CompNetError: with the reason alone, for the caller's sentence.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files)))
    except _refusals() as error:
        raise CompNetError(_reason(error)) from None


def publish(name: str, folder: Path, *, private: bool, message: str) -> str:
    """Put a folder's files on the hub as a model, which is made if it is not there; who may do so the hub knows by the
    token of `hf auth login` or $HF_TOKEN.

    Args:
        name: OWNER/NAME; private: of a new one; message: of the commit.

    Returns:
        Its address.

    Raises:
        CompNetError: with the reason alone, for the caller's sentence.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = str(api.create_repo(name, private=private, exist_ok=True))
        # what an earlier upload had there is replaced as a whole
        stale = ["meshes/*", "examples/*"]
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message, delete_patterns=stale)
    except _refusals() as error:
        raise CompNetError(_reason(error)) from None
    return address


def _refusals() -> tuple[type[Exception], ...]:
    """What the library raises where the hub refuses, or cannot be reached."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    # its bases are the errors of the library that it talks with, which is another one in each of its versions
    return (OSError, ValueError, RuntimeError, LocalTokenNotFoundError, HfHubHTTPError, *HfHubHTTPError.__bases__)


def _reason(error: Exception) -> str:
    """The first line of an error, without the tokens that a library may have put into it."""
    text = (str(error).splitlines() or [""])[0].strip() or type(error).__name__
    return re.sub(r"(hf_|Bearer )\w+", r"\1...", text)
