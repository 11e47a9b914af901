"""Models by a name instead of a folder: kept on this machine by `keep_model`, or published on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs

from compnet3d.data.images import images_in
from compnet3d.errors import CompNetError
from compnet3d.utils.files import copy_file, is_file, recover_folder, write_folder
from compnet3d.utils.hub import fetch

EXAMPLES = "examples"  # the folder of images to try a model on


def models_folder() -> Path:
    """Where models are kept by name: $COMPNET3D_MODELS, else a folder of the user's."""
    chosen = os.environ.get("COMPNET3D_MODELS")
    return Path(chosen) if chosen else platformdirs.user_data_path("compnet3d", appauthor=False) / "models"


def kept_models() -> list[str]:
    """The names of the models that are kept on this machine."""
    return sorted(path.parents[1].name for path in models_folder().glob("[!.]*/model/model.safetensors"))


def keep_model(run: Path, name: str) -> Path:
    """Copy a run's model, and its examples, to where they are found by name; what had the name before is replaced.

    Args:
        run: a run's folder, with `model` and perhaps `examples`.
        name: letters, digits, dots, dashes and underscores.

    Raises:
        CompNetError: if there is no model, the name cannot be one, or the place cannot be written.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise CompNetError(f"{name!r} cannot be a model's name; use letters, digits, dots, dashes and underscores")

    if not is_file(run / "model" / "model.safetensors"):
        raise CompNetError(f"{run}: no model there (model/model.safetensors is missing); give a training run's folder")

    def fill(target: Path) -> None:
        # with what says how it was trained, for whoever publishes it
        notes = [run / "config.json"]
        for path in sorted([*(run / "model").rglob("*"), *(run / EXAMPLES).glob("*"), *notes]):
            if path.is_file():
                copy_file(path, target / path.relative_to(run))

    place = models_folder() / name
    write_folder(place, fill)
    return place


def find_examples(folder: Path) -> list[Path]:
    """Images to try a model on, given its folder: beside it in a run and in what is kept, within what is published."""
    places = [folder / EXAMPLES, folder.parent / EXAMPLES]
    return [path for place in places for path in images_in(place)]


def named_model(name: Path) -> Path | None:
    """The folder of a model that is kept or published under a name; None if the name is a path of neither.

    A published one, OWNER/NAME or OWNER/NAME@REVISION, is fetched when it is first needed: its configuration, tensors
    and meshes, no code.

    Raises:
        CompNetError: if it can only be a published model's, and that cannot be had.
    """
    kept = models_folder() / name
    if len(name.parts) == 1 and is_file(recover_folder(kept) / "model" / "model.safetensors"):
        return kept
    published = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name.as_posix())
    # a folder that is mistyped below one that is there is no name of a published model
    if published is None or name.is_absolute() or Path(name.parts[0]).exists() or ".." in name.parts:
        return None
    return _fetched(*published.groups())


def _fetched(name: str, revision: str | None) -> Path:
    try:
        return fetch(name, ["config.json", "model.safetensors", "meshes/*.off", f"{EXAMPLES}/*"], revision)
    except CompNetError as error:
        kept = f", one of {', '.join(kept_models())}" if kept_models() else ""
        raise CompNetError(
            f"{name}: is no folder here, and no model on the hub that this machine can reach ({error}); give a model's "
            f"folder, or a name{kept}"
        ) from None
