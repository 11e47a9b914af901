"""Files of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compnet3d.errors import CompNetError


def fetch(name: str, files: Sequence[str], revision: str | None = None) -> Path:
    """A folder with these files of a hub's model (patterns), fetched unless they are on this machine already.

    Raises:
        CompNetError: with the reason alone, for the caller's sentence.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files)))
    except (OSError, ValueError, RuntimeError, HfHubHTTPError) as error:
        raise CompNetError((str(error).splitlines() or [type(error).__name__])[0]) from None
