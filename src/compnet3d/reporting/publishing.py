"""A trained model on the Hugging Face hub: its folder, its examples and its card."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compnet3d.errors import CompNetError
from compnet3d.evaluation.result import EvaluationResult
from compnet3d.models.checkpoint import check_folder, find_model
from compnet3d.models.named import find_examples
from compnet3d.reporting.model_card import CardFacts, model_card
from compnet3d.utils.files import Json, copy_file, is_file, read_json, write_folder
from compnet3d.utils.hub import publish


def push_to_hub(
    model: str | Path,
    name: str,
    *,
    licence: str,
    metrics: Sequence[str | Path] = (),
    about: str = "",
    private: bool = False,
    dry_run: str | Path | None = None,
) -> str:
    """Publish a model with a card that says what it was trained on, how well it does and how it is used.

    Args:
        model: see `compnet3d.models.checkpoint.find_model`.
        name: OWNER/NAME on the hub; it is made if it is not there.
        licence: as the hub calls it (cc-by-4.0, mit, other); that of the training data may not allow any.
        metrics: files that `evaluate --json` wrote, of plain and of occluded images, for the card.
        about: of the card, in your words.
        private: whether only its owner may see a new one.
        dry_run: a folder to write everything to instead; nothing is sent.

    Returns:
        The address on the hub, or that folder.

    Raises:
        CompNetError: if the model, a file or the name is not in order, or the hub refuses; nothing is sent then but
            what the hub had accepted before.
    """
    _check_names(name, licence)
    folder = find_model(model)
    facts = CardFacts(
        name=name,
        licence=licence,
        model=check_folder(folder),
        run=_run_of(folder),
        results=[EvaluationResult.read(path) for path in metrics],
        about=about,
    )
    try:
        card = model_card(facts)
    except (AttributeError, TypeError, KeyError, ValueError):
        # of the model the configuration is checked when it is loaded, and of evaluations above
        raise CompNetError(
            f"{folder.parent / 'config.json'}: is no configuration of a run; restore or remove it"
        ) from None

    def fill(target: Path) -> None:
        for path in (folder / "config.json", folder / "model.safetensors", *sorted(folder.glob("meshes/*.off"))):
            copy_file(path, target / path.relative_to(folder), 2**44)
        for path in find_examples(folder):
            copy_file(path, target / "examples" / path.name)
        (target / "README.md").write_text(card, encoding="utf-8")

    if dry_run is not None:
        if Path(dry_run).exists():
            raise CompNetError(f"{dry_run}: is there already; name a new folder")
        write_folder(dry_run, fill)
        return str(dry_run)
    with tempfile.TemporaryDirectory(prefix="compnet3d-") as place:
        write_folder(Path(place) / "model", fill)
        try:
            return publish(name, Path(place) / "model", private=private, message="Model and card by compnet3d")
        except CompNetError as error:
            raise CompNetError(
                f"{name}: could not be published ({error}); log in with a token that may write (hf auth login), and "
                "check that the owner is you or an organisation of yours"
            ) from None


def _check_names(name: str, licence: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,94}/[A-Za-z0-9][\w.-]{0,94}", name, re.ASCII):
        raise CompNetError(f"{name[:100]!r} is no name on the hub; give OWNER/NAME of letters, digits, dots and dashes")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,60}", licence):
        raise CompNetError(
            f"{licence[:60]!r} is no licence as the hub calls them; give one such as cc-by-4.0, mit or other"
        )


def _run_of(folder: Path) -> Json | None:
    """The config.json of the training that a model's folder belongs to, if it is beside it."""
    path = folder.parent / "config.json"
    if not is_file(path):
        return None
    values: Any = read_json(path)
    return values if isinstance(values, dict) and isinstance(values.get("recipe"), dict) else None
